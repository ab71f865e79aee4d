"""Sessions, and what runs them, fed with mutated PDUs: a bad PDU is answered and forgotten, only a bad length ends."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.interop.esme_site import now_ms
from tests.interop.mutations import HONEST, MUTATIONS, mutated

from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.connectors.testing import RecordingSink, make_parts
from aldis.smpp.commands import (
    BindReceiver,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    Command,
    EnquireLink,
    EnquireLinkResp,
    SubmitSm,
)
from aldis.smpp.events import BadPdu, Ended, Event, Incoming
from aldis.smpp.pdu import RESPONSE, Framer, encode
from aldis.smpp.session import EsmeSession, Limits, Session, SmscSession

SEED, COUNT = 3_550, 20_000
PROBE = 0x7E57_0001
WINDOW = 50
_ENDS = {int(Command.UNBIND)}
_ANSWERED_BY_THE_CALLER = frozenset(
    {Command.SUBMIT_SM, Command.SUBMIT_MULTI, Command.DATA_SM, Command.DELIVER_SM}
    | {Command.QUERY_SM, Command.CANCEL_SM, Command.REPLACE_SM}
)
_NEVER_ANSWERED = frozenset({Command.OUTBIND, Command.ALERT_NOTIFICATION})


def bound_esme() -> EsmeSession:
    session = EsmeSession(0, Limits(window=WINDOW))
    session.bind(BindTransceiver(b"id"), 0)
    session.feed(encode(BindTransceiverResp(b"smsc"), 1), 0)
    session.take_output()
    return session


def bound_smsc() -> SmscSession:
    session = SmscSession(0, Limits(window=WINDOW))
    session.feed(encode(BindTransceiver(b"id"), 1), 0)
    session.answer_bind(0, b"smsc", 0)
    session.take_output()
    return session


sides = pytest.mark.parametrize("bound", [bound_esme, bound_smsc], ids=["ESME", "SMSC"])


def fill_window(session: Session) -> None:
    """Submit as much as goes, so that mutated responses meet requests that wait."""
    while session.room():
        session.submit(SubmitSm(), object(), 0)
    session.take_output()


def answers(session: Session) -> list[bytes]:
    return Framer().feed(session.take_output())


def is_alive(session: Session) -> bool:
    """Return whether the session still answers an enquire_link; what it said before must have been taken."""
    session.feed(encode(EnquireLink(), PROBE), 0)
    return answers(session) == [encode(EnquireLinkResp(), PROBE)]


# SMPP-12, SMPP-13
@sides
def test_a_session_goes_on_after_each_bad_pdu(bound: Any) -> None:
    session, tally = bound(), Counter[str]()
    for frame in mutated(SEED, COUNT, HONEST):
        fill_window(session)
        events = session.feed(frame, 0)
        tally.update(type(event).__name__ for event in events)
        if session.is_over:
            assert int.from_bytes(frame[4:8], "big") in _ENDS
            assert [event for event in events if isinstance(event, Ended)] == [Ended("the peer unbound", clean=True)]
            session = bound()
            continue
        _check_answers(frame, events, answers(session))
        assert is_alive(session), frame.hex()
    assert tally["BadPdu"] > 1_000
    assert tally["Incoming"] > 1_000
    assert 0 < tally["Ended"] < 500
    assert tally["Accepted"] > 0
    assert tally["Refused"] > 0


def _check_answers(frame: bytes, events: list[Event], told: list[bytes]) -> None:
    """A request is answered once, under its own sequence: by the session, or later by the caller."""
    command, sequence = int.from_bytes(frame[4:8], "big"), frame[12:16]
    handed_on = any(isinstance(event, Incoming) for event in events)
    if command & RESPONSE or command in _NEVER_ANSWERED or handed_on:
        assert told == []
        return
    [answer] = told
    assert answer[12:16] == sequence
    if command in set(Command):
        assert answer[4:8] == (command | RESPONSE).to_bytes(4, "big")
    else:
        assert answer[4:12] == RESPONSE.to_bytes(4, "big") + (3).to_bytes(4, "big")
    if command in _ANSWERED_BY_THE_CALLER:
        assert int.from_bytes(answer[8:12], "big"), "nobody else has accepted it"
        assert any(isinstance(event, BadPdu) for event in events)


@sides
def test_a_stream_of_bad_pdus_is_the_same_however_it_is_cut(bound: Any) -> None:
    rng = random.Random(SEED)
    frames = [frame for frame in mutated(SEED, 5_000, HONEST) if int.from_bytes(frame[4:8], "big") not in _ENDS]
    whole, cut, stream, start = bound(), bound(), b"".join(frames), 0
    in_whole, in_cut = [event for frame in frames for event in whole.feed(frame, 0)], []
    while start < len(stream):
        end = start + rng.choice((1, 2, 7, 60, 1_000))
        in_cut += cut.feed(stream[start:end], 0)
        start = end
    assert in_cut == in_whole
    assert cut.take_output() == whole.take_output()
    assert is_alive(cut)


@sides
def test_lies_about_the_length_end_the_session_or_make_it_wait_and_raise_nothing(bound: Any) -> None:
    tally = Counter[str]()
    for frame in mutated(SEED, COUNT, MUTATIONS):
        session = bound()
        told = session.feed(frame, 0)
        length = int.from_bytes(frame[:4], "big")
        if not 16 <= length <= 65_552:
            assert isinstance(told[-1], Ended)
            assert answers(session) == [bytes.fromhex("00000010 80000000 00000002 00000000")]
            tally["ended"] += 1
        elif length > len(frame):
            assert told == []
            tally["waits"] += 1
        else:
            tally["read"] += 1
    assert min(tally["ended"], tally["waits"]) > 100, tally


# --------------------------------------------------------------------------------------------------- on real sockets


class Complaints:
    """What an event loop had to complain of: an exception in a callback would end there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.heard: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: self.heard.append(context))


def without_unbind(seed: int, count: int) -> Iterator[bytes]:
    return (frame for frame in mutated(seed, count, HONEST) if int.from_bytes(frame[4:8], "big") not in _ENDS)


async def next_frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(4)
    return head + await reader.readexactly(int.from_bytes(head, "big") - 4)


async def probed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Ask whether the other side is there, and return how many PDUs came before its answer."""
    writer.write(encode(EnquireLink(), PROBE))
    before = 0
    while await next_frame(reader) != encode(EnquireLinkResp(), PROBE):
        before += 1
    return before


@pytest.mark.parametrize("bind", [BindTransceiver, BindTransmitter, BindReceiver], ids=lambda bind: bind.__name__)
async def test_the_message_centre_answers_through_a_storm_of_bad_pdus(bind: Any) -> None:
    complaints = Complaints(asyncio.get_running_loop())
    async with Smsc(SmscSettings(receipt_delay_ms=1, resend_ms=60_000), now_ms) as smsc, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", smsc.port)
        writer.write(encode(bind(b"id"), 1))
        told = 0
        for at, frame in enumerate(without_unbind(SEED, 5_000)):
            writer.write(frame)
            if at % 100 == 99:
                told += await probed(reader, writer)
        assert told > 1_000
        assert smsc.connects == 1
        assert smsc.bound == 1
        writer.close()
        await writer.wait_closed()
    assert complaints.heard == []


async def test_the_connector_goes_on_through_a_storm_of_bad_pdus() -> None:
    complaints = Complaints(asyncio.get_running_loop())
    over, released = asyncio.Event(), asyncio.Event()

    async def storm(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        bind = await next_frame(reader)
        writer.write(encode(BindTransceiverResp(b"smsc"), int.from_bytes(bind[12:16], "big")))
        for at, frame in enumerate(without_unbind(SEED + 1, 5_000)):
            writer.write(frame)
            if at % 100 == 99:
                await probed(reader, writer)
        over.set()
        await released.wait()
        writer.close()
        await writer.wait_closed()

    sink = RecordingSink()
    server = await asyncio.start_server(storm, "127.0.0.1", 0)
    with capture_logs() as logs:
        async with server, asyncio.TaskGroup() as group:
            settings = SmppSettings(name="s", host="127.0.0.1", port=server.sockets[0].getsockname()[1], system_id="id")
            connector = SmppConnector(settings, sink, now_ms)
            running = group.create_task(connector.run())
            await sink.until(lambda: sink.readies > 0)
            parts = make_parts(447700900123, connector.capacity())
            assert connector.submit(parts) == len(parts) > 0
            async with asyncio.timeout(60):
                await over.wait()
            assert connector.is_bound
            assert connector.counters.binds == 1
            released.set()
            running.cancel()
    told = sum(line["event"] in ("bad PDU", "ill-formed id") for line in logs)
    assert told == connector.counters.bad_pdus > 1_000
    assert Counter(part.message_id for part, _ in sink.outcomes) == Counter(part.message_id for part in parts)
    assert any(delivery.is_receipt for delivery in sink.deliveries)
    assert any(not delivery.is_receipt for delivery in sink.deliveries)
    assert complaints.heard == []
