"""Which addresses of upstreams any operator may set: a key is sent to them."""

import re
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
# No user, no escapes, no other alphabets: nothing that two readers of a URL could take for two hosts.
PLAIN_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]", re.ASCII)


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
