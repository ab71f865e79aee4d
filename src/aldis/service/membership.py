"""A node among others: it stays alive by beats, owns binds by lease, and stops by itself once it counts as dead.

The rules, with T the time that a node lives after a beat:

- A node beats every T / 4. One that was not heard of for T is found dead by any other that was heard all that time.
- A node that could not beat for T, by a clock that runs on while the process or the machine stands still, does nothing
  that only a living node may do: it hands nothing to connectors, sends no pushes, takes no submissions.
- A node that was found dead learns so with its next beat, and starts again as another.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from aldis.connectors.base import Connector
from aldis.model.errors import LeaseLost
from aldis.rules.binds import Bind, plan
from aldis.service.process import identity, is_gone
from aldis.store.postgres.connection import words_of
from aldis.store.postgres.nodes import Beat, Joined, NodeTable

log = structlog.get_logger()

TTL_S: Final = 8.0
BEAT_S: Final = TTL_S / 4
WATCH_S: Final = 0.25
_JITTER_MS: Final = 5
"""By less the time is not corrected: what is due now would not be due for a moment."""
DISPATCH: Final = "dispatch"


def steady_s() -> float:
    """Return seconds by a clock that no one sets, and that runs on while the machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


class Membership:
    """This node's life, and the binds that it owns."""

    def __init__(
        self,
        table: NodeTable,
        roles: frozenset[str],
        connectors: Mapping[str, Connector],
        on_valid: Callable[[], None] = lambda: None,
        steady: Callable[[], float] = steady_s,
    ) -> None:
        """Take the table, what the node does, its connectors, and whom to tell when it may work again."""
        self._table = table
        self._roles = roles
        self._connectors = connectors
        self._on_valid = on_valid
        self._steady = steady
        self._joined: Joined | None = None
        self._alive_until = 0.0
        self._heard_since = 0.0
        """Since when no beat was missed."""
        self._offset_ms = 0
        self._owned: set[Bind] = set()
        self._giving: set[Bind] = set()
        """Owned, and being let go of: another node's as soon as the connections are gone."""
        self._others_dispatch = False
        self._talking = asyncio.Lock()
        """Held while the table is asked or told: a goodbye waits for the beat under way."""
        self._has_left = False
        self.living = 0
        """How many nodes live, this one included."""

    @property
    def number(self) -> int:
        """The node's number in ids."""
        assert self._joined is not None
        return self._joined.number

    @property
    def epoch(self) -> int:
        """This life of the node."""
        assert self._joined is not None
        return self._joined.epoch

    @property
    def others_dispatch(self) -> bool:
        """Whether another node may own binds: it must be told of new work."""
        return self._others_dispatch

    @property
    def owned(self) -> frozenset[Bind]:
        """The binds that are this node's."""
        return frozenset(self._owned)

    def may_work(self) -> bool:
        """Tell whether this node is certain to count as alive."""
        return self._steady() < self._alive_until

    def now_ms(self) -> int:
        """Return the database's time, epoch ms."""
        return round(self._steady() * 1000) + self._offset_ms

    async def join(self) -> None:
        """Begin to live.

        Raises what the database raises.
        """
        for connector in self._connectors.values():
            connector.hold(())
        await self._bury_former_life()
        started = self._steady()
        binds = [(name, connector.binds) for name, connector in self._connectors.items()]
        who = ",".join(sorted(self._roles)), socket.gethostname(), identity()
        self._joined = await self._table.join(*who, binds)
        self._note_time(started, self._joined.now)
        self._heard_since = started

    async def _bury_former_life(self) -> None:
        """End lives of processes of this machine that are gone: what they owned need not wait for its lease to end."""
        gone = [one.epoch for one in await self._table.living() if is_gone(one.process)]
        if gone:
            log.info("found ended processes of this machine", count=len(gone))
            await self._table.leave(*gone)

    async def run(self) -> None:
        """Beat until cancelled.

        Raises:
            LeaseLost: others have found this node dead.
        """
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch())
            while True:
                await self.beat()
                await asyncio.sleep(BEAT_S)

    async def _watch(self) -> None:
        """Let go of the binds in time, however long the database takes to say nothing."""
        while True:
            await asyncio.sleep(WATCH_S)
            self._check()

    async def beat(self) -> None:
        """Beat once, and take or give up binds.

        Raises:
            LeaseLost: others have found this node dead.
        """
        async with self._talking:
            if not self._has_left:
                await self._beat()

    async def _beat(self) -> None:
        started = self._steady()
        was_valid = self.may_work()
        try:
            beat = await self._table.beat(self.epoch, may_bury=started - self._heard_since > TTL_S)
        except Exception as error:  # noqa: BLE001 - the database's absence has a hundred faces; the lease decides
            self._table.drop()
            self._heard_since = self._steady()
            log.warning("no beat: the database does not answer", error=words_of(error))
            return
        if beat is None:
            self.cut("this node was found dead")
            raise LeaseLost
        self._note_time(started, beat.now)
        if not was_valid:
            self._on_valid()
        for number in beat.buried:
            log.warning("a node was found dead", node=number)
        await self._share(beat)

    async def leave(self) -> None:
        """End this life in good order."""
        async with self._talking:
            self._has_left = True
            try:
                await self._table.leave(self.epoch)
            except Exception as error:  # noqa: BLE001 - others will find it dead
                log.warning("could not say goodbye", error=words_of(error))
            self._alive_until = 0.0
            self._table.drop()

    def cut(self, reason: str) -> None:
        """Let go of all connections at once: the binds may be another's."""
        self._alive_until = 0.0
        self._owned.clear()
        self._giving.clear()
        for connector in self._connectors.values():
            connector.cut(reason)

    def _note_time(self, started: float, now: int) -> None:
        """Believe the database's time, which it told somewhere between asking and answering."""
        ended = self._steady()
        offset_ms = now - round((started + ended) * 500)
        if abs(offset_ms - self._offset_ms) > (ended - started) * 500 + _JITTER_MS:
            self._offset_ms = offset_ms
        self._alive_until = started + TTL_S

    def _check(self) -> None:
        """Cut the binds once the lease has run out: they may be another's by now."""
        if not self.may_work() and any(connector.held for connector in self._connectors.values()):
            log.error("this node's lease has run out: it lets go of its binds")
            self.cut("the lease of this node ran out")

    async def _share(self, beat: Beat) -> None:
        """Take and give up binds, so that every node carries its share."""
        dispatching = [one.epoch for one in beat.nodes if DISPATCH in one.roles.split(",")]
        self.living = len(beat.nodes)
        self._others_dispatch = any(epoch != self.epoch for epoch in dispatching)
        if DISPATCH not in self._roles:
            return
        known = {bind: owner for bind, owner in beat.owners.items() if self._is_known(bind)}
        self._owned = {bind for bind, owner in known.items() if owner == self.epoch}
        self._giving &= self._owned
        wish = plan(known, self.epoch, dispatching)
        self._giving = self._giving or set(wish.give)
        try:
            self._owned |= set(await self._table.take(self.epoch, wish.take))
            self._hold(self._owned - self._giving)
            await self._table.give(self.epoch, [bind for bind in self._giving if not self._is_in_use(bind)])
        except Exception as error:  # noqa: BLE001 - the next beat looks again
            self._table.drop()
            log.warning("binds can't be shared out now", error=words_of(error))

    def _is_known(self, bind: Bind) -> bool:
        connector = self._connectors.get(bind.connector)
        return connector is not None and bind.number < connector.binds

    def _is_in_use(self, bind: Bind) -> bool:
        return bind.number in self._connectors[bind.connector].held

    def _hold(self, wanted: set[Bind]) -> None:
        for name, connector in self._connectors.items():
            connector.hold({bind.number for bind in wanted if bind.connector == name})
