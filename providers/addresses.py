"""Where upstreams are and their keys stand: which addresses any operator may set, and the names of key variables."""

import re
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
# No user, no escapes, no other alphabets: nothing that two readers of a URL could take for two hosts.
PLAIN_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]", re.ASCII)

# It stands before the first colon of a model's name, and in the name of a variable.
PROVIDER_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*", re.ASCII)
KEY_PREFIX, KEY_SUFFIX = "UPSTREAM_", "_API_KEY"


def environment_name(name: str) -> str:
    """Return a provider's name as the environment can spell it, in lower case; `settings.PROVIDERS` has it by that."""
    return name.replace("-", "_")


def key_variable(name: str) -> str:
    """Return the variable of a provider's key; the built-in ones have another besides."""
    return f"{KEY_PREFIX}{environment_name(name).upper()}{KEY_SUFFIX}"


def origin_of(address: str) -> str | None:
    """Return scheme, host and port of an address, `https://host:443`, or None where they are not plain to see."""
    try:
        parts = urlsplit(address)
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    host = parts.netloc.lower().removesuffix(f":{parts.port}")
    if port is None or not PLAIN_HOST.fullmatch(host):
        return None
    return f"{parts.scheme}://{host}:{port}"
