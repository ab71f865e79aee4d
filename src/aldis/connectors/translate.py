"""Parts into submit_sm, deliver_sm and data_sm into deliveries: what stands in each field, and why."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec

from aldis.connectors.assembly import key_of
from aldis.connectors.base import Delivery, OutboundPart, SentPart
from aldis.smpp.commands import (
    CancelSm,
    DataSm,
    DeliverSm,
    EsmClass,
    QuerySm,
    RegisteredDelivery,
    SubmitSm,
)
from aldis.smpp.concat import user_data
from aldis.smpp.events import Incoming
from aldis.smpp.receipt import parse_receipt
from aldis.text.reading import read

SHORT_CODE_DIGITS = 6
"""A numeric originator of at most this many digits is a short code."""


class TypeOfAddress(NamedTuple):
    """How an address is to be read."""

    ton: int
    npi: int


class Addressing(msgspec.Struct, frozen=True, kw_only=True):
    """The TON and NPI of each kind of address, as most message centres want them."""

    alphanumeric: TypeOfAddress = TypeOfAddress(5, 0)
    international: TypeOfAddress = TypeOfAddress(1, 1)
    """A numeric originator longer than a short code."""
    short_code: TypeOfAddress = TypeOfAddress(3, 0)
    """Network specific."""
    none: TypeOfAddress = TypeOfAddress(0, 0)
    """No originator: the message centre puts its own."""
    destination: TypeOfAddress = TypeOfAddress(1, 1)

    def of_originator(self, originator: str) -> tuple[int, int, bytes]:
        """Return TON, NPI and octets of an originator.

        Raises:
            ValueError: a character that an address can't carry.
        """
        digits = originator.removeprefix("+")
        if not originator:
            return (*self.none, b"")
        if not (digits.isascii() and digits.isdigit()):
            return (*self.alphanumeric, originator.encode("latin-1"))
        kind = self.short_code if digits == originator and len(digits) <= SHORT_CODE_DIGITS else self.international
        return (*kind, digits.encode())


def smpp_time(at_ms: int) -> bytes:
    """Return an absolute time of SMPP 3.4, to the second, in UTC."""
    return _smpp_second(at_ms // 1000)


@lru_cache(maxsize=1024)
def _smpp_second(at_s: int) -> bytes:
    return datetime.fromtimestamp(at_s, UTC).strftime("%y%m%d%H%M%S000+").encode()


class Translator:
    """What one connector puts into its PDUs."""

    def __init__(self, addressing: Addressing, service_type: str = "") -> None:
        """Take the settings that fields depend on."""
        self._originator = lru_cache(maxsize=4096)(addressing.of_originator)
        self._destination = addressing.destination
        self._service_type = service_type.encode()

    def submit_sm(self, part: OutboundPart) -> SubmitSm:
        """Return the submit_sm of a part; a receipt is asked for always.

        Raises:
            ValueError: an originator that an address can't carry.
        """
        ton, npi, source = self._originator(part.originator)
        return SubmitSm(
            self._service_type,
            ton,
            npi,
            source,
            *self._destination,
            b"%d" % part.msisdn,
            EsmClass.UDHI if part.udhi else 0,
            0,
            0,
            b"",
            smpp_time(part.valid_until) if part.valid_until is not None else b"",
            RegisteredDelivery.FINAL,
            0,
            part.data_coding,
            0,
            part.octets,
        )

    def query_sm(self, part: SentPart) -> QuerySm:
        """Return the query_sm about a part.

        Raises:
            ValueError: an originator that an address can't carry.
        """
        return QuerySm(part.upstream_id.encode("latin-1"), *self._originator(part.originator))

    def cancel_sm(self, part: SentPart) -> CancelSm:
        """Return the cancel_sm of a part.

        Raises:
            ValueError: an originator that an address can't carry.
        """
        message_id, source = part.upstream_id.encode("latin-1"), self._originator(part.originator)
        return CancelSm(self._service_type, message_id, *source, *self._destination, b"%d" % part.msisdn)


def to_delivery(connector: str, event: Incoming, received_at: int, answer: Callable[[bool], None]) -> Delivery:
    """Return what a deliver_sm or data_sm says: a receipt, or a message from a subscriber."""
    pdu = event.pdu
    assert isinstance(pdu, DeliverSm | DataSm)
    receipt = parse_receipt(pdu)
    return Delivery(
        connector=connector,
        received_at=received_at,
        is_receipt=receipt is not None,
        upstream_id=receipt.upstream_id if receipt else key_of(pdu),
        state=receipt.state if receipt else "",
        error=receipt.error if receipt else "",
        is_final=receipt.is_final if receipt else False,
        source=pdu.source_addr.decode("latin-1"),
        destination=pdu.destination_addr.decode("latin-1"),
        text=receipt.text if receipt else read(user_data(pdu)[1], pdu.data_coding),
        pdu=event.frame,
        esm_class=pdu.esm_class,
        done_date=receipt.done_date if receipt else "",
        answer=answer,
    )
