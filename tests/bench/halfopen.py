"""A line on which nothing arrives any more, and nobody says so: how soon that is noticed."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.bench.bench import Bench
from tests.bench.children import Failed, log_warnings
from tests.bench.smpp_load import SILENT, part
from tests.bench.table import Figure
from tests.contract.relay import relay_to

from aldis.connectors.base import Accepted, OutboundPart, Outcome, Unknown
from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.smpp.commands import SubmitSm

INTERVALS_S = (0.5, 1.0, 2.0)
TARGET = 2.0
_BUSY = 20
_SLACK_S = 5.0


class Sink:
    """Counts what came of each part."""

    def __init__(self) -> None:
        self.outcomes: dict[int, list[Outcome]] = {}
        self.is_ready = asyncio.Event()

    def may_send(self) -> bool:
        return True

    def on_ready(self, connector: str) -> None:
        self.is_ready.set()

    def on_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        for one, outcome in outcomes:
            self.outcomes.setdefault(one.message_id, []).append(outcome)

    def on_late_outcomes(self, connector: str, outcomes: Sequence[Any]) -> None:
        raise Failed("an answer came late on a line that is dead")

    def on_deliveries(self, connector: str, deliveries: Sequence[Any]) -> None:
        raise Failed("no receipts were asked for")

    async def heard_of(self, parts: int) -> None:
        async with asyncio.timeout(2 * max(INTERVALS_S) + _SLACK_S):
            while len(self.outcomes) < parts:
                await asyncio.sleep(0.005)


class Witness:
    """Counts what the message centre was sent."""

    def __init__(self) -> None:
        self.seen: Counter[bytes] = Counter()

    def on_submit(self, system_id: str, pdu: SubmitSm, message_id: str) -> None:
        self.seen[pdu.short_message] += 1

    def on_receipt_answered(self, message_id: str, status: int) -> None:
        """See nothing."""


async def _notice(interval_s: float) -> float:
    """Return how long it took until the parts on a dead line were given up."""
    sink, witness = Sink(), Witness()
    async with Smsc(SmscSettings(), _now_ms, witness) as smsc, relay_to(smsc.port) as relay:
        settings = SmppSettings(
            name="bench",
            host="127.0.0.1",
            port=relay.port,
            system_id="bench",
            window=_BUSY,
            enquire_link_s=interval_s,
        )
        connector = SmppConnector(settings, sink, _now_ms)
        running = asyncio.get_running_loop().create_task(connector.run())
        await sink.is_ready.wait()
        connector.submit([part(n, SILENT, b"%d" % n) for n in range(_BUSY)])
        await sink.heard_of(_BUSY)
        await asyncio.sleep(random.uniform(0, 2 * interval_s))
        relay.freeze()
        frozen_at = time.monotonic()
        connector.submit([part(n, SILENT, b"%d" % n) for n in range(_BUSY, 2 * _BUSY)])
        await sink.heard_of(2 * _BUSY)
        took = time.monotonic() - frozen_at
        await connector.drain(_SLACK_S)
        await running
    _check(sink, witness)
    return took


def _check(sink: Sink, witness: Witness) -> None:
    """Each part has one end, those on the dead line an unknown one; none arrived twice."""
    ends = {number: [type(one) for one in outcomes] for number, outcomes in sink.outcomes.items()}
    meant = {number: [Accepted if number < _BUSY else Unknown] for number in range(2 * _BUSY)}
    if ends != meant or max(witness.seen.values()) > 1 or len(witness.seen) != _BUSY:
        raise Failed(f"on a dead line: {ends}, {len(witness.seen)} arrived")


async def _rounds(count: int, interval_s: float) -> list[float]:
    return await asyncio.gather(*(_notice(interval_s) for _ in range(count)))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def run(bench: Bench) -> None:
    """Measure how soon a connector notices."""
    section = bench.begin("A half-open line")
    log_warnings()
    rounds = 5 if bench.is_quick else 20
    for interval_s in INTERVALS_S:
        took = asyncio.run(_rounds(rounds, interval_s))
        figure = Figure(f"noticed at the latest, enquire_link every {interval_s} s", max(took) / interval_s, unit="x")
        figure.less_is_better, figure.target = True, TARGET
        bench.add(section, figure)
    section.notes.append(
        f"Half-open: {rounds} lines each, on which from some moment on nothing passes and nothing is closed. {_BUSY} "
        "parts were submitted then: each ended as unknown, once, and nothing arrived twice. The figure is in intervals."
    )
