"""News in, one transaction out: the only writer of status and credits."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, assert_never

import msgspec

from aldis import lifecycle
from aldis.connectors.base import Accepted, Delivery, NotSent, Outcome, Refused, SentPart, Unknown
from aldis.lifecycle import Standing
from aldis.model.errors import LedgerUnavailable, NoCredits, QuotaExceeded
from aldis.model.ids import IdMaker, time_of
from aldis.model.status import STATUS, Status
from aldis.model.types import Account, BatchReport, MessageKey, Push, PushResult
from aldis.rules.adoption import answered_id, unanswered_id
from aldis.rules.failover import connectors_of
from aldis.rules.matching import Candidate, choose, is_number
from aldis.rules.profile import Profiles, Topic, delay_of, offset_of, part_of
from aldis.rules.replies import conversation
from aldis.store.base import Changes, Due, EventRow, Live, NewBatch, Parked, Span, Store, UpstreamId, Verdict
from aldis.store.base import News as StoreNews
from aldis.store.inbound import NOBODY
from aldis.store.rows import quote

RECEIPT, QUERY, CANCEL, CANCEL_REFUSED = "receipt", "query", "cancel", "cancel refused"
"""How something was learnt from an upstream, as the history calls it."""
_ANSWERED: Final = {CANCEL: Status.CANCELLED, CANCEL_REFUSED: Status.UPSTREAM_CANCEL_FAILED}
_RETRY = Standing(Status.RETRY_QUEUED)
_TAKEN = Standing(Status.DELIVERED_UPSTREAM)
_UNKNOWN = Standing(Status.UPSTREAM_UNACKNOWLEDGED)
_NOT_TAKEN_YET = (Status.IN_PROGRESS, Status.RETRY_QUEUED)


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """What came of handing a message's parts to a connector."""

    account_id: int
    message_id: int
    news_id: int
    at: int
    attempt: int
    connector: str
    outcomes: tuple[tuple[int, Outcome], ...]
    """(part number, outcome)"""
    retry_at: int | None
    """When to try again what was refused for now; None: never, its validity is over."""
    originator: str = ""
    """What it was sent from, for answers to it to be told by; empty: not known."""
    detour: str = ""
    """Which connectors refused it before this one, and how."""

    @property
    def upstream_keys(self) -> Sequence[tuple[str, str]]:
        """The ids that the upstream gave."""
        accepted = [outcome for _, outcome in self.outcomes if isinstance(outcome, Accepted) and outcome.upstream_id]
        return [(self.connector, quote(one.upstream_id)) for one in accepted]


class Received(msgspec.Struct, frozen=True, gc=False):
    """A receipt for a part, or what its upstream has told when it was asked."""

    account_id: int
    message_id: int
    news_id: int
    at: int
    part_no: int
    connector: str
    upstream_id: str
    state: str
    error: str
    text: str
    is_adopted: bool = False
    """Whether its id is learnt from it: the answer to the submit never came."""
    by: str = RECEIPT
    """How it was learnt."""
    upstream_keys: tuple[tuple[str, str], ...] = ()


class Lapsed(msgspec.Struct, frozen=True, gc=False):
    """A message was claimed, and its worker is gone without a word: its parts may have left."""

    account_id: int
    message_id: int
    news_id: int
    at: int
    attempt: int
    """The claim that is called off; a later one is another worker's, and stays."""
    queue: str
    """Whose connectors may have taken its parts."""
    upstream_keys: tuple[tuple[str, str], ...] = ()


class Ended(msgspec.Struct, frozen=True, gc=False):
    """We end a message ourselves: its validity is over, it can't be sent, or it was cancelled."""

    account_id: int
    message_id: int
    news_id: int
    at: int
    status: Status
    detail: str
    attempt: int = 0
    """The claim of the worker that says so; 0: nobody's, and a message that is being sent is left alone."""
    upstream_keys: tuple[tuple[str, str], ...] = ()


class Untold(msgspec.Struct, frozen=True, gc=False):
    """No receipt has come, and none is to be expected any more; one that comes all the same still counts."""

    account_id: int
    message_id: int
    news_id: int
    at: int
    queue: str
    upstream_keys: tuple[tuple[str, str], ...] = ()


News = Submitted | Received | Lapsed | Ended | Untold


class Ledger:
    """The machines' way to the store: they hand in news, the table in `lifecycle` says what it means."""

    def __init__(
        self, store: Store, ids: IdMaker, now_ms: Callable[[], int], may_work: Callable[[], bool] = lambda: True
    ) -> None:
        """Take an open store, the node's ids and its clock, and what tells whether the node may count as dead."""
        self.store = store
        self.may_work = may_work
        self.early_ms = 0
        """How early a message may be claimed: by what the clocks of nodes may differ."""
        self.ids = ids
        self.now_ms = now_ms
        self.errors: dict[str, Mapping[str, Status]] = {}
        """Connector -> its table of receipt errors."""
        self.by_number: frozenset[str] = frozenset()
        """Connectors whose receipts name no id, or none that has to do with the answer's."""
        self.profiles = Profiles()
        self.ambiguous: Counter[str] = Counter()
        """By connector: how often a receipt could have meant several parts, and moved none."""
        self.contradicting: Counter[str] = Counter()
        """By connector: final receipts that say the opposite of an earlier one."""
        self.missing: Counter[str] = Counter()
        """By queue: messages whose end was assumed, for no final receipt has come."""
        self.outbound = 0
        """Batches admitted and messages claimed: grows while there is something to send."""

    def next_id(self, now: int | None = None) -> int:
        """Return a new id; takes the time from a caller that has just asked for it."""
        return self.ids.take(1, self.now_ms() if now is None else now)[0]

    async def admit(self, batch: NewBatch) -> int:
        """Put a batch on disk and charge it (T1).

        Returns:
            Its id; for a repeated stop_dup_id the first batch's.

        Raises:
            NoCredits: 25, nothing was written.
            QuotaExceeded: 27, nothing was written.
            LedgerUnavailable: 40, nothing was acknowledged.
        """
        if not self.may_work():  # the ids may be another node's by now
            raise LedgerUnavailable
        self.outbound += 1
        [admission] = await self.store.admit((batch,))
        match admission.verdict:
            case Verdict.ADMITTED | Verdict.DUPLICATE:
                return admission.batch_id
            case Verdict.NO_CREDITS:
                raise NoCredits
            case Verdict.QUOTA_EXCEEDED:
                raise QuotaExceeded
            case Verdict.NO_ACCOUNT:
                raise LedgerUnavailable("the account is gone")
            case never:
                assert_never(never)

    async def claim(self, connector: str, parts: int, lease_ms: int) -> Sequence[Due]:
        """Lease due messages of a connector, up to a number of parts; the intent to send is on disk then (T2)."""
        now = self.now_ms() + self.early_ms
        dues = await self.store.claim(connector, parts, now, now + lease_ms)
        self.outbound += len(dues)
        return dues

    async def record(self, news: Sequence[News]) -> None:
        """Move messages by what was learnt about them (T3)."""
        await self.store.record(news, self.judge, self.match_receipt)

    async def receive(self, deliveries: Sequence[Delivery]) -> None:
        """Put what upstreams sent on disk: receipts move their messages, or wait in the inbox for them (T4)."""
        ids = self.ids.take(len(deliveries), self.now_ms())
        for delivery in deliveries:
            self._learn_habits(delivery)
        parked = [_park(inbox_id, d) for inbox_id, d in zip(ids, deliveries, strict=True)]
        await self.store.receive(parked, self.judge, self.match_receipt)

    def _learn_habits(self, delivery: Delivery) -> None:
        if delivery.is_receipt:
            self.profiles.note(delivery.connector, Topic.STATE, delivery.state)
            self.profiles.note(delivery.connector, Topic.ESM_CLASS, f"0x{delivery.esm_class:02X}")
            if offset := offset_of(delivery.done_date, delivery.received_at):
                self.profiles.note(delivery.connector, Topic.CLOCK, offset)

    async def rematch(self, since: int, until: int) -> int:
        """Look again at receipts that were parked in a span of time, epoch ms; returns how many found their part."""
        found = 0
        rest: Span | None = Span(since, until)
        while rest:
            again, rest = await self.store.rematch(rest, self.judge, self.match_receipt)
            found += again
        return found

    async def recover(self, ended_by: int) -> int:
        """Call off the leases that end by a time, and dead workers'; returns how many messages had one.

        Args:
            ended_by: Epoch ms; far ahead calls off every lease.
        """
        total = 0
        while leases := await self.store.lapsed(ended_by, 5_000):
            now = self.now_ms()
            news_ids = self.ids.take(len(leases), now)
            await self.record(
                [
                    Lapsed(one.account_id, one.message_id, news_id, now, one.attempt, one.queue)
                    for one, news_id in zip(leases, news_ids, strict=True)
                ]
            )
            total += len(leases)
        return total

    async def expire(self, connector: str, limit: int) -> int:
        """End queued messages of a connector whose validity is over; returns how many there were."""
        now = self.now_ms()
        keys = await self.store.expired(connector, now, limit)
        detail = "validity ended before it could be sent"
        await self.record(
            [
                Ended(key.account_id, key.message_id, news_id, now, Status.EXPIRED, detail)
                for key, news_id in zip(keys, self.ids.take(len(keys), now), strict=True)
            ]
        )
        return len(keys)

    async def end_untold(self, queue: str, after: int, until: int) -> int:
        """End old messages of a queue whose receipts never came; returns up to which id was looked.

        Args:
            queue: A connector, or several in order of preference.
            after: Ids of batches and messages are larger than this one.
            until: And not larger than this one.
        """
        found, position = await self.store.unfinished(queue, after, until)
        now = self.now_ms()
        news_ids = self.ids.take(len(found), now)
        await self.record(
            [
                Untold(key.account_id, key.message_id, news_id, now, queue)
                for key, news_id in zip(found, news_ids, strict=True)
            ]
        )
        return position

    async def sent_parts(self, messages: Sequence[MessageKey]) -> dict[str, list[SentPart]]:
        """Return by connector the parts that upstreams have given ids to and may still have."""
        found: dict[str, list[SentPart]] = {}
        for one in await self.store.submissions(messages):
            for part_no, upstream_id in _ids_in(one.detail) or [(one.part_no, one.upstream_id)]:
                found.setdefault(one.connector, []).append(
                    SentPart(
                        account_id=one.account_id,
                        message_id=one.message_id,
                        part_no=part_no,
                        upstream_id=upstream_id,
                        originator=one.originator,
                        msisdn=one.msisdn,
                    )
                )
        return found

    async def due_pushes(self, now: int, limit: int) -> Sequence[Push]:
        """Return pushes that may be tried, oldest first."""
        return await self.store.due_pushes(now, limit)

    async def record_push_results(self, results: Sequence[PushResult]) -> None:
        """Put the ends of pushes on disk (T5)."""
        await self.store.record_push_results(results, self.ids.take(len(results), self.now_ms()))

    async def find_report(self, account_id: int, batch_id: int, msisdn: int | None) -> BatchReport | None:
        """Return a batch of an account, or None for another's as for an unknown one."""
        return await self.store.find_report(account_id, batch_id, msisdn)

    def recall_account(self, username: str) -> Account | None:
        """Return an account by its name from memory, at once; None says nothing."""
        return self.store.recall_account(username)

    async def find_account(self, username: str) -> Account | None:
        """Return an account by its name."""
        return await self.store.find_account(username)

    async def credits_of(self, account_id: int) -> int:
        """Return an account's milli-credits."""
        return await self.store.credits_of(account_id)

    def match_receipt(self, candidates: Sequence[Candidate], receipt: Parked) -> Received | None:
        """Make news of a receipt about the part that it means; None if that is not certain."""
        connector = receipt.connector
        part = _only(candidates, receipt.source) or choose(
            candidates, receipt.source, self.profiles.spelling(connector)
        )
        if part is None:
            self.ambiguous[connector] += bool(candidates)
            return None
        if is_number(part.msisdn, receipt.source) and not part.is_adopted:
            self.profiles.note(connector, Topic.SPELLING, part.spelling.value)
        return Received(
            part.account_id,
            part.message_id,
            receipt.inbox_id,
            receipt.received_at,
            part.part_no,
            connector,
            receipt.upstream_id,
            receipt.state,
            receipt.error,
            receipt.text,
            part.is_adopted,
        )

    def judge(self, live: Live, news: StoreNews, changes: Changes) -> None:
        """Move one message by one piece of news; runs inside the store's transaction."""
        if not isinstance(news, News):
            raise TypeError(f"no news: {news!r}")
        status_before, assumed_before = live.status, live.assumed
        if not self._hear(live, news, changes):
            return
        parts = live.standings
        standing = parts[1] if live.parts == 1 else lifecycle.roll_up([parts[n] for n in sorted(parts)])
        live.status, live.assumed = standing
        moved = live.status != status_before
        if moved or live.assumed != assumed_before:
            live.seq += 1
        if lifecycle.is_final(standing.status):
            _close(live, news.at, moved, changes)
        else:
            _keep_going(live, (news.retry_at if isinstance(news, Submitted) else None) or news.at)
        changes.events.append(_event(live, news))
        if moved and live.want_report and live.push_url and lifecycle.is_announced(standing.status):
            changes.pushes.append(_push(live, news.news_id, news.at))

    def _hear(self, live: Live, news: News, changes: Changes) -> bool:
        """Move a message's parts; returns whether there is more to say of it."""
        if isinstance(news, Received):
            self._hear_receipt(live, news, changes)
        elif isinstance(news, Submitted):
            if news.attempt <= live.fenced:
                _hear_zombie(live, news, changes)
                return False
            _hear_outcomes(live, news, changes)
            for part_no, outcome in news.outcomes if news.connector in self.by_number else ():
                if isinstance(outcome, Accepted):
                    _learn_id(live, news, news.connector, part_no, answered_id(str(live.msisdn)), changes)
        elif isinstance(news, Lapsed):
            if live.leased_until is None or live.attempts != news.attempt:
                return False
            _call_off(live, news, changes)
        elif isinstance(news, Ended):
            if live.leased_until is not None and live.attempts != news.attempt:
                return False
            if not news.attempt and not _is_pending(live):
                return False
            _advance_pending(live, Standing(news.status))
        else:
            is_missing = _give_up(live)
            self.missing[news.queue] += is_missing
            return is_missing
        return True

    def _hear_receipt(self, live: Live, news: Received, changes: Changes) -> None:
        state = self.profiles.meant(news.connector, news.state)
        heard = lifecycle.hear_receipt(state, news.error, self.errors.get(news.connector, {}))
        if news.by in _ANSWERED:
            heard = Standing(_ANSWERED[news.by])
        part_no = news.part_no if news.part_no in live.standings else 1
        before = live.standings[part_no]
        live.standings[part_no] = lifecycle.advance(before, heard)
        live.sent = True
        self.contradicting[news.connector] += lifecycle.contradict(before, heard)
        if news.is_adopted:
            _learn_id(live, news, news.connector, part_no, news.upstream_id, changes)
        if heard.is_final and not before.is_final and news.by == RECEIPT:
            self.profiles.note(news.connector, Topic.DELAY, delay_of(time_of(live.message_id), news.at))
        if live.parts > 1 and heard.is_final and news.by == RECEIPT:
            self._hear_for_all(live, news.connector, part_of(part_no, live.parts), heard)

    def _hear_for_all(self, live: Live, connector: str, part: str, heard: Standing) -> None:
        """Take a receipt for the other parts', too, on a link that is known to send none for these."""
        if part == self.profiles.settled(connector, Topic.PART):
            for other, standing in live.standings.items():
                live.standings[other] = lifecycle.advance(standing, Standing(heard.status, assumed=True))
        self.profiles.note(connector, Topic.PART, part)


def _only(candidates: Sequence[Candidate], destination: str) -> Candidate | None:
    """Return the part that has the id as it stands and the number, if no other has the id: nearly every receipt's."""
    if len(candidates) != 1 or not is_number(candidates[0].msisdn, destination):
        return None
    return candidates[0]


def _hear_outcomes(live: Live, news: Submitted, changes: Changes) -> None:
    if news.attempt == live.attempts:
        live.leased_until = None
    for part_no, outcome in news.outcomes:
        before = live.standings[part_no]
        if before == _UNKNOWN and isinstance(outcome, NotSent | Refused):
            before = live.standings[part_no] = _RETRY  # it has not left, or was not taken: that much is certain now
            live.sent = live.parts > 1
        if isinstance(outcome, Accepted):
            heard = _TAKEN
            live.sent = True
            _learn_id(live, news, news.connector, part_no, outcome.upstream_id, changes)
            if part_no == 1:
                _learn_id(live, news, NOBODY, part_no, conversation(news.originator, str(live.msisdn)), changes)
        elif isinstance(outcome, Unknown):
            heard = _UNKNOWN
            live.sent = True
            _learn_id(live, news, news.connector, part_no, unanswered_id(str(live.msisdn)), changes)
        elif isinstance(outcome, NotSent):
            continue
        elif not outcome.retryable:
            heard = lifecycle.hear_refusal(outcome.command_status)
        elif news.retry_at is None:
            heard = Standing(Status.EXPIRED)
        else:
            heard = _RETRY
        live.standings[part_no] = lifecycle.advance(before, heard)


def _learn_id(
    live: Live, news: Submitted | Received | Lapsed, connector: str, part_no: int, upstream_id: str, changes: Changes
) -> None:
    if upstream_id:
        changes.upstream_ids.append(
            UpstreamId(
                connector,
                quote(upstream_id),
                live.account_id,
                live.message_id,
                part_no,
                live.attempts if isinstance(news, Received) else news.attempt,
                news.at,
            )
        )


def _hear_zombie(live: Live, news: Submitted, changes: Changes) -> None:
    """Take from a worker whose claim was called off only the upstream's ids: its receipts still speak for themselves.

    Were more of it believed, a late refusal could bring back, or give back the price of, what another has settled.
    """
    for part_no, outcome in news.outcomes:
        if isinstance(outcome, Accepted):
            _learn_id(live, news, news.connector, part_no, outcome.upstream_id, changes)
    changes.events.append(_event(live, news))


def _call_off(live: Live, news: Lapsed, changes: Changes) -> None:
    live.leased_until = None
    live.fenced = live.attempts
    live.sent = True
    for part_no, standing in live.standings.items():
        if standing.status in _NOT_TAKEN_YET:
            for connector in connectors_of(news.queue):
                _learn_id(live, news, connector, part_no, unanswered_id(str(live.msisdn)), changes)
    _advance_pending(live, _UNKNOWN)


def _give_up(live: Live) -> bool:
    """Assume the end of parts that no final receipt came for; returns whether there were any."""
    if live.due_at is not None or live.leased_until is not None:
        return False
    before = dict(live.standings)
    for part_no, standing in before.items():
        live.standings[part_no] = lifecycle.advance(standing, lifecycle.EXPIRED_UNSEEN)
    return live.standings != before


def _is_pending(live: Live) -> bool:
    """Tell whether a part is left to send."""
    return any(standing.status in _NOT_TAKEN_YET for standing in live.standings.values())


def _advance_pending(live: Live, heard: Standing) -> None:
    for part_no, standing in live.standings.items():
        if standing.status in _NOT_TAKEN_YET:
            live.standings[part_no] = lifecycle.advance(standing, heard)


def _close(live: Live, at: int, moved: bool, changes: Changes) -> None:
    live.due_at = live.leased_until = None
    if moved:
        live.completed_at = at
    if live.price_milli and not live.refunded_milli and lifecycle.owes_refund(STATUS[live.status], live.sent):
        live.refunded_milli = live.price_milli
        changes.refunds.append((live.account_id, live.price_milli))


def _keep_going(live: Live, due_at: int) -> None:
    """Make a moving message due if a part is left to send and nobody holds it; a corrected failure moves again.

    Where nothing is left to send there is nothing to hold, whoever brought the news.
    """
    live.completed_at = None
    if not _is_pending(live):
        live.due_at = live.leased_until = None
    elif live.leased_until is None and live.due_at is None:
        live.due_at = due_at


def _push(live: Live, push_id: int, at: int) -> Push:
    return Push(
        push_id,
        live.message_id,
        live.batch_id,
        live.account_id,
        live.push_url,
        live.msisdn,
        live.status,
        live.completed_at,
        live.source_id,
        live.accept_empty_push,
        0,
        at,
    )


def _event(live: Live, news: News) -> EventRow:
    part_no, connector, upstream_id = 0, "", ""
    if isinstance(news, Received):
        kind, detail = news.by, news.text or f"{news.state} {news.error}".strip()
        part_no, connector, upstream_id = news.part_no, news.connector, news.upstream_id
    elif isinstance(news, Submitted):
        kind = "submit" if news.attempt > live.fenced else "late word"
        part_no, outcome = news.outcomes[0]
        connector = news.connector
        upstream_id = outcome.upstream_id if isinstance(outcome, Accepted) else ""
        words = "; ".join(_words(p, o) for p, o in news.outcomes) if len(news.outcomes) > 1 else say(outcome)
        detail = news.detour + words
    elif isinstance(news, Lapsed):
        kind, detail = "lapsed", "claimed, then no word of it: it may have been sent"
    elif isinstance(news, Untold):
        kind, detail = "untold", "no final receipt has come, and none is expected any more"
    else:
        kind, detail = "ended", news.detail
    return EventRow(
        live.account_id, live.message_id, news.news_id, news.at, kind, live.status, part_no, connector, upstream_id,
        detail,
    )  # fmt: skip


def _words(part_no: int, outcome: Outcome) -> str:
    return f"{part_no}: {say(outcome)}"


_find_ids = re.compile(r"(?:^|; )(\d+): (\S+)(?=; |$)").findall


def _ids_in(detail: str) -> list[tuple[int, str]]:
    """Return the parts' ids in what `_words` has said of several; what else is said of a part has several words."""
    return [(int(part_no), upstream_id) for part_no, upstream_id in _find_ids(detail)]


def say(outcome: Outcome) -> str:
    """Return an outcome in the history's words."""
    if isinstance(outcome, Accepted):
        return outcome.upstream_id
    if isinstance(outcome, Refused):
        return f"refused 0x{outcome.command_status:08X}"
    return outcome.reason


def _park(inbox_id: int, delivery: Delivery) -> Parked:
    return Parked(
        inbox_id=inbox_id,
        connector=delivery.connector,
        received_at=delivery.received_at,
        is_receipt=delivery.is_receipt,
        upstream_id=quote(delivery.upstream_id),
        state=delivery.state,
        error=delivery.error,
        source=delivery.source,
        destination=delivery.destination,
        text=delivery.text,
        pdu=delivery.pdu,
    )
