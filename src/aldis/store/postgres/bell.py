"""LISTEN and NOTIFY: a wake-up and nothing more. What rings late, or never, is found by polling."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

import structlog

from aldis.store.postgres.connection import Connection, connect, words_of
from aldis.store.postgres.lane import Seat

log = structlog.get_logger()

CHANNEL = "aldis"
PAUSE_S = 0.25
"""A node notifies at most so often: each notification takes a lock that all commits with one queue for."""
CHECK_S = 5.0
RECONNECT_S = 1.0


class Bell:
    """Tells other nodes that there is something to do (`due`, `pushes`, `accounts`), and hears them."""

    def __init__(self, url: str, seat: Seat, on_ring: Callable[[str], None]) -> None:
        """Take the database, the node, and whom to tell what others rang for; an empty word: anything may have been."""
        self._url = url
        self._seat = seat
        self._on_ring = on_ring
        self._kinds: set[str] = set()
        self._wake = asyncio.Event()
        self.rung = 0
        """Notifications sent."""

    def ring(self, kind: str) -> None:
        """Tell the other nodes, soon."""
        self._kinds.add(kind)
        self._wake.set()

    async def run(self) -> None:
        """Listen and notify until cancelled, over one connection that is made again when it is lost."""
        while True:
            connection: Connection | None = None
            try:
                connection = await connect(self._url, "bell", keep_plans=False)
                await connection.add_listener(CHANNEL, self._hear)
                self._on_ring("")
                await self._notify(connection)
            except Exception as error:  # noqa: BLE001 - polling goes on without it
                log.warning("no wake-ups from other nodes for now", error=words_of(error))
            finally:
                if connection is not None:
                    connection.terminate()
            await asyncio.sleep(RECONNECT_S)

    async def _notify(self, connection: Connection) -> None:
        next_at = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S):
                    await self._wake.wait()
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
            kinds, self._kinds = self._kinds, set()
            self._wake.clear()
            next_at = time.monotonic() + PAUSE_S
            if kinds:
                payload = f"{self._seat.epoch} {' '.join(sorted(kinds))}"
                await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, payload)
                self.rung += 1
            else:
                await connection.execute("SELECT 1")  # is it still there?

    def _hear(self, connection: object, pid: int, channel: str, payload: object) -> None:
        sender, *kinds = str(payload).split()
        if sender != str(self._seat.epoch) or sender == "0":
            for kind in kinds:
                self._on_ring(kind)
