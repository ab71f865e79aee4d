"""What upstreams send: on disk first, answered then (T4)."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

import structlog

from aldis.connectors.base import Delivery
from aldis.ledger import Ledger
from aldis.model.errors import OurError

log = structlog.get_logger()

MAX_GROUP = 2_000
FEW: Final = 50
"""Receipts in a group that are no burden: no more come than messages go out."""
LOOK_AGAIN_S = 1.0
AGES_MS = (1_000, 10_000, 60_000, 600_000)
"""How long a receipt has waited when it is looked at again: its part may have been unknown, or written in a transaction
that overlapped with its own, or the answer to the submit may have come late."""


YIELD: Final = 1.5
"""How long receipts give way while messages go out, as a multiple of the time that their last group took."""


class Inbound:
    """Writes deliveries in groups and answers each after its group is on disk.

    A group that can't be written is answered with a temporary error, so that the upstream sends it again.

    While messages go out, receipts leave them a share of the time: after an outage an upstream has hours of receipts to
    tell, and waits for each answer. Where nothing goes out they come as fast as they can be written.
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
        """Give parked receipts a home that had none when they came: at the start all of them, then each a few times."""
        until = [0, *(self._ledger.now_ms() - age for age in AGES_MS[1:])]
        while True:
            for at, age in enumerate(AGES_MS):
                since, now = until[at], self._ledger.now_ms() - age
                try:
                    await self._ledger.rematch(since, now)
                    until[at] = now
                except OurError as error:
                    log.warning("parked receipts are looked at later", error=str(error))
                except Exception:
                    log.exception("parked receipts can't be looked at")
                    until[at] = now
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                self._writing = True
                outbound, started = self._ledger.outbound, time.monotonic()
                await self._write(group)
                self._writing = False
                if self._ledger.outbound != outbound and len(group) > FEW:
                    await asyncio.sleep(YIELD * (time.monotonic() - started))
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
