"""Submission in, a priced, judged and stored batch out (T1)."""

from collections.abc import Callable

import msgspec

from aldis.ledger import Ledger
from aldis.model.errors import InvalidField, OurError
from aldis.model.status import Status
from aldis.model.types import Accepted, Account, BatchId, Dca, Push, Submission, TestMode
from aldis.rules.admission import Admission
from aldis.rules.routing import Router
from aldis.store.base import MessageRow, NewBatch
from aldis.text.segment import TextTooLong, count_parts

MAX_ORIGINATOR_CHARS = 11
MAX_ORIGINATOR_DIGITS = 20
FARTHEST_SCHEDULE_MS = 2 * 366 * 86_400_000


class IntakeSettings(msgspec.Struct, frozen=True):
    """What a submission may ask for at most."""

    max_recipients: int = 50_000
    validity_ms: int = 3 * 86_400_000


class Intake:
    """Takes submissions of authenticated accounts."""

    def __init__(
        self,
        ledger: Ledger,
        router: Router,
        admission: Admission,
        settings: IntakeSettings,
        on_due: Callable[[], None] = lambda: None,
    ) -> None:
        """Take the ledger, the routing table and the policy; `on_due` is called when new work is on disk."""
        self._ledger = ledger
        self._router = router
        self._admission = admission
        self._settings = settings
        self._on_due = on_due

    async def submit(self, account: Account, submission: Submission) -> Accepted:
        """Store a submission and return its batch id; it is on disk when this returns.

        Raises:
            InvalidField: 24, with what is wrong.
            NoCredits: 25.
            QuotaExceeded: 27.
            OurError: 22 or 40, and nothing was acknowledged.
        """
        msisdns = self._recipients(submission)
        parts = _parts_of(submission)
        _check_originator(submission.originator)
        if submission.test_mode is TestMode.FAIL:
            raise OurError("test failure as asked for")
        now = self._ledger.now_ms()
        batch = self._price(account, submission, msisdns, parts, now)
        batch_id = await self._ledger.admit(batch)
        self._on_due()
        return Accepted(BatchId(batch_id), submission.send_at is not None and submission.send_at > now)

    def _recipients(self, submission: Submission) -> tuple[int, ...]:
        msisdns = submission.msisdns
        if submission.strip_duplicates:
            msisdns = tuple(dict.fromkeys(msisdns))
        if not msisdns:
            raise InvalidField("missing parameter: msisdn")
        if len(msisdns) > self._settings.max_recipients:
            raise InvalidField(f"too many recipients: {len(msisdns)}, at most {self._settings.max_recipients}")
        return msisdns

    def _price(
        self, account: Account, submission: Submission, msisdns: tuple[int, ...], parts: int, now: int
    ) -> NewBatch:
        ids = self._ledger.ids.take(len(msisdns) + 1, now)
        batch_id = ids[0]
        due_at = self._due_at(submission, now)
        rehearsal = submission.test_mode is TestMode.SUCCEED
        censored = self._judge_body(submission)
        rows: list[MessageRow] = []
        charge = counted = 0
        account_id = account.account_id
        find, judge = self._router.find, self._admission.judge_recipient
        for message_id, msisdn in zip(ids[1:], msisdns, strict=True):
            route = find(msisdn)
            verdict = censored or judge(msisdn) or (Status.UNROUTABLE if route is None else None)
            if verdict is not None or route is None:
                rows.append((message_id, batch_id, account_id, msisdn, int(verdict or 0), 0, "", None, now))
            elif rehearsal:
                rows.append((message_id, batch_id, account_id, msisdn, 0, 0, route.connector, None, None))
            else:
                price = route.price_milli * parts
                charge += price
                counted += 1
                rows.append((message_id, batch_id, account_id, msisdn, 0, price, route.connector, due_at, None))
        return NewBatch(
            batch_id=batch_id,
            account_id=account_id,
            created_at=now,
            last_message_id=ids[-1],
            parts=parts,
            dca=int(submission.dca),
            body=submission.body,
            originator=submission.originator,
            msg_class=submission.msg_class,
            want_report=submission.want_report,
            source_id=submission.source_id,
            stop_dup_id=submission.stop_dup_id,
            valid_until=due_at + self._settings.validity_ms,
            charge_milli=charge,
            counted=counted,
            messages=rows,
            pushes=_refusals(account, submission, rows) if counted < len(rows) else [],
        )

    def _judge_body(self, submission: Submission) -> Status | None:
        if submission.dca is Dca.BINARY or not self._admission.censors:
            return None
        return self._admission.judge_body(submission.body.decode())

    def _due_at(self, submission: Submission, now: int) -> int:
        if submission.send_at is None or submission.send_at <= now:
            return now
        if submission.send_at - now > FARTHEST_SCHEDULE_MS:
            raise InvalidField("invalid send_time: more than two years ahead")
        return submission.send_at


def _refusals(account: Account, submission: Submission, rows: list[MessageRow]) -> list[Push]:
    """Return the reports of recipients that were refused at once."""
    if not account.push_url or not submission.want_report:
        return []
    return [
        Push(
            push_id=message_id,  # from the same ids, and earlier than that of any later news
            message_id=message_id,
            batch_id=batch_id,
            account_id=account_id,
            url=account.push_url,
            msisdn=msisdn,
            status=status,
            completed_at=completed_at,
            source_id=submission.source_id,
            accept_empty=account.accept_empty_push,
            attempts=0,
            due_at=completed_at,
        )
        for message_id, batch_id, account_id, msisdn, status, _, _, _, completed_at in rows
        if completed_at is not None
    ]


def _parts_of(submission: Submission) -> int:
    try:
        parts = count_parts(submission.body, submission.dca)
    except TextTooLong:
        raise InvalidField("message too long") from None
    if parts > submission.max_parts:
        raise InvalidField("message too long")
    return parts


def _check_originator(originator: str) -> None:
    if len(originator) <= MAX_ORIGINATOR_CHARS and originator.isprintable():
        return
    digits = originator[1:] if originator.startswith("+") else originator
    if digits.isascii() and digits.isdigit():
        if len(digits) > MAX_ORIGINATOR_DIGITS:
            raise InvalidField("invalid sender: more than 20 digits")
    elif len(originator) > MAX_ORIGINATOR_CHARS:
        raise InvalidField("invalid sender: more than 11 characters")
    elif not originator.isprintable():
        raise InvalidField("invalid sender: unprintable character")
