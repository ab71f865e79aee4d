"""Our traffic as tshark's dissector reads it: each PDU as what it is, none malformed."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.interop.capture import ESME, SMSC, SMSC_PORT, Chunk, Relay, cut, relayed, write_pcap
from tests.interop.dissector import Dissected, Dissection, dissect
from tests.interop.esme_site import now_ms, parts_of
from tests.interop.mutations import PDUS, REFUSALS, SEEDS, framed
from tests.interop.peers import TSHARK, need

from aldis.connectors.outcomes import OUTCOMES, Answer
from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.connectors.testing import RecordingSink
from aldis.model.types import Dca
from aldis.smpp.commands import Command, DeliverSm, Raw
from aldis.smpp.fields import DistributionList
from aldis.smpp.pdu import decode, encode

STRINGS = (
    "system_id", "password", "system_type", "address_range", "service_type", "source_addr", "destination_addr",
    "esme_addr", "message_id",
)  # fmt: skip
"""Fields that we and the dissector call alike, and so below."""
NUMBERS = (
    "source_addr_ton", "source_addr_npi", "dest_addr_ton", "dest_addr_npi", "protocol_id", "priority_flag",
    "data_coding", "replace_if_present_flag", "sm_default_msg_id", "interface_version",
)  # fmt: skip
_ESME_PORT = 40_000
_UNPLAYED = {
    name for name, script in OUTCOMES.items() if script.answer is not Answer.ACCEPT or script.late or script.slow
}


@pytest.fixture(scope="module", autouse=True)
def tshark() -> None:
    need(TSHARK)


def dissection_of(path: Path, chunks: list[Chunk]) -> Dissection:
    write_pcap(path / "session.pcap", chunks)
    return dissect(path / "session.pcap")


def check(seen: Dissected, frame: bytes) -> None:
    """Compare what the dissector saw with the octets of the header, and with what our decoder reads in the body."""
    head = {"command_length": frame[:4], "command_id": frame[4:8], "sequence_number": frame[12:16]}
    assert {name: seen.octets[f"smpp.{name}"] for name in head} == {name: [head[name].hex()] for name in head}
    if frame[4] & 0x80:
        assert seen.octets["smpp.command_status"] == [frame[8:12].hex()]
    _, pdu = decode(frame)
    if len(frame) == 16:
        return
    _check_body(seen, pdu)


def _check_body(seen: Dissected, pdu: Any) -> None:
    several = getattr(pdu, "dest_addresses", None) or getattr(pdu, "unsuccess", ())
    if several:
        numbers = [one.destination_addr for one in several if not isinstance(one, DistributionList)]
        assert seen.octets["smpp.destination_addr"] == [(number + b"\0").hex() for number in numbers]
    for name in STRINGS:
        value = getattr(pdu, name, b"")
        if value and not several:  # empty strings are not shown
            assert seen.octets[f"smpp.{name}"] == [(value + b"\0").hex()], name
    for name in NUMBERS:
        if hasattr(pdu, name) and not several:
            assert [int(octets, 16) for octets in seen.octets[f"smpp.{name}"]] == [getattr(pdu, name)], name
    if text := getattr(pdu, "short_message", b""):
        assert seen.octets["smpp.message"] == [text.hex()]
    tlvs = getattr(pdu, "tlvs", None) or {}
    assert seen.octets.get("smpp.opt_param_tag", []) == [f"{tag:04x}" for tag in tlvs]
    assert seen.octets.get("smpp.opt_param_len", []) == [f"{len(value):04x}" for value in tlvs.values()]


async def play(connector: SmppConnector, sink: RecordingSink, smsc: Smsc, relay: Relay) -> None:
    """Have a session with everything that a connector sends and hears."""
    await sink.until(lambda: connector.is_bound)
    parts = [
        *parts_of("Fee: 5 € [net] {a|b} ~^\\ @£$ " * 8, valid_until=1_800_000_000_000),
        *parts_of("Καλημέρα 😀 " * 12, Dca.UCS2, originator="12345"),
        *parts_of("short", originator="447700900999"),
        *(
            part
            for at in range(200)
            if f"{at:04d}" not in _UNPLAYED
            for part in parts_of(f"number {at}", msisdn=27_820_010_000 + at)
        ),
    ]
    to_send = list(parts)
    while to_send:
        await sink.eventually(lambda: connector.capacity() > 0)
        del to_send[: connector.submit(to_send)]
    mo = DeliverSm(source_addr=b"447700900123", destination_addr=b"12345", short_message=b"STOP", tlvs={0x1400: b"v"})
    smsc.deliver("aldis", mo)
    await sink.until(lambda: len(sink.outcomes) == len(parts))
    await sink.until(lambda: any(not one.is_receipt for one in sink.deliveries))
    await sink.eventually(lambda: smsc.receipts_kept == 0)
    await sink.eventually(lambda: relay.heard(Command.ENQUIRE_LINK_RESP))
    await connector.drain(5)


async def test_a_session_is_dissected_as_it_was_meant(tmp_path: Path) -> None:
    sink = RecordingSink()
    settings = SmscSettings(receipt_delay_ms=1, early_gap_ms=1, enquire_link_s=0.1)
    async with Smsc(settings, now_ms) as smsc, relayed(smsc.port) as relay:
        connector = SmppConnector(
            SmppSettings(
                name="s", host="127.0.0.1", port=relay.port, system_id="aldis", password="secret", system_type="VMA",
                window=20, enquire_link_s=0.1,
            ),
            sink,
            now_ms,
        )  # fmt: skip
        async with asyncio.TaskGroup() as group:
            group.create_task(connector.run())
            await play(connector, sink, smsc, relay)
    said = {_ESME_PORT: cut(relay.said(ESME)), SMSC_PORT: cut(relay.said(SMSC))}
    dissection = await asyncio.to_thread(dissection_of, tmp_path, relay.chunks)
    assert dissection.complaints == []
    for port, frames in said.items():
        seen = [pdu for pdu in dissection.pdus if pdu.from_port == port]
        assert len(seen) == len(frames)
        for pdu, frame in zip(seen, frames, strict=True):
            check(pdu, frame)
    kinds = Counter(int(pdu.one("smpp.command_id"), 16) for pdu in dissection.pdus)
    submits = len(sink.outcomes)
    assert kinds[Command.SUBMIT_SM] == kinds[Command.SUBMIT_SM_RESP] == submits > 200
    assert kinds[Command.DELIVER_SM] == kinds[Command.DELIVER_SM_RESP] == len(sink.deliveries) > 150
    assert kinds[Command.ENQUIRE_LINK] == kinds[Command.ENQUIRE_LINK_RESP] > 0
    assert kinds[Command.BIND_TRANSCEIVER] == kinds[Command.UNBIND] == kinds[Command.UNBIND_RESP] == 1
    assert len(kinds) == 10
    _check_receipts(dissection, sink)


def _check_receipts(dissection: Dissection, sink: RecordingSink) -> None:
    """The ids and states of receipts, as the dissector reads their TLVs, are those that our sink heard."""
    shown = Counter(
        (pdu.one("smpp.receipted_message_id"), int(pdu.one("smpp.message_state"), 0))
        for pdu in dissection.pdus
        if "smpp.receipted_message_id" in pdu.fields
    )
    states = {"ENROUTE": 1, "DELIVRD": 2, "EXPIRED": 3, "DELETED": 4, "UNDELIV": 5, "ACCEPTD": 6, "UNKNOWN": 7}
    states["REJECTD"] = 8
    heard = Counter((one.upstream_id, states[one.state]) for one in sink.deliveries if one.is_receipt)
    assert shown == heard
    assert len({state for _, state in shown}) >= 6


def test_a_pdu_of_every_kind_is_dissected_as_it_was_meant(tmp_path: Path) -> None:
    """But for the command of a later version, which we don't make and it knows."""
    frames = [seed for pdu, seed in zip(PDUS, SEEDS, strict=True) if not isinstance(pdu, Raw)] + REFUSALS
    dissection = dissection_of(tmp_path, [Chunk(0, ESME, b"".join(frames))])
    assert dissection.complaints == []
    assert len(dissection.pdus) == len(frames)
    for seen, frame in zip(dissection.pdus, frames, strict=True):
        check(seen, frame)


@pytest.mark.parametrize("lost", [1, 5, 30])
def test_the_dissector_would_complain_of_a_pdu_that_is_cut(tmp_path: Path, lost: int) -> None:
    whole = encode(DeliverSm(source_addr=b"447700900123", short_message=b"x" * 20, tlvs={0x1E: b"abc\0"}), 1)
    dissection = dissection_of(tmp_path, [Chunk(0, SMSC, framed(whole[:-lost]))])
    assert dissection.complaints != []
