"""Where a request comes from."""

import functools
import ipaddress

from django.http import HttpRequest

from embeddings.conf import conf

IPV6_SUBSCRIBER_BITS = (
    64  # what one subscriber has at least: single addresses of it are his to choose
)
UNKNOWN = "unknown"  # a Unix socket, or a proxy's nonsense


def client_ip(request: HttpRequest) -> str:
    """Return the client's address, or `unknown`.

    Each trusted proxy adds one entry at the right of X-Forwarded-For; what stands left of theirs is the client's word.
    """
    address: str = request.META.get("REMOTE_ADDR", "")
    proxies = conf().access.trusted_proxies
    if proxies:
        forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").split(",")
        address = forwarded[-proxies:][0].strip() or address
    return _normal(address)


def client_address(request: HttpRequest) -> str:
    """Return whom to count a request for: the client's address, an IPv6 one as its /64 network, or `unknown`."""
    address = client_ip(request)
    return _network(address) if ":" in address else address


@functools.lru_cache(maxsize=4096)
def _normal(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return UNKNOWN
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _network(address: str) -> str:
    number = int(ipaddress.IPv6Address(address))
    return str(ipaddress.ip_network((number, IPV6_SUBSCRIBER_BITS), strict=False))
