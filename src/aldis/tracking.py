"""The end of tracking: a message whose receipt never comes ends all the same, and says that this is assumed."""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from aldis.ledger import Ledger
from aldis.model.errors import OurError
from aldis.model.ids import id_at

log = structlog.get_logger()

SWEEP_S = 15.0
PAUSE_S = 0.2
"""Between two looks of a sweep that has fallen behind."""


class Tracking:
    """Looks, once, at each message as it comes of age, and ends it if it is not over.

    It ends as 53, assumed: a receipt that comes later still says what really became of it.
    """

    def __init__(self, ledger: Ledger, ages_ms: Callable[[], Mapping[str, int]]) -> None:
        """Take the ledger, and what tells by queue how old a message is when its receipt is not expected any more."""
        self._ledger = ledger
        self._ages_ms = ages_ms

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            for queue in self._ages_ms():
                try:
                    await self.sweep(queue)
                except OurError as error:
                    log.warning("old messages are looked at later", queue=queue, error=str(error))
                except Exception:
                    log.exception("old messages can't be looked at", queue=queue)
            await asyncio.sleep(SWEEP_S)

    async def sweep(self, queue: str) -> None:
        """End what has come of age since the last sweep, of this node or another."""
        store, name = self._ledger.store, f"tracked {queue}"
        position = await store.fact(name)
        until = id_at(max(self._ledger.now_ms() - self._ages_ms()[queue], 0))
        while position < until:
            position = await self._ledger.end_untold(queue, position, until)
            await store.note_fact(name, position)
            await asyncio.sleep(PAUSE_S)
