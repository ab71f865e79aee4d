"""Which addresses a customer's URL may make this machine dial: by table, and through every odd spelling."""

from ipaddress import ip_address, ip_network

import pytest

from aldis.push.guard import EgressDenied, EgressGuard
from aldis.push.request import InvalidUrl, parse_url

DENIED = [
    ("0.0.0.0", "this network"),
    ("0.1.2.3", "this network"),
    ("10.0.0.1", "private"),
    ("10.255.255.255", "private"),
    ("100.64.0.1", "shared by a carrier's customers"),
    ("100.127.255.255", "shared by a carrier's customers"),
    ("100.100.100.200", "cloud metadata"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("168.63.129.16", "cloud platform address"),
    ("169.254.0.1", "link-local"),
    ("169.254.169.254", "cloud metadata"),
    ("169.254.170.2", "container credentials"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.0.0.1", "protocol assignments"),
    ("192.0.0.192", "cloud metadata"),
    ("192.0.2.1", "documentation"),
    ("192.31.196.1", "AS112 sink"),
    ("192.52.193.1", "multicast tunnelling"),
    ("192.88.99.1", "6to4 relay"),
    ("192.168.1.1", "private"),
    ("192.175.48.1", "AS112 sink"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("198.51.100.1", "documentation"),
    ("203.0.113.1", "documentation"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.255", "multicast"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.254", "reserved"),
    ("255.255.255.255", "broadcast"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("::2", "IPv4-compatible"),
    ("::127.0.0.1", "IPv4-compatible"),
    ("::8.8.8.8", "IPv4-compatible"),
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:7f00:1", "loopback"),
    ("::ffff:10.0.0.1", "private"),
    ("::ffff:169.254.169.254", "cloud metadata"),
    ("::ffff:0:127.0.0.1", "IPv4-translated"),
    ("64:ff9b::127.0.0.1", "loopback"),
    ("64:ff9b::a9fe:a9fe", "cloud metadata"),
    ("64:ff9b::10.1.2.3", "private"),
    ("64:ff9b:1::1", "local translation"),
    ("64:ff9b:0:0:0:1:808:808", "not global unicast"),
    ("100::1", "discard"),
    ("100:0:0:1::1", "dummy prefix"),
    ("2001::1", "Teredo"),
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", "Teredo"),
    ("2001:2::1", "benchmarking"),
    ("2001:10::1", "ORCHID"),
    ("2001:20::1", "ORCHID"),
    ("2001:1::1", "protocol assignments"),
    ("2001:db8::1", "documentation"),
    ("2002:7f00:1::", "6to4"),
    ("2002:808:808::1", "6to4"),
    ("2620:4f:8000::1", "AS112 sink"),
    ("3fff::1", "documentation"),
    ("4000::1", "not global unicast"),
    ("5f00::1", "segment routing"),
    ("fc00::1", "unique local"),
    ("fd12:3456::1", "unique local"),
    ("fd00:ec2::254", "cloud metadata"),
    ("fd20:ce::254", "cloud metadata"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("febf::1", "link-local"),
    ("fec0::1", "site-local"),
    ("feff::1", "site-local"),
    ("ff02::1", "multicast"),
    ("2606:4700::5efe:7f00:1", "loopback"),
    ("2606:4700::200:5efe:10.0.0.1", "private"),
    ("e000::1", "not global unicast"),
    ("not an address", "not an IP address"),
    ("", "not an IP address"),
    ("2130706433", "not an IP address"),
    ("127.1", "not an IP address"),
    ("0177.0.0.1", "not an IP address"),
]

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "168.63.129.15",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "2606:4700::5efe:8.8.8.8",
    "2a00:1450:4001::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]

HOSTILE_HOSTS = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "127.0.0.1:80",
    "2130706433",
    "0x7f000001",
    "0x7F.0.0.1",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.0.01",
    "0000177.0000.0000.0001",
    "0",
    "0.0.0.0",
    "0x0",
    "00",
    "10.1",
    "0xa.1",
    "012.1",
    "167772161",
    "0xA9FEA9FE",
    "2852039166",
    "169.254.43518",
    "0251.0376.0251.0376",
    "169.0xfe.43518",
    "192.168.257",
    "3232235777",
    "172.1048577",
    "4294967295",
    "255.255.255.255",
    "224.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "１２７.0.0.1",  # full-width digits
    "127。0。0。1",  # ideographic full stops
    "127．0．0．1",  # full-width full stops
    "①②⑦.0.0.1",  # circled digits
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "loc\u00adalhost",  # soft hyphen
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:FFFF:7F00:0001]",
    "[::ffff:0:127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::169.254.169.254]",
    "[64:ff9b:1::1]",
    "[2002:7f00:1::]",
    "[2001::1]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fe80::1%lo]",
    "[fec0::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[5f00::1]",
    "[2001:db8::1]",
    "user@127.0.0.1",
    "example.com@127.0.0.1",
    "example.com:80@127.0.0.1",
    "127.0.0.1\\@example.com",
    "example.com\\@127.0.0.1",
    "127.0.0.1#@example.com",
    "127.0.0.1?@example.com",
    "%31%32%37.0.0.1",
    "127%2e0.0.1",
    "127.0.0.1%00.example.com",
    "127.0.0.1\x00.example.com",
    "127.0.0.1\r\nHost: example.com",
    "127.0.0.1\t",
    "[::1",
    "::1",
    "[127.0.0.1]",
    "[::1]x",
]


# EAPI-66 PROMISE-11
@pytest.mark.parametrize(("address", "reason"), DENIED, ids=[f"{a or 'empty'}" for a, _ in DENIED])
def test_denied_addresses_are_refused_with_their_reason(address: str, reason: str) -> None:
    with pytest.raises(EgressDenied) as denied:
        EgressGuard().check(address)
    assert denied.value.reason == reason == str(denied.value)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass_up_to_the_edge_of_each_denied_network(address: str) -> None:
    EgressGuard().check(address)


# EAPI-66 PROMISE-11
@pytest.mark.parametrize("host", HOSTILE_HOSTS, ids=ascii)
async def test_no_spelling_of_a_denied_host_yields_an_address_to_dial(host: str) -> None:
    with pytest.raises((InvalidUrl, EgressDenied, OSError)):
        parsed = parse_url(f"http://{host}/")
        await EgressGuard().resolve(parsed.host, parsed.port)


def test_the_table_of_spellings_is_long_enough() -> None:
    assert len(set(HOSTILE_HOSTS)) == len(HOSTILE_HOSTS) >= 60


@pytest.mark.parametrize(
    "spelling",
    ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "１２７.0.0.1", "127。0。0。1", "localhost"],
    ids=ascii,
)
async def test_odd_spellings_are_judged_by_what_they_resolve_to(spelling: str) -> None:
    parsed = parse_url(f"http://{spelling}/")
    with pytest.raises(EgressDenied, match="loopback"):
        await EgressGuard().resolve(parsed.host, parsed.port)
    dialled = await EgressGuard(allow_private=True).resolve(parsed.host, parsed.port)
    assert all(ip_address(sockaddr[0]).is_loopback and sockaddr[1] == 80 for _, sockaddr in dialled)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "127.0.0.1", "192.168.0.1", "172.20.0.1", "100.64.0.1", "::1", "fd12::1"]
)
def test_private_networks_can_be_opened_as_a_whole(address: str) -> None:
    EgressGuard(allow_private=True).check(address)


@pytest.mark.parametrize("address", ["::ffff:10.0.0.1", "64:ff9b::127.0.0.1"])
def test_a_wrapped_address_is_as_open_as_the_one_inside(address: str) -> None:
    EgressGuard(allow_private=True).check(address)


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "::ffff:169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "169.254.1.1",
        "fe80::1",
        "224.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "::",
        "2002:a00:1::",
        "::127.0.0.1",
        "fec0::1",
        "4000::1",
    ],
)
def test_opening_private_networks_opens_nothing_else(address: str) -> None:
    with pytest.raises(EgressDenied):
        EgressGuard(allow_private=True).check(address)


def test_a_list_opens_just_its_networks() -> None:
    guard = EgressGuard([ip_network("10.1.0.0/16"), ip_network("fd12::/16"), ip_network("169.254.7.0/24")])
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::9", "169.254.7.7", "8.8.8.8"):
        guard.check(address)
    for address in ("10.2.0.1", "fd13::1", "127.0.0.1", "169.254.169.254"):
        with pytest.raises(EgressDenied):
            guard.check(address)


def test_an_empty_list_opens_nothing() -> None:
    with pytest.raises(EgressDenied):
        EgressGuard([]).check("10.0.0.1")
