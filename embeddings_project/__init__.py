"""The composition root: settings, URLs, WSGI. The only package that reads the environment."""

__version__ = "0.1.0"
