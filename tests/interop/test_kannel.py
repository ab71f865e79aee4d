"""Kannel bound to our message centre: what it submits, and what it tells its users of each message."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.interop.capture import ESME, SMSC, Relay, cut, relayed
from tests.interop.esme_site import EXTENDED, now_ms
from tests.interop.kannel import Kannel, running
from tests.interop.seen import DELIVERED, FAILED, REFUSED, Seen

from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.smpp.commands import Command, DeliverSm
from aldis.text import gsm

ACCEPTED, SUCCESS, FAILURE, REJECTED = 8, 1, 2, 16
"""Kannel's types of report."""


@dataclass
class Site:
    kannel: Kannel
    smsc: Smsc
    seen: Seen
    relay: Relay


@asynccontextmanager
async def customer(folder: Path) -> AsyncIterator[Site]:
    """Yield Kannel and our message centre, bound."""
    seen = Seen("kannel")
    settings = SmscSettings(passwords={"kannel": "secret"}, receipt_delay_ms=20, enquire_link_s=1.0)
    async with (
        Smsc(settings, now_ms, seen) as smsc,
        relayed(smsc.port) as relay,
        running(folder, relay.port) as kannel,
    ):
        await kannel.until(lambda: smsc.bound == 1, "Kannel does not bind")
        yield Site(kannel, smsc, seen, relay)


async def test_kannel_submits_and_hears_of_each_message(tmp_path: Path) -> None:
    """One Kannel for all: it takes a while to come and to go."""
    async with customer(tmp_path) as site:
        await _short_and_failed(site)
        await _long(site)
        await _from_a_subscriber(site)
        await _silence(site)
    _check_the_end(site.relay)


async def _short_and_failed(site: Site) -> None:
    sent = {DELIVERED: EXTENDED, FAILED: "to nobody", REFUSED: "to nowhere"}
    for number, text in sent.items():
        assert (await site.kannel.send(number, text)).startswith("0:")
    fates = {DELIVERED: [ACCEPTED, SUCCESS], FAILED: [ACCEPTED, FAILURE], REFUSED: [REJECTED]}
    await site.kannel.until(lambda: {to: site.kannel.reports(to) for to in fates} == fates, f"reports are not {fates}")
    for number, text in sent.items():
        [pdu] = site.seen.to(number)
        assert gsm.decode(pdu.short_message) == text
        assert (pdu.source_addr_ton, pdu.source_addr, pdu.data_coding) == (5, b"Shop", 0)
        assert pdu.registered_delivery & 1


async def _long(site: Site) -> None:
    sent = {"27820002222": ((EXTENDED + ".") * 8, 0), "27820003333": ("Καλημέρα κόσμε." * 10, 2)}
    for number, (text, coding) in sent.items():
        await site.kannel.send(number, text, coding=coding)
    await site.kannel.until(
        lambda: all(SUCCESS in site.kannel.reports(to) for to in sent) and site.smsc.receipts_kept == 0, "no reports"
    )
    for number, (text, coding) in sent.items():
        parts = [pdu.short_message for pdu in sorted(site.seen.to(number), key=lambda pdu: pdu.short_message[5])]
        assert len({part[3] for part in parts}) == 1, "the parts have one reference"
        assert [part[:3] + part[4:6] for part in parts] == [
            bytes((5, 0, 3, len(parts), at)) for at in range(1, len(parts) + 1)
        ]
        read = gsm.decode if coding == 0 else lambda octets: octets.decode("utf-16-be")
        assert "".join(read(part[6:]) for part in parts) == text
        assert {pdu.data_coding for pdu in site.seen.to(number)} == {0 if coding == 0 else 8}
    assert {status for _, status in site.seen.answered} == {0}


async def _from_a_subscriber(site: Site) -> None:
    texts = (EXTENDED, "STOP")
    for text in texts:
        pdu = DeliverSm(
            source_addr_ton=1, source_addr=b"447700900123", destination_addr=b"12345", short_message=gsm.encode(text)
        )
        site.smsc.deliver("kannel", pdu)
    await site.kannel.until(lambda: len(site.kannel.callbacks.of("/message")) == 2, "no message from a subscriber")
    heard = site.kannel.callbacks.of("/message")
    assert [one["text"] for one in heard] == list(texts)
    assert {(one["from"].lstrip("+"), one["to"]) for one in heard} == {("447700900123", "12345")}


async def _silence(site: Site) -> None:
    await site.kannel.until(lambda: site.relay.heard(Command.ENQUIRE_LINK_RESP), "nobody asks whether we are there")
    assert (site.smsc.bound, site.smsc.connects) == (1, 1)


def commands(relay: Relay, sender: int) -> list[int]:
    return [int.from_bytes(frame[4:8], "big") for frame in cut(relay.said(sender))]


def _check_the_end(relay: Relay) -> None:
    ours, theirs = commands(relay, SMSC), commands(relay, ESME)
    assert (theirs[0], theirs[-1]) == (Command.BIND_TRANSCEIVER, Command.UNBIND)
    assert ours[-1] == Command.UNBIND_RESP
    assert Command.GENERIC_NACK not in ours + theirs
    for asking, answering in ((theirs, ours), (ours, theirs)):
        assert asking.count(Command.ENQUIRE_LINK) == answering.count(Command.ENQUIRE_LINK_RESP)
