"""Group commit: what both engines' writers share."""

import asyncio
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aldis.model.types import Push

MAX_GROUP_ITEMS = 20_000
MAX_GROUP_JOBS = 512
SIZE_BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000, 20_000)
TIME_BUCKETS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class Job:
    """One call: a verb over its items, and who waits for it."""

    __slots__ = ("error", "future", "items", "result", "verb", "weight")

    def __init__(self, verb: Any, items: Sequence[Any], weight: int, future: "asyncio.Future[Any]") -> None:
        """Take what to do; `result` or `error` says what came of it."""
        self.verb = verb
        self.items = items
        self.weight = weight
        self.future = future
        self.result: Sequence[Any] = ()
        self.error: BaseException | None = None

    def answer(self) -> None:
        """Tell who waits, unless that was done before."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


def by_verb(group: Iterable[Job]) -> list[tuple[Any, list[Job]]]:
    """Return the jobs of each verb, in order of first appearance."""
    folded: dict[Any, list[Job]] = {}
    for job in group:
        folded.setdefault(job.verb, []).append(job)
    return list(folded.items())


def items_of(jobs: Sequence[Job]) -> list[Any]:
    """Return the items of several jobs as one list."""
    if len(jobs) == 1:
        return list(jobs[0].items)
    return [item for job in jobs for item in job.items]


def share_out(jobs: Sequence[Job], answers: Sequence[Any]) -> None:
    """Give each job the answers to its items."""
    if len(jobs) == 1:
        jobs[0].result = answers
        return
    start = 0
    for job in jobs:
        job.result = answers[start : start + len(job.items)]
        start += len(job.items)


class Effects:
    """What a transaction will have caused once it is committed."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.pushes: dict[int, Push] = {}
        """The newest of a message."""
        self.reached: list[int] = []
        """Statuses that messages reached."""

    def owe(self, pushes: Iterable[Push]) -> None:
        """Note pushes to go out."""
        for push in pushes:
            self.pushes[push.message_id] = push

    def mark(self) -> "Effects":
        """Return a copy, to go back to."""
        copy = Effects()
        copy.pushes, copy.reached = dict(self.pushes), list(self.reached)
        return copy


class CommitStats:
    """What was committed: for metrics, and for those who watch the queue."""

    def __init__(self, on_pushes: Callable[[list[Push]], None]) -> None:
        """Take who hears of pushes that have become durable."""
        self._on_pushes = on_pushes
        self.waiting = 0
        """Items that wait for a commit."""
        self.groups = 0
        self.items = 0
        self.busy_s = 0.0
        self.size_counts = [0] * (len(SIZE_BUCKETS) + 1)
        self.time_counts = [0] * (len(TIME_BUCKETS_S) + 1)
        self.statuses: Counter[int] = Counter()
        """How many messages reached each status since the start."""

    def count(self, weight: int, spent_s: float) -> None:
        """Count a group."""
        self.groups += 1
        self.items += weight
        self.busy_s += spent_s
        self.size_counts[bisect_left(SIZE_BUCKETS, weight)] += 1
        self.time_counts[bisect_left(TIME_BUCKETS_S, spent_s)] += 1

    def committed(self, effects: Effects) -> None:
        """Tell what a transaction has caused; call on the loop, once it is on disk."""
        self.statuses.update(effects.reached)
        if effects.pushes:
            self._on_pushes(list(effects.pushes.values()))
