"""Due messages out: claim, cut into parts, hand to a connector, record what came of it (T2, T3)."""

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import structlog

from aldis.connectors.base import Connector, NotSent, OutboundPart, Outcome, Refused
from aldis.ledger import Ended, Ledger, News, Submitted, say
from aldis.model.errors import OurError
from aldis.model.status import Status
from aldis.rules.failover import Blame, Way, blame, choose, connectors_of
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
FAILOVER_AFTER_S = 5.0
MAY_MOVE_MS = 4 * 60_000
"""How old a claim may be to be sent by another connector: the longest answer of that one still fits into the lease."""
RETRY_RECORD_S = 0.25
LONGEST_RETRY_RECORD_S = 5.0


class _Open:
    """A message of several parts on its way out."""

    __slots__ = ("outcomes", "remaining")

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining
        self.outcomes: list[tuple[int, Outcome]] = []


class _Choice:
    """A message on its way that another connector may take if this one can't."""

    __slots__ = ("at", "claimed_at", "detour", "parts", "ways")

    def __init__(self, ways: tuple[str, ...], at: int, parts: list[OutboundPart], claimed_at: int) -> None:
        self.ways = ways
        self.at = at
        self.parts = parts
        self.claimed_at = claimed_at
        self.detour = ""
        """Who refused it before, and how."""


class Dispatch:
    """Keeps every connector's window full while messages are due.

    A queue none of whose connectors is bound is paused: nothing of it is claimed. What was claimed and can't be sent
    any more goes back unharmed when the machine stops.

    Each connector has its queue, and so has each list of connectors that a route prefers in order. A message of such a
    list goes to the next connector if this one refuses it for a reason of its own; never after it may have been taken.
    """

    def __init__(
        self,
        ledger: Ledger,
        connectors: Mapping[str, Connector],
        queues: Iterable[str] = (),
        failover_after_s: float = FAILOVER_AFTER_S,
    ) -> None:
        """Prepare; nothing is claimed before `run`.

        Args:
            ledger: Where messages are claimed and news goes.
            connectors: By name.
            queues: The routes' queues; see `aldis.rules.failover`.
            failover_after_s: How long a connector may be down before a queue takes its next one.
        """
        self._ledger = ledger
        self._connectors = connectors
        self._failover_after_s = failover_after_s
        self._ways: dict[str, tuple[str, ...]] = {}
        self._held: dict[str, deque[OutboundPart]] = {}
        self._wakes: dict[str, asyncio.Event] = {}
        self._fed: dict[str, int] = {}
        self._down_since: dict[str, float] = {}
        self._choices: dict[int, _Choice] = {}
        for queue in (*connectors, *queues):
            self.serve(queue)
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
        self.moved = 0
        """Messages that went to another connector after a refusal."""

    def serve(self, queue: str) -> bool:
        """Feed a queue too, before `run`; False if none of its connectors is here."""
        ways = tuple(name for name in connectors_of(queue) if name in self._connectors)
        if ways and queue not in self._ways:
            self._ways[queue], self._fed[queue] = ways, 0
            self._held[queue], self._wakes[queue] = deque(), asyncio.Event()
        return bool(ways)

    @property
    def unrecorded(self) -> int:
        """Outcomes that are not on disk yet."""
        return len(self._news)

    def wake(self) -> None:
        """Look for due messages now: new ones are on disk."""
        for queue, ways in self._ways.items():
            if any(self._connectors[name].is_bound for name in ways):
                self._wakes[queue].set()

    def on_ready(self, connector: str) -> None:
        """Take note that a connector has room."""
        for queue, ways in self._ways.items():
            if connector in ways:
                self._wakes[queue].set()

    def on_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        """Take what came of submitted parts; a message's news is complete with its last part."""
        now = self._ledger.now_ms()
        for part, outcome in outcomes:
            open_ = self._open.get(part.message_id) if part.parts > 1 else None
            if open_ is None:
                self._finish(connector, part, ((part.part_no, outcome),), now)
                continue
            open_.outcomes.append((part.part_no, outcome))
            open_.remaining -= 1
            if not open_.remaining:
                del self._open[part.message_id]
                self._finish(connector, part, tuple(sorted(open_.outcomes, key=lambda pair: pair[0])), now)
        self._news_wake.set()
        self.on_ready(connector)

    def on_late_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        """Take answers to parts whose outcome was Unknown already: they make their ids known."""
        now = self._ledger.now_ms()
        for part, outcome in outcomes:
            self._tell(connector, part, ((part.part_no, outcome),), now)
        self._news_wake.set()

    def _finish(self, connector: str, part: OutboundPart, outcomes: tuple[tuple[int, Outcome], ...], now: int) -> None:
        """Tell what came of a message, unless another connector is to take it."""
        choice = self._choices.pop(part.message_id, None) if self._choices else None
        if choice is None or not self._move(choice, outcomes, now):
            self._tell(connector, part, outcomes, now, choice.detour if choice else "")

    def _move(self, choice: _Choice, outcomes: tuple[tuple[int, Outcome], ...], now: int) -> bool:
        """Hand a message that this upstream can't take, and that has not left, to the next connector that is bound."""
        if self._stopping or now - choice.claimed_at > MAY_MOVE_MS or not _may_move(outcomes):
            return False
        for at in range(choice.at + 1, len(choice.ways)):
            name = choice.ways[at]
            if self._connectors[name].is_bound:
                message_id = choice.parts[0].message_id
                log.info("message moved", connector=choice.ways[choice.at], to=name, message_id=message_id)
                self.moved += 1
                refusal = next(one for _, one in outcomes if isinstance(one, Refused))
                choice.detour += f"{choice.ways[choice.at]} {say(refusal)}; "
                choice.at = at
                self._hold(name, choice.parts)
                self._choices[message_id] = choice
                self._wakes[name].set()
                return True
        return False

    def _hold(self, queue: str, parts: list[OutboundPart]) -> None:
        if parts[0].parts > 1:
            self._open[parts[0].message_id] = _Open(len(parts))
        self._held[queue].extend(parts)

    def _tell(
        self,
        connector: str,
        part: OutboundPart,
        outcomes: tuple[tuple[int, Outcome], ...],
        now: int,
        detour: str = "",
    ) -> None:
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
                part.originator,
                detour,
            )
        )

    async def run(self) -> None:
        """Feed all connectors until cancelled; call `stop` first to end without loss."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._record_loop(), name="dispatch-record")
            tasks.create_task(self._sweep_loop(), name="dispatch-sweep")
            tasks.create_task(self._poll_loop(), name="dispatch-poll")
            for queue in self._ways:
                tasks.create_task(self._feed_loop(queue), name=f"dispatch-{queue}")

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
        self.on_outcomes(self._ways[name][0], [(part, NotSent(reason)) for part in parts])

    async def flush(self) -> None:
        """Wait until no claim is under way and every outcome heard so far is on disk."""
        self._news_wake.set()
        while self._news or self._recording or self._claiming:
            await self._recorded.wait()
            self._recorded.clear()

    async def _feed_loop(self, queue: str) -> None:
        wake = self._wakes[queue]
        while not self._stopping:
            try:
                await self._feed(queue)
            except OurError as error:
                log.error("claim failed: the ledger can't take it", queue=queue, error=str(error))
                await asyncio.sleep(POLL_S)
            except Exception:
                log.exception("dispatch failed", queue=queue)
                await asyncio.sleep(POLL_S)
            await wake.wait()
            wake.clear()

    async def _feed(self, queue: str) -> None:
        held, ways = self._held[queue], self._ways[queue]
        while not self._stopping:
            at = self._choose(ways)
            if held and at != self._fed[queue]:
                self._give_back(queue, "the link is down")
            if at is None or len(self._news) >= MAX_UNRECORDED:
                return
            connector, self._fed[queue] = self._connectors[ways[at]], at
            self._hand_over(connector, held)
            room = connector.capacity()
            if held or room <= 0:
                return
            dues = await self._claim(queue, min(room, MAX_CLAIM))
            if not dues:
                return
            for due in dues:
                self._take(queue, at, due)
            if self._gave_back:
                self.stop()

    def _take(self, queue: str, at: int, due: Due) -> None:
        """Let a claimed message wait for room, and remember which connectors may take it if this one can't."""
        parts = self._parts(due)
        if parts:
            self._hold(queue, parts)
            if at + 1 < len(self._ways[queue]):
                now = self._ledger.now_ms()
                self._choices[due.message_id] = _Choice(self._ways[queue], at, parts, now)

    def _choose(self, ways: tuple[str, ...]) -> int | None:
        """Return which of a queue's connectors takes its messages now."""
        if len(ways) == 1:
            return 0 if self._connectors[ways[0]].is_bound else None
        now = asyncio.get_running_loop().time()
        return choose([self._look(name, now) for name in ways], self._failover_after_s)

    def _look(self, name: str, now: float) -> Way:
        """See how a connector stands; where other nodes hold its binds we can't tell, and never call it down."""
        connector = self._connectors[name]
        if connector.is_bound:
            self._down_since.pop(name, None)
            return Way(True, 0.0)
        if not connector.held:
            self._down_since.pop(name, None)
            return Way(False, 0.0)
        return Way(False, now - self._down_since.setdefault(name, now))

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


def _may_move(outcomes: tuple[tuple[int, Outcome], ...]) -> bool:
    """Return whether no part can have been taken, and a refusal is for a reason of the upstream's own."""
    refused = [outcome for _, outcome in outcomes if isinstance(outcome, Refused)]
    unsent = sum(isinstance(outcome, NotSent) for _, outcome in outcomes)
    if not refused or len(refused) + unsent < len(outcomes):
        return False
    return all(blame(outcome.command_status) is Blame.UPSTREAM for outcome in refused)
