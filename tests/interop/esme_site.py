"""Our connector bound to a scripted peer, with a sink that keeps what it hears."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.interop.peers import Peer
from tests.interop.scripted import Event, ScriptedPeer, started

from aldis.connectors.base import Accepted, Delivery, OutboundPart
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.connectors.testing import RecordingSink
from aldis.model.types import Dca
from aldis.text.segment import concat_reference, data_coding, split

EXTENDED = "Fee: 5 € [net] {a|b} ~^\\ @£$ ÅØ Δ_Ω §¿"
"""GSM text with characters that take an escape, and some that are not where ASCII has them."""
NUMBER = 447700900123
THROTTLED, BAD_DESTINATION, NACKED, WITHOUT_ID = 447700900058, 447700900011, 447700900003, 447700900000
STATUSES = {str(THROTTLED): 0x58, str(BAD_DESTINATION): 0x0B}
VALID_UNTIL = 1_800_000_000_000  # 2027-01-15 08:00:00 UTC


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def parts_of(
    text: str, dca: Dca = Dca.GSM7, *, msisdn: int = NUMBER, originator: str = "Aldis", valid_until: int | None = None
) -> list[OutboundPart]:
    """Return the parts that a message goes out in, cut as the server cuts them."""
    message_id = 7_000_000
    segments = split(text.encode(), dca, concat_reference(message_id))
    return [
        OutboundPart(
            account_id=1,
            message_id=message_id,
            part_no=part_no,
            parts=len(segments),
            attempt=1,
            msisdn=msisdn,
            originator=originator,
            octets=segment.octets,
            data_coding=data_coding(dca, 2),
            udhi=segment.udhi,
            valid_until=valid_until,
        )
        for part_no, segment in enumerate(segments, 1)
    ]


@dataclass
class Site:
    """A connector, its sink, and the peer that it is bound to."""

    peer: ScriptedPeer
    sink: RecordingSink
    connector: SmppConnector

    async def bound(self) -> None:
        """Wait until parts can be submitted."""
        await self.sink.eventually(lambda: self.connector.is_bound)

    async def submit(self, parts: list[OutboundPart]) -> list[Event]:
        """Send parts, wait for the outcome of each, and return the submit_sm PDUs that the peer saw of them."""
        before = len(self.peer.heard("submit_sm"))
        await self.sink.eventually(lambda: self.connector.capacity() >= len(parts))
        assert self.connector.submit(parts) == len(parts)
        await self.sink.until(lambda: all(self.sink.outcome_of(part) is not None for part in parts))
        return (await self.peer.receives("submit_sm", before + len(parts)))[before:]

    async def accepted(self, parts: list[OutboundPart]) -> list[Event]:
        """Do as `submit`; each part must be accepted under the id that the peer gave it."""
        seen = await self.submit(parts)
        given = [self.sink.outcome_of(part) for part in parts]
        assert given == [Accepted(event["message_id"]) for event in seen]
        return seen

    async def delivery(self, do: str = "deliver_sm", **how: Any) -> Delivery:
        """Have the peer send a deliver_sm or data_sm, and return what the sink heard of it."""
        before = len(self.sink.deliveries)
        self.peer.tell(do, **how)
        await self.sink.until(lambda: len(self.sink.deliveries) > before)
        return self.sink.deliveries[before]


@asynccontextmanager
async def connected(
    kind: Peer, *, password: str = "secret", sink: RecordingSink | None = None, **changes: Any
) -> AsyncIterator[Site]:
    """Yield a connector that runs against a peer, which wants the password "secret"."""
    script = {"role": "smsc", "password": "secret", "statuses": STATUSES, "nacked": str(NACKED)}
    script["without_id"] = str(WITHOUT_ID)
    async with started(kind, script) as peer, asyncio.TaskGroup() as group:
        await peer.until(lambda: peer.events, "the peer does not listen")
        given = {"host": "127.0.0.1", "port": peer.events[0]["port"], "reconnect_min_s": 0.05}
        login = {"system_id": "aldis", "password": password, "system_type": "VMA"}
        sink = sink or RecordingSink()
        connector = SmppConnector(SmppSettings(name="peer", **(given | login | changes)), sink, now_ms, rng=lambda: 0.0)
        running = group.create_task(connector.run())
        try:
            yield Site(peer, sink, connector)
        finally:
            running.cancel()
