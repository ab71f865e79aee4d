"""The HTTP load generator: a process with keep-alive connections, each with one request in flight.

It takes jobs as lines of JSON and answers each with a line. A job has `port`, `connections`, `seconds` or `count`,
`warmup_s`, and what `traffic` needs.
"""

import asyncio
import json
import re
import sys
import time
from typing import Any

import uvloop
from tests.bench.traffic import Traffic, traffic_of

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_GRACE_S = 30.0
_HELLO = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Connection(asyncio.Protocol):
    """One customer's connection."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._rest = b""
        self._key = 0
        self._sent_at = 0.0
        self._greeted: asyncio.Future[None] | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    async def greet(self) -> None:
        """Wait until the server has accepted the connection: uvloop does that one by one, between other work."""
        self._greeted = asyncio.get_running_loop().create_future()
        self._transport.write(_HELLO)
        await self._greeted
        self._greeted = None

    def send(self) -> None:
        request, self._key = self._run.traffic.next()
        self._sent_at = time.monotonic()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        head, gap, body = data.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if gap else None
        if length is None or len(body) < int(length[1]):
            self._rest = data
            return
        self._rest = b""
        if self._greeted is not None:
            self._greeted.set_result(None)
        elif self._run.take(self._key, head, body, self._sent_at):
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        self._run.fail(f"the server closed the connection: {exc or self._rest[:200]!r}")

    def close(self) -> None:
        self._run.is_over = True
        self._transport.close()


class Run:
    """A job under way."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self.traffic: Traffic = traffic_of(job)
        self.is_over = False
        self._latencies: list[float] = []
        self._total = 0
        self._started = 0
        self._limit: float = job.get("count", float("inf"))
        self._open = 0
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> dict[str, Any]:
        job, loop = self._job, asyncio.get_running_loop()
        made = [
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", job["port"])
            for _ in range(job["connections"])
        ]
        connections = [protocol for _, protocol in made]
        async with asyncio.timeout(_GRACE_S):
            await asyncio.gather(*(connection.greet() for connection in connections))
        started_at = time.monotonic()
        self._from = started_at + job.get("warmup_s", 0.0)
        self._until = self._from + job.get("seconds", float("inf"))
        cpu = time.process_time()
        for connection in connections:
            if self._started < self._limit:
                self._started += 1
                self._open += 1
                connection.send()
        async with asyncio.timeout(job.get("seconds", job.get("deadline_s", 0.0)) + _GRACE_S):
            await self._done
        ended_at = min(time.monotonic(), self._until)
        cpu = time.process_time() - cpu
        for connection in connections:
            connection.close()
        self.traffic.finish()
        return self._result(started_at, ended_at, cpu)

    def take(self, key: int, head: bytes, body: bytes, sent_at: float) -> bool:
        """Judge an answer; tell whether its connection is to go on."""
        now = time.monotonic()
        if not head.startswith(b"HTTP/1.1 200 ") or not self.traffic.judge(key, body):
            self.fail(f"a wrong answer: {head[:40]!r} {body[:200]!r}")
            return False
        self._total += 1
        if self._from <= now <= self._until:
            self._latencies.append(now - sent_at)
        if now < self._until and self._started < self._limit:
            self._started += 1
            return True
        self._open -= 1
        if not self._open and not self._done.done():
            self._done.set_result(None)
        return False

    def fail(self, why: str) -> None:
        if not self.is_over and not self._done.done():
            self._done.set_exception(RuntimeError(why))

    def _result(self, started_at: float, ended_at: float, cpu_s: float) -> dict[str, Any]:
        sample = sorted(self._latencies)
        if not sample:
            raise RuntimeError("no answer came in time")
        return {
            "total": self._total,
            "rate": len(sample) / (ended_at - self._from),
            "p50_ms": 1000 * sample[len(sample) // 2],
            "p99_ms": 1000 * sample[len(sample) * 99 // 100],
            "cpu_s": cpu_s,
            "started_at": started_at,
        }


async def _run(job: dict[str, Any]) -> dict[str, Any]:
    try:
        return await Run(job).run()
    except (RuntimeError, OSError, TimeoutError) as error:
        return {"failed": str(error) or type(error).__name__}


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(uvloop.run(_run(json.loads(line)))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
