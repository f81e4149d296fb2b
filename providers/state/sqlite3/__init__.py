"""Django's SQLite backend, which follows its file."""
