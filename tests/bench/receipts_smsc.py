"""A message centre that keeps its receipts back until it is told to send them, in any order it likes.

`python -m tests.bench.receipts_smsc EARLY COPIES`: the share of messages of which a receipt comes ahead of the answer,
and how many receipts each message has in all. The first line of output is the port. It takes jobs as lines of JSON:
`{"do": "count"}`, `{"do": "release"}` and `{"do": "truth", "path": ...}`, and answers each with what it has counted.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import uvloop
from tests.bench.children import log_warnings

from aldis.connectors.outcomes import Script, Step
from aldis.connectors.simulator import SimulatorRates, Smsc, SmscSettings, _Outgoing
from aldis.connectors.simulator_memory import Known

STATES = {"DELIVRD": "000", "UNDELIV": "050", "EXPIRED": "031", "REJECTD": "012"}
"""What becomes of messages, with the error in the receipt."""
_WEIGHTS = (70, 10, 10, 10)


class Withholding(Smsc):
    """Draws what becomes of each message, and says so when it is told to."""

    def __init__(self, early: float, copies: int) -> None:
        """Take the share of messages with a receipt ahead of the answer, and how many receipts each has."""
        super().__init__(SmscSettings(rates=SimulatorRates(early=early), max_receipts=10_000_000), _now_ms, self)
        self._copies = copies
        self._draw = Random(7)
        self._kept: list[Any] = []
        self.truth: dict[str, str] = {}
        self.answered = self.refused = 0
        self.last_at = 0.0

    def _plan_receipts(self, connection: Any, account: Any, script: Script, known: Known) -> None:
        [state] = self._draw.choices([*STATES], _WEIGHTS)
        self.truth[known.message_id] = state
        pdu = self._receipt(known, Step(state, STATES[state]))  # now, lest its making be measured
        receipt = _Outgoing(account, known.message_id, lambda: pdu)
        if script.receipt_first:
            self._offer(receipt, keep=True)
        self._kept += [receipt] * (self._copies - script.receipt_first)

    def on_submit(self, system_id: str, pdu: object, message_id: str) -> None:
        """See nothing: the truth is kept above."""

    def on_receipt_answered(self, message_id: str, status: int) -> None:
        self.answered += 1
        self.refused += status != 0
        self.last_at = time.monotonic()

    def release(self) -> None:
        """Send what was kept back, in random order."""
        kept, self._kept = self._kept, []
        self._draw.shuffle(kept)
        for receipt in kept:
            self._offer(receipt, keep=True)

    def count(self) -> dict[str, Any]:
        return {
            "submits": self.submits,
            "held": len(self._kept),
            "unanswered": self.receipts_kept,
            "answered": self.answered,
            "refused": self.refused,
            "last_at": self.last_at,
            "at": time.monotonic(),
        }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _do(smsc: Withholding) -> None:
    line = sys.stdin.readline()
    if not line:
        asyncio.get_running_loop().stop()
        return
    job = json.loads(line)
    said = smsc.count()
    if job["do"] == "release":
        smsc.release()
    elif job["do"] == "truth":
        Path(job["path"]).write_text(json.dumps(smsc.truth))
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()


async def _serve(early: float, copies: int) -> None:
    async with Withholding(early, copies) as smsc:
        asyncio.get_running_loop().add_reader(sys.stdin, _do, smsc)
        sys.stdout.write(f"{smsc.port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    log_warnings()
    uvloop.run(_serve(float(sys.argv[1]), int(sys.argv[2])))
