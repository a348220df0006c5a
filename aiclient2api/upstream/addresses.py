"""
Which addresses a caller may send us to: only such as anybody on the Internet can reach.

Whoever may name a URL could otherwise read what only this machine sees: its own services,
its network, and the credentials that clouds hand out on link-local addresses. It must never
know what is fetched, nor let a name be looked up twice.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TypeAlias

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostnameResolver,
    IHostResolution,
    IResolutionReceiver,
)
from zope.interface import implementer

Address: TypeAlias = IPv4Address | IPv6Address

Allowed: TypeAlias = Callable[[Address], bool]
"""Says whether we may connect to an address."""

# The ipaddress module takes for global what is not listed as special: among others IPv6
# that was never given out, and IPv4 addresses wrapped in IPv6 ones.
_UNICAST = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
# Special in the registries of today, and not in those of every Python that we run on.
_SPECIAL_4 = (IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24"))
_SPECIAL_6 = (IPv6Network("2001::/23"), IPv6Network("3fff::/20"))


class NotPublic(Exception):
    """A host has an address that is not on the public Internet; which one is not told."""


def is_public(address: Address) -> bool:
    """
    Say whether *address* belongs to one machine on the public Internet.

    An IPv4 address in an IPv6 one (mapped, 6to4, NAT64) is judged as what it is: packets
    to it arrive there. An address that names a network card (``%eth0``) is never public.
    """
    if isinstance(address, IPv4Address):
        special = any(address in network for network in _SPECIAL_4)
        return address.is_global and not address.is_multicast and not special
    if address.scope_id is not None:
        return False
    inner = address.ipv4_mapped or address.sixtofour
    if address in _NAT64:
        inner = IPv4Address(address.packed[-4:])
    if inner is not None:
        return is_public(inner)
    special = any(address in network for network in _SPECIAL_6)
    return address in _UNICAST and address.is_global and not special


async def addresses_of(
    host: str, port: int, *, resolver: IHostnameResolver, allowed: Allowed
) -> tuple[Address, ...]:
    """
    Look *host* up, once, and return all its addresses. Cancelling gives up the wait.

    :param host: A name, or an address without brackets.
    :return: In the order in which they are to be tried; at least one.
    :raise NotPublic: if a single one of them is not allowed. A host that is both outside
        and inside is no host to fetch anything from.
    :raise DNSLookupError: if there is none.
    """
    try:
        told = [str(ipaddress.ip_address(host))]
    except ValueError:
        lookup = _Lookup()
        resolver.resolveHostName(lookup, host, port)
        told = await lookup.done
    if not told:
        raise DNSLookupError
    found: dict[Address, None] = {}
    for text in told:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise NotPublic from None
        if not allowed(address):
            raise NotPublic
        found[address] = None
    return tuple(found)


@implementer(IResolutionReceiver)
class _Lookup:
    """
    Gathers what one name stands for.

    Twisted's look-ups in threads cannot be cancelled. A Deferred that was cancelled and has
    no canceller ignores what one of them says too late.
    """

    def __init__(self) -> None:
        self._found: list[str] = []
        self.done: Deferred[list[str]] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """There is nothing to be done with it."""

    def addressResolved(self, address: IAddress) -> None:
        """Note one address."""
        self._found.append(getattr(address, "host", ""))

    def resolutionComplete(self) -> None:
        """Tell who waits."""
        self.done.callback(self._found)
