"""The providers that the contract suite runs against: the CASES of each module in `tests/upstreams/`."""

from importlib import import_module
from pkgutil import iter_modules

from tests import upstreams

_MODULES = [
    import_module(f"{upstreams.__name__}.{module.name}")
    for module in iter_modules(upstreams.__path__)
]
REMOTE_CASES = tuple(
    case for module in _MODULES for case in getattr(module, "CASES", ())
)
