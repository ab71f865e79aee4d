"""The requests of the load generator and what must come back: submissions, and polls for their reports."""

from array import array
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Protocol

USERNAME = "bench"
PASSWORD = "bench-secret"
SEND = b"/eapi/submission/send_sms/2/2.0"
REPORT = b"/eapi/status_reports/get_report/2/2.0"
MESSAGE = b"Your+parcel+is+on+its+way.+Track+it+at+example.com%2Ft%2F48213"
REPORT_HEAD = b"0|Returns to follow\n\n"
_LOGIN = f"username={USERNAME}&password={PASSWORD}".encode()
_VARIANTS = 256


def number(n: int) -> int:
    """Return the n-th MSISDN: 12 digits, none of those for which the simulator has a script of its own."""
    return 447_000_000_000 + n // 9_000 * 10_000 + 1_000 + n % 9_000


def report_rows(first: int, recipients: int, status: int) -> bytes:
    """Return the lines of a report on consecutive numbers that all have one status."""
    return b"".join(b"%d|%d\n" % (number(first + i), status) for i in range(recipients))


class Traffic(Protocol):
    """What goes over the connections."""

    def next(self) -> tuple[bytes, int]:
        """Return a request, and a key for judging its answer."""

    def judge(self, key: int, body: bytes) -> bool:
        """Return whether it is the right answer."""

    def finish(self) -> None:
        """Write down what the next run needs."""


class Submissions:
    """Submissions of a body to new numbers each time; writes (batch id, index of its first number) pairs."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._recipients: int = job["recipients"]
        self._ids = array("q")
        self._path = Path(job["ids"]) if job.get("ids") else None
        first, step = job.get("first", 0), self._recipients
        self._key = count(first, step)
        if step == 1:
            self._make = _single_maker()
        else:
            made = {first + i * step: _submission(first + i * step, step) for i in range(_VARIANTS)}
            self._key = _cycle(first, step, _VARIANTS)
            self._make = made.__getitem__

    def next(self) -> tuple[bytes, int]:
        key = next(self._key)
        return self._make(key), key

    def judge(self, key: int, body: bytes) -> bool:
        code, _, rest = body.partition(b"|IN_PROGRESS|")
        if code != b"0" or not rest[:-1].isdigit():
            return False
        self._ids.append(int(rest))
        self._ids.append(key)
        return True

    def finish(self) -> None:
        if self._path:
            self._path.write_bytes(self._ids.tobytes())


def _cycle(first: int, step: int, variants: int) -> Any:
    return (first + n % variants * step for n in count())


def _single_maker() -> Callable[[int], bytes]:
    template = _submission(0, 1).replace(b"%", b"%%").replace(b"%d" % number(0), b"%d")
    return lambda key: template % number(key)


def _submission(first: int, recipients: int) -> bytes:
    msisdns = b",".join(b"%d" % number(first + i) for i in range(recipients))
    body = _LOGIN + b"&message=" + MESSAGE + b"&msisdn=" + msisdns
    return (
        b"POST " + SEND + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        b"Content-Length: %d\r\n\r\n" % len(body) + body
    )


class Polls:
    """Polls for batches that a run before wrote down: at random, or each once."""

    def __init__(self, job: dict[str, Any]) -> None:
        pairs = array("q")
        pairs.frombytes(Path(job["ids"]).read_bytes())
        self._batches, self._firsts = pairs[0::2], pairs[1::2]
        self._recipients: int = job["recipients"]
        self._status: int = job["status"]
        self._is_thorough: bool = job.get("thorough", False)
        self._length = len(REPORT_HEAD) + len(report_rows(0, self._recipients, self._status))
        self._next = self._in_turn() if self._is_thorough else self._at_random()

    def _at_random(self) -> Any:
        draw, size = Random(1).random, len(self._batches)
        while True:
            yield int(draw() * size)

    def _in_turn(self) -> Any:
        """Go through all batches evenly, so that any number of polls is a fair sample."""
        size = len(self._batches)
        step = next(s for s in range(max(1, size * 5 // 8), 2 * size + 2) if _coprime(s, size))
        return (n * step % size for n in count())

    def next(self) -> tuple[bytes, int]:
        key = next(self._next)
        return b"GET %s?%s&batch_id=%d HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % (REPORT, _LOGIN, self._batches[key]), key

    def judge(self, key: int, body: bytes) -> bool:
        first = self._firsts[key]
        if self._is_thorough or self._recipients == 1:
            return body == REPORT_HEAD + report_rows(first, self._recipients, self._status)
        return len(body) == self._length and body.startswith(b"%d|" % number(first), len(REPORT_HEAD))

    def finish(self) -> None:
        pass


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1


class Anything:
    """Submissions or polls to a server that answers all alike: only the framing of the answer is looked at."""

    def __init__(self, real: Traffic) -> None:
        self.next = real.next

    def judge(self, key: int, body: bytes) -> bool:
        return bool(body)

    def finish(self) -> None:
        pass


def traffic_of(job: dict[str, Any]) -> Traffic:
    """Return the traffic that a job asks for."""
    real: Traffic = Submissions(job) if job["kind"] == "submit" else Polls(job)
    return Anything(real) if job.get("constant") else real
