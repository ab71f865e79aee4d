"""What a push says and where: the query of a report, the reading of a customer's URL, the rule of success. No I/O."""

import re
from base64 import b64encode
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import SplitResult, quote, quote_plus, unquote, urlsplit

import msgspec

from aldis.model.types import Push

MAX_URL: Final = 4_096
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))


class InvalidUrl(ValueError):
    """The URL cannot be pushed to; the message says why and never quotes it, for it may hold a password."""


class PushUrl(msgspec.Struct, frozen=True):
    """A customer's URL, taken apart once."""

    tls: bool
    host: str
    """ASCII, lower case, IDNA-encoded, without brackets."""
    port: int
    authority: str
    """The Host header."""
    resource: str
    """Path and query, ASCII, without the fragment; begins with a slash."""
    authorization: str
    """The Authorization header for `user:password@`, or empty."""


def query_of(push: Push) -> str:
    """Return the report as a form-encoded query in ISO-8859-1.

    `completed_time` is UTC, and left out entirely while unknown. `unique_id` and `msg_id` are both the push's id:
    receivers of different ages tell repeats by the one or the other. A character outside ISO-8859-1 becomes `?`.
    """
    completed = "" if push.completed_at is None else f"&completed_time={_completed_time(push.completed_at // 1000)}"
    return (
        f"msisdn={push.msisdn}&batch_id={push.batch_id}&status={int(push.status)}{completed}"
        f"&source_id={_encode(push.source_id)}&unique_id={push.push_id}&msg_id={push.push_id}"
    )


def is_success(status: int, body_len: int, accept_empty: bool) -> bool:
    """Tell whether an answer ends a push: a plain 200 with at least one byte, or with none where that is agreed."""
    return status == 200 and (body_len > 0 or accept_empty)


def stem(url: str) -> str:
    """Return a URL or resource ready for a query to be appended: what is there already, then `?` or `&`."""
    base = url.partition("#")[0]
    if "?" not in base:
        return base + "?"
    return base if base.endswith(("?", "&")) else base + "&"


def target(url: str, query: str) -> str:
    """Return a URL or resource with a query appended to whatever query it has; its fragment is dropped."""
    return stem(url) + query if query else url.partition("#")[0]


def parse_url(url: str) -> PushUrl:
    """Take a customer's URL apart, refusing whatever two readers could read differently.

    Userinfo becomes Basic authentication. Names are encoded by IDNA 2003. Numbers in odd spellings pass as names: the
    egress guard judges what they resolve to.

    Raises:
        InvalidUrl: Not http or https, no host, a space, backslash or control character anywhere, a percent sign or
            zone in the host, port 0, or longer than 4,096 characters.
    """
    if len(url) > MAX_URL:
        raise InvalidUrl("longer than 4096 characters")
    if not url.isprintable() or " " in url or "\\" in url:
        raise InvalidUrl("a space, backslash or control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidUrl("malformed") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise InvalidUrl("neither http nor https")
    return _assemble(parts, _host(parts), port)


def _assemble(parts: SplitResult, host: str, port: int | None) -> PushUrl:
    default = _DEFAULT_PORTS[parts.scheme]
    if port == 0:
        raise InvalidUrl("port 0")
    shown = f"[{host}]" if ":" in host else host.rstrip(".")
    resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return PushUrl(
        tls=parts.scheme == "https",
        host=host,
        port=port or default,
        authority=shown if port in (None, default) else f"{shown}:{port}",
        resource=quote(resource, safe=_PRINTABLE),
        authorization=_basic(parts),
    )


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    try:
        if ":" in host or "[" in parts.netloc.rpartition("@")[2]:
            return str(IPv6Address(host)) if "%" not in host else _refuse_host()
        host = host.encode("idna").decode("ascii").lower()
    except ValueError:
        _refuse_host()
    return host if _HOST.fullmatch(host) else _refuse_host()


def _refuse_host() -> str:
    raise InvalidUrl("no host, or not a host's name or address")


def _basic(parts: SplitResult) -> str:
    if parts.username is None:
        return ""
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return "Basic " + b64encode(secret.encode()).decode("ascii")


@lru_cache(maxsize=1024)
def _completed_time(at_s: int) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%y-%m-%d+%H%%3A%M%%3A%S")


def _encode(text: str) -> str:
    return quote_plus(text, encoding="latin-1", errors="replace") if text else ""
