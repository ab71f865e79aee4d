"""The connector bound to other people's message centres: what they saw by their own decoders, what our sink heard."""

from datetime import UTC, datetime

import pytest
from tests.interop.esme_site import (
    BAD_DESTINATION,
    EXTENDED,
    NACKED,
    NUMBER,
    THROTTLED,
    VALID_UNTIL,
    WITHOUT_ID,
    connected,
    parts_of,
)
from tests.interop.peers import NPM, PERL, Peer

from aldis.connectors.base import Accepted, Refused
from aldis.connectors.testing import RecordingSink
from aldis.model.types import Dca
from aldis.text.segment import concat_reference

pytestmark = pytest.mark.parametrize("kind", [NPM, PERL], ids=str)

RECEIPT = "id:{id} sub:001 dlvrd:001 submit date:2611230901 done date:2611230902 stat:{state} err:{error} text:Fee: 5"
FROM_NETWORK = {
    "source_addr_ton": 1, "source_addr_npi": 1, "source_addr": str(NUMBER), "destination_addr": "Aldis",
    "dest_addr_ton": 5, "data_coding": 0,
}  # fmt: skip


def octets(text: str) -> str:
    return text.encode("latin-1").hex()


# SMPP-1
async def test_a_transceiver_binds_with_what_it_was_given(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        [bind] = await site.peer.receives("bind_transceiver")
        wanted = {"system_id": "aldis", "password": "secret", "system_type": "VMA", "interface_version": 0x34}
        assert {name: bind["fields"][name] for name in wanted} == wanted


# SMPP-21, SMPP-22
async def test_gsm_text_with_extension_characters_is_read_as_it_was_written(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        [seen] = await site.accepted(parts_of(EXTENDED, valid_until=VALID_UNTIL))
        assert seen["text"] == EXTENDED
        wanted = {
            "service_type": "", "source_addr_ton": 5, "source_addr_npi": 0, "source_addr": "Aldis",
            "dest_addr_ton": 1, "dest_addr_npi": 1, "destination_addr": str(NUMBER), "esm_class": 0, "protocol_id": 0,
            "priority_flag": 0, "registered_delivery": 1, "replace_if_present_flag": 0, "data_coding": 0,
        }  # fmt: skip
        assert {name: seen["fields"][name] for name in wanted} == wanted
        assert _instant(seen["fields"]["validity_period"]) == datetime.fromtimestamp(VALID_UNTIL / 1000, UTC)


def _instant(told: str) -> datetime:
    """Return a time as npm's decoder tells it, or as it was on the wire."""
    if "T" in told:
        return datetime.fromisoformat(told)
    assert told.endswith("000+")
    return datetime.strptime(told[:-4], "%y%m%d%H%M%S").replace(tzinfo=UTC)


@pytest.mark.parametrize("originator", ["12345", "447700900999", "Zoë"])
async def test_an_originator_of_each_kind_arrives(kind: Peer, originator: str) -> None:
    ton, npi = {"12345": (3, 0), "447700900999": (1, 1), "Zoë": (5, 0)}[originator]
    async with connected(kind) as site:
        await site.bound()
        [seen] = await site.accepted(parts_of("hello", originator=originator))
        fields = seen["fields"]
        assert (fields["source_addr_ton"], fields["source_addr_npi"]) == (ton, npi)
        seven_bits = "".join(chr(ord(char) & 0x7F) for char in originator)  # npm reads every string as ASCII
        assert fields["source_addr"] == (seven_bits if kind is NPM else originator)


async def test_ucs_2_is_read_as_it_was_written_beyond_the_basic_plane_too(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        [seen] = await site.accepted(parts_of("Καλημέρα 😀 ☃", Dca.UCS2))
        assert seen["text"] == "Καλημέρα 😀 ☃"
        assert seen["fields"]["data_coding"] == 8


@pytest.mark.parametrize(
    ("text", "dca", "count"),
    [(EXTENDED * 8, Dca.GSM7, 3), ("😀 καλημέρα, κόσμε " * 12, Dca.UCS2, 4)],
    ids=["gsm", "ucs2"],
)
async def test_parts_carry_the_header_that_joins_them(kind: Peer, text: str, dca: Dca, count: int) -> None:
    async with connected(kind) as site:
        await site.bound()
        parts = parts_of(text, dca)
        seen = await site.accepted(parts)
        assert len(seen) == count
        assert "".join(event["text"] for event in seen) == text
        reference = concat_reference(parts[0].message_id)
        head = {NPM: b"\0\3%c", PERL: b"\5\0\3%c"}[kind] % reference  # npm: the elements alone
        assert [event["udh"] for event in seen] == [(head + bytes((count, at))).hex() for at in range(1, count + 1)]
        assert {event["fields"]["esm_class"] for event in seen} == {0x40}


# SMPP-23, SMPP-26
async def test_a_complaint_about_the_pace_slows_down_and_another_refusal_does_not(kind: Peer) -> None:
    async with connected(kind, rate=1_000.0) as site:
        await site.bound()
        for msisdn, outcome in (
            (BAD_DESTINATION, Refused(0x0B, retryable=False)),
            (THROTTLED, Refused(0x58, retryable=True, throttled=True)),
        ):
            assert site.connector.counters.throttles == 0
            [part] = parts_of("hello", msisdn=msisdn)
            await site.submit([part])
            assert site.sink.outcome_of(part) == outcome
        assert site.connector.counters.throttles == 1
        assert 500 <= site.connector.rate < 600
        await site.accepted(parts_of("and on"))


async def test_a_receipt_as_text_is_heard_and_answered(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        [seen] = await site.accepted(parts_of("hello"))
        text = RECEIPT.format(id=seen["message_id"], state="UNDELIV", error="0A1")
        heard = await site.delivery(fields={**FROM_NETWORK, "esm_class": 4}, octets=octets(text))
        assert (heard.is_receipt, heard.upstream_id, heard.state) == (True, seen["message_id"], "UNDELIV")
        assert (heard.error, heard.is_final, heard.source) == ("0A1", True, str(NUMBER))
        [answer] = await site.peer.receives("deliver_sm_resp")
        assert answer["status"] == 0


@pytest.mark.parametrize("state", [("DELIVRD", 2), ("EXPIRED", 3), ("UNDELIV", 5), ("ACCEPTD", 6)], ids=lambda s: s[0])
async def test_a_receipt_whose_tlvs_say_it_all_needs_no_text(kind: Peer, state: tuple[str, int]) -> None:
    word, number = state
    async with connected(kind) as site:
        await site.bound()
        [seen] = await site.accepted(parts_of("hello"))
        upstream_id = seen["message_id"]
        told = {"receipted_message_id": upstream_id.encode() + b"\0", "message_state": bytes((number,))}
        told["network_error_code"] = b"\3\0\x2a"
        tlvs = {name: value.hex() for name, value in told.items()}
        if kind is NPM:  # it wants these two as what they mean
            tlvs |= {"receipted_message_id": upstream_id, "message_state": number}
        plain = {name: tlvs.pop(name) for name in ("receipted_message_id", "message_state") if kind is NPM}
        heard = await site.delivery(fields={**FROM_NETWORK, "esm_class": 4}, octets="", octet_tlvs=tlvs, tlvs=plain)
        assert (heard.is_receipt, heard.upstream_id, heard.state) == (True, upstream_id, word)
        assert (heard.error, heard.is_final) == ("042", word != "ACCEPTD")


async def test_a_receipt_may_come_as_message_payload_or_as_data_sm(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        [first, second] = [(await site.accepted(parts_of(text)))[0]["message_id"] for text in ("one", "two")]
        text = RECEIPT.format(id=first, state="EXPIRED", error="001")
        payload = {"message_payload": octets(text)}
        heard = await site.delivery(fields={**FROM_NETWORK, "esm_class": 4}, octets="", octet_tlvs=payload)
        assert (heard.upstream_id, heard.state, heard.error) == (first, "EXPIRED", "001")
        payload = {"message_payload": octets(RECEIPT.format(id=second, state="DELIVRD", error="000"))}
        heard = await site.delivery("data_sm", fields={**FROM_NETWORK, "esm_class": 4}, octet_tlvs=payload)
        assert (heard.is_receipt, heard.upstream_id, heard.state) == (True, second, "DELIVRD")
        for command in ("deliver_sm_resp", "data_sm_resp"):
            [answer] = await site.peer.receives(command)
            assert (answer["status"], answer["fields"]["message_id"]) == (0, "")


# SMPP-8
async def test_a_generic_nack_refuses_and_the_session_goes_on(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        [part] = parts_of("hello", msisdn=NACKED)
        await site.submit([part])
        assert site.sink.outcome_of(part) == Refused(0x03, retryable=False)
        await site.accepted(parts_of("and on"))


# SMPP-15
async def test_a_submit_that_is_accepted_without_an_id_is_accepted(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        [part] = parts_of("hello", msisdn=WITHOUT_ID)
        await site.submit([part])
        assert site.sink.outcome_of(part) == Accepted("")


@pytest.mark.parametrize(("text", "coding"), [(EXTENDED, 0), ("Στοπ 😀", 8)], ids=["gsm", "ucs2"])
async def test_a_message_from_a_subscriber_is_read_as_the_peer_wrote_it(kind: Peer, text: str, coding: int) -> None:
    async with connected(kind) as site:
        await site.bound()
        heard = await site.delivery(fields={**FROM_NETWORK, "data_coding": coding}, text=text)
        assert (heard.is_receipt, heard.text) == (False, text)
        assert (heard.source, heard.destination) == (str(NUMBER), "Aldis")


async def test_a_message_behind_a_header_is_read_without_it(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        heard = await site.delivery(fields={**FROM_NETWORK, "esm_class": 0x40}, text="part two", udh="050003070202")
        assert (heard.is_receipt, heard.text) == (False, "part two")


# SMPP-16
async def test_a_delivery_that_could_not_be_kept_is_refused_for_now(kind: Peer) -> None:
    async with connected(kind, sink=RecordingSink(answer=False)) as site:
        await site.bound()
        await site.delivery(fields=FROM_NETWORK, text="hello")
        [answer] = await site.peer.receives("deliver_sm_resp")
        assert answer["status"] == 0x64


# SMPP-9
async def test_both_sides_answer_an_enquire_link(kind: Peer) -> None:
    async with connected(kind, enquire_link_s=0.1) as site:
        await site.bound()
        site.peer.tell("enquire_link", fields={})
        [answer] = await site.peer.receives("enquire_link_resp")
        assert answer["status"] == 0
        await site.peer.receives("enquire_link", 3)
        assert site.connector.counters.reconnects == 0
        await site.accepted(parts_of("still here"))


async def test_a_peer_that_unbinds_is_answered_and_bound_to_again(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        site.peer.tell("unbind", fields={})
        [answer] = await site.peer.receives("unbind_resp")
        assert answer["status"] == 0
        await site.peer.receives("bind_transceiver", 2)
        await site.bound()
        await site.accepted(parts_of("here again"))
        assert site.connector.counters.reconnects == 1


# SMPP-11
async def test_a_connector_that_is_drained_unbinds(kind: Peer) -> None:
    async with connected(kind) as site:
        await site.bound()
        assert site.connector.submit(parts_of("the last one")) == 1
        await site.connector.drain(5)
        [submitted] = site.peer.heard("submit_sm")
        assert [outcome for _, outcome in site.sink.outcomes] == [Accepted(submitted["message_id"])]
        await site.peer.receives("unbind")
        commands = [event["command"] for event in site.peer.events if "command" in event]
        assert commands == ["bind_transceiver", "submit_sm", "unbind"]


async def test_a_pair_submits_on_one_connection_and_receives_on_the_other(kind: Peer) -> None:
    async with connected(kind, bind="pair") as site:
        await site.bound()
        [transmitter] = await site.peer.receives("bind_transmitter")
        [receiver] = await site.peer.receives("bind_receiver")
        [seen] = await site.accepted(parts_of("hello"))
        assert seen["connection"] == transmitter["connection"] != receiver["connection"]
        text = RECEIPT.format(id=seen["message_id"], state="DELIVRD", error="000")
        fields = {**FROM_NETWORK, "esm_class": 4}
        heard = await site.delivery(connection=receiver["connection"], fields=fields, octets=octets(text))
        assert (heard.upstream_id, heard.state) == (seen["message_id"], "DELIVRD")
        [answer] = await site.peer.receives("deliver_sm_resp")
        assert (answer["connection"], answer["status"]) == (receiver["connection"], 0)


async def test_a_bind_that_is_refused_is_tried_again(kind: Peer) -> None:
    async with connected(kind, password="wrong") as site:
        await site.peer.receives("bind_transceiver", 3)
        assert not site.connector.is_bound
        assert site.connector.counters.binds == 0
