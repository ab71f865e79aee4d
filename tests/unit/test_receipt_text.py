"""Receipts as networks really write them, read by `aldis.smpp.receipt`."""

import pytest

from aldis.smpp.pdu import DataSm, DeliverSm, EsmClass, Tlv
from aldis.smpp.receipt import MESSAGE_STATES, ReceiptInfo, format_receipt, parse_receipt, receipt_tlvs

DATES = "submit date:2401011200 done date:2401011201"
UUID = "5f1d6c1e-0c9b-4a53-9f63-0a1c2b3d4e5f"

# name, text, upstream_id, state, error
VARIANTS = [
    ("standard", f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000 text:Hello", "123", "DELIVRD", "000"),
    ("capital Text", f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000 Text:Hello", "123", "DELIVRD", "000"),
    (
        "seconds in dates",
        "id:123 sub:001 dlvrd:001 submit date:240101120001 done date:240101120105 stat:EXPIRED err:001 text:",
        "123",
        "EXPIRED",
        "001",
    ),
    (
        "year of four digits",
        "id:123 sub:001 dlvrd:001 submit date:202401011200 done date:202401011201 stat:DELIVRD err:000 text:",
        "123",
        "DELIVRD",
        "000",
    ),
    (
        "dates of 14 digits",
        "id:123 sub:001 dlvrd:001 submit date:20240101120000 done date:20240101120101 stat:DELIVRD err:000",
        "123",
        "DELIVRD",
        "000",
    ),
    ("no sub and dlvrd", f"id:123 {DATES} stat:UNDELIV err:069 text:", "123", "UNDELIV", "069"),
    ("no text", f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000", "123", "DELIVRD", "000"),
    ("no err", f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD text:x", "123", "DELIVRD", ""),
    ("FAILED", f"id:123 sub:001 dlvrd:000 {DATES} stat:FAILED err:004 text:", "123", "UNDELIV", "004"),
    ("err of four digits", f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:0000 text:", "123", "DELIVRD", "0000"),
    ("err alphanumeric", f"id:123 sub:001 dlvrd:000 {DATES} stat:UNDELIV err:21b text:", "123", "UNDELIV", "21b"),
    ("err in letters", f"id:123 sub:001 dlvrd:000 {DATES} stat:UNDELIV err:nul text:", "123", "UNDELIV", "nul"),
    ("err negative", f"id:123 sub:001 dlvrd:000 {DATES} stat:REJECTD err:-1 text:", "123", "REJECTD", "-1"),
    ("err behind a space", f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err: 0 text:", "123", "DELIVRD", "0"),
    ("err empty", f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err: text:hi", "123", "DELIVRD", ""),
    ("DELIVERED", f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVERED err:000 text:", "123", "DELIVRD", "000"),
    ("lower case state", f"id:123 sub:001 dlvrd:001 {DATES} stat:delivrd err:000 text:", "123", "DELIVRD", "000"),
    (
        "upper case keys",
        "ID:123 SUB:001 DLVRD:001 SUBMIT DATE:2401011200 DONE DATE:2401011201 STAT:DELIVRD ERR:000 TEXT:x",
        "123",
        "DELIVRD",
        "000",
    ),
    (
        "dates with an underscore",
        "id:123 sub:001 dlvrd:001 submit_date:2401011200 done_date:2401011201 stat:DELIVRD err:000",
        "123",
        "DELIVRD",
        "000",
    ),
    ("one digit sub", f"id:123 sub:1 dlvrd:1 {DATES} stat:DELIVRD err:0 text:", "123", "DELIVRD", "0"),
    (
        "double spaces",
        "id:123  sub:001  dlvrd:001  submit date:2401011200  done date:2401011201  stat:DELIVRD  err:000  text:",
        "123",
        "DELIVRD",
        "000",
    ),
    ("reordered", f"stat:UNDELIV err:011 {DATES} sub:001 dlvrd:000 id:123", "123", "UNDELIV", "011"),
    ("minimal", "id:123 stat:DELIVRD", "123", "DELIVRD", ""),
    ("id with dots", f"id:7.8.9 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000", "7.8.9", "DELIVRD", "000"),
    ("id with colons", f"id:ab:id:cd sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000", "ab:id:cd", "DELIVRD", "000"),
    ("id in base64", f"id:a+b/c== sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000", "a+b/c==", "DELIVRD", "000"),
    ("id a UUID", f"id:{UUID} sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000", UUID, "DELIVRD", "000"),
    (
        "text like a receipt, at the end",
        f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000 text:id:9 stat:UNDELIV err:999",
        "123",
        "DELIVRD",
        "000",
    ),
    (
        "text like a receipt, at the beginning",
        f"text:id:9 stat:UNDELIV id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000",
        "123",
        "DELIVRD",
        "000",
    ),
    (
        "text like a receipt, in the middle",
        f"id:123 text:a stat:UNDELIV sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000",
        "123",
        "DELIVRD",
        "000",
    ),
    ("ENROUTE", f"id:123 sub:001 dlvrd:000 {DATES} stat:ENROUTE err:000 text:", "123", "ENROUTE", "000"),
    ("SKIPPED", f"id:123 sub:001 dlvrd:000 {DATES} stat:SKIPPED err:000 text:", "123", "SKIPPED", "000"),
    ("UNDELIVERABLE", f"id:123 sub:001 dlvrd:000 {DATES} stat:UNDELIVERABLE err:1", "123", "UNDELIV", "1"),
    ("BUFFERD", f"id:123 sub:001 dlvrd:000 {DATES} stat:BUFFERD err:000 text:", "123", "ENROUTE", "000"),
    ("BUFFRED", f"id:123 sub:001 dlvrd:000 {DATES} stat:BUFFRED err:000 text:", "123", "ENROUTE", "000"),
    ("state 0", f"id:123 sub:001 dlvrd:000 {DATES} stat:0 err:000 text:", "123", "SCHEDULED", "000"),
    ("state 2", f"id:123 sub:001 dlvrd:001 {DATES} stat:2 err:000 text:", "123", "DELIVRD", "000"),
    ("state 05", f"id:123 sub:001 dlvrd:001 {DATES} stat:05 err:000 text:", "123", "UNDELIV", "000"),
    ("a word nobody knows", f"id:123 sub:001 dlvrd:000 {DATES} stat:Lost err:000 text:", "123", "LOST", "000"),
    ("no id", f"sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000 text:hello", "", "DELIVRD", "000"),
    ("id empty", f"id: sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000 text:id:9", "", "DELIVRD", "000"),
    ("leading zeros", f"id:0000000123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000", "0000000123", "DELIVRD", "000"),
    (
        "newlines",
        "id:123\nsub:001\ndlvrd:001\nsubmit date:2401011200\r\ndone date:2401011201\nstat:DELIVRD\nerr:000\ntext:x",
        "123",
        "DELIVRD",
        "000",
    ),
    ("commas", "id:123,sub:001,dlvrd:001,done date:2401011201,stat:DELIVRD,err:000", "123", "DELIVRD", "000"),
    ("trailing NUL", f"id:123 sub:001 dlvrd:001 {DATES} stat:DELIVRD err:000\0", "123", "DELIVRD", "000"),
    ("NUL behind an id at the end", f"stat:DELIVRD sub:001 {DATES} id:123\0\0", "123", "DELIVRD", ""),
    ("id behind a space", f"id: 97 sub:001 dlvrd:001 {DATES} stat: DELIVRD err:000", "97", "DELIVRD", "000"),
    ("zeros for a date", "id:123 sub:001 dlvrd:000 done date:0000000000 stat:EXPIRED err:0", "123", "EXPIRED", "0"),
    ("state without its label", f"id:123 sub:001 dlvrd:001 {DATES} DELIVRD err:000 text:hi", "123", "DELIVRD", "000"),
    ("ACCEPTED", f"id:123 sub:001 dlvrd:000 {DATES} stat:ACCEPTED err:000", "123", "ACCEPTD", "000"),
]


def receipt(text: str | bytes, esm_class: int = EsmClass.RECEIPT, **fields: object) -> DeliverSm:
    octets = text if isinstance(text, bytes) else text.encode("latin-1")
    return DeliverSm(esm_class=esm_class, short_message=octets, **fields)


def said(deliver: DeliverSm | DataSm) -> ReceiptInfo:
    info = parse_receipt(deliver)
    assert info is not None
    return info


# REC-3 REC-4 REC-5 REC-6
@pytest.mark.parametrize(("text", "upstream_id", "state", "error"), [pytest.param(*v[1:], id=v[0]) for v in VARIANTS])
def test_a_receipt_is_read_however_the_network_writes_it(text: str, upstream_id: str, state: str, error: str) -> None:
    info = said(receipt(text))
    assert (info.upstream_id, info.state, info.error) == (upstream_id, state, error)


# REC-1 RULE-r
@pytest.mark.parametrize("text", [pytest.param(v[1], id=v[0]) for v in VARIANTS])
def test_a_receipt_is_known_by_its_shape_where_esm_class_is_zero(text: str) -> None:
    assert parse_receipt(receipt(text, esm_class=0)) == parse_receipt(receipt(text))


# REC-3
@pytest.mark.parametrize(
    ("data_coding", "codec"), [(8, "utf-16-be"), (8, "utf-16-le"), (0, "utf-16-be"), (0x18, "utf-16-be")]
)
@pytest.mark.parametrize("text", [pytest.param(v[1].rstrip("\0"), id=v[0]) for v in VARIANTS])
def test_a_receipt_is_read_in_two_octets_a_character(text: str, data_coding: int, codec: str) -> None:
    wide = said(receipt(text.encode(codec), data_coding=data_coding))
    assert wide == said(receipt(text))


@pytest.mark.parametrize("text", [pytest.param(v[1], id=v[0]) for v in VARIANTS])
def test_white_space_before_a_receipt_changes_nothing(text: str) -> None:
    plain, indented = said(receipt(text)), said(receipt(" " + text))
    assert (indented.upstream_id, indented.state, indented.error, indented.done_date, indented.is_final) == (
        plain.upstream_id,
        plain.state,
        plain.error,
        plain.done_date,
        plain.is_final,
    )


def test_a_customers_text_in_chinese_does_not_hide_the_state() -> None:
    text = "id:123 sub:001 dlvrd:001 stat:DELIVRD err:000 text:" + "短信已经送达" * 5
    info = said(receipt(text.encode("utf-16-be"), data_coding=8))
    assert (info.upstream_id, info.state, info.text) == ("123", "DELIVRD", text)


def test_ascii_under_a_wrong_data_coding_is_read_as_ascii() -> None:
    assert said(receipt("id:123 stat:DELIVRD", data_coding=8)).upstream_id == "123"
    assert said(receipt("id:123 stat:DELIVRD", data_coding=0xF5)).upstream_id == "123"


# RULE-s
def test_the_gsm_alphabets_punctuation_in_an_id_is_read() -> None:
    assert said(receipt(b"id:a\x11b\x00c\x02d stat:DELIVRD")).upstream_id == "a_b@c$d"


# REC-3
def test_a_receipt_is_read_from_message_payload() -> None:
    octets = b"id:123 sub:001 dlvrd:001 stat:DELIVRD err:000"
    tlvs = {Tlv.MESSAGE_PAYLOAD: octets}
    for pdu in (DeliverSm(esm_class=4, tlvs=tlvs), DataSm(esm_class=4, tlvs=tlvs), DataSm(tlvs=tlvs)):
        assert said(pdu).upstream_id == "123"


def test_a_user_data_header_before_the_text_is_skipped() -> None:
    octets = b"\x05\x00\x03\x07\x01\x01id:123 stat:DELIVRD"
    assert said(receipt(octets, esm_class=EsmClass.RECEIPT | EsmClass.UDHI)).text == "id:123 stat:DELIVRD"


# REC-1 REC-2 REC-6 RULE-n
@pytest.mark.parametrize(("number", "word"), list(enumerate(MESSAGE_STATES)))
def test_a_receipt_is_read_from_tlvs_alone(number: int, word: str) -> None:
    tlvs = {
        Tlv.RECEIPTED_MESSAGE_ID: b"abc\0",
        Tlv.MESSAGE_STATE: bytes([number]),
        Tlv.NETWORK_ERROR_CODE: b"\x03\x00\x22",
    }
    for esm_class in (0, EsmClass.RECEIPT):
        info = said(DeliverSm(esm_class=esm_class, tlvs=tlvs))
        assert (info.upstream_id, info.state, info.error, info.text) == ("abc", word, "034", "")


# REC-2
def test_tlvs_go_before_text_and_the_text_is_kept() -> None:
    text = "id:123 sub:001 dlvrd:000 stat:UNDELIV err:011"
    tlvs = {Tlv.RECEIPTED_MESSAGE_ID: b"7b\0", Tlv.MESSAGE_STATE: b"\2", Tlv.NETWORK_ERROR_CODE: b"\3\0\5"}
    info = said(receipt(text, tlvs=tlvs))
    assert (info.upstream_id, info.state, info.error, info.text) == ("7b", "DELIVRD", "005", text)


# REC-2 RULE-m
@pytest.mark.parametrize(
    ("tlvs", "upstream_id", "state", "error"),
    [
        pytest.param({Tlv.RECEIPTED_MESSAGE_ID: b"7b\0"}, "7b", "UNDELIV", "0A1", id="id only"),
        pytest.param({Tlv.MESSAGE_STATE: b"\2"}, "123", "DELIVRD", "0A1", id="state only"),
        pytest.param({Tlv.RECEIPTED_MESSAGE_ID: b"\0"}, "123", "UNDELIV", "0A1", id="id empty"),
        pytest.param({Tlv.RECEIPTED_MESSAGE_ID: b"7b"}, "7b", "UNDELIV", "0A1", id="id without its NUL"),
        pytest.param({Tlv.RECEIPTED_MESSAGE_ID: b"7b \0\0"}, "7b", "UNDELIV", "0A1", id="id padded"),
        pytest.param({Tlv.MESSAGE_STATE: b"\x80"}, "123", "UNDELIV", "0A1", id="state unknown"),
        pytest.param({Tlv.MESSAGE_STATE: b""}, "123", "UNDELIV", "0A1", id="state empty"),
        pytest.param({Tlv.MESSAGE_STATE: b"2"}, "123", "DELIVRD", "0A1", id="state as a digit"),
        pytest.param({Tlv.MESSAGE_STATE: b"\0\2"}, "123", "DELIVRD", "0A1", id="state in two octets"),
        pytest.param({Tlv.NETWORK_ERROR_CODE: b"\0\0\0"}, "123", "UNDELIV", "0A1", id="no network error"),
        pytest.param({Tlv.NETWORK_ERROR_CODE: b"\3"}, "123", "UNDELIV", "0A1", id="network error cut"),
    ],
)
def test_what_one_source_lacks_the_other_gives(
    tlvs: dict[int, bytes], upstream_id: str, state: str, error: str
) -> None:
    info = said(receipt("id:123 sub:001 dlvrd:000 stat:UNDELIV err:0A1", tlvs=tlvs))
    assert (info.upstream_id, info.state, info.error) == (upstream_id, state, error)


def test_a_state_that_no_source_can_name_is_shown_as_its_number() -> None:
    info = said(DeliverSm(esm_class=4, tlvs={Tlv.MESSAGE_STATE: b"\x80"}))
    assert (info.state, info.is_final) == ("128", False)


@pytest.mark.parametrize("word", MESSAGE_STATES)
def test_a_state_ends_a_part_unless_it_is_on_its_way(word: str) -> None:
    info = said(receipt(f"id:1 sub:001 stat:{word}"))
    assert info.is_final == (word not in {"SCHEDULED", "ENROUTE", "ACCEPTD"})


def test_an_intermediate_notification_is_a_receipt_that_is_not_final() -> None:
    info = said(receipt("id:123 sub:001 dlvrd:001 stat:DELIVRD err:000", esm_class=EsmClass.INTERMEDIATE))
    assert (info.state, info.is_final) == ("DELIVRD", False)


# REC-7
def test_a_flagged_receipt_in_no_known_shape_is_still_no_message() -> None:
    assert said(receipt("hello")) == ReceiptInfo("", "", "", False, "hello", "")


# REC-7 RULE-r
@pytest.mark.parametrize("esm_class", [0, EsmClass.UDHI, EsmClass.DELIVERY_ACK, EsmClass.USER_ACK, 0x18])
@pytest.mark.parametrize(
    "text",
    [
        "\x00hello",
        "\x00id: your passport please, stat: tomorrow",
        "\x00id:5",
        "\x00DELIVRD",
        "\x00id 12 delivered text: me",
        "\x00my order was delivered err: ok, id:7",
        "\x00My last one said stat:DELIVRD, what is that? id: 77",
        "",
    ],
)
def test_what_a_person_writes_is_a_message(text: str, esm_class: int) -> None:
    octets = text.encode() if esm_class & EsmClass.UDHI else text.encode()[1:]
    assert parse_receipt(DeliverSm(esm_class=esm_class, short_message=octets)) is None


# REC-1 RULE-r
def test_an_acknowledgement_by_the_handset_is_a_receipt_only_with_a_state() -> None:
    tlvs = {Tlv.RECEIPTED_MESSAGE_ID: b"abc\0"}
    assert parse_receipt(DeliverSm(esm_class=EsmClass.USER_ACK, short_message=b"yes", tlvs=tlvs)) is None
    assert said(DeliverSm(esm_class=EsmClass.USER_ACK, tlvs=tlvs | {Tlv.MESSAGE_STATE: b"\2"})).state == "DELIVRD"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("done date:2401011201", "2401011201"),
        ("done date: 240101120105", "240101120105"),
        ("done_date:20240101120105", "20240101120105"),
        ("done date:0000000000", "0000000000"),
        ("done date:2024-01-01 12:01:05", "2024-01-01 12:01:05"),
        ("done date:", ""),
        ("done date:never", ""),
    ],
)
def test_the_done_date_is_kept_as_it_stands(written: str, read: str) -> None:
    assert said(receipt(f"id:1 sub:001 dlvrd:001 {written} stat:DELIVRD err:000")).done_date == read


@pytest.mark.parametrize("state", MESSAGE_STATES)
def test_a_receipt_that_we_write_is_read_back(state: str) -> None:
    octets = format_receipt(
        "77-ab",
        state,
        submitted_at=1_704_110_400_000,
        done_at=1_704_110_465_000,
        error="021",
        text="id:9 stat:ENROUTE ☃",
    )
    for pdu in (receipt(octets), receipt(octets, tlvs=receipt_tlvs("77-ab", state))):
        info = said(pdu)
        assert (info.upstream_id, info.state, info.error, info.done_date) == ("77-ab", state, "021", "2401011201")


def test_the_standard_text_is_written_to_the_letter() -> None:
    octets = format_receipt(
        "1", "DELIVRD", submitted_at=1_704_110_400_000, done_at=1_704_110_465_000, text="twenty characters and more"
    )
    assert octets == (
        b"id:1 sub:001 dlvrd:001 submit date:2401011200 done date:2401011201 stat:DELIVRD err:000"
        b" text:twenty characters an"
    )


def test_a_state_that_no_tlv_can_name_is_not_written() -> None:
    with pytest.raises(ValueError):
        receipt_tlvs("1", "LOST")
