"""Where a notice may go: to the public internet, looked up once and checked, address by address."""

import ipaddress
import socket

from media_jobs.conf import conf
from providers.exceptions import ProviderRejected

# What is given out to the public (RFC 4291); all other IPv6 addresses are local, mapped or not in use.
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
# Protocol assignments, with Teredo's tunnels, and documentation.
NOT_PUBLIC = (ipaddress.IPv6Network("2001::/23"), ipaddress.IPv6Network("3fff::/20"))
NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
RELAYS = ipaddress.IPv4Network("192.88.99.0/24")  # of 6to4, given up
ISATAP = (0x00005EFE, 0x02005EFE)


def allowed_addresses(host: str, port: int) -> list[str]:
    """Look a host up, once. Raises OSError; ProviderRejected where one of its addresses must not be called."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not conf().webhook_allow_private:
        for address in addresses:
            if not is_public(address):
                raise ProviderRejected("The address lies in a private network.")
    return addresses


def is_public(address: str) -> bool:
    """Whether an IP address lies on the public internet, and so does the IPv4 address inside it, if it has one."""
    given = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(given, ipaddress.IPv4Address):
        return given.is_global and not given.is_multicast and given not in RELAYS
    if given.ipv4_mapped is not None:
        return is_public(str(given.ipv4_mapped))
    if given in NAT64:
        return is_public(str(ipaddress.IPv4Address(int(given) & 0xFFFFFFFF)))
    if given.sixtofour is not None:
        return is_public(str(given.sixtofour))
    if (int(given) >> 32) & 0xFFFFFFFF in ISATAP and not is_public(
        str(ipaddress.IPv4Address(int(given) & 0xFFFFFFFF))
    ):
        return False
    if given not in GLOBAL_UNICAST or any(given in net for net in NOT_PUBLIC):
        return False
    return given.is_global
