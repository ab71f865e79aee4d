"""The shell of a session, on a transport that only remembers."""

import asyncio
import socket
from contextlib import closing, suppress

import pytest
import uvloop

from aldis.connectors.transport import Link
from aldis.smpp.commands import BindTransceiver, BindTransceiverResp, Command, DeliverSm, SubmitSm
from aldis.smpp.events import Ended, NotSent, Unknown
from aldis.smpp.pdu import Framer, decode, encode
from aldis.smpp.session import EsmeSession, Limits

SUBMIT = SubmitSm(destination_addr=b"27820001111", short_message=b"hello")


class Memory(asyncio.Transport):
    """A transport that keeps what it's told."""

    def __init__(self):
        super().__init__()
        self.writes = []
        self.calls = []

    def write(self, data):
        self.writes.append(data)

    def is_closing(self):
        return "close" in self.calls or "abort" in self.calls

    def close(self):
        self.calls.append("close")

    def abort(self):
        self.calls.append("abort")

    def pause_reading(self):
        self.calls.append("pause")

    def resume_reading(self):
        self.calls.append("resume")

    def commands(self):
        return [decode(frame)[0].command_id for frame in Framer().feed(b"".join(self.writes))]


async def turns():
    for _ in range(3):
        await asyncio.sleep(0)


@pytest.fixture
async def rig():
    """A link whose session is bound, its transport, and what was told."""
    told = []
    link = Link(
        EsmeSession(asyncio.get_running_loop().time(), Limits()), told.extend, lambda: told.append("room"),
        read_while_stuck=False,
    )  # fmt: skip
    transport = Memory()
    link.connection_made(transport)
    link.session.bind(BindTransceiver(b"id"), link.now())
    link.data_received(encode(BindTransceiverResp(b"smsc"), 1))
    await turns()
    transport.writes.clear()
    told.clear()
    yield link, transport, told
    link.abort("over")


async def test_what_one_wake_up_says_is_one_write(rig):
    link, transport, _ = rig
    for token in range(5):
        link.session.submit(SUBMIT, token, link.now())
        link.wake()
    assert transport.writes == []
    await turns()
    assert len(transport.writes) == 1
    assert transport.commands() == [Command.SUBMIT_SM] * 5


async def test_bytes_stay_in_the_session_while_the_peer_takes_none(rig):
    link, transport, told = rig
    link.pause_writing()
    link.session.submit(SUBMIT, "kept", link.now())
    link.wake()
    await turns()
    assert transport.writes == []
    assert transport.calls == ["pause"]
    link.resume_writing()
    await turns()
    assert transport.commands() == [Command.SUBMIT_SM]
    assert transport.calls == ["pause", "resume"]
    assert told == ["room"]


async def test_what_was_kept_when_the_connection_went_is_not_sent(rig):
    link, transport, told = rig
    link.session.submit(SUBMIT, "sent", link.now())
    link.wake()
    await turns()
    link.pause_writing()
    link.session.submit(SUBMIT, "kept", link.now())
    link.wake()
    await turns()
    link.connection_lost(ConnectionResetError("reset"))
    assert told == [Unknown("sent", "reset"), NotSent("kept", "reset"), Ended("reset", False)]
    assert link.closed.done()
    assert transport.commands() == [Command.SUBMIT_SM]


async def test_reading_is_held_until_the_last_reason_is_gone(rig):
    link, transport, _ = rig
    link.hold_reading()
    link.pause_writing()
    link.resume_writing()
    assert transport.calls == ["pause"]
    link.release_reading()
    assert transport.calls == ["pause", "resume"]


async def test_the_last_words_are_written_before_the_close(rig):
    link, transport, told = rig
    link.data_received(bytes(16))
    await turns()
    assert isinstance(told[-1], Ended)
    assert transport.commands() == [Command.GENERIC_NACK]
    assert transport.calls == ["close"]


async def test_answers_given_in_one_wake_up_are_one_write(rig):
    link, transport, told = rig
    link.data_received(b"".join(encode(DeliverSm(), sequence) for sequence in range(1, 9)))
    for event in list(told):
        link.session.answer(event)
        link.wake()
    await turns()
    assert len(transport.writes) == 1
    assert transport.commands() == [Command.DELIVER_SM_RESP] * 8


async def test_the_end_is_told_once(rig):
    link, transport, told = rig
    link.abort("enough")
    link.connection_lost(None)
    assert told == [Ended("enough", False)]
    assert transport.calls == ["abort"]


async def abort_a_stuck_link():
    """Abort a link whose peer begins to read only then; return the bytes that the kernel had, and those that came."""
    loop = asyncio.get_running_loop()
    link = Link(EsmeSession(loop.time(), Limits()), lambda _: None)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.setblocking(False)
        transport, _ = await loop.create_connection(lambda: link, *listening.getsockname())
        peer, _ = await loop.sock_accept(listening)
    with closing(peer):
        transport.write(bytes(20_000_000))
        await turns()
        left = transport.get_write_buffer_size()
        assert left > 0
        came = 0
        with suppress(BlockingIOError):  # make room that the loop has not noticed yet when the abort comes
            while data := peer.recv(1 << 20):
                came += len(data)
        link.abort("cut")
        while data := await loop.sock_recv(peer, 1 << 20):
            came += len(data)
        return 20_000_000 - left, came


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_after_abort_no_byte_leaves_but_those_the_kernel_had(new_loop):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        kernel, came = runner.run(abort_a_stuck_link())
    assert came == kernel


async def test_what_may_not_leave_any_more_when_it_is_written_is_not_sent(rig):
    """PROMISE-17. A process may have stood still since the part was handed over, for longer than its lease."""
    link, transport, told = rig
    link.session.submit(SUBMIT, "kept", link.now())
    link.wake()
    link._may_write = lambda: False
    await turns()
    assert transport.writes == []
    assert told == [NotSent("kept", "nothing may leave any more"), Ended("nothing may leave any more", False)]
    assert transport.calls == ["abort"]


async def flush_a_link():
    """Write through a link, and see at once, without a turn of the loop, what the peer's socket has."""
    loop = asyncio.get_running_loop()
    link = Link(EsmeSession(loop.time(), Limits()), lambda _: None)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        listening.setblocking(False)
        await loop.create_connection(lambda: link, *listening.getsockname())
        peer, _ = await loop.sock_accept(listening)
    with closing(peer):
        link.session.bind(BindTransceiver(b"id"), link.now())
        link._flush()
        peer.setblocking(True)
        peer.settimeout(2)
        came = peer.recv(1 << 16)
        link.abort("over")
        return [decode(frame)[0].command_id for frame in Framer().feed(came)]


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_bytes_leave_when_they_are_written_and_not_at_the_end_of_the_wake_up(new_loop):
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(flush_a_link()) == [Command.BIND_TRANSCEIVER]
