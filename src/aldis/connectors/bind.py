"""One bind of a connector: when it is connected, and when not."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import structlog

_log = structlog.get_logger("aldis.connectors")
LET_GO_S = 10.0
"""How long a bind that is let go waits for the outcomes still out."""
UNBIND_S = 2.0
"""How long the other side may take over its unbind_resp."""
_STABLE_S = 5.0  # a bind that lasted this long wipes out the failures before it


class Leg(Protocol):
    """The connections of a bind, one after the other: a transceiver is one leg, a pair has two."""

    async def serve(self) -> float:
        """Connect, bind and stay until the connection is gone; return the seconds bound."""

    def unbind(self, drain_s: float) -> bool:
        """Take no more parts, wait for the outcomes still out, then unbind; False if there is no connection yet."""

    def abort(self, reason: str) -> None:
        """Drop the connection now, if there is one."""


class Bind:
    """One bind through all its connections: connected while it is held.

    Its legs are taken and let go together: none connects before the last connection of both is gone.
    """

    def __init__(
        self, connector: str, number: int, legs: Sequence[Leg], pause: Callable[[int], Awaitable[None]]
    ) -> None:
        """Hold it, from `run` on.

        Args:
            connector: The connector's name, for the log.
            number: Which of its binds, from 0.
            legs: What a bind is made of.
            pause: Waits before a try; takes the number of failures in a row.
        """
        self.is_held = True
        """Whether it is to be connected."""
        self.gone = asyncio.Event()
        """Set while it has no connection and makes none."""
        self.gone.set()
        self._names = {"connector": connector, "bind": number}
        self._legs = legs
        self._pause = pause
        self._tasks: list[tuple[Leg, asyncio.Task[None]]] = []
        self._is_going = False
        self._is_over = False
        self._changed = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None

    def hold(self) -> None:
        """Connect; where it is still winding down, as soon as that is over."""
        if not self._is_over:
            self.is_held = True
            self._changed.set()

    def let_go(self, drain_s: float) -> None:
        """Take no more parts, wait up to `drain_s` for the outcomes still out, then unbind."""
        self.is_held = False
        if not self._tasks:
            return
        self._abort_in(drain_s + UNBIND_S)
        if not self._is_going:
            self._is_going = True
            for leg, task in self._tasks:
                if not leg.unbind(drain_s):
                    task.cancel()

    def stop(self, drain_s: float) -> None:
        """Let go for ever: `run` returns when the connection is gone."""
        self._is_over = True
        self.let_go(drain_s)
        self._changed.set()

    def abort(self, reason: str) -> None:
        """Drop the connections now; those of a bind that is held are made again."""
        for leg in self._legs:
            leg.abort(reason)

    async def run(self) -> None:
        """Keep the bind up while it is held, until it is stopped."""
        while not self._is_over:
            if self.is_held:
                await self._serve()
            else:
                await self._changed.wait()
            self._changed.clear()

    async def _serve(self) -> None:
        """Keep the bind up until it is let go and its last connection is gone."""
        self._is_going = False
        self.gone.clear()
        _log.info("bind taken", **self._names)
        try:
            async with asyncio.TaskGroup() as group:
                self._tasks = [(leg, group.create_task(self._keep(leg))) for leg in self._legs]
        finally:
            self._tasks = []
            if self._timer:
                self._timer.cancel()
                self._timer = None
            self.gone.set()
            _log.info("bind let go", **self._names)

    async def _keep(self, leg: Leg) -> None:
        failures = 0
        while True:
            bound_s = await leg.serve()
            if self._is_going:
                return
            failures = 1 if bound_s >= _STABLE_S else failures + 1
            await self._pause(failures)

    def _abort_in(self, delay_s: float) -> None:
        """Make sure that the wind-down has an end; the nearest one counts."""
        loop = asyncio.get_running_loop()
        if self._timer and self._timer.when() <= loop.time() + delay_s:
            return
        if self._timer:
            self._timer.cancel()
        self._timer = loop.call_later(delay_s, self.abort, "let go")
