"""Where a request comes from."""

import ipaddress

from django.http import HttpRequest

from embeddings.conf import conf

IPV6_SUBSCRIBER_BITS = (
    64  # what one subscriber has at least: single addresses of it are his to choose
)


def client_address(request: HttpRequest) -> str:
    """Return the client's address, an IPv6 one as its /64 network; `unknown` on a Unix socket.

    Each trusted proxy adds one entry at the right of X-Forwarded-For; what stands left of theirs is the client's word.
    """
    address = request.META.get("REMOTE_ADDR", "")
    proxies = conf().access.trusted_proxies
    if proxies:
        forwarded = request.headers.get("X-Forwarded-For", "").split(",")
        address = forwarded[-proxies:][0].strip() or address
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped:
            return str(parsed.ipv4_mapped)
        return str(
            ipaddress.ip_network((int(parsed), IPV6_SUBSCRIBER_BITS), strict=False)
        )
    return str(parsed)
