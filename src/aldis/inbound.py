"""What upstreams send: on disk first, answered then (T4)."""

import asyncio
from collections.abc import Sequence

import structlog

from aldis.connectors.base import Delivery
from aldis.ledger import Ledger
from aldis.model.errors import OurError

log = structlog.get_logger()

MAX_GROUP = 2_000
LOOK_AGAIN_S = 1.0
OVERLOOKED_MS = 10_000
"""Longer than any two transactions overlap."""


class Inbound:
    """Writes deliveries in groups and answers each after its group is on disk.

    A group that can't be written is answered with a temporary error, so that the upstream sends it again.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Take the ledger."""
        self._ledger = ledger
        self._waiting: list[Delivery] = []
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._writing = False
        self.received = 0
        self.refused = 0

    def offer(self, deliveries: Sequence[Delivery]) -> None:
        """Take what a connector has received."""
        self._waiting.extend(deliveries)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Deliveries not on disk yet."""
        return len(self._waiting)

    async def flush(self) -> None:
        """Wait until everything offered so far is on disk and answered."""
        while self._waiting or self._writing:
            await self._written.wait()
            self._written.clear()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_forever())
            tasks.create_task(self._look_again())

    async def _look_again(self) -> None:
        """Give receipts a home that missed the id which they name, for both were written at the same time."""
        since = 0
        while True:
            try:
                await self._ledger.rematch(since)
                since = self._ledger.now_ms() - OVERLOOKED_MS
            except OurError as error:
                log.warning("parked receipts are looked at later", error=str(error))
            except Exception:
                log.exception("parked receipts can't be looked at")
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                self._writing = True
                await self._write(group)
                self._writing = False
            self._written.set()

    async def _write(self, group: list[Delivery]) -> None:
        try:
            await self._ledger.receive(group)
        except OurError as error:
            log.error("receipts refused: the ledger can't take them", count=len(group), error=str(error))
            self._answer(group, taken=False)
        except Exception:
            if len(group) > 1:
                for one in group:
                    await self._write([one])
                return
            log.exception("receipt refused", connector=group[0].connector)
            self._answer(group, taken=False)
        else:
            self._answer(group, taken=True)

    def _answer(self, group: list[Delivery], *, taken: bool) -> None:
        if taken:
            self.received += len(group)
        else:
            self.refused += len(group)
        for delivery in group:
            delivery.answer(taken)
