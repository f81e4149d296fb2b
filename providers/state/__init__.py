"""Process state that all layers share, and the databases behind it."""


class StoreUnavailable(Exception):
    """A store could not be asked: locked, full, unreachable, slow or broken. Whoever asked goes on without it."""
