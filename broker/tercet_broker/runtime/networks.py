"""Who is at the other end: IP addresses, the networks of trusted proxies, and what those say of their clients.

What a peer says of itself counts for nothing. What a proxy says counts where
the listener lists the proxy's network, and only as far back as every hop is
listed: the first address from the right that is not is the client's.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_MAX_HOPS = 32  # entries of X-Forwarded-For that are looked at; nobody has as many proxies
_SITE_BYTES = 8  # of an IPv6 address: what one customer gets (RFC 6177); the rest is his to choose


def parse_network(text: str) -> IpNetwork:
    """Return the network that `text` means, such as `10.0.0.0/8` or a single address.

    Raises:
        ValueError: it is none, in a sentence.
    """
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        try:
            meant = ipaddress.ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f"{text!r} is no network: write it as in '10.0.0.0/8' or 'fd00::/8'") from error
        raise ValueError(f"{text!r} has bits beyond its prefix: did you mean '{meant}'?") from error


def parse_address(text: str) -> IpAddress | None:
    """Return the IP address that `text` is, None if it is none; an IPv4 address mapped into IPv6 as itself."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_within(address: IpAddress | None, networks: Sequence[IpNetwork]) -> bool:
    """Tell whether one of the networks holds the address. None, a Unix socket's peer, is on this machine: in all."""
    if address is None:
        return bool(networks)
    return any(address in network for network in networks)


def site_of(address: IpAddress) -> bytes:
    """Return what an address is counted as: its own four bytes, or the first eight, the /64 network, of IPv6."""
    return address.packed[:_SITE_BYTES]


def forwarded_client(values: Sequence[str], networks: Sequence[IpNetwork]) -> IpAddress | None:
    """Return the client's address out of `X-Forwarded-For`, as sent by a trusted proxy; None if it says none.

    Each proxy adds the address that it saw at the right. So from the right,
    trusted proxies are passed over; what stands left of the first stranger
    was written by him.
    """
    hops = [hop.strip() for value in values for hop in value.split(",")][-_MAX_HOPS:]
    client = None
    for hop in reversed(hops):
        address = _parse_hop(hop)
        if address is None:
            return client
        client = address
        if not is_within(address, networks):
            return client
    return client


def _parse_hop(text: str) -> IpAddress | None:
    """Return the address of one entry; some proxies add the port, and then brackets around IPv6."""
    if text.startswith("["):
        return parse_address(text[1:].partition("]")[0])
    if text.count(":") == 1:
        return parse_address(text.partition(":")[0])
    return parse_address(text)
