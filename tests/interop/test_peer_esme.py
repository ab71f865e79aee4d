"""Other people's ESMEs bound to our message centre: what they hear, what it sees."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
from tests.interop.esme_site import EXTENDED, now_ms
from tests.interop.peers import NPM, PERL, Peer
from tests.interop.scripted import ScriptedPeer, started
from tests.interop.seen import DELIVERED, FAILED, REFUSED, THROTTLED_ONCE, Seen

from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.smpp.commands import DeliverSm, EsmClass
from aldis.text import gsm

kinds = pytest.mark.parametrize("kind", [NPM, PERL], ids=str)


@dataclass
class Site:
    """A message centre and a peer that has sent its bind."""

    peer: ScriptedPeer
    smsc: Smsc
    seen: Seen

    async def bound(self, bind: str) -> None:
        """Wait for the answer to the bind, which lets the peer in."""
        [answer] = await self.peer.receives(f"{bind}_resp")
        assert (answer["status"], answer["fields"]["system_id"]) == (0, "simulator")

    def submit(self, number: str, text: str, **fields: int) -> None:
        plain = {
            "source_addr_ton": 5, "source_addr": "Shop", "dest_addr_ton": 1, "dest_addr_npi": 1,
            "destination_addr": number, "registered_delivery": 1, "data_coding": 0,
        }  # fmt: skip
        self.peer.tell("submit_sm", text=text, fields=plain | fields)


@asynccontextmanager
async def customer(
    kind: Peer, bind: str = "bind_transceiver", *, password: str = "secret", enquire_link_s: float = 30.0
) -> AsyncIterator[Site]:
    """Yield our message centre, and a peer that binds to it."""
    seen = Seen("customer")
    settings = SmscSettings(passwords={"customer": "secret"}, receipt_delay_ms=1, enquire_link_s=enquire_link_s)
    async with Smsc(settings, now_ms, seen) as smsc:
        login = {"system_id": "customer", "password": password}
        async with started(kind, {"role": "esme", "port": smsc.port, "bind": bind, **login}) as peer:
            yield Site(peer, smsc, seen)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


@kinds
@pytest.mark.parametrize(("text", "coding"), [(EXTENDED, 0), ("Καλημέρα 😀", 8)], ids=["gsm", "ucs2"])
async def test_what_a_peer_submits_is_accepted_and_reported(kind: Peer, text: str, coding: int) -> None:
    async with customer(kind) as site:
        await site.bound("bind_transceiver")
        site.submit(DELIVERED, text, data_coding=coding)
        [answer] = await site.peer.receives("submit_sm_resp")
        [(pdu, message_id)] = site.seen.submits
        assert (answer["status"], answer["fields"]["message_id"]) == (0, message_id)
        assert pdu.short_message == (gsm.encode(text) if coding == 0 else text.encode("utf-16-be"))
        assert (pdu.source_addr_ton, pdu.source_addr, pdu.destination_addr) == (5, b"Shop", DELIVERED.encode())
        [receipt] = await site.peer.receives("deliver_sm")
        assert receipt["tlvs"] == {"receipted_message_id": message_id, "message_state": 2}
        assert receipt["text"].startswith(f"id:{message_id} sub:001 dlvrd:001 submit date:")
        fields = receipt["fields"]
        assert (fields["source_addr"], fields["destination_addr"], fields["esm_class"]) == (DELIVERED, "Shop", 4)
        await eventually(lambda: site.seen.answered == [(message_id, 0)])
        assert site.smsc.receipts_kept == 0


@kinds
async def test_a_peer_hears_what_failed_and_what_was_refused(kind: Peer) -> None:
    async with customer(kind) as site:
        await site.bound("bind_transceiver")
        for number in (REFUSED, THROTTLED_ONCE, THROTTLED_ONCE, FAILED):
            site.submit(number, "hello")
        answers = await site.peer.receives("submit_sm_resp", 4)
        assert [answer["status"] for answer in answers] == [0x0B, 0x58, 0, 0]
        ids = [answer["fields"].get("message_id", "") for answer in answers]
        assert ids == [message_id for _, message_id in site.seen.submits]
        assert ids[:2] == ["", ""]
        receipts = await site.peer.receives("deliver_sm", 2)
        states = {receipt["fields"]["source_addr"]: receipt["tlvs"]["message_state"] for receipt in receipts}
        assert states == {THROTTLED_ONCE: 2, FAILED: 5}


@kinds
async def test_what_the_simulator_does_not_do_is_refused_by_its_own_response(kind: Peer) -> None:
    async with customer(kind) as site:
        await site.bound("bind_transceiver")
        address = {"source_addr_ton": 1, "source_addr_npi": 1, "source_addr": "1"}
        site.peer.tell("query_sm", fields={**address, "message_id": "7"})
        site.peer.tell("cancel_sm", fields={**address, "message_id": "7", "destination_addr": "2"})
        for command, status in (("query_sm_resp", 0x67), ("cancel_sm_resp", 0x11)):
            [answer] = await site.peer.receives(command)
            assert answer["status"] == status


@kinds
async def test_a_message_from_a_subscriber_is_read_by_the_peer_as_it_was_written(kind: Peer) -> None:
    async with customer(kind) as site:
        await site.bound("bind_transceiver")
        head = b"\5\0\3\7\2\1"
        pdu = DeliverSm(
            source_addr=b"447700900123",
            destination_addr=b"12345",
            esm_class=EsmClass.UDHI,
            short_message=head + gsm.encode(EXTENDED),
            tlvs={0x0204: b"\0\1", 0x1400: b"vendor"},
        )
        site.smsc.deliver("customer", pdu)
        [heard] = await site.peer.receives("deliver_sm")
        assert heard["text"] == EXTENDED
        assert bytes.fromhex(heard["udh"]).endswith(head[1:])
        assert heard["fields"]["source_addr"] == "447700900123"
        assert heard["tlvs"]["5120"] == b"vendor".hex()
        await eventually(lambda: site.smsc.receipts_kept == 0)


# SMPP-3
@kinds
async def test_a_transmitter_hears_nothing_and_a_receiver_may_not_submit(kind: Peer) -> None:
    async with customer(kind, "bind_transmitter") as site:
        await site.bound("bind_transmitter")
        site.submit(DELIVERED, "hello")
        [answer] = await site.peer.receives("submit_sm_resp")
        assert answer["status"] == 0
        await eventually(lambda: site.smsc.receipts_kept == 1)
        assert site.peer.heard("deliver_sm") == []
    async with customer(kind, "bind_receiver") as site:
        await site.bound("bind_receiver")
        site.submit(DELIVERED, "hello")
        [answer] = await site.peer.receives("submit_sm_resp")
        assert answer["status"] == 0x04
        assert site.seen.submits == []


@kinds
async def test_a_wrong_password_is_refused(kind: Peer) -> None:
    async with customer(kind, password="wrong") as site:
        [answer] = await site.peer.receives("bind_transceiver_resp")
        assert answer["status"] == 0x0E
        assert site.smsc.bound == 0


@kinds
async def test_both_sides_answer_an_enquire_link_and_an_unbind_ends_the_session(kind: Peer) -> None:
    async with customer(kind, enquire_link_s=0.1) as site:
        await site.bound("bind_transceiver")
        site.peer.tell("enquire_link", fields={})
        [answer] = await site.peer.receives("enquire_link_resp")
        assert answer["status"] == 0
        await site.peer.receives("enquire_link", 3)
        assert site.smsc.bound == 1
        site.peer.tell("unbind", fields={})
        [answer] = await site.peer.receives("unbind_resp")
        assert answer["status"] == 0
        await eventually(lambda: site.smsc.bound == 0)
        assert site.smsc.connects == 1
