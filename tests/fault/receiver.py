"""The receiver witness: a customers' web server that writes down each push before it answers.

    python -m tests.fault.receiver --log receiver.jsonl --seed 1

The first line of output is its port. A push to `/NAME` is account NAME's. A share of the answers is slow, and a small
one is 500. The lines of the log: `push` with the account, all parameters, and the HTTP status that it will get.
"""

import argparse
import asyncio
import random
import signal
import sys
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tests.fault.witness import Log

_ANSWERS = {
    200: b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1",
    500: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno",
}


class Receiver(asyncio.Protocol):
    """One connection."""

    def __init__(self, log: Log, draw: random.Random, failing: float) -> None:
        self._log = log
        self._draw = draw
        self._failing = failing
        self._waiting = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        while b"\r\n\r\n" in self._waiting:
            head, _, self._waiting = self._waiting.partition(b"\r\n\r\n")
            self._take(head.split(b" ", 2)[1].decode("ascii"))

    def _take(self, target: str) -> None:
        parts = urlsplit(target)
        status = 500 if self._draw.random() < self._failing else 200
        parameters = dict(parse_qsl(parts.query, encoding="latin-1"))
        self._log.write("push", account=parts.path.strip("/"), answer=status, query=parts.query, **parameters)
        delay = self._draw.uniform(0.005, 0.1) if self._draw.random() < 0.2 else 0.0
        asyncio.get_running_loop().call_later(delay, self._answer, status)

    def _answer(self, status: int) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_ANSWERS[status])


async def serve(options: argparse.Namespace) -> None:
    log, draw = Log(options.log), random.Random(options.seed)
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    server = await loop.create_server(lambda: Receiver(log, draw, options.failing), "127.0.0.1", 0)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await done.wait()
    server.close()
    log.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--failing", type=float, default=0.01, help="share of pushes that are answered with 500")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
