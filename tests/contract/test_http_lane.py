"""The lane answers byte for byte as ASGI does, in order, however a request is cut; and what is said and logged."""

import asyncio
import logging
import re

import pytest
from http_site import FORM, LAST, PATIENCE, Site, chunked, connect, get, post, serving, talk, undated
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aldis.web import server as web_server
from aldis.web.server import find_lane_problem

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


@pytest.fixture(scope="module", params=["lane", "asgi behind the lane's protocol", "uvicorn alone"])
def kind(request) -> dict[str, bool]:
    return {
        "lane": {},
        "asgi behind the lane's protocol": {"hot": False},
        "uvicorn alone": {"use_lane": False},
    }[request.param]


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
    test_without_the_lane_a_body_is_still_bounded_in_time_and_size,
    test_the_lane_fits_the_installed_uvicorn,
]


@pytest.mark.parametrize("scenario", ON_UVLOOP, ids=lambda scenario: scenario.__name__.removeprefix("test_"))
def test_the_lane_on_uvloop(scenario):
    pytest.importorskip("uvloop").run(scenario())
