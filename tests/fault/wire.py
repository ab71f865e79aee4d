"""The least of HTTP/1.1 that a witness needs, so that it knows what it has sent and what it has not."""

import asyncio
import re

SEND = "/eapi/submission/send_sms/2/2.0"
REPORT = "/eapi/status_reports/get_report/2/2.0"
CREDITS = "/eapi/user/get_credits/1/1.1"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class NoAnswer(Exception):
    """The request has left, wholly or in part, and no whole answer came: the outcome is unknown."""


class Connection:
    """A kept connection that is made again when it is gone."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        self.port = port
        self._timeout_s = timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def connect(self) -> None:
        """Be connected. Raises OSError: nobody listens, and nothing was sent."""
        if self._streams is None:
            async with asyncio.timeout(self._timeout_s):
                self._streams = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)

    async def ask(self, path: str, form: bytes, method: str = "POST") -> tuple[int, bytes]:
        """Return HTTP status and body. Raises NoAnswer."""
        assert self._streams is not None
        reader, writer = self._streams
        try:
            async with asyncio.timeout(self._timeout_s):
                writer.write(request(path, form, method))
                await writer.drain()
                head = await reader.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                body = await reader.readexactly(int(found[1])) if found else b""
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError) as error:
            self.close()
            raise NoAnswer(type(error).__name__) from None
        if b"\r\nconnection: close" in head.lower():
            self.close()
        return int(head[9:12]), body

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def request(path: str, form: bytes, method: str = "POST") -> bytes:
    """Return a whole request."""
    if method == "GET":
        return b"GET %s?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (path.encode(), form)
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return head.encode() + b"Content-Length: %d\r\n\r\n" % len(form) + form
