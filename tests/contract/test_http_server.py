"""The HTTP server as clients see it: the lane answers byte for byte as ASGI does, and no client can hold it up."""

import asyncio
import contextlib
import logging
import re
import socket
import time
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request as PageRequest
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from aldis.web import app as web_app
from aldis.web import server as web_server
from aldis.web.app import WebApp
from aldis.web.lane import LaneProtocol
from aldis.web.limits import HttpLimits
from aldis.web.request import PLAIN, Answer, Request
from aldis.web.server import HttpServer, bind_socket, find_lane_problem
from aldis.web.turn import Lane

PATIENCE = 10
DATE = re.compile(rb"date: [^\r]+\r\n")


class Site:
    """Handlers that show what they were given, now or later, and a page that only ASGI serves."""

    def __init__(self) -> None:
        self.calls: list[bytes] = []
        self.gate = asyncio.Event()

    async def now(self, request: Request) -> Answer:
        self.calls.append(request.query)
        kind = request.find_header(b"content-type") or b"-"
        shown = b"|".join([request.method, request.path.encode(), request.query, kind, request.body])
        return Answer(shown + b"\n", PLAIN, 201 if request.query == b"201" else 200)

    async def later(self, request: Request) -> Answer:
        await asyncio.sleep(0)
        await asyncio.get_running_loop().run_in_executor(None, int)
        return await self.now(request)

    async def held(self, request: Request) -> Answer:
        self.calls.append(b"held")
        await self.gate.wait()
        return Answer(b"let go\n", PLAIN)

    async def big(self, request: Request) -> Answer:
        self.calls.append(b"big")
        return Answer(b"x" * 1_000_000, PLAIN)

    async def broken(self, request: Request) -> Answer:
        raise ValueError("canary-" + request.query.decode())

    async def cold(self, request: PageRequest) -> PlainTextResponse:
        self.calls.append(b"cold")
        return PlainTextResponse(b"cold %s\n" % await request.body())

    async def cold_broken(self, request: PageRequest) -> PlainTextResponse:
        raise ValueError("canary-" + str(request.url))

    async def cold_hasty(self, request: PageRequest) -> PlainTextResponse:
        return PlainTextResponse("hasty\n")

    def problems(self) -> list[str]:
        return []

    def build(self) -> WebApp:
        handlers = {
            "/now": self.now,
            "/later": self.later,
            "/held": self.held,
            "/big": self.big,
            "/broken": self.broken,
        }
        pages = [
            Route("/cold", self.cold, methods=["GET", "POST"]),
            Route("/cold/broken", self.cold_broken),
            Route("/cold/hasty", self.cold_hasty, methods=["POST"]),
        ]
        return web_app.build(handlers, self, pages=pages)


@contextlib.asynccontextmanager
async def serving(
    site: Site, *, hot: bool = True, use_lane: bool = True, **limits: float
) -> AsyncIterator[tuple[HttpServer, int]]:
    web = site.build()
    bound = bind_socket("127.0.0.1", 0)
    port = bound.getsockname()[1]
    server = HttpServer(
        web.app, [bound], hot=web.hot if hot else {}, use_lane=use_lane, limits=HttpLimits(**{"sweep_s": 0.02} | limits)
    )
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.run())
        async with asyncio.timeout(PATIENCE):
            await server.started.wait()
        try:
            yield server, port
        finally:
            running.cancel()


async def talk(port: int, *pieces: bytes) -> bytes:
    """Send pieces and return all that comes back until the server closes."""
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await reader.read()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


def undated(answers: bytes) -> bytes:
    return DATE.sub(b"", answers)


def get(target: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/{version}", "Host: a", *headers, "", ""]).encode()


def post(target: str, body: bytes, *headers: str) -> bytes:
    return get(target, f"Content-Length: {len(body)}", *headers, method="POST") + body


def chunked(target: str, *chunks: bytes, extra: bytes = b"") -> bytes:
    marked = b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extra, chunk) for chunk in chunks)
    return get(target, "Transfer-Encoding: chunked", method="POST") + marked + b"0\r\n\r\n"


LAST = get("/now?last", "Connection: close")
FORM = "Content-Type: application/x-www-form-urlencoded"

REQUESTS = {
    "GET": get("/now?a=1&b=%20"),
    "GET without a query": get("/now"),
    "a bare question mark": get("/now?"),
    "two question marks": get("/now?a=1?b"),
    "POST of a form": post("/now", b"a=1&b=2", FORM),
    "POST with everything in the query": post("/now?a=1", b""),
    "POST without a length": get("/now?a=1", method="POST"),
    "POST with both": post("/now?a=1", b"b=2", FORM),
    "a GET with a body": get("/now", "Content-Length: 3") + b"a=1",
    "a misspelt content type": post("/now", b"a=1", "Content-Type: application/x-www-form-urlencode"),
    "bytes that are no text": post("/now", bytes(range(256))),
    "a body in chunks": chunked("/now", b"a=1", b"&b=2", b"x" * 5000),
    "chunks with extensions": chunked("/now", b"a=1", b"&b=2", extra=b";k=v"),
    "a trailer": get("/now", "Transfer-Encoding: chunked", method="POST") + b"1\r\na\r\n0\r\nX-T: 1\r\n\r\n",
    "an answer that takes its time": post("/later?q", b"a=1"),
    "an answer of another status": get("/now?201"),
    "a long answer": get("/big"),
    "close": get("/now", "Connection: close"),
    "close, in capitals": get("/now", "CONNECTION: CLOSE"),
    "HTTP/1.0": get("/now", version="1.0"),
    "HTTP/1.0 that would stay": get("/now", "Connection: keep-alive", version="1.0"),
    "expecting 100": post("/now", b"a=1", "Expect: 100-continue"),
    "expecting 100, later": post("/later", b"a=1", "Expect: 100-Continue"),
    "HEAD": get("/now", method="HEAD"),
    "PUT": get("/now", "Content-Length: 1", method="PUT") + b"x",
    "OPTIONS": get("/now", method="OPTIONS"),
    "an unknown path": get("/nowhere?password=x"),
    "an unknown call": post("/eapi/submission/quote_sms/2/2.0", b"a=1"),
    "doubled slashes": get("//now?a=1"),
    "a trailing slash": get("/now/?a=1"),
    "an encoded path": get("/n%6fw?a=1"),
    "an absolute target": get("http://a/now?a=1"),
    "a fragment": get("/now?a=1#b"),
    "a cold page": get("/cold"),
    "a cold page with a body": post("/cold", b"abc"),
    "a cold page in chunks": chunked("/cold", b"abc", b"def"),
    "a cold page that does not look at its body": post("/cold/hasty", b"x" * 100_000),
    "a handler that fails": get("/broken?1"),
    "a cold page that fails": get("/cold/broken"),
    "many at once": get("/now?1") + post("/now?2", b"b") + chunked("/now?3", b"c") + get("/now?4"),
    "hot and cold at once": get("/now?1") + get("/cold") + get("/now?2") + post("/cold", b"x") + get("/later?3"),
    "slow before fast": get("/later?1") + get("/now?2") + get("/cold") + get("/later?3") + get("/now?4"),
    "nothing after close": get("/now?1", "Connection: close") + get("/now?2"),
    "blank lines before": b"\r\n\r\n" + get("/now?1"),
    "headers under a limit": get("/now", *[f"X-{n}: {n}" for n in range(90)]),
    "the same header twice": get("/now", "Content-Type: a", "Content-Type: b"),
}

BROKEN_REQUESTS = {
    "raw high bytes in the query": b"GET /now?a=\xe9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "no HTTP": b"hello\r\n\r\n",
    "a length and chunks": get("/now", "Content-Length: 3", "Transfer-Encoding: chunked", method="POST") + b"0\r\n\r\n",
    "two lengths": get("/now", "Content-Length: 1", "Content-Length: 2", method="POST") + b"a",
    "a length that is none": get("/now", "Content-Length: 1x", method="POST") + b"a",
    "a negative length": get("/now", "Content-Length: -1", method="POST") + b"a",
    "a folded header": get("/now", "X-A: 1", " folded"),
    "a space before the colon": get("/now", "Content-Length : 1", method="POST") + b"a",
    "a space in a header's name": get("/now", "X A: 1"),
    "NUL in a header": get("/now", "X-A: \0"),
    "a bare CR in a header": get("/now", "X-A: a\rb"),
    "a chunk of no size": get("/now", "Transfer-Encoding: chunked", method="POST") + b"x\r\n",
    "an unknown transfer coding": get("/now", "Transfer-Encoding: gzip", method="POST") + b"x",
}


@pytest.fixture(scope="module", params=["lane", "asgi behind the lane's protocol", "uvicorn alone"])
def kind(request) -> dict[str, bool]:
    return {
        "lane": {},
        "asgi behind the lane's protocol": {"hot": False},
        "uvicorn alone": {"use_lane": False},
    }[request.param]


async def test_the_lane_answers_byte_for_byte_as_asgi_does():
    async with (
        serving(Site()) as (lane, lane_port),
        serving(Site(), hot=False) as (_, asgi_port),
        serving(Site(), use_lane=False) as (plain, plain_port),
    ):
        assert lane.lane_problem is None
        assert plain.lane_problem is not None
        for name, request in REQUESTS.items():
            answers = [undated(await talk(port, request + LAST)) for port in (lane_port, asgi_port, plain_port)]
            assert answers[0].startswith(b"HTTP/1.1 "), name
            assert answers[0] == answers[1], name
            assert answers[0] == answers[2], name


async def test_an_upgrade_is_not_done_and_ends_the_connection():
    request = get("/now?a=1", "Connection: upgrade", "Upgrade: h2c")
    async with serving(Site()) as (_, lane_port), serving(Site(), hot=False) as (_, asgi_port):
        answers = [undated(await talk(port, request + LAST)) for port in (lane_port, asgi_port)]
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"HTTP/1.1 200 OK")
    assert answers[0].count(b"HTTP/1.1") == answers[0].count(b"connection: close") == 1


async def test_the_answers_are_those_of_the_requests_in_their_order():
    site = Site()
    async with serving(site) as (_, port):
        answers = await talk(port, REQUESTS["hot and cold at once"] + REQUESTS["slow before fast"] + LAST)
    bodies = [part.split(b"\r\n\r\n", 1)[1] for part in answers.split(b"HTTP/1.1 200 OK\r\n")[1:]]
    assert bodies == [
        b"GET|/now|1|-|\n",
        b"cold \n",
        b"GET|/now|2|-|\n",
        b"cold x\n",
        b"GET|/later|3|-|\n",
        b"GET|/later|1|-|\n",
        b"GET|/now|2|-|\n",
        b"cold \n",
        b"GET|/later|3|-|\n",
        b"GET|/now|4|-|\n",
        b"GET|/now|last|-|\n",
    ]


@pytest.mark.parametrize("request_bytes", BROKEN_REQUESTS.values(), ids=BROKEN_REQUESTS)
async def test_what_could_be_read_in_two_ways_is_refused(request_bytes):
    site = Site()
    async with serving(site) as (server, port):
        answer = await talk(port, request_bytes + LAST)
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.count(b"HTTP/1.1") == 1
    assert site.calls == []
    assert server.lane.cut == {400: 1}


async def test_a_good_request_before_a_broken_one_is_answered_first():
    async with serving(Site()) as (_, port):
        answer = await talk(port, get("/later?1") + b"nonsense\r\n\r\n")
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"400"]


# ------------------------------------------------------------------------------ cut anywhere, in memory


class Wire(asyncio.Transport):
    """A transport in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closing = self.half_closed = self.paused = False

    def write(self, data: bytes) -> None:
        self.sent += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def write_eof(self) -> None:
        self.half_closed = True

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_write_buffer_size(self) -> int:
        return 0


def connect(site: Site, **limits: float) -> tuple[LaneProtocol, Wire]:
    web = site.build()
    config = Config(web.app, lifespan="off", ws="none", interface="asgi3", log_config=None, access_log=False)
    protocol = LaneProtocol(Lane(web.hot, HttpLimits(**limits)), config, ServerState(), {})
    wire = Wire()
    protocol.connection_made(wire)
    return protocol, wire


async def exchange(pieces: list[bytes], answers: int) -> bytes:
    """Feed pieces as a socket would, waiting while reading is paused, and return what was sent."""
    protocol, wire = connect(Site())
    async with asyncio.timeout(PATIENCE):
        for piece in pieces:
            while wire.paused:
                await asyncio.sleep(0)
            protocol.data_received(piece)
        while protocol.server_state.total_requests < answers:
            await asyncio.sleep(0)
        await asyncio.gather(*protocol.server_state.tasks)
    protocol.connection_lost(None)
    return undated(bytes(wire.sent))


ONE = {
    "a form": post("/now?q=1", b"a=1&b=2", FORM),
    "chunks": chunked("/now?q=1", b"a=1", b"&b=2"),
    "a wait": post("/later?q=1", b"a=1&b=2", FORM),
    "expecting 100": post("/now", b"a=1", "Expect: 100-continue"),
    "cold": post("/cold", b"abc"),
}


@pytest.mark.parametrize("request_bytes", ONE.values(), ids=ONE)
async def test_a_request_cut_at_any_byte_is_answered_alike(request_bytes):
    whole = await exchange([request_bytes], 1)
    assert b"HTTP/1.1 200 OK" in whole
    for cut in range(1, len(request_bytes)):
        assert await exchange([request_bytes[:cut], request_bytes[cut:]], 1) == whole
    if b"Expect" not in request_bytes:
        assert await exchange([request_bytes[n : n + 1] for n in range(len(request_bytes))], 1) == whole


PIPELINE = [get("/later?1"), post("/now?2", b"b"), get("/cold"), chunked("/later?3", b"c", b"d"), post("/cold", b"e")]
PIPELINE += [get("/now?4"), get("/now?5"), chunked("/cold", b"f"), get("/later?6"), get("/now?7")]


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(1, sum(map(len, PIPELINE)) - 1), max_size=30, unique=True).map(sorted))
def test_pipelined_requests_cut_anywhere_are_answered_alike_and_in_order(cuts):
    stream = b"".join(PIPELINE)
    pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    async def both() -> tuple[bytes, bytes]:
        return await exchange([stream], len(PIPELINE)), await exchange(pieces, len(PIPELINE))

    whole, parts = asyncio.run(both())
    assert parts == whole
    assert whole.count(b"HTTP/1.1 200 OK") == len(PIPELINE)


async def test_a_request_whose_body_is_still_coming_does_not_stall_behind_a_slow_one():
    half = post("/now?2", b"ab")
    assert (await exchange([get("/later?1") + half[:-1], half[-1:]], 2)).count(b"200 OK") == 2


async def test_too_many_pipelined_requests_end_the_connection_after_those_before():
    site = Site()
    protocol, wire = connect(site, max_pipelined=3)
    protocol.data_received(get("/held") + get("/now?1") * 10)
    assert wire.paused
    site.gate.set()
    async with asyncio.timeout(PATIENCE):
        while not wire.half_closed:
            await asyncio.sleep(0)
    assert re.findall(rb"HTTP/1.1 (\d+)", wire.sent) == [b"200", b"200", b"200", b"200", b"503"]
    assert site.calls == [b"held", b"1", b"1", b"1"]


async def test_a_client_that_does_not_read_gets_no_more_turns_until_it_does():
    site = Site()
    protocol, wire = connect(site)
    protocol.pause_writing()
    assert wire.paused
    protocol.data_received(get("/now?1") + get("/now?2"))
    assert site.calls == []
    protocol.resume_writing()
    assert site.calls == [b"1", b"2"]
    assert not wire.paused


# --------------------------------------------------------------------------------------------- the limits

TOO_MUCH = {
    "a length over the limit": (413, get("/now", "Content-Length: 1001", method="POST")),
    "a length beyond all numbers": (413, get("/now", "Content-Length: " + "9" * 18, method="POST")),
    "a length over the limit, cold": (413, get("/cold", "Content-Length: 1001", method="POST")),
    "expecting 100 for it": (413, get("/now", "Content-Length: 1001", "Expect: 100-continue", method="POST")),
    "chunks over the limit": (413, chunked("/now", b"x" * 600, b"x" * 600)),
    "chunks over the limit, cold": (413, chunked("/cold", b"x" * 600, b"x" * 600)),
    "a body behind a held request": (413, chunked("/now", b"x" * 1001)),
    "too many headers": (431, get("/now", *[f"X-{n}: 1" for n in range(101)])),
    "too many headers, cold": (431, get("/cold", *[f"X-{n}: 1" for n in range(101)])),
    "a long address": (414, get("/now?" + "x" * 2000)),
}


@pytest.mark.parametrize(("status", "request_bytes"), TOO_MUCH.values(), ids=TOO_MUCH)
async def test_what_is_too_much_is_refused_at_once(status, request_bytes):
    site = Site()
    async with serving(site, max_body=1000, max_url=1000) as (server, port):
        answer = await talk(port, get("/later?1"), request_bytes)
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"%d" % status]
    assert answer.count(b"connection: close") == 1
    assert site.calls == [b"1"]
    assert server.lane.cut == {status: 1}
    assert server.lane.buffered == 0


async def test_endless_headers_are_refused_without_waiting_for_their_end():
    async with serving(Site(), max_head=10_000) as (_, port):
        for flood in (b"GET /" + b"x" * 1000, b"GET / HTTP/1.1\r\nX: " + b"x" * 1000):
            answer = await talk(port, flood, *[b"x" * 4000] * 30)
            assert answer.startswith(b"HTTP/1.1 431 ")


async def test_endless_chunks_are_refused_while_they_come():
    one = b"1\r\nx\r\n"
    async with serving(Site(), max_body=1000) as (_, port):
        for path in ("/now", "/cold"):
            head = get(path, "Transfer-Encoding: chunked", method="POST")
            assert (await talk(port, head, *[one * 100] * 30)).startswith(b"HTTP/1.1 413 ")


async def test_an_answer_given_before_the_body_ended_is_not_followed_by_a_refusal():
    async with serving(Site(), max_body=200_000, body_s=0.1) as (_, port):
        head = get("/cold/hasty", "Content-Length: 100000", method="POST")
        assert re.findall(rb"HTTP/1.1 (\d+)", await talk(port, head + b"x")) == [b"200"]


async def test_bodies_of_all_connections_together_are_bounded():
    async with serving(Site(), max_body=1000, max_buffered=1500) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/now", "Content-Length: 1000", method="POST") + b"x" * 999)
        async with asyncio.timeout(PATIENCE):
            while server.lane.buffered < 999:
                await asyncio.sleep(0)
        assert (await talk(port, post("/now", b"x" * 600) + LAST)).startswith(b"HTTP/1.1 503 ")
        writer.write(b"x")
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        await writer.wait_closed()
        assert server.lane.buffered == 0
        assert b"200 OK" in await talk(port, post("/now", b"x" * 600) + LAST)


async def test_a_connection_too_many_is_told_so():
    async with serving(Site(), max_connections=2) as (_, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        for reader, writer in held:
            writer.write(get("/now"))
            await reader.readline()
        assert (await talk(port)).startswith(b"HTTP/1.1 503 ")
        for _, writer in held:
            writer.close()
            await writer.wait_closed()
        assert b"200 OK" in await talk(port, LAST)


# ------------------------------------------------------------------------------------------ slow clients

SLOW = {
    "a silent one": (b"", b""),
    "half a line": (b"GET /no", b"408"),
    "half the headers": (get("/now")[:-2], b"408"),
    "a body that does not come": (get("/now", "Content-Length: 5", method="POST") + b"ab", b"408"),
    "a cold body that does not come": (get("/cold", "Content-Length: 5", method="POST") + b"ab", b"408"),
    "chunks that do not end": (get("/now", "Transfer-Encoding: chunked", method="POST") + b"1\r\na\r\n", b"408"),
    "one that rests after its answer": (get("/now"), b"200"),
    "one that rests after a slow answer": (get("/later"), b"200"),
    "one that rests after a cold answer": (get("/cold"), b"200"),
    "half a request after an answer": (get("/now") + b"GET", b"200 408"),
}


@pytest.mark.parametrize(("sent", "expected"), SLOW.values(), ids=SLOW)
async def test_a_client_that_does_not_go_on_is_cut(sent, expected):
    site = Site()
    async with serving(site, header_s=0.15, body_s=0.15, keep_alive_s=0.15, linger_s=0.1) as (server, port):
        began = time.monotonic()
        answer = await talk(port, sent)
        took = time.monotonic() - began
        async with asyncio.timeout(PATIENCE):
            while server.connections:
                await asyncio.sleep(0)
    assert b" ".join(re.findall(rb"HTTP/1.1 (\d+)", answer)) == expected
    assert 0.1 < took < 3


@pytest.mark.parametrize("head", [b"GET /now HTTP/1.1\r\n", get("/now", "Content-Length: 999", method="POST"), b"\r\n"])
async def test_dripping_buys_no_time(head):
    async with serving(Site(), header_s=0.2, body_s=0.2) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        drips = 0
        async with asyncio.timeout(PATIENCE):
            ended = asyncio.ensure_future(reader.read())
            while not ended.done():
                with contextlib.suppress(ConnectionError):
                    writer.write(b"\r\n" if head == b"\r\n" else b"x")
                drips += 1
                await asyncio.wait([ended], timeout=0.01)
        writer.close()
        with contextlib.suppress(ConnectionError):
            assert ended.result() == b"" or ended.result().startswith(b"HTTP/1.1 408 ")
        assert drips < 300


async def test_a_slow_answer_is_not_the_clients_fault():
    site = Site()
    async with serving(site, header_s=0.05, body_s=0.05, keep_alive_s=0.05) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/held") + get("/now?next", "Connection: close"))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        site.gate.set()
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
        assert answer.count(b"200 OK") == 2
        writer.close()


async def test_a_client_that_never_reads_takes_bounded_memory_and_is_cut():
    site = Site()
    async with serving(site, write_s=0.3, linger_s=0.1) as (server, port):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", port))
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(ConnectionError):
                await loop.sock_sendall(client, get("/big") * 100)
            while server.connections or not site.calls:
                await asyncio.sleep(0.01)
        client.close()
    assert 1 <= len(site.calls) < 20
    assert server.lane.cut == {0: 1}


async def test_a_client_that_reads_slowly_but_goes_on_is_not_cut():
    async with serving(Site(), write_s=0.15) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(get("/big") * 8 + LAST)
        received = 0
        async with asyncio.timeout(PATIENCE):
            while piece := await reader.read(100_000):
                received += len(piece)
                await asyncio.sleep(0.005)
        writer.close()
    assert received > 8_000_000
    assert server.lane.cut == {}


# -------------------------------------------------------------------------------- going away, stopping


async def test_a_half_closed_client_still_gets_its_answer():
    site = Site()
    async with serving(site) as (_, port):
        for path in ("/held", "/later", "/now"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get(path))
            writer.write_eof()
            asyncio.get_running_loop().call_later(0.05, site.gate.set)
            answer = await asyncio.wait_for(reader.read(), PATIENCE)
            assert answer.startswith(b"HTTP/1.1 200 OK"), path
            writer.close()


async def test_a_client_that_leaves_disturbs_nobody():
    site = Site()
    async with serving(site) as (server, port):
        for waiting in (b"", get("/cold") + get("/now")):
            site.gate.clear()
            site.calls.clear()
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get("/held") + waiting)
            async with asyncio.timeout(PATIENCE):
                while not site.calls:
                    await asyncio.sleep(0.01)
                writer.transport.abort()
                assert b"200 OK" in await talk(port, LAST)
                site.gate.set()
                while server.connections:
                    await asyncio.sleep(0.01)
            assert site.calls[:2] == [b"held", b"last"]


async def test_a_cold_page_learns_that_its_client_left_though_more_was_asked():
    protocol, _ = connect(Site())
    protocol.data_received(get("/cold", "Content-Length: 5", method="POST"))
    protocol.data_received(b"ab")
    protocol.connection_lost(None)
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*protocol.server_state.tasks, return_exceptions=True)
    assert protocol.lane.buffered == 0


async def test_a_stop_lets_what_has_begun_finish_and_takes_nothing_new():
    site = Site()
    async with serving(site) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/held"))
        async with asyncio.timeout(PATIENCE):
            while not site.calls:
                await asyncio.sleep(0.01)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(server.stop(5))
                with pytest.raises(ConnectionError):
                    while True:
                        _, other = await asyncio.open_connection("127.0.0.1", port)
                        other.close()
                        await asyncio.sleep(0.01)
                site.gate.set()
        answer = await reader.read()
        assert answer.endswith(b"let go\n")
        assert b"connection: close" in answer
        writer.close()


async def test_a_stop_waits_no_longer_than_its_budget():
    site = Site()
    async with serving(site) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/held"))
        async with asyncio.timeout(3):
            while not site.calls:
                await asyncio.sleep(0.01)
            await server.stop(0.2)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()


async def test_a_cancelled_server_leaves_nothing_open():
    site = Site()
    web = site.build()
    bound = bind_socket("127.0.0.1", 0)
    port = bound.getsockname()[1]
    server = HttpServer(web.app, [bound], hot=web.hot)
    running = asyncio.ensure_future(server.run())
    async with asyncio.timeout(PATIENCE):
        await server.started.wait()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(get("/held"))
        while not site.calls:
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", port)
    writer.close()


# -------------------------------------------------------------------------------- what is said and logged


async def test_no_log_line_holds_what_a_client_sent(kind, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    async with serving(Site(), keep_alive_s=1, **kind) as (_, port):
        for request in (
            get("/now?password=canary-1"),
            get("/cold?password=canary-2"),
            get("/broken?canary-3"),
            get("/cold/broken?canary-4"),
            get("/nowhere?canary-5"),
            b"GET /now?canary-6 NONSENSE\r\n\r\n",
            get("/now?canary-7", "Connection: upgrade", "Upgrade: websocket"),
        ):
            await talk(port, request + LAST)
    printed = capsys.readouterr()
    logged = "\n".join(f"{record.getMessage()} {record.exc_info}" for record in caplog.records)
    assert "canary" not in printed.out + printed.err + logged
    assert "ValueError at" in printed.out + printed.err + logged


async def test_a_fault_is_answered_without_its_words(kind):
    async with serving(Site(), **kind) as (_, port):
        for path in ("/broken?1", "/cold/broken?1"):
            answer = await talk(port, get(path, "Connection: close"))
            assert answer.startswith(b"HTTP/1.1 500 ")
            assert b"canary" not in answer


async def test_watchers_find_health_and_metrics(kind):
    async with serving(Site(), **kind) as (_, port):
        assert b'{"status":"live"}' in await talk(port, get("/health/live", "Connection: close"))
        assert b'"ready"' in await talk(port, get("/health/ready", "Connection: close"))
        assert b"python_info" in await talk(port, get("/metrics", "Connection: close"))


# ------------------------------------------------------------------------------------------- without the lane


async def test_without_the_lane_a_body_is_still_bounded_in_time_and_size():
    site = Site()
    async with serving(site, use_lane=False, body_s=0.1, max_body=1000) as (_, port):
        late = await talk(port, get("/now", "Content-Length: 5", method="POST") + b"ab")
        large = await talk(port, chunked("/now", b"x" * 1001))
    assert late.startswith(b"HTTP/1.1 408 ")
    assert large.startswith(b"HTTP/1.1 413 ")
    assert site.calls == []


async def test_the_lane_fits_the_installed_uvicorn():
    assert await find_lane_problem() is None


async def test_a_uvicorn_without_a_needed_method_is_served_without_the_lane(monkeypatch):
    monkeypatch.delattr(HttpToolsProtocol, "_start_asgi_task")
    assert "has no HttpToolsProtocol._start_asgi_task" in (await find_lane_problem() or "")


async def test_a_uvicorn_that_answers_otherwise_is_served_without_the_lane(monkeypatch):
    monkeypatch.setattr(web_server.Lane, "encode", lambda *_: b"HTTP/1.1 200 OK\r\n\r\nqb")
    assert await find_lane_problem() == "its answers differ from uvicorn's"
    monkeypatch.setattr(HttpToolsProtocol, "on_message_begin", lambda self: 1 / 0)
    assert "trying it failed" in (await find_lane_problem() or "")


# ------------------------------------------------------------------------------------------------- on uvloop

ON_UVLOOP = [
    test_the_lane_answers_byte_for_byte_as_asgi_does,
    test_an_upgrade_is_not_done_and_ends_the_connection,
    test_the_answers_are_those_of_the_requests_in_their_order,
    test_a_good_request_before_a_broken_one_is_answered_first,
    test_endless_headers_are_refused_without_waiting_for_their_end,
    test_endless_chunks_are_refused_while_they_come,
    test_an_answer_given_before_the_body_ended_is_not_followed_by_a_refusal,
    test_bodies_of_all_connections_together_are_bounded,
    test_a_connection_too_many_is_told_so,
    test_a_slow_answer_is_not_the_clients_fault,
    test_a_client_that_never_reads_takes_bounded_memory_and_is_cut,
    test_a_client_that_reads_slowly_but_goes_on_is_not_cut,
    test_a_half_closed_client_still_gets_its_answer,
    test_a_client_that_leaves_disturbs_nobody,
    test_a_stop_lets_what_has_begun_finish_and_takes_nothing_new,
    test_a_stop_waits_no_longer_than_its_budget,
    test_a_cancelled_server_leaves_nothing_open,
    test_without_the_lane_a_body_is_still_bounded_in_time_and_size,
    test_the_lane_fits_the_installed_uvicorn,
]


@pytest.mark.parametrize("scenario", ON_UVLOOP, ids=lambda scenario: scenario.__name__.removeprefix("test_"))
def test_on_uvloop(scenario):
    pytest.importorskip("uvloop").run(scenario())


@pytest.mark.parametrize(("sent", "expected"), SLOW.values(), ids=SLOW)
def test_a_client_that_does_not_go_on_is_cut_on_uvloop(sent, expected):
    pytest.importorskip("uvloop").run(test_a_client_that_does_not_go_on_is_cut(sent, expected))
