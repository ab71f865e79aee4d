"""Receipts give way to what goes out, and only to that."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress

import pytest

from aldis.connectors.base import Delivery
from aldis.inbound import FEW, YIELD, Inbound

SLOW_S = 0.04
GROUPS = 8


class SlowLedger:
    """Takes its time for receipts; messages may go out meanwhile."""

    def __init__(self, sends: int) -> None:
        self.outbound = 0
        self._sends = sends

    def now_ms(self) -> int:
        return 0

    async def rematch(self, since: int, until: int) -> int:
        return 0

    async def receive(self, deliveries: Sequence[Delivery]) -> None:
        await asyncio.sleep(SLOW_S)
        self.outbound += self._sends


def receipt(answers: list[bool]) -> Delivery:
    return Delivery(
        connector="up",
        received_at=0,
        is_receipt=True,
        upstream_id="1",
        state="DELIVRD",
        error="000",
        is_final=True,
        source="447700900123",
        destination="Parcels",
        text="",
        pdu=b"",
        answer=answers.append,
    )


async def spent(sends: int, size: int) -> float:
    """Offer groups, each as soon as the one before it is answered, as an upstream does whose window is full."""
    answers: list[bool] = []
    inbound = Inbound(SlowLedger(sends))  # type: ignore[arg-type]
    running = asyncio.get_running_loop().create_task(inbound.run())
    started = time.monotonic()
    for group in range(1, GROUPS + 1):
        inbound.offer([receipt(answers)] * size)
        while len(answers) < group * size:
            await asyncio.sleep(0.001)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    return time.monotonic() - started


# REC-29
async def test_many_receipts_leave_time_to_what_goes_out() -> None:
    assert await spent(sends=1, size=FEW + 1) >= SLOW_S * (GROUPS + YIELD * (GROUPS - 1))


# REC-29
@pytest.mark.parametrize(("sends", "size"), [(0, FEW + 1), (1, FEW)])
async def test_receipts_wait_for_nothing_else(sends: int, size: int) -> None:
    assert await spent(sends, size) < SLOW_S * (GROUPS + YIELD * (GROUPS - 1))
