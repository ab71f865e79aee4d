"""What an SMPP session does with bytes and times, on both sides, without a socket."""

from math import inf

import pytest

from aldis.smpp import session as session_module
from aldis.smpp.commands import (
    BindReceiver,
    BindTransceiver,
    BindTransceiverResp,
    BindTransmitter,
    Command,
    DataSm,
    DeliverSm,
    EnquireLink,
    EnquireLinkResp,
    GenericNack,
    QuerySm,
    QuerySmResp,
    Raw,
    SubmitSm,
    SubmitSmResp,
    Unbind,
    UnbindResp,
)
from aldis.smpp.errors import CommandStatus
from aldis.smpp.events import (
    Accepted,
    BadPdu,
    BindRefused,
    BindRequested,
    Bound,
    Ended,
    Incoming,
    LateResponse,
    NotSent,
    Refused,
    Unknown,
)
from aldis.smpp.pdu import Framer, decode, encode
from aldis.smpp.session import EsmeSession, Limits, SmscSession, State

SUBMIT = SubmitSm(destination_addr=b"27820001111", short_message=b"hello")
DELIVER = DeliverSm(source_addr=b"27820001111", short_message=b"hello")


def sent(session):
    """Return what the session has to say: (command, status, sequence, pdu) of each PDU."""
    return [
        (header.command_id, header.command_status, header.sequence, pdu)
        for header, pdu in map(decode, Framer().feed(session.take_output()))
    ]


def esme(bind=BindTransceiver, now=0.0, **limits):
    session = EsmeSession(now, Limits(**limits))
    session.bind(bind(b"id", b"secret"), now)
    [(command, _, sequence, _)] = sent(session)
    assert command == bind.command_id
    [event] = session.feed(encode(Raw(command | 0x80000000, b"smsc\0"), sequence), now)
    assert isinstance(event, Bound)
    return session


def smsc(bind=BindTransceiver, now=0.0, **limits):
    session = SmscSession(now, Limits(**limits))
    [event] = session.feed(encode(bind(b"id", b"secret"), 1), now)
    assert event == BindRequested(1, bind(b"id", b"secret"))
    assert session.answer_bind(0, b"smsc", now) == []
    assert sent(session)[0][:3] == (bind.command_id | 0x80000000, 0, 1)
    return session


def submitted(session, token="token", now=0.0):
    """Submit, take it off the buffer, and return its sequence."""
    session.submit(SUBMIT, token, now)
    return sent(session)[-1][2]


def ok(sequence, message_id=b"77"):
    return encode(SubmitSmResp(message_id), sequence)


class TestOutcomes:
    # SMPP-5
    def test_a_response_accepts_with_the_upstreams_id(self):
        session = esme()
        sequence = submitted(session)
        assert session.feed(ok(sequence), 1) == [Accepted("token", b"77", SubmitSmResp(b"77"))]
        assert session.in_flight == 0

    # SMPP-5
    @pytest.mark.parametrize("status", [0x58, 0x14, 0x450, 0xFFFFFFFF], ids=hex)
    def test_a_refusal_keeps_the_raw_status(self, status):
        session = esme()
        sequence = submitted(session)
        assert session.feed(encode(SubmitSmResp(), sequence, status), 1) == [Refused("token", status)]

    # SMPP-15
    def test_a_good_response_without_a_body_accepts_without_an_id(self):
        session = esme()
        sequence = submitted(session)
        [event] = session.feed(encode(Raw(Command.SUBMIT_SM_RESP, b""), sequence), 1)
        assert (event.token, event.message_id) == ("token", b"")

    @pytest.mark.parametrize("message_id", [b"9" * 80 + b"\0", b"unterminated"], ids=["80 octets", "no NUL"])
    def test_an_ill_formed_id_still_accepts(self, message_id):
        session = esme()
        sequence = submitted(session)
        events = session.feed(encode(Raw(Command.SUBMIT_SM_RESP, message_id), sequence), 1)
        assert [event.token for event in events if isinstance(event, Accepted)] == ["token"]

    # SMPP-8
    @pytest.mark.parametrize(("status", "told"), [(0x03, 0x03), (0, 0xFF)])
    def test_a_generic_nack_to_a_submit_refuses_it(self, status, told):
        session = esme()
        sequence = submitted(session)
        assert session.feed(encode(GenericNack(), sequence, status), 1) == [Refused("token", told)]

    # SMPP-8
    def test_a_response_of_another_kind_ends_nothing(self):
        session = esme()
        sequence = submitted(session)
        [event] = session.feed(encode(QuerySmResp(b"1"), sequence), 1)
        assert isinstance(event, BadPdu)
        assert session.in_flight == 1

    # SMPP-4
    def test_responses_match_in_any_order(self):
        session = esme()
        first, second = submitted(session, "first"), submitted(session, "second")
        events = session.feed(ok(second, b"2") + ok(first, b"1"), 1)
        assert [(event.token, event.message_id) for event in events] == [("second", b"2"), ("first", b"1")]

    # SMPP-5
    def test_a_cut_makes_what_was_sent_unknown_and_the_rest_not_sent(self):
        session = esme()
        submitted(session, "answered")
        submitted(session, "sent")
        session.feed(ok(2), 1)
        session.submit(SUBMIT, "still here", 1)
        assert session.lost("reset") == [
            Unknown("sent", "reset"),
            NotSent("still here", "reset"),
            Ended("reset", False),
        ]
        assert session.lost("again") == []

    def test_each_of_many_in_flight_is_told_of_a_cut_once(self):
        session = esme(window=50)
        for token in range(50):
            submitted(session, token)
        events = session.lost("reset")
        assert [event.token for event in events if isinstance(event, Unknown)] == list(range(50))

    def test_other_requests_end_as_submits_do(self):
        session = esme()
        session.submit(QuerySm(b"77"), "query", 0)
        [(_, _, sequence, _)] = sent(session)
        response = QuerySmResp(b"77", message_state=2)
        assert session.feed(encode(response, sequence), 1) == [Accepted("query", b"77", response)]


class TestTimeouts:
    # SMPP-5
    def test_no_response_in_time_is_unknown(self):
        session = esme(response_timeout_s=60, enquire_link_s=0)
        submitted(session, now=10)
        assert session.next_deadline() == 70
        assert session.poll(69.9) == []
        assert session.poll(70) == [Unknown("token", "no response in time")]
        assert session.room() == session.limits.window

    def test_only_the_overdue_are_swept(self):
        session = esme(response_timeout_s=60, enquire_link_s=0)
        for at in range(5):
            submitted(session, at, now=at)
        assert [event.token for event in session.poll(62)] == [0, 1, 2]
        assert session.next_deadline() == 63

    # SMPP-6
    @pytest.mark.parametrize(("status", "message_id"), [(0, b"77"), (0x58, b"")], ids=["accepted", "refused"])
    def test_a_late_response_is_told_with_its_id_once(self, status, message_id):
        session = esme(response_timeout_s=60, enquire_link_s=0)
        sequence = submitted(session)
        session.poll(60)
        response = encode(SubmitSmResp(message_id), sequence, status)
        assert session.feed(response, 61) == [LateResponse("token", status, message_id)]
        assert isinstance(session.feed(response, 62)[0], BadPdu)

    def test_late_responses_are_remembered_within_a_bound(self, monkeypatch):
        monkeypatch.setattr(session_module, "_MAX_LATE", 3)
        session = esme(response_timeout_s=60, enquire_link_s=0)
        sequences = [submitted(session, token) for token in range(5)]
        session.poll(60)
        events = [session.feed(ok(sequence), 61)[0] for sequence in sequences]
        assert [type(event) for event in events] == [BadPdu] * 2 + [LateResponse] * 3

    # SMPP-10
    def test_time_in_which_the_shell_does_not_read_does_not_count(self):
        session = esme(response_timeout_s=60, enquire_link_s=0)
        submitted(session, now=0)
        session.pause(10)
        assert session.next_deadline() == inf
        assert session.poll(1000) == []
        session.resume(1000)
        assert session.next_deadline() == 1050
        assert session.poll(1049) == []
        assert session.poll(1050) == [Unknown("token", "no response in time")]


class TestWindow:
    # SMPP-4
    def test_the_window_is_a_limit(self):
        session = esme(window=3)
        for token in range(3):
            session.submit(SUBMIT, token, 0)
        assert session.room() == 0
        with pytest.raises(ValueError, match="window"):
            session.submit(SUBMIT, "one too many", 0)
        assert len(sent(session)) == 3

    def test_a_response_opens_the_window(self):
        session = esme(window=1)
        sequence = submitted(session)
        session.feed(ok(sequence), 1)
        assert session.room() == 1

    # SMPP-7
    def test_sequences_wrap_at_0x7fffffff(self):
        session = esme()
        session._sequence = 0x7FFFFFFE
        assert [submitted(session) for _ in range(4)] == [0x7FFFFFFE, 0x7FFFFFFF, 1, 2]

    # SMPP-20
    @pytest.mark.parametrize(
        "pdu",
        [SubmitSm(short_message=b"x" * 300), SubmitSm(destination_addr=b"1\0002"), SubmitSm(source_addr=b"1" * 21)],
        ids=["300 octets", "NUL in an address", "long address"],
    )
    def test_what_cannot_be_encoded_never_reaches_the_wire(self, pdu):
        session = esme()
        with pytest.raises(ValueError, match=r"octets|NUL"):
            session.submit(pdu, "token", 0)
        assert not session.has_output
        assert session.in_flight == 0

    # SMPP-33
    @pytest.mark.parametrize(
        ("version", "is_sent"), [(0x00, False), (0x33, False), (0x34, True), (0x50, True)], ids=hex
    )
    def test_tlvs_are_sent_since_3_4(self, version, is_sent):
        session = EsmeSession(0, Limits())
        session.bind(BindTransceiver(b"id", interface_version=version), 0)
        session.feed(encode(BindTransceiverResp(b"smsc"), sent(session)[0][2]), 0)
        pdu = SubmitSm(tlvs={0x0204: b"\0\1"})
        if is_sent:
            session.submit(pdu, "token", 0)
            assert sent(session)[0][3].tlvs == pdu.tlvs
        else:
            with pytest.raises(ValueError, match="knows no TLVs"):
                session.submit(pdu, "token", 0)
            assert not session.has_output
        session.submit(SUBMIT, "plain", 0)

    def test_a_receiver_bind_cannot_submit(self):
        session = esme(BindReceiver)
        assert session.room() == 0
        with pytest.raises(ValueError, match="can't submit"):
            session.submit(SUBMIT, "token", 0)

    def test_nothing_is_submitted_before_the_bind(self):
        session = EsmeSession(0, Limits())
        assert session.room() == 0
        with pytest.raises(ValueError, match="not bound"):
            session.submit(SUBMIT, "token", 0)


class TestIncoming:
    # SMPP-16
    @pytest.mark.parametrize("pdu", [DELIVER, DataSm(source_addr=b"1")], ids=["deliver_sm", "data_sm"])
    def test_a_delivery_is_answered_by_the_caller_alone(self, pdu):
        session = esme()
        frame = encode(pdu, 9)
        [event] = session.feed(frame, 1)
        assert event == Incoming(9, pdu, frame)
        assert not session.has_output
        assert session.answer(event, CommandStatus.ESME_RX_T_APPN)
        assert sent(session)[0][:3] == (pdu.command_id | 0x80000000, 0x64, 9)

    def test_an_answer_after_the_end_goes_nowhere(self):
        session = esme()
        [event] = session.feed(encode(DELIVER, 9), 1)
        session.lost("reset")
        assert not session.answer(event)
        assert not session.has_output

    def test_answers_collect_for_one_write(self):
        session = esme()
        for event in session.feed(b"".join(encode(DELIVER, sequence) for sequence in range(1, 6)), 1):
            session.answer(event)
        assert [line[:3] for line in sent(session)] == [(Command.DELIVER_SM_RESP, 0, n) for n in range(1, 6)]

    def test_a_transmitter_bind_is_delivered_nothing(self):
        session = esme(BindTransmitter)
        [event] = session.feed(encode(DELIVER, 9), 1)
        assert isinstance(event, BadPdu)
        assert sent(session)[0][:3] == (Command.DELIVER_SM_RESP, CommandStatus.ESME_RINVBNDSTS, 9)

    def test_what_stands_behind_the_bind_response_is_read(self):
        session = EsmeSession(0, Limits())
        session.bind(BindTransceiver(b"id"), 0)
        [(_, _, sequence, _)] = sent(session)
        events = session.feed(encode(BindTransceiverResp(b"smsc"), sequence) + encode(DELIVER, 9), 1)
        assert [type(event) for event in events] == [Bound, Incoming]

    @pytest.mark.parametrize("cut", range(1, 40, 7))
    def test_pdus_may_be_cut_anywhere(self, cut):
        session = esme()
        stream = encode(DELIVER, 1) + encode(DELIVER, 2)
        events = session.feed(stream[:cut], 1) + session.feed(stream[cut:], 1)
        assert [event.sequence for event in events] == [1, 2]

    # SMPP-14
    def test_vendor_tlvs_are_kept(self):
        session = esme()
        [event] = session.feed(encode(DeliverSm(tlvs={0x1400: b"x"}), 9), 1)
        assert event.pdu.tlvs == {0x1400: b"x"}


class TestBadPdus:
    # SMPP-13
    def test_an_unknown_command_is_nacked_and_the_session_stays(self):
        session = esme()
        [event] = session.feed(encode(Raw(0x00010203, b"abc"), 9), 1)
        assert isinstance(event, BadPdu)
        assert sent(session) == [(Command.GENERIC_NACK, CommandStatus.ESME_RINVCMDID, 9, GenericNack())]
        assert session.is_bound

    # SMPP-13
    def test_a_bad_body_is_answered_with_its_own_response_and_the_session_stays(self):
        session = esme()
        [event] = session.feed(encode(Raw(Command.DELIVER_SM, b"\0\1"), 9), 1)
        assert isinstance(event, BadPdu)
        assert sent(session)[0][:3] == (Command.DELIVER_SM_RESP, CommandStatus.ESME_RINVCMDLEN, 9)
        assert session.is_bound

    # SMPP-12
    @pytest.mark.parametrize("length", [0, 15, 1 << 31], ids=["0", "15", "2^31"])
    def test_a_bad_length_ends_the_session_behind_what_came_before(self, length):
        session = esme()
        sequence = submitted(session, "answered")
        submitted(session, "open")
        events = session.feed(ok(sequence) + length.to_bytes(4, "big") + bytes(12), 1)
        assert [type(event) for event in events] == [Accepted, Unknown, Ended]
        assert sent(session)[-1][:2] == (Command.GENERIC_NACK, CommandStatus.ESME_RINVCMDLEN)
        assert session.feed(encode(DELIVER, 1), 2) == []

    @pytest.mark.parametrize("command", [Command.OUTBIND, Command.ALERT_NOTIFICATION], ids=lambda c: c.name)
    def test_what_has_no_response_gets_none(self, command):
        session = esme()
        session.feed(encode(Raw(command, b"\0" * 16), 9), 1)
        assert not session.has_output
        assert session.is_bound

    def test_a_response_to_nothing_is_noted(self):
        session = esme()
        assert isinstance(session.feed(ok(12345), 1)[0], BadPdu)
        assert session.is_bound


class TestLink:
    # SMPP-9
    def test_silence_is_asked_about_and_an_answer_settles_it(self):
        session = esme(enquire_link_s=30)
        assert session.next_deadline() == 30
        assert session.poll(30) == []
        [(command, _, sequence, _)] = sent(session)
        assert command == Command.ENQUIRE_LINK
        session.feed(encode(EnquireLinkResp(), sequence), 31)
        assert session.next_deadline() == 61

    def test_traffic_is_a_sign_of_life(self):
        session = esme(enquire_link_s=30)
        session.feed(encode(DELIVER, 1), 20)
        assert session.poll(30) == []
        assert not session.has_output

    # SMPP-9
    def test_no_answer_to_enquire_link_ends_the_session(self):
        session = esme(enquire_link_s=30, response_timeout_s=60)
        submitted(session, now=1)
        session.poll(30)
        assert session.poll(59) == []
        assert session.poll(60) == [
            Unknown("token", "no answer to enquire_link"),
            Ended("no answer to enquire_link", False),
        ]

    def test_an_enquire_link_is_answered(self):
        session = esme()
        assert session.feed(encode(EnquireLink(), 9), 1) == []
        assert sent(session) == [(Command.ENQUIRE_LINK_RESP, 0, 9, EnquireLinkResp())]

    def test_the_peers_unbind_is_answered_and_ends_the_session(self):
        session = esme()
        submitted(session)
        events = session.feed(encode(Unbind(), 9), 1)
        assert events == [Unknown("token", "the peer unbound"), Ended("the peer unbound", True)]
        assert sent(session) == [(Command.UNBIND_RESP, 0, 9, UnbindResp())]


class TestUnbind:
    # SMPP-11
    def test_unbind_waits_for_the_responses_still_out(self):
        session = esme()
        sequence = submitted(session)
        session.unbind(1, drain_s=10)
        assert not session.has_output
        assert session.room() == 0
        session.feed(ok(sequence), 2)
        [(command, _, unbind_sequence, _)] = sent(session)
        assert command == Command.UNBIND
        assert session.feed(encode(UnbindResp(), unbind_sequence), 3) == [Ended("unbound", True)]

    # SMPP-11
    def test_unbind_waits_only_so_long(self):
        session = esme(enquire_link_s=0)
        sequence = submitted(session)
        session.unbind(1, drain_s=10)
        assert session.next_deadline() == 11
        assert session.poll(11) == []
        assert sent(session)[0][0] == Command.UNBIND
        assert isinstance(session.feed(ok(sequence), 12)[0], Accepted)

    def test_an_unbind_that_is_not_answered_ends_the_session_too(self):
        session = esme(response_timeout_s=60)
        session.unbind(100, drain_s=10)
        assert session.next_deadline() == 160
        assert session.poll(160) == [Ended("no answer to unbind", False)]

    def test_deliveries_are_still_taken_while_it_drains(self):
        session = esme()
        submitted(session)
        session.unbind(1, drain_s=10)
        [event] = session.feed(encode(DELIVER, 9), 2)
        assert session.answer(event)


class TestBinding:
    @pytest.mark.parametrize("status", [0x0D, 0x0E, 0x0F], ids=hex)
    def test_a_refused_bind_ends_the_session(self, status):
        session = EsmeSession(0, Limits())
        session.bind(BindTransceiver(b"id"), 0)
        [(command, _, sequence, _)] = sent(session)
        events = session.feed(encode(Raw(command | 0x80000000), sequence, status), 1)
        assert events == [BindRefused(status), Ended("bind refused", False)]

    def test_a_bind_that_is_not_answered_ends_the_session(self):
        session = EsmeSession(0, Limits(response_timeout_s=60))
        session.bind(BindTransceiver(b"id"), 5)
        assert session.next_deadline() == 65
        assert session.poll(65) == [Ended("not bound in time", False)]

    def test_a_session_binds_once(self):
        with pytest.raises(ValueError, match="already"):
            esme().bind(BindTransceiver(b"id"), 1)


class TestSmsc:
    # SMPP-2 SMPP-3
    def test_nothing_is_looked_at_before_the_bind(self):
        session = SmscSession(0, Limits())
        events = session.feed(encode(SUBMIT, 1) + encode(EnquireLink(), 2), 0)
        assert [type(event) for event in events] == [BadPdu, BadPdu]
        assert [line[:3] for line in sent(session)] == [
            (Command.SUBMIT_SM_RESP, CommandStatus.ESME_RINVBNDSTS, 1),
            (Command.ENQUIRE_LINK_RESP, CommandStatus.ESME_RINVBNDSTS, 2),
        ]

    # SMPP-2
    def test_what_follows_the_bind_waits_for_its_answer(self):
        session = SmscSession(0, Limits())
        events = session.feed(encode(BindTransceiver(b"id", b"pw"), 1) + encode(SUBMIT, 2), 0)
        assert events == [BindRequested(1, BindTransceiver(b"id", b"pw"))]
        assert session.feed(encode(SUBMIT, 3), 0) == []
        held = session.answer_bind(0, b"smsc", 1)
        assert [event.sequence for event in held] == [2, 3]

    def test_what_follows_a_refused_bind_is_refused(self):
        session = SmscSession(0, Limits())
        session.feed(encode(BindTransceiver(b"id", b"bad"), 1) + encode(SUBMIT, 2), 0)
        [event] = session.answer_bind(CommandStatus.ESME_RINVPASWD, b"smsc", 1)
        assert isinstance(event, BadPdu)
        assert [line[:3] for line in sent(session)] == [
            (Command.BIND_TRANSCEIVER_RESP, CommandStatus.ESME_RINVPASWD, 1),
            (Command.SUBMIT_SM_RESP, CommandStatus.ESME_RINVBNDSTS, 2),
        ]

    def test_only_so_much_is_held_before_the_bind_is_answered(self, monkeypatch):
        monkeypatch.setattr(session_module, "_MAX_HELD", 2)
        session = SmscSession(0, Limits())
        events = session.feed(encode(BindTransceiver(b"id"), 1) + encode(SUBMIT, 2) * 3, 0)
        assert isinstance(events[-1], Ended)

    def test_a_refused_bind_may_be_tried_again_within_the_time(self):
        session = SmscSession(0, Limits(bind_timeout_s=5))
        session.feed(encode(BindTransceiver(b"id", b"bad"), 1), 1)
        session.answer_bind(CommandStatus.ESME_RINVPASWD, b"smsc", 1)
        assert isinstance(session.feed(encode(BindTransceiver(b"id", b"good"), 2), 2)[0], BindRequested)
        assert session.next_deadline() == 5

    # SMPP-2
    def test_a_connection_that_does_not_bind_is_ended(self):
        session = SmscSession(10, Limits(bind_timeout_s=5))
        assert session.next_deadline() == 15
        assert session.poll(15) == [Ended("not bound in time", False)]

    # SMPP-3
    def test_a_second_bind_is_refused(self):
        session = smsc()
        session.feed(encode(BindTransceiver(b"id"), 9), 1)
        assert sent(session)[0][:3] == (Command.BIND_TRANSCEIVER_RESP, CommandStatus.ESME_RALYBND, 9)

    # SMPP-3
    @pytest.mark.parametrize(
        ("bind", "submits", "receives"),
        [(BindTransceiver, True, True), (BindTransmitter, True, False), (BindReceiver, False, True)],
        ids=["transceiver", "transmitter", "receiver"],
    )
    def test_the_bind_says_what_may_be_sent(self, bind, submits, receives):
        session = smsc(bind)
        [event] = session.feed(encode(SUBMIT, 9), 1)
        assert isinstance(event, Incoming if submits else BadPdu)
        assert (session.room() > 0) == receives

    def test_a_submit_is_answered_with_an_id(self):
        session = smsc()
        [event] = session.feed(encode(SUBMIT, 9), 1)
        session.answer(event, 0, b"77")
        assert sent(session) == [(Command.SUBMIT_SM_RESP, 0, 9, SubmitSmResp(b"77"))]

    def test_a_truncated_submit_is_refused_and_the_session_stays(self):
        session = smsc()
        session.feed(encode(SUBMIT, 9)[:3] + b"\x20" + encode(SUBMIT, 9)[4:32], 1)
        [(command, status, sequence, _)] = sent(session)
        assert (command, sequence) == (Command.SUBMIT_SM_RESP, 9)
        assert status
        assert session.state is State.BOUND

    def test_a_deliver_ends_as_a_submit_does(self):
        session = smsc()
        session.submit(DELIVER, "receipt", 1)
        [(_, _, sequence, _)] = sent(session)
        response = encode(Raw(Command.DELIVER_SM_RESP, b"\0"), sequence, CommandStatus.ESME_RX_T_APPN)
        assert session.feed(response, 2) == [Refused("receipt", CommandStatus.ESME_RX_T_APPN)]
