"""A message centre that accepts all and does nothing else, on our session layer: what the protocol alone costs.

The first line of output is the port.
"""

import asyncio
import sys
import time
from collections.abc import Sequence
from itertools import count

import uvloop
from tests.bench.children import log_warnings

from aldis.connectors.transport import Link
from aldis.smpp import events
from aldis.smpp.commands import SubmitSm
from aldis.smpp.session import Limits, SmscSession

_numbers = count(time.time_ns() // 1_000)


class Accepting:
    """One connection."""

    def __init__(self) -> None:
        self._session = SmscSession(asyncio.get_running_loop().time(), Limits())
        self.link = Link(self._session, self._on_events, lambda: None, read_while_stuck=False)

    def _on_events(self, batch: Sequence[events.Event]) -> None:
        for event in batch:
            if isinstance(event, events.Incoming) and isinstance(event.pdu, SubmitSm):
                self._session.answer(event, 0, b"%d" % next(_numbers))
            elif isinstance(event, events.BindRequested):
                self._on_events(self._session.answer_bind(0, b"bare", self.link.now()))
        self.link.wake()


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(lambda: Accepting().link, "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    log_warnings()
    uvloop.run(_serve())
