"""What holds for a session whatever comes, in whatever order."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from aldis.smpp.commands import (
    BindTransceiver,
    BindTransceiverResp,
    Command,
    DeliverSm,
    GenericNack,
    SubmitSm,
    SubmitSmResp,
)
from aldis.smpp.events import Accepted, Ended, Incoming, LateResponse, NotSent, Refused, Unknown
from aldis.smpp.pdu import encode
from aldis.smpp.session import EsmeSession, Limits, SmscSession

WINDOW = 5
ENDS = (Accepted, Refused, Unknown, NotSent)
SUBMIT = SubmitSm(destination_addr=b"27820001111", short_message=b"hello")


def bound_esme():
    session = EsmeSession(0, Limits(window=WINDOW, response_timeout_s=10, enquire_link_s=7))
    session.bind(BindTransceiver(b"id"), 0)
    session.take_output()
    session.feed(encode(BindTransceiverResp(b"smsc"), 1), 0)
    return session


def bound_smsc():
    session = SmscSession(0, Limits())
    session.feed(encode(BindTransceiver(b"id"), 1), 0)
    session.answer_bind(0, b"smsc", 0)
    session.take_output()
    return session


sequences = st.integers(1, 40)
steps = st.one_of(
    st.just(("submit",)),
    st.just(("write",)),
    st.tuples(st.just("respond"), sequences, st.sampled_from([0, 0, 0x58, 0x450])),
    st.tuples(st.just("nack"), sequences, st.sampled_from([0, 3])),
    st.tuples(st.just("deliver"), sequences),
    st.tuples(st.just("wait"), st.floats(0, 6)),
    st.just(("pause",)),
    st.just(("resume",)),
    st.just(("unbind",)),
)


class Player:
    """Plays steps on a session and keeps what it told."""

    def __init__(self):
        self.session, self.now, self.token, self.events = bound_esme(), 0.0, 0, []

    def play(self, step):
        name, *arguments = step
        getattr(self, name)(*arguments)
        assert self.session.in_flight <= WINDOW

    def submit(self):
        if self.session.room():
            self.session.submit(SUBMIT, self.token, self.now)
            self.token += 1

    def write(self):
        self.session.take_output()

    def respond(self, sequence, status):
        self.events += self.session.feed(encode(SubmitSmResp(b"1"), sequence, status), self.now)

    def nack(self, sequence, status):
        self.events += self.session.feed(encode(GenericNack(), sequence, status), self.now)

    def deliver(self, sequence):
        self.events += self.session.feed(encode(DeliverSm(), sequence), self.now)

    def wait(self, seconds):
        self.now += seconds
        self.events += self.session.poll(self.now)
        assert self.session.next_deadline() > self.now

    def pause(self):
        self.session.pause(self.now)

    def resume(self):
        self.session.resume(self.now)

    def unbind(self):
        self.session.unbind(self.now, 5)


# SMPP-5
@given(st.lists(steps, max_size=60))
def test_each_submit_ends_in_exactly_one_way(script):
    player = Player()
    for step in script:
        player.play(step)
    player.events += player.session.lost("over")
    ends = Counter(event.token for event in player.events if isinstance(event, ENDS))
    assert ends == Counter(range(player.token))
    assert sum(isinstance(event, Ended) for event in player.events) == 1


@given(st.lists(steps, max_size=60))
def test_only_what_was_unknown_is_answered_late_and_once(script):
    player = Player()
    for step in script:
        player.play(step)
    unknown = set()
    for event in player.events:
        if isinstance(event, Unknown):
            unknown.add(event.token)
        if isinstance(event, LateResponse):
            unknown.remove(event.token)


requests = st.sampled_from([Command.DELIVER_SM, Command.DATA_SM, Command.SUBMIT_SM, Command.ENQUIRE_LINK, 0x0999])
responses = st.sampled_from([Command.SUBMIT_SM_RESP, Command.GENERIC_NACK, Command.QUERY_SM_RESP, 0x80000999])
bodies = st.binary(max_size=120) | st.builds(
    lambda at, octet: bytes((*encode(SUBMIT, 1)[16:][:at], octet, *encode(SUBMIT, 1)[17 + at :])),
    st.integers(0, 50),
    st.integers(0, 255),
)


def frame(command, sequence, body):
    return b"".join(number.to_bytes(4, "big") for number in (len(body) + 16, command, 0, sequence)) + body


# SMPP-12 SMPP-13
@given(st.lists(st.builds(frame, requests | responses, st.integers(0, 0xFFFFFFFF), bodies), max_size=10), st.booleans())
def test_no_body_whatever_ends_a_session(frames, is_smsc):
    session = bound_smsc() if is_smsc else bound_esme()
    events = session.feed(b"".join(frames), 1)
    assert session.is_bound
    for event in events:
        if isinstance(event, Incoming):
            session.answer(event)


@given(st.lists(st.builds(frame, requests, st.integers(0, 0xFFFFFFFF), bodies), max_size=10), st.booleans())
def test_each_request_is_answered_or_handed_on(frames, is_smsc):
    session = bound_smsc() if is_smsc else bound_esme()
    events = session.feed(b"".join(frames), 1)
    handed_on = sum(isinstance(event, Incoming) for event in events)
    assert len(session._framer.__class__().feed(session.take_output())) + handed_on == len(frames)


@given(st.lists(st.integers(1, 200), max_size=20), st.integers(1, 8))
def test_however_the_stream_is_cut_the_events_are_the_same(cuts, count):
    stream = b"".join(encode(DeliverSm(short_message=b"%d" % n), n) for n in range(1, count + 1))
    whole, pieces = bound_esme(), bound_esme()
    events, at = [], 0
    for cut in [*cuts, len(stream)]:
        events += pieces.feed(stream[at : at + cut], 1)
        at += cut
    assert events == whole.feed(stream, 1)
