"""The composition root: settings, URLs, WSGI. The only package that reads the environment."""
