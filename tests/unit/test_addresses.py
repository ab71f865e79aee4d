"""Where a bind connects to, and where next."""

import pytest

from aldis.connectors.addresses import Address, Turn, parse_addresses
from aldis.connectors.smpp import SmppSettings


# SMPP-36
@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("smsc.example.net", [("smsc.example.net", 2775)]),
        ("a.example.net, b.example.net:2776", [("a.example.net", 2775), ("b.example.net", 2776)]),
        ("192.0.2.1:3000,192.0.2.2", [("192.0.2.1", 3000), ("192.0.2.2", 2775)]),
        ("::1, [::2], [::3]:99", [("::1", 2775), ("::2", 2775), ("::3", 99)]),
    ],
)  # fmt: skip
def test_one_or_several_addresses_are_read(text, addresses):
    assert parse_addresses(text, 2775) == tuple(addresses)


# SMPP-36
@pytest.mark.parametrize("text", ["", "a,", ",a", "a:", "a:x", ":2775", "[]:1", "a:65536", "a:-1", "a:²"])
def test_what_is_no_address_is_refused_with_the_settings(text):
    with pytest.raises(ValueError, match=r"host|port"):
        SmppSettings(name="s", host=text, system_id="id")


def test_an_address_is_written_as_it_is_read():
    for text in ("a.example.net:1", "[2001:db8::1]:2"):
        [address] = parse_addresses(text, 9)
        assert str(address) == text


# SMPP-36
def test_a_bind_goes_round_its_addresses_once_for_both_legs_of_a_pair():
    addresses = Address("a", 1), Address("b", 1)
    turn = Turn(3)
    first = turn.here(addresses)
    assert first == addresses[1]
    turn.failed(first, addresses)
    turn.failed(first, addresses)
    assert turn.here(addresses) == addresses[0]
    turn.failed(addresses[0], addresses)
    assert turn.here(addresses) == addresses[1]
