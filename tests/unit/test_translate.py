"""What stands in the fields of our submit_sm, and what is read from a deliver_sm."""

import msgspec
import pytest

from aldis.connectors.base import OutboundPart
from aldis.connectors.smpp import SmppSettings
from aldis.connectors.translate import Addressing, Translator, TypeOfAddress, smpp_time, to_delivery
from aldis.smpp.commands import DataSm, DeliverSm, Tlv
from aldis.smpp.events import Incoming

PART = OutboundPart(
    account_id=1,
    message_id=1,
    part_no=1,
    parts=1,
    attempt=1,
    msisdn=27820001111,
    originator="Aldis",
    octets=b"hello",
    data_coding=0,
    udhi=False,
    valid_until=None,
)


# SMPP-22
@pytest.mark.parametrize(
    ("originator", "address"),
    [
        ("Aldis", (5, 0, b"Aldis")),
        ("27831234567", (1, 1, b"27831234567")),
        ("+27831234567", (1, 1, b"27831234567")),
        ("40404", (3, 0, b"40404")),
        ("123456", (3, 0, b"123456")),
        ("1234567", (1, 1, b"1234567")),
        ("", (0, 0, b"")),
        ("Café", (5, 0, b"Caf\xe9")),
        ("+", (5, 0, b"+")),
    ],
)
def test_the_originator_tells_its_type(originator, address):
    assert Addressing().of_originator(originator) == address


def test_an_originator_that_no_address_can_carry_is_refused():
    with pytest.raises(ValueError, match="latin-1"):
        Addressing().of_originator("Привет")


# SMPP-22
def test_types_of_address_can_be_set():
    translator = Translator(Addressing(alphanumeric=TypeOfAddress(5, 1), destination=TypeOfAddress(0, 1)), "CMT")
    pdu = translator.submit_sm(PART)
    assert (pdu.source_addr_ton, pdu.source_addr_npi, pdu.dest_addr_ton, pdu.dest_addr_npi) == (5, 1, 0, 1)
    assert pdu.service_type == b"CMT"


# SMPP-21 RULE-x
def test_a_part_becomes_a_submit_sm_that_asks_for_a_receipt():
    pdu = Translator(Addressing()).submit_sm(PART)
    assert (pdu.source_addr, pdu.destination_addr) == (b"Aldis", b"27820001111")
    assert (pdu.esm_class, pdu.data_coding, pdu.short_message) == (0, 0, b"hello")
    assert (pdu.registered_delivery, pdu.validity_period, pdu.tlvs) == (1, b"", None)


# SMPP-21
def test_header_coding_and_validity_are_carried():
    part = msgspec.structs.replace(PART, udhi=True, data_coding=8, valid_until=1_767_323_045_999)
    pdu = Translator(Addressing()).submit_sm(part)
    assert (pdu.esm_class, pdu.data_coding, pdu.validity_period) == (0x40, 8, b"260102030405000+")


def test_an_smpp_time_is_sixteen_octets_in_utc():
    assert smpp_time(0) == b"700101000000000+"


@pytest.mark.parametrize(
    ("pdu", "text"),
    [
        (DeliverSm(short_message=b"\x00hi\x1be"), "@hi€"),
        (DeliverSm(short_message=b"caf\xe9", data_coding=3), "café"),
        (DeliverSm(short_message=b"\x04\x16", data_coding=8), "Ж"),
        (DeliverSm(short_message=b"\x01\xff", data_coding=4), "01ff"),
        (DeliverSm(short_message=b"\x01\xff", data_coding=0xF5), "01ff"),
        (DeliverSm(short_message=b"hi", data_coding=0xF1), "hi"),
        (DeliverSm(short_message=b"\x05\x00\x03\x01\x02\x01hi", esm_class=0x40), "hi"),
        (DeliverSm(tlvs={Tlv.MESSAGE_PAYLOAD: b"long"}), "long"),
        (DataSm(tlvs={Tlv.MESSAGE_PAYLOAD: b"long"}), "long"),
        (DeliverSm(short_message=b"", esm_class=0x40), ""),
        (DeliverSm(short_message=b"\xff", esm_class=0x40), "\ufffd"),
    ],
)
def test_a_message_is_decoded_for_reading(pdu, text):
    assert to_delivery("s", Incoming(9, pdu, b""), 1234, bool).text == text


def test_a_receipt_is_told_from_a_message():
    text = b"id:77 sub:001 dlvrd:001 submit date:2601020304 done date:2601020305 stat:DELIVRD err:000 text:hello"
    pdu = DeliverSm(source_addr=b"27820001111", destination_addr=b"Aldis", esm_class=4, short_message=text)
    answers = []
    delivery = to_delivery("s", Incoming(9, pdu, b"the frame"), 1234, answers.append)
    assert (delivery.is_receipt, delivery.upstream_id, delivery.state, delivery.error) == (True, "77", "DELIVRD", "000")
    assert (delivery.is_final, delivery.connector, delivery.received_at) == (True, "s", 1234)
    assert (delivery.source, delivery.destination, delivery.pdu) == ("27820001111", "Aldis", b"the frame")
    delivery.answer(True)
    assert answers == [True]


class TestSettings:
    def test_no_credential_is_shown(self):
        settings = SmppSettings(name="s", host="h", system_id="canary1", password="canary2")
        assert "canary" not in f"{settings!r} {settings}"

    @pytest.mark.parametrize(
        "changes",
        [
            {"password": "nine chars"},
            {"system_id": "x" * 16},
            {"system_type": "x" * 13},
            {"service_type": "x" * 6},
            {"binds": 0},
            {"window": 0},
            {"rate": -1.0},
            {"bind": "receiver"},
            {"unknown": 1},
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_what_could_never_bind_is_refused(self, changes):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"name": "s", "host": "h", "system_id": "id"} | changes, SmppSettings)

    # SMPP-1
    @pytest.mark.parametrize(("bind", "commands"), [("transceiver", [9]), ("pair", [2, 1])])
    def test_binds_are_transceivers_or_pairs(self, bind, commands):
        settings = SmppSettings(name="s", host="h", system_id="id", bind=bind, binds=2)
        assert [request.command_id for request in settings.bind_requests()] == commands
