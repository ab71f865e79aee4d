"""Due messages out: claim, cut into parts, hand to a connector, record what came of it (T2, T3)."""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence

import structlog

from aldis.connectors.base import Connector, NotSent, OutboundPart, Outcome, Refused
from aldis.ledger import Ended, Ledger, News, Submitted
from aldis.model.errors import OurError
from aldis.model.status import Status
from aldis.rules.retry import next_submit_at
from aldis.store.base import Due
from aldis.text.segment import Segment, concat_reference, data_coding, split

log = structlog.get_logger()

LEASE_MS = 15 * 60_000
"""Longer than any part may stay in a window (see `SmppSettings`): only a dead process lets a lease lapse."""
POLL_S = 0.5
SWEEP_S = 15.0
MAX_UNRECORDED = 20_000
MAX_GROUP = 2_000
MAX_CLAIM = 500
RETRY_RECORD_S = 0.25
LONGEST_RETRY_RECORD_S = 5.0


class _Open:
    """A message of several parts on its way out."""

    __slots__ = ("outcomes", "remaining")

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining
        self.outcomes: list[tuple[int, Outcome]] = []


class Dispatch:
    """Keeps every connector's window full while messages are due.

    A connector that is not bound has its queue paused: nothing of it is claimed. What was claimed and can't be sent
    any more goes back unharmed when the machine stops.
    """

    def __init__(
        self,
        ledger: Ledger,
        connectors: Mapping[str, Connector],
    ) -> None:
        """Take the ledger, where messages are claimed and news goes, and the connectors by name."""
        self._ledger = ledger
        self._connectors = connectors
        self._held: dict[str, deque[OutboundPart]] = {name: deque() for name in connectors}
        self._wakes = {name: asyncio.Event() for name in connectors}
        self._open: dict[int, _Open] = {}
        self._news: list[News] = []
        self._news_wake = asyncio.Event()
        self._recorded = asyncio.Event()
        self._stopping = False
        self._gave_back = False
        self._recording = False
        self._claiming = 0
        self._segments: tuple[int, Segment] | None = None
        self.submitted = 0
        self.recorded = 0

    @property
    def unrecorded(self) -> int:
        """Outcomes that are not on disk yet."""
        return len(self._news)

    def wake(self) -> None:
        """Look for due messages now: new ones are on disk."""
        for name, connector in self._connectors.items():
            if connector.is_bound:
                self._wakes[name].set()

    def on_ready(self, connector: str) -> None:
        """Take note that a connector has room."""
        self._wakes[connector].set()

    def on_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        """Take what came of submitted parts; a message's news is complete with its last part."""
        now = self._ledger.now_ms()
        for part, outcome in outcomes:
            open_ = self._open.get(part.message_id) if part.parts > 1 else None
            if open_ is None:
                self._tell(connector, part, ((part.part_no, outcome),), now)
                continue
            open_.outcomes.append((part.part_no, outcome))
            open_.remaining -= 1
            if not open_.remaining:
                del self._open[part.message_id]
                self._tell(connector, part, tuple(sorted(open_.outcomes, key=lambda pair: pair[0])), now)
        self._news_wake.set()
        self._wakes[connector].set()

    def on_late_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        """Take answers to parts whose outcome was Unknown already: they make their ids known."""
        now = self._ledger.now_ms()
        for part, outcome in outcomes:
            self._tell(connector, part, ((part.part_no, outcome),), now)
        self._news_wake.set()

    def _tell(self, connector: str, part: OutboundPart, outcomes: tuple[tuple[int, Outcome], ...], now: int) -> None:
        retry_at = None
        refused = [outcome for _, outcome in outcomes if isinstance(outcome, Refused) and outcome.retryable]
        if refused:
            throttled = any(outcome.throttled for outcome in refused)
            retry_at = next_submit_at(part.attempt, now, throttled, part.message_id)
            if part.valid_until is not None and retry_at >= part.valid_until:
                retry_at = None
        self._news.append(
            Submitted(
                part.account_id,
                part.message_id,
                self._ledger.next_id(now),
                now,
                part.attempt,
                connector,
                outcomes,
                retry_at,
            )
        )

    async def run(self) -> None:
        """Feed all connectors until cancelled; call `stop` first to end without loss."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._record_loop(), name="dispatch-record")
            tasks.create_task(self._sweep_loop(), name="dispatch-sweep")
            tasks.create_task(self._poll_loop(), name="dispatch-poll")
            for name, connector in self._connectors.items():
                tasks.create_task(self._feed_loop(name, connector), name=f"dispatch-{name}")

    def stop(self) -> None:
        """Claim nothing more, and give back what is claimed and not yet handed to a connector."""
        self._stopping = self._gave_back = True
        for name in self._held:
            self._give_back(name, "stopping")

    def _give_back(self, name: str, reason: str) -> None:
        """Let what is claimed and not handed over wait in the queue again."""
        held = self._held[name]
        parts = list(held)
        held.clear()
        self.on_outcomes(name, [(part, NotSent(reason)) for part in parts])

    async def flush(self) -> None:
        """Wait until no claim is under way and every outcome heard so far is on disk."""
        self._news_wake.set()
        while self._news or self._recording or self._claiming:
            await self._recorded.wait()
            self._recorded.clear()

    async def _feed_loop(self, name: str, connector: Connector) -> None:
        wake = self._wakes[name]
        while not self._stopping:
            try:
                await self._feed(name, connector)
            except OurError as error:
                log.error("claim failed: the ledger can't take it", connector=name, error=str(error))
                await asyncio.sleep(POLL_S)
            except Exception:
                log.exception("dispatch failed", connector=name)
                await asyncio.sleep(POLL_S)
            await wake.wait()
            wake.clear()

    async def _feed(self, name: str, connector: Connector) -> None:
        held = self._held[name]
        if held and not connector.is_bound:
            self._give_back(name, "the link is down")
        while not self._stopping and connector.is_bound and len(self._news) < MAX_UNRECORDED:
            self._hand_over(connector, held)
            room = connector.capacity()
            if held or room <= 0:
                return
            dues = await self._claim(name, min(room, MAX_CLAIM))
            if not dues:
                return
            for due in dues:
                held.extend(self._parts(due))
            if self._gave_back:
                self.stop()

    async def _claim(self, name: str, parts: int) -> Sequence[Due]:
        self._claiming += 1
        try:
            return await self._ledger.claim(name, parts, LEASE_MS)
        finally:
            self._claiming -= 1
            self._recorded.set()

    def _hand_over(self, connector: Connector, held: deque[OutboundPart]) -> None:
        if held and self._ledger.may_work():
            taken = connector.submit(list(held))
            for _ in range(taken):
                held.popleft()
            self.submitted += taken

    def _parts(self, due: Due) -> list[OutboundPart]:
        now = self._ledger.now_ms()
        if due.valid_until <= now:
            self._end(due, now, Status.EXPIRED, "validity ended before it could be sent")
            return []
        try:
            segments = self._cut(due)
        except ValueError as error:
            self._end(due, now, Status.INTERNAL_ERROR, f"the body can't be cut into parts: {error}")
            return []
        if due.parts > 1:
            self._open[due.message_id] = _Open(len(due.pending))
        coding = data_coding(due.dca, due.msg_class)
        return [
            OutboundPart(
                account_id=due.account_id,
                message_id=due.message_id,
                part_no=part_no,
                parts=due.parts,
                attempt=due.attempt,
                msisdn=due.msisdn,
                originator=due.originator,
                octets=segments[part_no - 1].octets,
                data_coding=coding,
                udhi=segments[part_no - 1].udhi,
                valid_until=due.valid_until,
            )
            for part_no in due.pending
        ]

    def _cut(self, due: Due) -> list[Segment]:
        if due.parts == 1 and self._segments is not None and self._segments[0] == due.batch_id:
            return [self._segments[1]]
        segments = split(due.body, due.dca, concat_reference(due.message_id))
        if len(segments) != due.parts:
            raise ValueError(f"{len(segments)} parts, priced as {due.parts}")
        if due.parts == 1:
            self._segments = (due.batch_id, segments[0])
        return segments

    def _end(self, due: Due, now: int, status: Status, detail: str) -> None:
        news_id = self._ledger.next_id(now)
        self._news.append(Ended(due.account_id, due.message_id, news_id, now, status, detail, due.attempt))
        self._news_wake.set()

    async def _record_loop(self) -> None:
        while True:
            await self._news_wake.wait()
            self._news_wake.clear()
            while self._news:
                group, self._news = self._news[:MAX_GROUP], self._news[MAX_GROUP:]
                self._recording = True
                await self._record(group)
                self._recording = False
            self._recorded.set()

    async def _record(self, group: list[News]) -> None:
        """Write news, however long the ledger refuses it: it is known nowhere else."""
        pause = RETRY_RECORD_S
        while True:
            try:
                await self._ledger.record(group)
            except OurError as error:
                log.error("outcomes wait: the ledger can't take them", count=len(group), error=str(error))
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY_RECORD_S)
            except Exception:
                if len(group) == 1:
                    log.exception("outcome dropped", message_id=group[0].message_id)
                    return
                for one in group:
                    await self._record([one])
                return
            else:
                self.recorded += len(group)
                return

    async def _poll_loop(self) -> None:
        """Look for what has become due by time alone."""
        while not self._stopping:
            await asyncio.sleep(POLL_S)
            for event in self._wakes.values():
                event.set()

    async def _sweep_loop(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            try:
                await self.sweep()
            except Exception:
                log.exception("sweep failed")

    async def sweep(self) -> None:
        """Call off leases of dead workers; end queued messages whose validity is over, also where no link is up."""
        await self._ledger.recover(self._ledger.now_ms())
        for name in {*self._connectors, *await self._ledger.store.queued_connectors()}:
            await self._ledger.expire(name, MAX_GROUP)
