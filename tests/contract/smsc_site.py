"""A message centre on loopback for the tests of connectors, and a connector that is bound to it."""

import asyncio
import time
from contextlib import asynccontextmanager

from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.connectors.testing import Rig

DELIVERED, REFUSED, SILENT = 27820001111, 27820000109, 27820000012
QUICK = {"receipt_delay_ms": 1, "resend_ms": 10, "early_gap_ms": 20}


def now_ms():
    return time.time_ns() // 1_000_000


class Witness:
    """An observer that keeps what the message centre saw."""

    def __init__(self):
        self.submits = []
        self.answered = []

    def on_submit(self, system_id, pdu, message_id):
        self.submits.append((pdu, message_id))

    def on_receipt_answered(self, message_id, status):
        self.answered.append((message_id, status))


def smpp_settings(smsc, **changes):
    plain = {"name": "s", "host": "127.0.0.1", "port": smsc.port, "system_id": "id", "reconnect_min_s": 0.01}
    return SmppSettings(**plain | changes)


@asynccontextmanager
async def bound(sink, *, smsc=None, **changes):
    """Yield a message centre, its witness, and a connector that is bound to it."""
    witness = Witness()
    async with Smsc(SmscSettings(**QUICK | (smsc or {})), now_ms, witness) as centre, asyncio.TaskGroup() as group:
        connector = SmppConnector(smpp_settings(centre, **changes), sink, now_ms, rng=lambda: 0.0)
        task = group.create_task(connector.run())
        await sink.until(lambda: sink.readies > 0)
        yield centre, witness, connector
        task.cancel()


def rig_of(connector, smsc, per_bind=1):
    """Return what the contract needs of a connector and its message centre."""
    return Rig(
        connector, DELIVERED, REFUSED, SILENT, smsc.cut, lambda: smsc.bound, lambda: smsc.connects,
        lambda: smsc.submits, per_bind,
    )  # fmt: skip
