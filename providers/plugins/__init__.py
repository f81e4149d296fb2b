"""The built-in providers, one room each."""
