"""The server as its users run it: `manage.py serve` in a process group of its own, spoken to over HTTP."""
