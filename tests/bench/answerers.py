"""Two small web servers: one that answers all alike (the floor under any server), and the customer who takes pushes.

`python -m tests.bench.answerers constant BODY` or `... sink`. The first line of output is the port. The sink answers
each line on standard input with a line of JSON about the pushes so far; a line that holds a path has it write down
(batch id, MSISDN) pairs there.
"""

import asyncio
import json
import re
import sys
import time
from array import array
from collections import Counter
from pathlib import Path
from typing import Any

import uvloop

_PUSH = re.compile(rb"GET /push\?msisdn=(\d+)&batch_id=(\d+)&status=(\d+)&")
_THANKS = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 1\r\n\r\n1"


class Constant(asyncio.Protocol):
    """Answers every segment with the same bytes."""

    def __init__(self, body: bytes) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=ISO-8859-1\r\ncontent-length: %d\r\n\r\n"
        self._answer = head % len(body) + body

    def connection_made(self, transport: Any) -> None:
        self._write = transport.write

    def data_received(self, data: bytes) -> None:
        self._write(self._answer)


class Pushes:
    """What came."""

    def __init__(self) -> None:
        self.seen: Counter[tuple[bytes, bytes, bytes]] = Counter()
        self.last_at = 0.0

    def tell(self, path: str) -> dict[str, Any]:
        statuses: Counter[str] = Counter()
        for _, _, status in self.seen:
            statuses[status.decode()] += 1
        if path:
            pairs = array("q", (int(one) for batch, msisdn, _ in self.seen for one in (batch, msisdn)))
            Path(path).write_bytes(pairs.tobytes())
        total = sum(self.seen.values())
        return {"pushes": total, "distinct": len(self.seen), "statuses": statuses, "last_at": self.last_at}


class Sink(asyncio.Protocol):
    """A customer's server."""

    def __init__(self, pushes: Pushes) -> None:
        self._pushes = pushes
        self._rest = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        data = self._rest + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            match = _PUSH.match(data)
            if match is None:
                self._transport.abort()
                return
            msisdn, batch, status = match.groups()
            self._pushes.seen[batch, msisdn, status] += 1
            self._pushes.last_at = time.monotonic()
            self._transport.write(_THANKS)
            data = data[end + 4 :]
        self._rest = data


def _answer_line(pushes: Pushes) -> None:
    line = sys.stdin.readline()
    if not line:
        asyncio.get_running_loop().stop()
        return
    sys.stdout.write(json.dumps(pushes.tell(json.loads(line).get("path", ""))) + "\n")
    sys.stdout.flush()


async def _serve(kind: str, body: bytes) -> None:
    loop = asyncio.get_running_loop()
    pushes = Pushes()
    server = await loop.create_server(lambda: Sink(pushes) if kind == "sink" else Constant(body), "127.0.0.1", 0)
    if kind == "sink":
        loop.add_reader(sys.stdin, _answer_line, pushes)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1], sys.argv[2].encode() if len(sys.argv) > 2 else b""))
