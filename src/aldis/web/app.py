"""Put the pages together: one table of handlers for the lane and for ASGI."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as PageRequest
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from aldis.web.health import Health, HealthPages
from aldis.web.metrics import Metrics, Source
from aldis.web.request import PLAIN, Answer, Handler, Request, failure, where

_log = structlog.get_logger(__name__)

_METHODS: Final = frozenset(("GET", "POST"))
_SLASHES: Final = re.compile("/{2,}")
_NOT_ALLOWED: Final = Answer(b"method not allowed\n", (*PLAIN, (b"allow", b"GET, POST")), 405)


class WebApp(NamedTuple):
    """What a server serves."""

    app: ASGIApp
    """Every path."""
    hot: dict[bytes, Handler]
    """The paths that the lane may take, with the same handlers."""


def build(
    handlers: Mapping[str, Handler], health: Health, sources: Sequence[Source] = (), pages: Sequence[BaseRoute] = ()
) -> WebApp:
    """Return the application.

    Args:
        handlers: API calls by path, each for GET and POST.
        health: What /health/ready asks.
        sources: What /metrics asks.
        pages: Further Starlette routes.
    """
    watch = HealthPages(health)
    routes: list[BaseRoute] = [Route(path, HandlerRoute(handler)) for path, handler in handlers.items()]
    routes += [
        Route("/health/live", watch.live),
        Route("/health/ready", watch.ready),
        Route("/metrics", Metrics(sources).page),
        *pages,
    ]
    site = Starlette(routes=routes, exception_handlers={HTTPException: _say_plainly})
    site.router.redirect_slashes = False
    return WebApp(NormalPath(site), {path.encode(): handler for path, handler in handlers.items()})


async def _say_plainly(request: PageRequest, error: Exception) -> Response:
    """Answer 404 and its like in one line of text."""
    assert isinstance(error, HTTPException)
    words = "no such page or API call" if error.status_code == 404 else error.detail.lower()
    return PlainTextResponse(f"{words}\n", error.status_code, error.headers)


class NormalPath:
    """ASGI middleware that ignores doubled slashes and one at the end, as clients of the legacy API send them."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            path = scope["path"]
            if "//" in path or path.endswith("/"):
                scope = {**scope, "path": _SLASHES.sub("/", path).rstrip("/") or "/"}
        await self._app(scope, receive, send)


class HandlerRoute:
    """Serves a handler through ASGI, with the same answers as the lane's."""

    def __init__(self, handler: Handler) -> None:
        """Take the handler."""
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        answer = _NOT_ALLOWED
        if scope["method"] in _METHODS:
            body = await _read_body(receive)
            client = scope["client"]
            request = Request(
                scope["method"].encode(),
                scope["path"],
                scope["query_string"],
                scope["headers"],
                body,
                client[0] if client else "",
            )
            try:
                answer = await self._handler(request)
            except Exception as error:  # noqa: BLE001 - as on the lane
                _log.error("web.handler_failed", error=where(error))
                answer = failure()
        headers = [*answer.headers, (b"content-length", b"%d" % len(answer.body))]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


async def _read_body(receive: Receive) -> bytes:
    """Return the whole body, which the protocol bounds.

    Raises:
        ClientDisconnect: There is nobody left to answer.
    """
    pieces = []
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(pieces)
