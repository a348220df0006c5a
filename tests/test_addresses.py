"""Only what is on the public Internet counts as such, however it is written or wrapped."""

from __future__ import annotations

from ipaddress import ip_address

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from aiclient2api.upstream.addresses import (
    Address,
    NotPublic,
    _Lookup,
    addresses_of,
    is_public,
)
from tests.fetching_fixture import Names

# fmt: off
PUBLIC = (
    "1.1.1.1", "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.0.1",
    "172.32.0.1", "192.0.3.1", "223.255.255.255", "2606:4700:4700::1111",
    "2a00:1450:4001:830::200e", "::ffff:8.8.8.8", "2002:808:808::1", "64:ff9b::8.8.8.8",
)

OTHERS = (
    "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.127.255.255", "127.0.0.1",
    "127.255.255.254", "169.254.0.1", "169.254.169.254", "172.16.0.1", "172.31.255.255",
    "192.0.0.1", "192.0.0.9", "192.0.0.170", "192.0.2.1", "192.88.99.1", "192.168.0.1",
    "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1", "::8.8.8.8",
    "100::1", "fe80::1", "fe80::1%eth0", "2606:4700:4700::1111%1", "fc00::1", "fd00:ec2::254",
    "fec0::1", "ff02::1", "ff0e::1", "2001::1", "2001:db8::1", "2001:10::1", "2001:20::1",
    "3fff::1", "4000::1", "5f00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "2002:7f00:1::1", "2002:a00:1::1",
    "2002:a9fe:a9fe::1", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254",
    "64:ff9b::100.64.0.1", "64:ff9b:1::8.8.8.8",
)
# fmt: on


class PublicTests(SynchronousTestCase):
    """`is_public`."""

    def test_public(self) -> None:
        """What anybody can reach, also where IPv6 only wraps it."""
        self.assertEqual([each for each in PUBLIC if not is_public(ip_address(each))], [])

    def test_others(self) -> None:
        """This machine, its networks, clouds' metadata, and what was never given out."""
        self.assertEqual([each for each in OTHERS if is_public(ip_address(each))], [])

    def test_every_wrapping_is_seen_through(self) -> None:
        """Each private IPv4 address is private in each of its IPv6 forms."""
        for text in (each for each in (*OTHERS, *PUBLIC) if ":" not in each):
            number = int(ip_address(text))
            for wrapped in (0xFFFF << 32 | number, 0x64FF9B << 96 | number):
                self.assertEqual(is_public(ip_address(wrapped.to_bytes(16))), text in PUBLIC, text)
            six_to_four = 0x2002 << 112 | number << 80 | 1
            self.assertEqual(is_public(ip_address(six_to_four.to_bytes(16))), text in PUBLIC)


class LookupTests(SynchronousTestCase):
    """`addresses_of`."""

    def find(self, host: str, *told: list[str]) -> Deferred[tuple[Address, ...]]:
        """Look a host up, for which ``a.example`` is *told*; nothing told: no answer."""
        self.names = Names({"a.example": list(told)})
        verifyObject(IHostnameResolver, self.names)
        return Deferred.fromCoroutine(
            addresses_of(host, 80, resolver=self.names, allowed=is_public)
        )

    def test_found(self) -> None:
        """All addresses, each once, in the order of the resolver."""
        told = ["2606:4700:4700::1111", "1.1.1.1", "1.1.1.1"]
        found = self.successResultOf(self.find("a.example", told))
        self.assertEqual(found, (ip_address("2606:4700:4700::1111"), ip_address("1.1.1.1")))
        self.assertEqual(self.names.asked, ["a.example"])

    def test_one_is_enough_to_refuse(self) -> None:
        """A host that is also inside is refused, whichever of its addresses comes first."""
        for inside in ("10.0.0.1", "::1", "fe80::1%eth0", "nonsense", ""):
            for told in ([inside, "1.1.1.1"], ["1.1.1.1", inside]):
                self.failureResultOf(self.find("a.example", told), NotPublic)

    def test_none(self) -> None:
        """A name that stands for nothing."""
        self.failureResultOf(self.find("a.example", []), DNSLookupError)
        self.failureResultOf(self.find("b.example"), DNSLookupError)

    def test_addresses_are_not_looked_up(self) -> None:
        """An address is taken as it is, and judged."""
        self.assertEqual(self.successResultOf(self.find("1.1.1.1")), (ip_address("1.1.1.1"),))
        self.failureResultOf(self.find("::ffff:7f00:1"), NotPublic)
        self.assertEqual(self.names.asked, [])

    def test_cancel(self) -> None:
        """Whoever gives up waits no longer; a late answer is ignored."""
        finding = self.find("a.example")
        self.assertNoResult(finding)
        finding.cancel()
        self.failureResultOf(finding, CancelledError)
        (late,) = self.names.waiting
        verifyObject(IResolutionReceiver, _Lookup())
        late.addressResolved(IPv4Address("TCP", "1.1.1.1", 80))
        late.resolutionComplete()
