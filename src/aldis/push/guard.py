"""The egress guard: which addresses a customer's URL may make this machine dial.

The table is our own, and the check is made on the address about to be dialled, never on a spelling: the caller connects
to exactly the socket address that passed. What is not global unicast is denied, known or not.
"""

import asyncio
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, cast

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
SockAddr = tuple[str, int] | tuple[str, int, int, int]


class EgressDenied(Exception):
    """An address that no push may go to; the message is the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def _table(*rows: tuple[str, str]) -> tuple[tuple[Network, str], ...]:
    return tuple((ip_network(network), reason) for network, reason in rows)


_ALWAYS_DENIED: Final = _table(
    ("169.254.169.254/32", "cloud metadata"),
    ("169.254.170.0/24", "container credentials"),
    ("100.100.100.200/32", "cloud metadata"),
    ("168.63.129.16/32", "cloud platform address"),
    ("192.0.0.192/32", "cloud metadata"),
    ("fd00:ec2::/32", "cloud metadata"),
    ("fd20:ce::254/128", "cloud metadata"),
    ("0.0.0.0/8", "this network"),
    ("169.254.0.0/16", "link-local"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.31.196.0/24", "AS112 sink"),
    ("192.52.193.0/24", "multicast tunnelling"),
    ("192.88.99.0/24", "6to4 relay"),
    ("192.175.48.0/24", "AS112 sink"),
    ("198.18.0.0/15", "benchmarking"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255/32", "broadcast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("64:ff9b:1::/48", "local translation"),
    ("100::/64", "discard"),
    ("100:0:0:1::/64", "dummy prefix"),
    ("2001::/32", "Teredo"),
    ("2001:2::/48", "benchmarking"),
    ("2001:10::/28", "ORCHID"),
    ("2001:20::/28", "ORCHID"),
    ("2001::/23", "protocol assignments"),
    ("2001:db8::/32", "documentation"),
    ("2002::/16", "6to4"),
    ("2620:4f:8000::/48", "AS112 sink"),
    ("3fff::/20", "documentation"),
    ("5f00::/16", "segment routing"),
    ("fe80::/10", "link-local"),
    ("fec0::/10", "site-local"),
    ("ff00::/8", "multicast"),
)
"""Opened only by naming a network that holds the address. The first row that fits gives the reason."""

_IN_HOUSE: Final = _table(
    ("10.0.0.0/8", "private"),
    ("172.16.0.0/12", "private"),
    ("192.168.0.0/16", "private"),
    ("100.64.0.0/10", "shared by a carrier's customers"),
    ("127.0.0.0/8", "loopback"),
    ("::1/128", "loopback"),
    ("fc00::/7", "unique local"),
)
"""Opened by `allow_private=True` too."""

_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_IPV4_INSIDE: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))
"""IPv4-mapped and NAT64: the last 32 bits are the address that is reached."""
_IPV4_REFUSED: Final = _table(("::/96", "IPv4-compatible"), ("::ffff:0:0:0/96", "IPv4-translated"))
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
_LOW_32: Final = 0xFFFFFFFF


class EgressGuard:
    """Decides on addresses. Holds no state but its settings."""

    def __init__(self, allow_private: bool | Sequence[Network] = False) -> None:
        """Say what is open beyond the public Internet.

        Args:
            allow_private: True opens loopback, private, carrier-shared and unique local addresses, but never cloud
                metadata or link-local ones. A list opens just its networks, whatever they are.
        """
        named = () if isinstance(allow_private, bool) else tuple(allow_private)
        self._open = named
        self._denied = _ALWAYS_DENIED if allow_private is True else _ALWAYS_DENIED + _IN_HOUSE
        self._in_house = _IN_HOUSE if allow_private is True else ()

    def check(self, address: str) -> None:
        """Pass an address in the form that a resolver gives, or refuse it.

        Raises:
            EgressDenied: The address is denied, or is no plain IPv4 or IPv6 address.
        """
        try:
            parsed = ip_address(address.partition("%")[0])
        except ValueError:
            raise EgressDenied("not an IP address") from None
        reason = self._reason(_unwrap(parsed))
        if reason:
            raise EgressDenied(reason)

    async def resolve(self, host: str, port: int) -> list[tuple[int, SockAddr]]:
        """Look a host up once and return the socket addresses that may be dialled, in the resolver's order.

        Returns:
            Pairs of address family and socket address; at least one.

        Raises:
            EgressDenied: Every address found is denied.
            OSError: The host has no address, or the resolver failed.
        """
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        return self.judge([(entry[0], cast("SockAddr", entry[4])) for entry in found])

    def judge(self, found: Sequence[tuple[int, SockAddr]]) -> list[tuple[int, SockAddr]]:
        """Return those of some socket addresses that may be dialled.

        Raises:
            EgressDenied: None of them may.
        """
        passed: list[tuple[int, SockAddr]] = []
        denied = EgressDenied("no usable address")
        for family, sockaddr in found:
            try:
                self.check(sockaddr[0])
            except EgressDenied as refusal:
                denied = refusal
            else:
                passed.append((family, sockaddr))
        if not passed:
            raise denied
        return passed

    def _reason(self, address: Address) -> str:
        """Return why an address is denied, or nothing."""
        if any(address in network for network in self._open):
            return ""
        for network, reason in self._denied:
            if address in network:
                return reason
        if isinstance(address, IPv4Address) or any(address in network for network, _ in self._in_house):
            return ""
        return self._reason_v6(address)

    def _reason_v6(self, address: IPv6Address) -> str:
        for network, reason in _IPV4_REFUSED:
            if address in network:
                return reason
        if address not in _GLOBAL_UNICAST:
            return "not global unicast"
        if int(address) >> 32 & _LOW_32 in _ISATAP:
            return self._reason(IPv4Address(int(address) & _LOW_32))
        return ""


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address inside an IPv6 one where that is what a connection reaches."""
    if isinstance(address, IPv6Address) and any(address in network for network in _IPV4_INSIDE):
        return IPv4Address(int(address) & _LOW_32)
    return address
