"""A receipt whose id nobody knows, and the message that got no answer: together, or left alone."""

import pytest

from aldis.model.ids import id_at
from aldis.model.status import Status
from aldis.rules.adoption import Receipted, Unanswered, adopt, fits, unanswered_id

SENT = 1_780_000_000_000
NUMBER = 4915112345678
PART = Unanswered(
    7, id_at(SENT), 1, NUMBER, Status.UPSTREAM_UNACKNOWLEDGED, "Aldis", "Grüße, your parcel is on its way".encode()
)
RECEIPT = Receipted("x1", str(NUMBER), "Aldis", SENT + 5_000, "id:x1 stat:DELIVRD err:000 text:Gr??e, your parcel i")
KEY = unanswered_id(str(NUMBER))


@pytest.mark.parametrize(
    ("part", "receipt", "is_fit"),
    [
        (PART, RECEIPT, True),
        (PART, RECEIPT._replace(source="015112345678"), True),
        (PART, RECEIPT._replace(source="4915112345679"), False),
        (PART, RECEIPT._replace(source=""), False),
        (PART, RECEIPT._replace(destination="ALDIS"), True),
        (PART, RECEIPT._replace(destination="Other"), False),
        (PART, RECEIPT._replace(destination=""), False),
        (PART._replace(originator=""), RECEIPT._replace(destination="72404"), True),
        (PART._replace(originator="+4915100000001"), RECEIPT._replace(destination="015100000001"), True),
        (PART._replace(originator="+4915100000001"), RECEIPT._replace(destination="015100000002"), False),
        (PART, RECEIPT._replace(received_at=SENT - 30_000), True),
        (PART, RECEIPT._replace(received_at=SENT - 90_000), False),
        (PART, RECEIPT._replace(text=""), True),
        (PART, RECEIPT._replace(text="id:x1 stat:DELIVRD text:"), True),
        (PART, RECEIPT._replace(text="id:x1 stat:DELIVRD text:Your code is 1234"), False),
        (PART._replace(part_no=2), RECEIPT._replace(text="id:x1 stat:DELIVRD text:on its way"), True),
        (PART._replace(status=Status.EXPIRED), RECEIPT, True),
        (PART._replace(status=Status.DELIVERED_UPSTREAM), RECEIPT, False),
        (PART._replace(body=b"\xff\x00\x01"), RECEIPT._replace(text="text:"), True),
    ],
)
def test_number_originator_time_and_text_must_fit(part: Unanswered, receipt: Receipted, is_fit: bool) -> None:
    assert fits(part, receipt) is is_fit


def test_one_message_and_its_receipt_come_together() -> None:
    assert adopt([RECEIPT], {KEY: [PART]}) == {0: PART}
    assert adopt([RECEIPT, RECEIPT._replace(text="id:x1 stat:ENROUTE")], {KEY: [PART]}) == {0: PART, 1: PART}
    assert adopt([RECEIPT], {}) == {}
    assert adopt([], {KEY: [PART]}) == {}


def test_two_messages_or_two_ids_leave_a_doubt() -> None:
    other = PART._replace(message_id=PART.message_id + 1)
    assert adopt([RECEIPT], {KEY: [PART, other]}) == {}
    assert adopt([RECEIPT, RECEIPT._replace(upstream_id="x2")], {KEY: [PART]}) == {}


def test_parts_of_one_message_get_an_id_each() -> None:
    second = PART._replace(part_no=2)
    receipts = [RECEIPT, RECEIPT._replace(upstream_id="x2"), RECEIPT]
    assert adopt(receipts, {KEY: [second, PART]}) == {0: PART, 1: second, 2: PART}
    assert adopt([*receipts, RECEIPT._replace(upstream_id="x3")], {KEY: [second, PART]}) == {}
