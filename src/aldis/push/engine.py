"""The push machine: reports go out from memory right after the commit that made them durable.

The table of pushes is read at the start, for what is due again, and for what memory had no room for. A push leaves
the table only by a result, so that a crash repeats at most what was under way. The receivers are strangers: each has
its own queue and its own bound on tries in flight, and waits its turn in a ring.
"""

import asyncio
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from typing import Final, Protocol

import msgspec
import structlog

from aldis.model.errors import LedgerUnavailable
from aldis.model.types import Push, PushResult
from aldis.push.client import Answer, PushClient, PushFailed
from aldis.push.endpoint import End, Endpoint, Job, PushSettings, State
from aldis.push.request import is_success, query_of
from aldis.rules.retry import next_push_at

log = structlog.get_logger(__name__)

_MAX_ENDPOINTS: Final = 4_096
_FINAL_FLUSH_S: Final = 5.0


class PushLedger(Protocol):
    """What the engine needs of the ledger."""

    async def due_pushes(self, now: int, limit: int) -> Sequence[Push]:
        """Return pushes with `due_at` <= now, oldest first, one a message: the newest."""

    async def record_push_results(self, results: Sequence[PushResult]) -> None:
        """Put results on disk; one for a push that another has replaced changes nothing but the history."""


class PushStats(msgspec.Struct):
    """What the engine has done and has to do."""

    sent: int = 0
    """Tries made."""
    delivered: int = 0
    failed: int = 0
    """Tries that failed, the last ones included."""
    exhausted: int = 0
    """Pushes given up."""
    superseded: int = 0
    """Pushes that a newer one of the same message made pointless."""
    skipped: int = 0
    """Tries counted as failed without being made: the endpoint did not answer others."""
    overflowed: int = 0
    """Offers left in the table because memory was full."""
    errors: int = 0
    """Surprises in the machine's loops."""
    in_flight: int = 0
    waiting: int = 0
    unrecorded: int = 0
    lag_ms: int = 0
    """How long the oldest waiting push has been due."""


class PushEngine:
    """Sends pushes and records how they ended. One `run`, on the loop where `offer` is called."""

    def __init__(
        self,
        ledger: PushLedger,
        client: PushClient,
        now_ms: Callable[[], int],
        settings: PushSettings | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        """Take the ledger, the client, the wall clock in epoch ms, the bounds, and how to wait after a refusal.

        While `may_send` says no, nothing is begun: another node may have taken over what waits here.
        """
        self._ledger = ledger
        self._client = client
        self._now_ms = now_ms
        self._settings = settings or PushSettings()
        self._sleep = sleep
        self._may_send = may_send
        self._counts = PushStats()
        self._jobs: dict[int, Job] = {}
        self._endpoints: dict[tuple[int, str], Endpoint] = {}
        self._ring: deque[Endpoint] = deque()
        self._trials = 0
        self._max_trials = max(1, self._settings.max_in_flight // 2)
        self._benched: deque[Endpoint] = deque()
        self._waiting = 0
        self._in_flight = 0
        self._results: dict[int, PushResult] = {}
        self._have_results = asyncio.Event()
        self._settled: set[int] = set()
        self._poked = asyncio.Event()
        self._full_sweep_at = 0.0
        self._group: asyncio.TaskGroup | None = None
        self._workers = 0
        self._parked: list[asyncio.Future[None]] = []
        self._is_draining = False
        self._all_quiet = asyncio.Event()

    @property
    def stats(self) -> PushStats:
        """The counters so far and the gauges of now."""
        heads = [e.queue[0].push.due_at for e in self._endpoints.values() if e.queue]
        return msgspec.structs.replace(
            self._counts,
            in_flight=self._in_flight,
            waiting=self._waiting,
            unrecorded=len(self._results),
            lag_ms=max(0, self._now_ms() - min(heads)) if heads else 0,
        )

    def offer(self, pushes: Sequence[Push]) -> None:
        """Take pushes that have just become durable; call in the order of their commits.

        A push takes the place of one of the same message that has not gone out; while one is on its way it waits for
        its end. Beyond the bounds pushes stay in the table, and are read from there when there is room.
        """
        for push in pushes:
            job = self._jobs.get(push.message_id)
            if job is None:
                self._admit_offered(push)
            elif not job.holds(push):
                self._replace(job, push)

    def poke(self) -> None:
        """Read the table now: the clock was moved, or pushes were made due by hand."""
        self._full_sweep_at = 0.0
        self._poked.set()
        for _ in range(min(len(self._ring), self._settings.max_in_flight)):
            self._rouse()

    async def run(self) -> None:
        """Send and record until cancelled; then record what has ended, and leave the rest in the table."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._record_forever())
                group.create_task(self._sweep_forever())
                self._rouse()
                try:
                    await asyncio.get_running_loop().create_future()  # until cancelled
                finally:
                    self._group = None  # it takes no more workers; what is offered from here on waits in the table
        finally:
            self._cancel_probes()
            await self._flush()

    async def drain(self, timeout_s: float) -> bool:
        """Start no more tries and wait for those under way to end on disk; returns whether they did in time."""
        self._is_draining = True
        self._note_quiet()
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._all_quiet.wait()
        return self._all_quiet.is_set()

    # What memory takes

    def _admit_offered(self, push: Push) -> None:
        endpoint = self._endpoint(push)
        if self._has_room(endpoint):
            self._enqueue(push, endpoint)
        else:
            self._counts.overflowed += 1
            endpoint.overflowed = True

    def _has_room(self, endpoint: Endpoint) -> bool:
        length = len(endpoint.queue)
        if length < self._settings.small_queue:
            return True
        bound = self._settings.max_waiting
        return not endpoint.is_broken and self._waiting < bound and length < bound // 2

    def _enqueue(self, push: Push, endpoint: Endpoint) -> None:
        job = self._jobs[push.message_id] = Job(push, endpoint, State.WAITING)
        endpoint.queue.append(job)
        self._waiting += 1
        if self._list(endpoint):
            self._rouse()

    def _replace(self, job: Job, push: Push) -> None:
        """Let a newer push of the same message take the place of what waits."""
        if job.state is State.DONE:
            self._admit_offered(push)
            return
        if job.state is State.FLYING:
            if job.newer is not None:
                self._supersede(job.newer)
            job.newer = push
            return
        self._supersede(job.push)
        job.push = push
        if job.endpoint.key != (push.account_id, push.url):
            job.endpoint.queue.remove(job)
            self._waiting -= 1
            self._enqueue(push, self._endpoint(push))

    def _supersede(self, push: Push) -> None:
        self._counts.superseded += 1
        self._add_result(push, delivered=False, attempts=push.attempts, next_at=None, detail="superseded")

    def _endpoint(self, push: Push) -> Endpoint:
        key = (push.account_id, push.url)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            if len(self._endpoints) >= _MAX_ENDPOINTS:
                self._endpoints = {k: e for k, e in self._endpoints.items() if not e.is_idle}
            endpoint = self._endpoints[key] = Endpoint(key, self._settings)
        return endpoint

    # The ring and the workers

    def _list(self, endpoint: Endpoint) -> bool:
        """Put an endpoint at the end of the ring if it has something to start; tell whether it was put there."""
        if endpoint.listed or not endpoint.may_start():
            return False
        endpoint.listed = True
        self._ring.append(endpoint)
        return True

    def _next_job(self) -> Job | None:
        """Take a job from the endpoint whose turn it is, and put that endpoint at the end of the ring."""
        if self._is_draining or not self._may_send() or len(self._results) >= self._settings.max_waiting:
            return None
        while self._ring:
            endpoint = self._ring.popleft()
            if not endpoint.is_proven and self._trials >= self._max_trials:
                self._benched.append(endpoint)
                continue
            endpoint.listed = False
            if endpoint.may_start():
                return self._start(endpoint)
        return None

    def _start(self, endpoint: Endpoint) -> Job:
        job = endpoint.queue.popleft()
        job.state = State.FLYING
        job.is_trial = not endpoint.is_proven
        self._trials += job.is_trial
        self._waiting -= 1
        self._in_flight += 1
        endpoint.in_flight += 1
        self._list(endpoint)
        if self._ring:
            self._rouse()
        return job

    def _rouse(self) -> None:
        """Set one more worker to work, if there is one."""
        while self._parked:
            waiter = self._parked.pop()
            if not waiter.done():
                waiter.set_result(None)
                return
        if self._group is not None and self._workers < self._settings.max_in_flight:
            self._workers += 1
            self._group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            job = self._next_job()
            if job is None:
                waiter = asyncio.get_running_loop().create_future()
                self._parked.append(waiter)
                await waiter
            else:
                self._end(job, *await self._try(job.push))

    async def _try(self, push: Push) -> tuple[bool, str, End]:
        """Make one try; returns whether it delivered, in which words, and what it says about the endpoint."""
        self._counts.sent += 1
        try:
            return _judge(push, await self._client.get(push.url, query_of(push)))
        except PushFailed as failed:
            return False, str(failed), End.SILENT
        except Exception as error:  # noqa: BLE001 - one broken push must not stop the machine
            self._surprise("push try", error)
            return False, "internal error", End.ANSWERED

    def _end(self, job: Job, delivered: bool, detail: str, end: End) -> None:
        job.state = State.DONE
        self._in_flight -= 1
        self._trials -= job.is_trial
        if self._benched and job.is_trial:
            self._ring.append(self._benched.popleft())
        self._conclude(job, delivered, detail)
        self._teach(job.endpoint, end)
        if job.newer is not None:
            self._admit_offered(job.newer)
        self._list(job.endpoint)
        self._refill(job.endpoint)

    def _conclude(self, job: Job, delivered: bool, detail: str) -> None:
        """Count how a try ended, and set the next."""
        push, now = job.push, self._now_ms()
        attempts = push.attempts + 1
        next_at = None
        if delivered:
            self._counts.delivered += 1
        else:
            self._counts.failed += 1
            if job.newer is not None:
                self._counts.superseded += 1
                detail = f"{detail}; superseded"
            else:
                next_at = next_push_at(attempts, now)
                self._count_exhausted(job, detail, next_at)
        self._add_result(push, delivered=delivered, attempts=attempts, next_at=next_at, detail=detail)

    def _count_exhausted(self, job: Job, detail: str, next_at: int | None) -> None:
        if next_at is None:
            self._counts.exhausted += 1
            push = job.push
            log.warning(
                "push given up",
                host=job.endpoint.host,
                account_id=push.account_id,
                batch_id=push.batch_id,
                message_id=push.message_id,
                detail=detail,
            )

    def _teach(self, endpoint: Endpoint, end: End) -> None:
        endpoint.in_flight -= 1
        was_broken = endpoint.is_broken
        endpoint.learn(end)
        if endpoint.is_broken and endpoint.probe is None:
            loop = asyncio.get_running_loop()
            endpoint.probe = loop.call_later(endpoint.pause_s(), self._allow_probe, endpoint)
        elif endpoint.probe is not None and not endpoint.is_broken:
            endpoint.probe.cancel()
            endpoint.probe = None
        if endpoint.is_broken != was_broken:
            event = "endpoint answers again" if was_broken else "endpoint does not answer"
            log.warning(event, host=endpoint.host, account_id=endpoint.key[0])

    def _allow_probe(self, endpoint: Endpoint) -> None:
        endpoint.probe = None
        if self._list(endpoint):
            self._rouse()

    def _cancel_probes(self) -> None:
        for endpoint in self._endpoints.values():
            if endpoint.probe is not None:
                endpoint.probe.cancel()
                endpoint.probe = None

    def _refill(self, endpoint: Endpoint) -> None:
        """Ask for the table when an endpoint that has more in it has worked off most of its queue."""
        half = self._settings.max_waiting // 2
        if (
            endpoint.overflowed
            and len(endpoint.queue) <= half // 2
            and self._waiting <= half
            and not endpoint.is_broken
        ):
            endpoint.overflowed = False
            self._poked.set()

    # The results

    def _add_result(self, push: Push, *, delivered: bool, attempts: int, next_at: int | None, detail: str) -> None:
        self._results[push.push_id] = PushResult(
            push.push_id, push.account_id, push.message_id, delivered, attempts, next_at, detail, self._now_ms()
        )
        self._have_results.set()

    async def _record_forever(self) -> None:
        while True:
            await self._have_results.wait()
            try:
                await self._record_group()
            except LedgerUnavailable:
                await self._sleep(self._settings.retry_record)
            except Exception as error:  # noqa: BLE001 - the results are kept and offered again
                self._surprise("push results", error)
                await self._sleep(self._settings.retry_record)

    async def _record_group(self) -> None:
        """Record a group of results in the order of their ends; they stay in memory until they are on disk."""
        group = list(islice(self._results.values(), self._settings.group))
        await self._ledger.record_push_results(group)
        was_full = len(self._results) >= self._settings.max_waiting
        for result in group:
            self._forget(result)
        if not self._results:
            self._have_results.clear()
            self._note_quiet()
        if was_full:
            self._rouse()

    def _forget(self, result: PushResult) -> None:
        if self._results.get(result.push_id) is result:
            del self._results[result.push_id]
        self._settled.add(result.message_id)
        job = self._jobs.get(result.message_id)
        if job is not None and job.state is State.DONE and job.push.push_id == result.push_id:
            del self._jobs[result.message_id]

    def _note_quiet(self) -> None:
        if self._is_draining and not self._in_flight and not self._results:
            self._all_quiet.set()

    async def _flush(self) -> None:
        """Record what has ended, at the very end."""
        try:
            async with asyncio.timeout(_FINAL_FLUSH_S):
                while self._results:
                    await self._record_group()
        except Exception as error:  # noqa: BLE001 - nothing may hide that the engine was cancelled
            log.error("push results lost", error=type(error).__name__, count=len(self._results))

    # The table

    async def _sweep_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._poked.clear()
            is_full = loop.time() >= self._full_sweep_at
            if is_full:
                self._full_sweep_at = loop.time() + self._settings.poll
            try:
                await self._sweep(self._settings.page if is_full else 0)
            except LedgerUnavailable:
                log.warning("due pushes cannot be read")
            except Exception as error:  # noqa: BLE001 - the table is read again later
                self._surprise("push sweep", error)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._full_sweep_at):
                    await self._poked.wait()

    async def _sweep(self, to_put_off: int) -> None:
        """Take what is due from the table, page by page, until it has no more or there is no room for what it has.

        Args:
            to_put_off: How many pushes without room may be put off, to get at what is due behind them.
        """
        while True:
            limit = len(self._jobs) + self._settings.page
            self._settled.clear()
            rows = await self._ledger.due_pushes(self._now_ms(), limit)
            news = self._unknown(rows)
            refused = self._take(news)
            for push in refused[:to_put_off]:
                self._put_off(push, self._endpoint(push))
            to_put_off -= len(refused)
            if len(rows) < limit or not news or (refused and to_put_off <= 0):
                return

    def _unknown(self, rows: Iterable[Push]) -> list[Push]:
        """Return the rows that memory does not hold, and that did not end while they were being read."""
        return [push for push in rows if push.message_id not in self._jobs and push.message_id not in self._settled]

    def _take(self, pushes: Iterable[Push]) -> list[Push]:
        """Enqueue pushes from the table; returns those that found their endpoint's queue full."""
        refused = []
        for push in pushes:
            endpoint = self._endpoint(push)
            if self._has_room(endpoint):
                self._enqueue(push, endpoint)
            else:
                endpoint.overflowed = True
                refused.append(push)
        return refused

    def _put_off(self, push: Push, endpoint: Endpoint) -> None:
        """Move a due push that has no room out of the way of other endpoints' pushes.

        A busy endpoint's comes back soon. A silent endpoint's counts as tried, or its backlog would never end.
        """
        job = self._jobs[push.message_id] = Job(push, endpoint, State.DONE)
        if endpoint.is_broken:
            self._counts.skipped += 1
            self._conclude(job, delivered=False, detail="not tried: the endpoint does not answer")
            return
        next_at = self._now_ms() + self._settings.put_off_ms
        self._add_result(push, delivered=False, attempts=push.attempts, next_at=next_at, detail="put off: many wait")

    def _surprise(self, where: str, error: Exception) -> None:
        """Log an error that nobody expected, without its words: they may hold a URL."""
        self._counts.errors += 1
        log.error(where, error=type(error).__name__, trace=traceback.format_tb(error.__traceback__))


def _judge(push: Push, answer: Answer) -> tuple[bool, str, End]:
    delivered = is_success(answer.status, answer.body_len, push.accept_empty)
    end = End.PUSHED_BACK if answer.status >= 500 or answer.status == 429 else End.ANSWERED
    detail = f"HTTP {answer.status} {answer.reason}".rstrip()
    if not delivered and answer.status == 200:
        detail += ", empty"
    return delivered, detail, end
