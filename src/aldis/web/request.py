"""What a handler takes and gives back, whichever way the request came in."""

import traceback
from collections.abc import Callable, Coroutine, Sequence
from http import HTTPStatus
from pathlib import PurePath
from typing import Any, Final

Headers = tuple[tuple[bytes, bytes], ...]


class Request:
    """One request, wholly received."""

    __slots__ = ("body", "client", "headers", "method", "path", "query")

    def __init__(
        self,
        method: bytes,
        path: str,
        query: bytes = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        client: str = "",
    ) -> None:
        """Take the parts.

        Args:
            method: Upper case.
            path: Without the query, percent-decoded, one slash between segments and none at the end.
            query: As sent.
            headers: Names in lower case.
            body: Without chunk marks.
            client: The peer's IP address.
        """
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body
        self.client = client

    def find_header(self, name: bytes) -> bytes | None:
        """Return the first value under a lower-case name, or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None


class Answer:
    """A response: the same bytes whether the lane or ASGI sends it."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, body: bytes, headers: Headers, status: int = 200) -> None:
        """Take a body, headers in lower case without content-length, and the HTTP status.

        Hand the same `headers` object to every answer of a kind: the lane keeps them encoded.
        """
        self.body = body
        self.headers = headers
        self.status = status


Handler = Callable[[Request], Coroutine[Any, Any, Answer]]
"""Answers a request. One on the lane runs outside any task: it may await futures, but nothing that asks for
`asyncio.current_task()`, such as `asyncio.timeout` or a task group."""

PLAIN: Final[Headers] = ((b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff"))


def refusal(status: int) -> Answer:
    """Return the answer to a request that HTTP itself does not let through."""
    return Answer(HTTPStatus(status).phrase.lower().encode() + b"\n", PLAIN, status)


def failure() -> Answer:
    """Return the answer where a handler broke."""
    return refusal(500)


def where(error: BaseException) -> str:
    """Return an exception's type and the lines it passed, without its words, which may hold a customer's data."""
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    steps = " > ".join(f"{PurePath(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    return f"{type(error).__name__} at {steps}"
