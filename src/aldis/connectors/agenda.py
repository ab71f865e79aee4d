"""Things to do at a time, for a simulation that plans many of them."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

_TICK_S = 0.002  # what is due is gathered in steps of this length


class Agenda:
    """Actions by time, in one heap with one timer."""

    def __init__(self) -> None:
        """Begin with nothing to do; needs the running loop."""
        self._loop = asyncio.get_running_loop()
        self._heap: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def after(self, delay_ms: int, action: Callable[[], object]) -> None:
        """Do something after a while."""
        due = self._loop.time() + delay_ms / 1000
        heapq.heappush(self._heap, (due, next(self._order), action))
        if self._timer is None or due < self._timer_at - _TICK_S:
            self._set_timer(due)

    def stop(self) -> None:
        """Do nothing more."""
        if self._timer:
            self._timer.cancel()
        self._heap.clear()

    def _set_timer(self, due: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer_at = max(due, self._loop.time() + _TICK_S)
        self._timer = self._loop.call_at(self._timer_at, self._run)

    def _run(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()
        if self._heap and self._timer is None:
            self._set_timer(self._heap[0][0])
