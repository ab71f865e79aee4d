"""The SMPP load generator: our connector, alone in a process, with a window that is kept full.

It takes jobs as lines of JSON and answers each with a line: `port`, `window`, `seconds`, `receipts` for a run against
a message centre, or `codec_s` for the codec alone.
"""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import uvloop
from tests.bench.children import log_warnings

from aldis.connectors.base import Accepted, Delivery, OutboundPart, Outcome
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.smpp.commands import RegisteredDelivery, SubmitSm, SubmitSmResp
from aldis.smpp.pdu import decode, encode

BODY = b"Your parcel is on its way. Track it at example.com/t/48213"
SILENT = 447_000_000_101
"""A number whose messages the simulator accepts, and sends no receipt for."""
DELIVERED = 447_000_005_000
MAX_WITHOUT_RECEIPT = 2_000
_WARMUP_S = 0.3


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def part(message_id: int, msisdn: int, body: bytes = BODY) -> OutboundPart:
    """Return a message of one part."""
    return OutboundPart(
        account_id=1,
        message_id=message_id,
        part_no=1,
        parts=1,
        attempt=1,
        msisdn=msisdn,
        originator="Parcels",
        octets=body,
        data_coding=0,
        udhi=False,
        valid_until=_now_ms() + 3_600_000,
    )


class Feeder:
    """A `Sink` that answers receipts at once and submits whenever there is room."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._wants_receipts: bool = job["receipts"]
        settings = SmppSettings(
            name="bench", host="127.0.0.1", port=job["port"], system_id="bench", window=job["window"]
        )
        self.connector = SmppConnector(settings, self, _now_ms)
        msisdn = DELIVERED if self._wants_receipts else SILENT
        self._parts = [part(n, msisdn) for n in range(job["window"])]
        self.submitted = 0
        self.accepted = 0
        self.receipts = 0
        self.wrong = ""
        self.is_over = False

    @property
    def done(self) -> int:
        return self.receipts if self._wants_receipts else self.accepted

    def may_send(self) -> bool:
        return True

    def on_ready(self, connector: str) -> None:
        room = 0 if self.is_over else self.connector.capacity()
        if self._wants_receipts:
            room = min(room, MAX_WITHOUT_RECEIPT - self.submitted + self.receipts)
        if room > 0:
            self.submitted += self.connector.submit(self._parts[:room])

    def on_outcomes(self, connector: str, outcomes: Sequence[tuple[OutboundPart, Outcome]]) -> None:
        self.accepted += len(outcomes)
        for _, outcome in outcomes:
            if not isinstance(outcome, Accepted):
                self.wrong = repr(outcome)

    def on_late_outcomes(self, connector: str, outcomes: Sequence[Any]) -> None:
        self.wrong = f"late: {outcomes!r}"

    def on_deliveries(self, connector: str, deliveries: Sequence[Delivery]) -> None:
        self.receipts += len(deliveries)
        for delivery in deliveries:
            if delivery.state != "DELIVRD":
                self.wrong = repr(delivery)
            delivery.answer(True)
        self.on_ready(connector)


async def _submit(job: dict[str, Any]) -> dict[str, Any]:
    feeder = Feeder(job)
    running = asyncio.get_running_loop().create_task(feeder.connector.run())
    await asyncio.sleep(_WARMUP_S)
    done, started_at, cpu = feeder.done, time.monotonic(), time.process_time()
    await asyncio.sleep(job["seconds"])
    done, spent, cpu = feeder.done - done, time.monotonic() - started_at, time.process_time() - cpu
    feeder.is_over = True
    await feeder.connector.drain(5.0)
    await running
    if feeder.wrong or not done or feeder.accepted != feeder.submitted:
        return {"failed": feeder.wrong or f"{feeder.submitted} submitted, {feeder.accepted} accepted, {done} counted"}
    return {"rate": done / spent, "cpu_us": 1e6 * cpu / done}


def _codec(seconds: float) -> dict[str, Any]:
    answer = encode(SubmitSmResp(b"1706711638331097089"), 7)
    validity = b"261123150000000+"
    done, started_at = 0, time.perf_counter()
    while time.perf_counter() - started_at < seconds:
        for sequence in range(1, 501):
            pdu = SubmitSm(
                b"",
                5,
                0,
                b"Parcels",
                1,
                1,
                b"%d" % DELIVERED,
                0,
                0,
                0,
                b"",
                validity,
                RegisteredDelivery.FINAL,
                0,
                0,
                0,
                BODY,
            )
            encode(pdu, sequence)
            decode(answer)
        done += 500
    return {"rate": done / (time.perf_counter() - started_at)}


def main() -> None:
    log_warnings()
    for line in sys.stdin:
        job = json.loads(line)
        result = _codec(job["codec_s"]) if "codec_s" in job else uvloop.run(_submit(job))
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
