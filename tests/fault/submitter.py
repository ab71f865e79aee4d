"""The client witness: submits, repeats what got no answer, polls reports, and writes down what it meant and was told.

    python -m tests.fault.submitter --port 5567 [5568 ...] --log client.jsonl --seed 1

With several ports each call goes to one of them at random, and what got no answer is repeated on any.

SIGTERM: submit nothing new, repeat what has a stop_dup_id until it is answered, and end. The lines of the log:
`intent` before a submission leaves, `outcome` after each try (`ok` with the batch's id, `refused` with the code,
`unknown`), `seen` for each answer of get_report, `end`.
"""

import argparse
import asyncio
import contextlib
import random
import signal
import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import urlencode

from tests.fault.load import PASSWORDS, Ask, Source
from tests.fault.wire import REPORT, SEND, Connection, NoAnswer
from tests.fault.witness import Log

_PATIENCE_S = 30.0
_POLL_SHARE = 0.15
_ECHO_SHARE = 0.1


class Submitter:
    """All workers' common state."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._ports: list[int] = options.port
        self._timeout_s: float = options.timeout
        self._workers: int = options.workers
        self._pause_s = 1 / options.rate
        self._log = Log(options.log)
        self._asks: Iterator[Ask] = islice(iter(Source(options.seed)), options.skip, None)
        self._random = random.Random(options.seed)
        self._again: deque[tuple[Ask, int]] = deque()
        self._acked: deque[tuple[str, int]] = deque(maxlen=2_000)
        self._next_at = 0.0
        self._ending = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._ending.set)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._workers):
                tasks.create_task(self._work())
        self._log.write("end", unanswered=len(self._again))
        self._log.close()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        lines = [Connection(port, self._timeout_s) for port in self._ports]
        until = 0.0
        while True:
            if self._ending.is_set():
                until = until or loop.time() + _PATIENCE_S
                if not self._again or loop.time() > until:
                    break
            await self._pace(loop)
            line = await self._reach(lines)
            if line is None:
                await asyncio.sleep(0.02)
            else:
                await self._act(line)
        for line in lines:
            line.close()

    async def _reach(self, lines: list[Connection]) -> Connection | None:
        """Return a connection to any server that listens."""
        for line in self._random.sample(lines, len(lines)) if len(lines) > 1 else lines:
            with contextlib.suppress(OSError, TimeoutError):
                await line.connect()
                return line
        return None

    async def _pace(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for this worker's turn: all of them together keep to the rate."""
        now = loop.time()
        self._next_at = max(self._next_at + self._pause_s, now - 5 * self._pause_s)
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)

    async def _act(self, line: Connection) -> None:
        if self._again:
            await self._submit(line, *self._again.popleft())
        elif self._acked and self._random.random() < _POLL_SHARE:
            await self._poll(line, *self._random.choice(self._acked))
        else:
            ask = next(self._asks)
            self._log.write("intent", **ask.to_line())
            await self._submit(line, ask, 1)

    async def _submit(self, line: Connection, ask: Ask, attempt: int) -> None:
        method = "GET" if ask.n % 5 == 0 else "POST"
        asked = time.monotonic()
        try:
            status, body = await line.ask(SEND, ask.form(), method)
        except NoAnswer as error:
            self._log.write(
                "outcome", n=ask.n, kind="unknown", why=str(error), port=line.port, waited_ms=_ms_since(asked)
            )
            if ask.dup:
                self._again.append((ask, attempt + 1))
            return
        fields = body.decode("latin-1").rstrip("\n").split("|")
        if status == 200 and fields[:2] == ["0", "IN_PROGRESS"] and fields[2].isdigit():
            self._log.write("outcome", n=ask.n, kind="ok", batch=int(fields[2]), port=line.port, ms=_ms_since(asked))
            self._acked.append((ask.account, int(fields[2])))
            if ask.dup and attempt == 1 and self._random.random() < _ECHO_SHARE:
                self._again.append((ask, attempt + 1))
        else:
            code = int(fields[0]) if status == 200 and fields[0].isdigit() else -status
            self._log.write("outcome", n=ask.n, kind="refused", code=code, port=line.port, ms=_ms_since(asked))

    async def _poll(self, line: Connection, account: str, batch: int) -> None:
        asked = time.monotonic()
        form = urlencode({"username": account, "password": PASSWORDS[account], "batch_id": batch}).encode()
        try:
            _, body = await line.ask(REPORT, form)
        except NoAnswer:
            return
        rows = [row.split("|") for row in body.decode("latin-1").split("\n")[2:] if row]
        self._log.write("seen", asked=asked, batch=batch, rows=[[msisdn, int(code)] for msisdn, code in rows])


def _ms_since(asked: float) -> float:
    return round((time.monotonic() - asked) * 1000, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, nargs="+", required=True, help="of each server")
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip", type=int, default=0, help="submissions of the seed that were made already")
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--rate", type=float, default=150.0, help="calls a second, all workers together")
    parser.add_argument("--timeout", type=float, default=10.0)
    asyncio.run(Submitter(parser.parse_args()).run())


if __name__ == "__main__":
    main()
