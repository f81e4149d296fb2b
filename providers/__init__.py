"""Embedding providers, the local engine and the plug-in contract. Knows nothing of HTTP requests or the API above."""
