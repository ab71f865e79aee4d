"""The PDUs of SMPP 3.4, a class for each, and the constants of their fields.

A class's annotations are its wire format, in order; see `aldis.smpp.fields`.
"""

from enum import IntEnum
from typing import ClassVar, Final, TypeAlias

import msgspec

from aldis.smpp.fields import (
    CString6,
    CString9,
    CString13,
    CString16,
    CString17,
    CString21,
    CString41,
    CString65,
    Destinations,
    Octet,
    ShortMessage,
    Tlvs,
    Unsuccesses,
)

MAX_MESSAGE_ID: Final = 64
RESPONSE: Final = 0x80000000
"""The bit of a command_id that tells a response from its request."""


class Command(IntEnum):
    """The command_ids of SMPP 3.4."""

    BIND_RECEIVER = 0x01
    BIND_TRANSMITTER = 0x02
    QUERY_SM = 0x03
    SUBMIT_SM = 0x04
    DELIVER_SM = 0x05
    UNBIND = 0x06
    REPLACE_SM = 0x07
    CANCEL_SM = 0x08
    BIND_TRANSCEIVER = 0x09
    OUTBIND = 0x0B
    ENQUIRE_LINK = 0x15
    SUBMIT_MULTI = 0x21
    ALERT_NOTIFICATION = 0x102
    DATA_SM = 0x103
    GENERIC_NACK = 0x80000000
    BIND_RECEIVER_RESP = 0x80000001
    BIND_TRANSMITTER_RESP = 0x80000002
    QUERY_SM_RESP = 0x80000003
    SUBMIT_SM_RESP = 0x80000004
    DELIVER_SM_RESP = 0x80000005
    UNBIND_RESP = 0x80000006
    REPLACE_SM_RESP = 0x80000007
    CANCEL_SM_RESP = 0x80000008
    BIND_TRANSCEIVER_RESP = 0x80000009
    ENQUIRE_LINK_RESP = 0x80000015
    SUBMIT_MULTI_RESP = 0x80000021
    DATA_SM_RESP = 0x80000103


class EsmClass:
    """Bits of esm_class."""

    STORE_AND_FORWARD: Final = 0x03
    MESSAGE_TYPE: Final = 0x3C
    """Mask of the message type."""
    RECEIPT: Final = 0x04
    DELIVERY_ACK: Final = 0x08
    USER_ACK: Final = 0x10
    CONVERSATION_ABORT: Final = 0x18
    INTERMEDIATE: Final = 0x20
    UDHI: Final = 0x40
    REPLY_PATH: Final = 0x80


class RegisteredDelivery:
    """Bits of registered_delivery."""

    NONE: Final = 0x00
    FINAL: Final = 0x01
    FAILURE: Final = 0x02
    RECEIPT: Final = 0x03
    """Mask of the receipt that is asked for."""
    INTERMEDIATE: Final = 0x10


class Tlv:
    """Tags of optional parameters."""

    DEST_ADDR_SUBUNIT: Final = 0x0005
    SOURCE_ADDR_SUBUNIT: Final = 0x000D
    QOS_TIME_TO_LIVE: Final = 0x0017
    ADDITIONAL_STATUS_INFO_TEXT: Final = 0x001D
    RECEIPTED_MESSAGE_ID: Final = 0x001E
    MS_MSG_WAIT_FACILITIES: Final = 0x0030
    PRIVACY_INDICATOR: Final = 0x0201
    SOURCE_SUBADDRESS: Final = 0x0202
    DEST_SUBADDRESS: Final = 0x0203
    USER_MESSAGE_REFERENCE: Final = 0x0204
    USER_RESPONSE_CODE: Final = 0x0205
    SOURCE_PORT: Final = 0x020A
    DESTINATION_PORT: Final = 0x020B
    SAR_MSG_REF_NUM: Final = 0x020C
    LANGUAGE_INDICATOR: Final = 0x020D
    SAR_TOTAL_SEGMENTS: Final = 0x020E
    SAR_SEGMENT_SEQNUM: Final = 0x020F
    SC_INTERFACE_VERSION: Final = 0x0210
    MS_AVAILABILITY_STATUS: Final = 0x0422
    NETWORK_ERROR_CODE: Final = 0x0423
    MESSAGE_PAYLOAD: Final = 0x0424
    DELIVERY_FAILURE_REASON: Final = 0x0425
    MORE_MESSAGES_TO_SEND: Final = 0x0426
    MESSAGE_STATE: Final = 0x0427
    CONGESTION_STATE: Final = 0x0428
    USSD_SERVICE_OP: Final = 0x0501
    ALERT_ON_MESSAGE_DELIVERY: Final = 0x130C


class _Bind(msgspec.Struct, gc=False):
    system_id: CString16 = b""
    password: CString9 = b""
    system_type: CString13 = b""
    interface_version: Octet = 0x34
    addr_ton: Octet = 0
    addr_npi: Octet = 0
    address_range: CString41 = b""


class BindReceiver(_Bind, gc=False):
    """An ESME asks for a session in which it only receives."""

    command_id: ClassVar[int] = Command.BIND_RECEIVER


class BindTransmitter(_Bind, gc=False):
    """An ESME asks for a session in which it only submits."""

    command_id: ClassVar[int] = Command.BIND_TRANSMITTER


class BindTransceiver(_Bind, gc=False):
    """An ESME asks for a session in which it submits and receives."""

    command_id: ClassVar[int] = Command.BIND_TRANSCEIVER


class _BindResp(msgspec.Struct, gc=False):
    system_id: CString16 = b""
    tlvs: Tlvs = None
    cut_tlv: bool = False
    """Whether octets behind the last whole TLV were dropped, here and in the other classes; or an id has no end."""


class BindReceiverResp(_BindResp, gc=False):
    """The answer to bind_receiver."""

    command_id: ClassVar[int] = Command.BIND_RECEIVER_RESP


class BindTransmitterResp(_BindResp, gc=False):
    """The answer to bind_transmitter."""

    command_id: ClassVar[int] = Command.BIND_TRANSMITTER_RESP


class BindTransceiverResp(_BindResp, gc=False):
    """The answer to bind_transceiver."""

    command_id: ClassVar[int] = Command.BIND_TRANSCEIVER_RESP


class Outbind(msgspec.Struct, gc=False):
    """A message centre asks an ESME to bind as a receiver."""

    command_id: ClassVar[int] = Command.OUTBIND
    system_id: CString16 = b""
    password: CString9 = b""


class Unbind(msgspec.Struct, gc=False):
    """Either side ends the session."""

    command_id: ClassVar[int] = Command.UNBIND


class UnbindResp(msgspec.Struct, gc=False):
    """The answer to unbind."""

    command_id: ClassVar[int] = Command.UNBIND_RESP


class EnquireLink(msgspec.Struct, gc=False):
    """Either side asks whether the other still answers."""

    command_id: ClassVar[int] = Command.ENQUIRE_LINK


class EnquireLinkResp(msgspec.Struct, gc=False):
    """The answer to enquire_link."""

    command_id: ClassVar[int] = Command.ENQUIRE_LINK_RESP


class GenericNack(msgspec.Struct, gc=False):
    """The answer to what can't be read as a PDU."""

    command_id: ClassVar[int] = Command.GENERIC_NACK


class SubmitSm(msgspec.Struct, gc=False):
    """An ESME submits one short message to one destination."""

    command_id: ClassVar[int] = Command.SUBMIT_SM
    service_type: CString6 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: CString21 = b""
    esm_class: Octet = 0
    protocol_id: Octet = 0
    priority_flag: Octet = 0
    schedule_delivery_time: CString17 = b""
    validity_period: CString17 = b""
    registered_delivery: Octet = 0
    replace_if_present_flag: Octet = 0
    data_coding: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""
    tlvs: Tlvs = None


class DeliverSm(msgspec.Struct, gc=False):
    """A message centre delivers a message or a receipt. The fields are those of submit_sm."""

    command_id: ClassVar[int] = Command.DELIVER_SM
    service_type: CString6 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: CString21 = b""
    esm_class: Octet = 0
    protocol_id: Octet = 0
    priority_flag: Octet = 0
    schedule_delivery_time: CString17 = b""
    validity_period: CString17 = b""
    registered_delivery: Octet = 0
    replace_if_present_flag: Octet = 0
    data_coding: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""
    tlvs: Tlvs = None
    cut_tlv: bool = False


class DataSm(msgspec.Struct, gc=False):
    """Either side sends a message or a receipt whose text, if any, is the TLV message_payload."""

    command_id: ClassVar[int] = Command.DATA_SM
    service_type: CString6 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString65 = b""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: CString65 = b""
    esm_class: Octet = 0
    registered_delivery: Octet = 0
    data_coding: Octet = 0
    tlvs: Tlvs = None
    cut_tlv: bool = False


class _MessageIdResp(msgspec.Struct, gc=False):
    message_id: CString65 = b""
    tlvs: Tlvs = None
    cut_tlv: bool = False


class SubmitSmResp(_MessageIdResp, gc=False):
    """The answer to submit_sm: the message centre's id."""

    command_id: ClassVar[int] = Command.SUBMIT_SM_RESP

    @property
    def is_odd(self) -> bool:
        """Whether the id is longer than SMPP allows, or the body ended within it."""
        return self.cut_tlv or len(self.message_id) > MAX_MESSAGE_ID


class DeliverSmResp(_MessageIdResp, gc=False):
    """The answer to deliver_sm; its message_id is always empty."""

    command_id: ClassVar[int] = Command.DELIVER_SM_RESP


class DataSmResp(_MessageIdResp, gc=False):
    """The answer to data_sm."""

    command_id: ClassVar[int] = Command.DATA_SM_RESP


class QuerySm(msgspec.Struct, gc=False):
    """An ESME asks for the state of a message."""

    command_id: ClassVar[int] = Command.QUERY_SM
    message_id: CString65 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""


class QuerySmResp(msgspec.Struct, gc=False):
    """The answer to query_sm."""

    command_id: ClassVar[int] = Command.QUERY_SM_RESP
    message_id: CString65 = b""
    final_date: CString17 = b""
    message_state: Octet = 0
    error_code: Octet = 0


class CancelSm(msgspec.Struct, gc=False):
    """An ESME withdraws one message, or all between two addresses."""

    command_id: ClassVar[int] = Command.CANCEL_SM
    service_type: CString6 = b""
    message_id: CString65 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""
    dest_addr_ton: Octet = 0
    dest_addr_npi: Octet = 0
    destination_addr: CString21 = b""


class CancelSmResp(msgspec.Struct, gc=False):
    """The answer to cancel_sm."""

    command_id: ClassVar[int] = Command.CANCEL_SM_RESP


class ReplaceSm(msgspec.Struct, gc=False):
    """An ESME replaces the text of a message that still waits."""

    command_id: ClassVar[int] = Command.REPLACE_SM
    message_id: CString65 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""
    schedule_delivery_time: CString17 = b""
    validity_period: CString17 = b""
    registered_delivery: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""


class ReplaceSmResp(msgspec.Struct, gc=False):
    """The answer to replace_sm."""

    command_id: ClassVar[int] = Command.REPLACE_SM_RESP


class SubmitMulti(msgspec.Struct, gc=False):
    """An ESME submits one short message to up to 254 destinations."""

    command_id: ClassVar[int] = Command.SUBMIT_MULTI
    service_type: CString6 = b""
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString21 = b""
    dest_addresses: Destinations = ()
    esm_class: Octet = 0
    protocol_id: Octet = 0
    priority_flag: Octet = 0
    schedule_delivery_time: CString17 = b""
    validity_period: CString17 = b""
    registered_delivery: Octet = 0
    replace_if_present_flag: Octet = 0
    data_coding: Octet = 0
    sm_default_msg_id: Octet = 0
    short_message: ShortMessage = b""
    tlvs: Tlvs = None


class SubmitMultiResp(msgspec.Struct, gc=False):
    """The answer to submit_multi: one id, and whom the message did not reach."""

    command_id: ClassVar[int] = Command.SUBMIT_MULTI_RESP
    message_id: CString65 = b""
    unsuccess: Unsuccesses = ()
    tlvs: Tlvs = None
    cut_tlv: bool = False


class AlertNotification(msgspec.Struct, gc=False):
    """A message centre tells that a subscriber can be reached again. It has no answer."""

    command_id: ClassVar[int] = Command.ALERT_NOTIFICATION
    source_addr_ton: Octet = 0
    source_addr_npi: Octet = 0
    source_addr: CString65 = b""
    esme_addr_ton: Octet = 0
    esme_addr_npi: Octet = 0
    esme_addr: CString65 = b""
    tlvs: Tlvs = None


class Raw(msgspec.Struct, gc=False):
    """A PDU whose command_id is not of SMPP 3.4."""

    command_id: int
    body: bytes = b""


BindRequest: TypeAlias = BindReceiver | BindTransmitter | BindTransceiver
BindResponse: TypeAlias = BindReceiverResp | BindTransmitterResp | BindTransceiverResp
Pdu: TypeAlias = (
    BindRequest
    | BindResponse
    | Outbind
    | Unbind
    | UnbindResp
    | EnquireLink
    | EnquireLinkResp
    | GenericNack
    | SubmitSm
    | SubmitSmResp
    | DeliverSm
    | DeliverSmResp
    | DataSm
    | DataSmResp
    | QuerySm
    | QuerySmResp
    | CancelSm
    | CancelSmResp
    | ReplaceSm
    | ReplaceSmResp
    | SubmitMulti
    | SubmitMultiResp
    | AlertNotification
    | Raw
)
