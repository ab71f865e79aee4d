"""The legacy API's bytes, one table entry a rule."""

import pytest

from aldis.model.errors import InvalidField
from aldis.model.status import Status
from aldis.model.types import BatchReport, Dca, Report, TestMode
from aldis.wire import eapi

NOW = 1_700_000_000_000  # 2023-11-14 22:13:20 UTC


def a_batch(*statuses: int, completed_at: int | None = NOW, **changes: object) -> BatchReport:
    reports = [Report(n, 44123123456 + n, Status(status), completed_at, 1500, 1) for n, status in enumerate(statuses)]
    values = {
        "batch_id": 7,
        "account_id": 1,
        "created_at": NOW,
        "originator": "ACME",
        "source_id": "ref-1",
        "dca": Dca.GSM7,
        "body": b"hi",
        "reports": reports,
    }
    return BatchReport(**(values | changes))  # type: ignore[arg-type]


def a_submission(**params: bytes):
    merged = {"msisdn": b"44123123456", "message": b"hi"} | params
    return eapi.parse_submission(merged, Dca.GSM7, b"hi", NOW)


REPORT_BYTES = {
    "the header, a blank line, a row that ends in LF": ((a_batch(11), ()), b"0|Returns to follow\n\n44123123456|11\n"),
    "several rows in the batch's order": (
        (a_batch(0, 10, 63), ()),
        b"0|Returns to follow\n\n44123123456|0\n44123123457|10\n44123123458|63\n",
    ),
    "an unknown batch has no rows and one LF more": ((None, ()), b"0|Returns to follow\n\n\n"),
    "a batch without that number looks the same": ((a_batch(), ("credits",)), b"0|Returns to follow\n\n\n"),
    "credits with two decimals": ((a_batch(11), ("credits",)), b"0|Returns to follow\n\n44123123456|11|1.50\n"),
    "fields in the order asked for": (
        (a_batch(11), ("source_id", "created_time", "origin_address", "body", "credits", "completed_time")),
        b"0|Returns to follow\n\n44123123456|11|ref-1|2023-11-14 22:13:20|ACME|hi|1.50|2023-11-14 22:13:20\n",
    ),
    "the same in another order": (
        (a_batch(11), ("credits", "source_id")),
        b"0|Returns to follow\n\n44123123456|11|1.50|ref-1\n",
    ),
    "a field without a value is empty": (
        (a_batch(0, completed_at=None, source_id=""), ("completed_time", "source_id", "credits")),
        b"0|Returns to follow\n\n44123123456|0|||1.50\n",
    ),
    "a per cent sign is text": (
        (a_batch(0, source_id="100%d"), ("source_id", "credits")),
        b"0|Returns to follow\n\n44123123456|0|100%d|1.50\n",
    ),
}


# EAPI-5 EAPI-50 EAPI-51 EAPI-52 EAPI-54 EAPI-55
@pytest.mark.parametrize(("asked", "expected"), REPORT_BYTES.values(), ids=REPORT_BYTES)
def test_a_report_has_exactly_these_bytes(asked, expected):
    batch, fields = asked
    assert eapi.format_report(batch, fields, body="hi") == expected


# EAPI-50
def test_the_older_header_is_a_setting_and_has_the_same_length():
    older = eapi.format_report(a_batch(11), header="results")
    assert older == b"0|Results to follow\n\n44123123456|11\n"
    assert {len(header) for header in eapi.HEADERS.values()} == {21}
    assert eapi.format_report(None, header="results") == b"0|Results to follow\n\n\n"


# EAPI-56
@pytest.mark.parametrize(
    ("code", "calm"),
    [(40, 0), (60, 0), (61, 10), (62, 10), (63, 0), (64, 10), (0, 0), (10, 10), (11, 11), (12, 12), (53, 53), (70, 70)],
)
def test_transient_codes_can_be_hidden_and_no_others_change(code, calm):
    for batch, fields in ((a_batch(code), ()), (a_batch(code, code), ()), (a_batch(code), ("source_id",))):
        exact = eapi.format_report(batch, fields)
        hidden = eapi.format_report(batch, fields, show_transient=False)
        assert f"44123123456|{code}".encode() in exact
        assert hidden == exact.replace(f"|{code}".encode(), f"|{calm}".encode())


# EAPI-9
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", b"a\xa6b"),
        ("a\nb\r\nc", rb"a\nb\r\nc"),
        ("a\\nb", rb"a\nb"),
        ("nul\0esc\x1bnel\x85", b"nul?esc?nel?"),
        ("é£", b"\xe9\xa3"),
        ("€ Δ 😀", b"? ? ?"),
        ("line\u2028end", b"line?end"),
        ("0|Returns to follow\n\n", rb"0" + b"\xa6" + rb"Returns to follow\n\n"),
    ],
)
def test_customers_text_stays_in_its_field(text, shown):
    answer = eapi.format_report(a_batch(0), ("body",), body=text)
    assert answer == b"0|Returns to follow\n\n44123123456|0|" + shown + b"\n"
    assert eapi.format_error(24, text) == b"24|" + shown + b"|\n"


ANSWERS = {
    "an accepted submission has three fields and no last pipe": (
        eapi.format_accepted(2163000027, False),
        b"0|IN_PROGRESS|2163000027\n",
    ),
    "a scheduled one has code 1": (eapi.format_accepted(5, True), b"1|SCHEDULED|5\n"),
    "an error has an empty third field": (
        eapi.format_error(Status.AUTHENTICATION_FAILURE, "invalid credentials"),
        b"23|invalid credentials|\n",
    ),
    "credits have two fields": (eapi.format_credits(2_101_150), b"0|2101.15\n"),
    "credits have two decimals": (eapi.format_credits(0), b"0|0.00\n"),
    "credits can be owed": (eapi.format_credits(-1_500), b"0|-1.50\n"),
}


# EAPI-5 EAPI-8 EAPI-10 EAPI-13 EAPI-40
@pytest.mark.parametrize(("answer", "expected"), ANSWERS.values(), ids=ANSWERS)
def test_an_answer_has_exactly_these_bytes(answer, expected):
    assert answer == expected
    assert answer.count(b"\n") == 1
    assert b"\r" not in answer


PARAMS = {
    "query alone": ((b"a=1&b=2", b""), {"a": b"1", "b": b"2"}),
    "body alone": ((b"", b"a=1"), {"a": b"1"}),
    "query and body together": ((b"a=1", b"b=2"), {"a": b"1", "b": b"2"}),
    "the body wins over the query": ((b"a=1", b"a=2"), {"a": b"2"}),
    "the later of two wins": ((b"a=1&a=2", b""), {"a": b"2"}),
    "plus is a space and %2B a plus": ((b"a=1+2%2B3", b""), {"a": b"1 2+3"}),
    "bytes of any charset": ((b"a=%E9%bb%3C\xff", b""), {"a": b"\xe9\xbb<\xff"}),
    "encoded separators are text": ((b"a=1%262%3D3", b""), {"a": b"1&2=3"}),
    "an equals sign in a value": ((b"a=b=c", b""), {"a": b"b=c"}),
    "a malformed escape stands for itself": ((b"a=%zz%4&b=%", b""), {"a": b"%zz%4", "b": b"%"}),
    "an encoded name": ((b"%61=1", b""), {"a": b"1"}),
    "a name alone": ((b"a&b=", b""), {"a": b"", "b": b""}),
    "empty pairs": ((b"&&=x&a=1&", b""), {"a": b"1"}),
    "unencoded line ends and quotes": ((b"", b'a="1",\n"2"'), {"a": b'"1",\n"2"'}),
    "nothing": ((b"", b""), {}),
}


# EAPI-2 EAPI-3
@pytest.mark.parametrize(("sent", "expected"), PARAMS.values(), ids=PARAMS)
def test_parameters_are_read(sent, expected):
    assert eapi.parse_params(*sent) == expected


# EAPI-3
def test_ten_thousand_parameters_are_the_most():
    pairs = b"&".join(b"p%d=1" % n for n in range(eapi.MAX_PARAMS))
    assert len(eapi.parse_params(b"", pairs)) == eapi.MAX_PARAMS
    with pytest.raises(InvalidField, match="too many parameters"):
        eapi.parse_params(b"x=1", pairs)


def test_a_bare_submission_has_the_defaults():
    plain = a_submission()
    assert plain.msisdns == (44123123456,)
    assert (plain.msg_class, plain.want_report, plain.routing_group, plain.max_parts) == (2, True, 2, 1)
    assert (plain.originator, plain.source_id, plain.stop_dup_id) == ("", "", 0)
    assert (plain.send_at, plain.test_mode, plain.strip_duplicates) == (None, TestMode.OFF, False)


READ = {
    "several recipients": ({"msisdn": b"44123123456,+27 82 123 4567"}, "msisdns", (44123123456, 27821234567)),
    "white space around a number": ({"msisdn": b" 0044123123456\n"}, "msisdns", (44123123456,)),
    "an alphanumeric sender": ({"sender": b" ACME Ltd "}, "originator", "ACME Ltd"),
    "a numeric sender": ({"sender": b"+447700900123"}, "originator", "447700900123"),
    "a short code": ({"sender": b"12345"}, "originator", "12345"),
    "an empty sender is none": ({"sender": b""}, "originator", ""),
    "flash": ({"msg_class": b"0"}, "msg_class", 0),
    "class 3": ({"msg_class": b"3"}, "msg_class", 3),
    "no report": ({"want_report": b"0"}, "want_report", False),
    "a routing group": ({"routing_group": b"1"}, "routing_group", 1),
    "its old name": ({"cost_route": b"1"}, "routing_group", 1),
    "the new name before the old": ({"routing_group": b"3", "cost_route": b"1"}, "routing_group", 3),
    "a reference": ({"source_id": b" r\xe9f|1 "}, "source_id", "réf|1"),
    "a reference in UTF-8": ({"source_id": "réf".encode()}, "source_id", "réf"),
    "a repeat guard": ({"stop_dup_id": b"12345\n"}, "stop_dup_id", 12345),
    "no repeat guard": ({"stop_dup_id": b"0"}, "stop_dup_id", 0),
    "long text, by default two parts": ({"allow_concat_text_sms": b"1"}, "max_parts", 2),
    "long text": ({"allow_concat_text_sms": b"1", "concat_text_sms_max_parts": b"6"}, "max_parts", 6),
    "parts without leave": ({"concat_text_sms_max_parts": b"6"}, "max_parts", 1),
    "a time by the epoch": ({"send_time_unixtime": b"1700000060"}, "send_at", NOW + 60_000),
    "a time in words": ({"send_time": b"2023-11-14 22:14:20"}, "send_at", NOW + 60_000),
    "a time from now": ({"send_time_seconds": b"60"}, "send_at", NOW + 60_000),
    "a time that has passed is now": ({"send_time": b"2020-01-01 00:00:00"}, "send_at", None),
    "zero seconds is now": ({"send_time_seconds": b"0"}, "send_at", None),
    "the epoch before words": (
        {"send_time": b"2023-11-15 00:00:00", "send_time_unixtime": b"1700000060"},
        "send_at",
        NOW + 60_000,
    ),
    "both tests off": ({"test_always_succeed": b"0", "test_always_fail": b"0"}, "test_mode", TestMode.OFF),
    "a good rehearsal": ({"test_always_succeed": b"1"}, "test_mode", TestMode.SUCCEED),
    "a bad rehearsal": ({"test_always_fail": b"1"}, "test_mode", TestMode.FAIL),
    "repeats are to go": ({"strip_dup_recipients": b"1"}, "strip_duplicates", True),
    "repliable without a sender": ({"repliable": b"1"}, "originator", ""),
    "unknown and misspelt names": ({"oncat_text_sms_max_parts": b"x", "msg_id": b"?"}, "max_parts", 1),
}


# EAPI-13 EAPI-14 EAPI-16 EAPI-17 EAPI-36
@pytest.mark.parametrize(("params", "field", "value"), READ.values(), ids=READ)
def test_a_parameter_means(params, field, value):
    assert getattr(a_submission(**params), field) == value


REFUSED = {
    "a short number": ({"msisdn": b"44"}, "invalid msisdn: 44"),
    "a national number": ({"msisdn": b"07700900123"}, "invalid msisdn: 07700900123"),
    "one bad number of two": ({"msisdn": b"44123123456,abc"}, "invalid msisdn: abc"),
    "no number": ({"msisdn": b""}, "invalid msisdn: missing"),
    "only commas": ({"msisdn": b",,"}, "invalid msisdn: ,,"),
    "a group": ({"dest_group_id": b"5"}, "invalid dest_group_id: groups are not supported"),
    "a long sender": ({"sender": b"ABCDEFGHIJKL"}, "invalid sender: ABCDEFGHIJKL"),
    "a long number as sender": ({"sender": b"1234567890123456"}, "invalid sender: 1234567890123456"),
    "a line in the sender": ({"sender": b"A\r\nB"}, "invalid sender: A\r\nB"),
    "NUL in the sender": ({"sender": b"A\0"}, "invalid sender: A\0"),
    "a homoglyph in the sender": ({"sender": "АCME".encode()}, "invalid sender: АCME"),
    "a pipe in the sender": ({"sender": b"A|B"}, "invalid sender: A|B"),
    "class 4": ({"msg_class": b"4"}, "invalid msg_class: 4"),
    "a flag that is none": ({"want_report": b"yes"}, "invalid want_report: yes"),
    "group 9": ({"routing_group": b"9"}, "invalid routing_group: 9"),
    "a negative guard": ({"stop_dup_id": b"-1"}, "invalid stop_dup_id: -1"),
    "a huge guard": ({"stop_dup_id": b"9223372036854775808"}, "invalid stop_dup_id: 9223372036854775808"),
    "no parts": ({"concat_text_sms_max_parts": b"0"}, "invalid concat_text_sms_max_parts: 0"),
    "a leap second": ({"send_time": b"2023-12-31 23:59:60"}, "invalid send_time: 2023-12-31 23:59:60"),
    "another format": ({"send_time": b"2023-12-31T23:59:59"}, "invalid send_time: 2023-12-31T23:59:59"),
    "a date alone": ({"send_time": b"2023-12-31"}, "invalid send_time: 2023-12-31"),
    "the year 9999": ({"send_time": b"9999-12-31 23:59:59"}, "invalid send_time: too far ahead"),
    "ages from now": ({"send_time_seconds": b"99999999"}, "invalid send_time_seconds: too far ahead"),
    "a long reference": ({"source_id": b"x" * 256}, "invalid source_id: " + "x" * 40 + "..."),
    "NUL in the reference": ({"source_id": b"a\0b"}, "invalid source_id: a\0b"),
    "repliable with a sender": (
        {"repliable": b"1", "sender": b"ACME"},
        "invalid repliable: not together with sender",
    ),
    "both rehearsals": (
        {"test_always_succeed": b"1", "test_always_fail": b"1"},
        "invalid test_always_fail: not together with test_always_succeed",
    ),
}


# EAPI-12 EAPI-13 EAPI-14 EAPI-16 EAPI-18 EAPI-21
@pytest.mark.parametrize(("params", "text"), REFUSED.values(), ids=REFUSED)
def test_a_wrong_parameter_is_named(params, text):
    with pytest.raises(InvalidField) as caught:
        a_submission(**params)
    assert str(caught.value) == text


# EAPI-21
def test_fifty_thousand_recipients_are_the_most():
    numbers = b",".join([b"44123123456"] * eapi.MAX_RECIPIENTS)
    assert len(a_submission(msisdn=numbers).msisdns) == eapi.MAX_RECIPIENTS
    with pytest.raises(InvalidField, match="more than 50000 recipients"):
        a_submission(msisdn=numbers + b",44123123456")


@pytest.mark.parametrize(
    ("raw", "dca"),
    [(None, Dca.GSM7), (b"", Dca.GSM7), (b"7bit", Dca.GSM7), (b"8bit", Dca.BINARY), (b"16bit", Dca.UCS2)],
)
def test_the_coding_is_named(raw, dca):
    assert eapi.parse_dca({} if raw is None else {"dca": raw}) is dca


def test_an_unknown_coding_is_refused():
    with pytest.raises(InvalidField, match="invalid dca: 9bit"):
        eapi.parse_dca({"dca": b"9bit"})


QUERIES = {
    "a batch": ({"batch_id": b"7"}, (7, None, ())),
    "a batch id with the LF it came with": ({"batch_id": b" 7\n"}, (7, None, ())),
    "one recipient": ({"batch_id": b"7", "msisdn": b" 44123123456"}, (7, 44123123456, ())),
    "an empty recipient is none": ({"batch_id": b"7", "msisdn": b""}, (7, None, ())),
    "fields": ({"batch_id": b"7", "optional_fields": b"credits, body,"}, (7, None, ("credits", "body"))),
    "the largest id": ({"batch_id": b"9223372036854775807"}, (2**63 - 1, None, ())),
}


# EAPI-53 EAPI-54
@pytest.mark.parametrize(("params", "expected"), QUERIES.values(), ids=QUERIES)
def test_a_report_query_is_read(params, expected):
    assert eapi.parse_report_query(params) == expected


BAD_QUERIES = {
    "no batch": ({}, "invalid batch_id: missing"),
    "no number": ({"batch_id": b"x1"}, "invalid batch_id: x1"),
    "digits of another script": ({"batch_id": "٣".encode()}, "invalid batch_id: ٣"),
    "a huge number": ({"batch_id": b"9" * 30}, "invalid batch_id: " + "9" * 30),
    "a bad recipient": ({"batch_id": b"1", "msisdn": b"44"}, "invalid msisdn: 44"),
    "an unknown field": ({"batch_id": b"1", "optional_fields": b"credits,x"}, "invalid optional_fields: x"),
    "too many fields": ({"batch_id": b"1", "optional_fields": b"body," * 17}, "invalid optional_fields: too many"),
}


# EAPI-53 EAPI-54
@pytest.mark.parametrize(("params", "text"), BAD_QUERIES.values(), ids=BAD_QUERIES)
def test_a_wrong_report_query_is_named(params, text):
    with pytest.raises(InvalidField) as caught:
        eapi.parse_report_query(params)
    assert str(caught.value) == text
