"""What the push client sends, and how it takes good, broken and hostile answers, from real servers on the loopback."""

import asyncio
import gzip
import socket

import pytest
from push_receiver import OK, Call, Make, http, receiver, until

from aldis.push.client import Answer, PushFailed

# What is sent


async def test_a_request_is_a_plain_get_with_the_query_appended(make: Make) -> None:
    async with receiver(OK) as there:
        answer = await make().get(f"http://us:pw@127.0.0.1:{there.port}/in?pass=x#top", "msisdn=1&status=11")
    assert answer == Answer(200, 1, "OK")
    assert there.requests == [
        b"GET /in?pass=x&msisdn=1&status=11 HTTP/1.1\r\n"
        + f"Host: 127.0.0.1:{there.port}\r\n".encode()
        + b"User-Agent: Aldis\r\nAccept: */*\r\nAuthorization: Basic dXM6cHc=\r\n\r\n"
    ]


@pytest.mark.parametrize("query", ["a b", "a\r\nX: y", "é", "a\x00"])
async def test_a_query_that_is_not_encoded_is_never_sent(make: Make, query: str) -> None:
    async with receiver(OK) as there:
        with pytest.raises(PushFailed, match="not encoded"):
            await make().get(f"http://127.0.0.1:{there.port}/", query)
    assert there.connections == 0


async def test_an_unusable_url_fails_without_being_quoted(make: Make) -> None:
    with pytest.raises(PushFailed, match="unusable URL") as failed:
        await make().get("ftp://canary.example/", "a=1")
    assert "canary" not in str(failed.value)


# What comes back (D01)


async def test_every_final_status_is_told_as_it_is(make: Make) -> None:
    async def behave(call: Call) -> None:
        status = int(call.target[1:4])
        await call.send(f"HTTP/1.1 {status}\r\n\r\n".encode() if status in (204, 304) else http(f"{status} Word"))

    async with receiver(behave) as there:
        client = make()
        for status in range(200, 600):
            answer = await client.get(f"http://127.0.0.1:{there.port}/{status}", "a=1")
            assert answer == (Answer(status, 0, "") if status in (204, 304) else Answer(status, 1, "Word"))
    assert there.connections == 1
    assert client.resent == 0


@pytest.mark.parametrize("status", [100, 102, 103, 199])
async def test_interim_answers_are_passed_over(make: Make, status: int) -> None:
    interim = f"HTTP/1.1 {status} Wait\r\nLink: </x>\r\n\r\n".encode()
    async with receiver(interim * 3 + OK) as there:
        client = make()
        for _ in range(3):
            assert await client.get(f"http://127.0.0.1:{there.port}/", "") == Answer(200, 1, "OK")
    assert there.connections == 1


ANSWERS = {
    "empty 200": (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Answer(200, 0, "OK"), True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\n1", Answer(200, 1, ""), True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", Answer(204, 0, "No Content"), True),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nT: x\r\n\r\n",
        Answer(200, 5, "OK"),
        True,
    ),
    "chunked and empty": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Answer(200, 0, "OK"),
        True,
    ),
    "asked to close": (http("200 OK", b"1", "Connection: close"), Answer(200, 1, "OK"), False),
    "HTTP/1.0 with length": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1", Answer(200, 1, "OK"), False),
    "more than announced": (http("200 OK") + b"surplus", Answer(200, 1, "OK"), False),
    "a second answer at once": (OK + OK, Answer(200, 1, "OK"), False),
    "status 600": (http("600 Odd"), Answer(600, 1, "Odd"), True),
    "words in Latin-1": (http("500 Fehler f\xfcr"), Answer(500, 1, "Fehler f??r"), True),
    "a very long reason": (http("500 " + "x" * 1000), Answer(500, 1, "x" * 80), True),
    "compressed": (
        http("200 OK", gzip.compress(bytes(10_000)), "Content-Encoding: gzip"),
        Answer(200, len(gzip.compress(bytes(10_000))), "OK"),
        True,
    ),
}


@pytest.mark.parametrize(("data", "expected", "kept"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_answers_are_understood_and_connections_kept_only_where_safe(
    make: Make, data: bytes, expected: Answer, kept: bool
) -> None:
    async with receiver(data) as there:
        client = make()
        for _ in range(2):
            assert await client.get(f"http://127.0.0.1:{there.port}/", "a=1") == expected
    assert there.connections == (1 if kept else 2)
    assert client.resent == 0


CLOSED = {
    "no length": (b"HTTP/1.1 200 OK\r\n\r\nbody", Answer(200, 4, "OK")),
    "no length, a body that looks like a header": (
        b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nbody\r\nContent-Length: 99\r\n\r\n",
        Answer(200, 28, "OK"),
    ),
    "no length after an interim answer": (
        b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\nHTTP/1.1 200 OK\r\n\r\nbody",
        Answer(200, 4, "OK"),
    ),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\n0", Answer(200, 1, "OK")),
    "no length, no body": (b"HTTP/1.1 200 OK\r\n\r\n", Answer(200, 0, "OK")),
}


@pytest.mark.parametrize(("data", "expected"), CLOSED.values(), ids=CLOSED.keys())
@pytest.mark.parametrize("piecewise", [False, True], ids=["at once", "byte by byte"])
async def test_a_body_without_length_ends_with_the_connection(
    make: Make, data: bytes, expected: Answer, piecewise: bool
) -> None:
    async def behave(call: Call) -> None:
        for piece in [data[i : i + 1] for i in range(len(data))] if piecewise else [data]:
            await call.send(piece)
            await asyncio.sleep(0)
        call.close()

    async with receiver(behave) as there:
        assert await make().get(f"http://127.0.0.1:{there.port}/", "") == expected


BROKEN = {
    "nothing": (b"", "closed without an answer"),
    "half a status line": (b"HTTP/1.1 20", "closed within"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", "closed within"),
    "less than announced": (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1", "closed within"),
    "less than announced, after an interim answer": (
        b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n1",
        "closed within",
    ),
    "a chunk short": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "closed within"),
    "no last chunk": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", "closed within"),
    "only an interim answer": (b"HTTP/1.1 100 Continue\r\n\r\n", "closed within"),
    "garbage": (b"hello\r\n\r\n", "not an HTTP/1 answer"),
    "binary": (bytes(range(256)), "not an HTTP/1 answer"),
    "a TLS alert": (b"\x15\x03\x01\x00\x02\x02\x0a", "not an HTTP/1 answer"),
    "a request": (b"GET / HTTP/1.1\r\n\r\n", "not an HTTP/1 answer"),
    "an SSH banner": (b"SSH-2.0-OpenSSH_9.0\r\n", "not an HTTP/1 answer"),
    "a bad status": (b"HTTP/1.1 2x0 OK\r\n\r\n", "not an HTTP/1 answer"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n1", "not an HTTP/1 answer"),
    "a negative length": (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n1", "not an HTTP/1 answer"),
    "length and chunked": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "not an HTTP/1 answer",
    ),
    "a bad chunk size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "not an HTTP/1 answer"),
    "a header with NUL": (b"HTTP/1.1 200 OK\r\nA: \x00\r\nContent-Length: 1\r\n\r\n1", "not an HTTP/1 answer"),
    "another protocol": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", "HTTP 101"),
}


@pytest.mark.parametrize(("data", "why"), BROKEN.values(), ids=BROKEN.keys())
async def test_broken_answers_fail_with_the_reason(make: Make, data: bytes, why: str) -> None:
    async def behave(call: Call) -> None:
        await call.send(data)
        call.close()

    async with receiver(behave) as there:
        client = make()
        with pytest.raises(PushFailed, match=why):
            await client.get(f"http://127.0.0.1:{there.port}/", "a=1")
        assert client.open_connections == 0
    assert len(there.requests) == 1


async def test_a_reset_in_a_body_without_length_is_a_failure(make: Make) -> None:
    async def behave(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\n\r\n1")
        sock = call.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        call.reset()

    async with receiver(behave) as there:
        with pytest.raises(PushFailed, match="closed within"):
            await make().get(f"http://127.0.0.1:{there.port}/", "a=1")


# Hostile answers (D04)


async def test_a_dripping_answer_ends_at_the_deadline(make: Make) -> None:
    async def behave(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
        for _ in range(60000):
            await call.send(b"x")
            await asyncio.sleep(0.01)

    loop = asyncio.get_running_loop()
    async with receiver(behave) as there:
        began = loop.time()
        with pytest.raises(PushFailed, match=r"no answer within 0\.2 s"):
            await make(total_s=0.2).get(f"http://127.0.0.1:{there.port}/", "a=1")
        assert 0.19 < loop.time() - began < 2
        await until(lambda: there.open == 0)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"]
)
async def test_an_endless_body_is_cut_and_its_status_counts(make: Make, head: bytes) -> None:
    async def behave(call: Call) -> None:
        await call.send(head)
        while True:
            await call.send(bytes(16_384))

    async with receiver(behave) as there:
        answer = await make().get(f"http://127.0.0.1:{there.port}/", "a=1")
        assert answer.status == 200
        assert 65_536 < answer.body_len < 1_000_000
        await until(lambda: there.open == 0)


async def test_a_body_of_just_the_limit_is_read_whole_and_the_connection_kept(make: Make) -> None:
    async with receiver(http("200 OK", bytes(65_536))) as there:
        client = make()
        for _ in range(2):
            assert (await client.get(f"http://127.0.0.1:{there.port}/", "")).body_len == 65_536
    assert there.connections == 1


FLOODS = {
    "headers without end": (b"HTTP/1.1 200 OK\r\n", b"X-Header: 0123456789\r\n" * 100),
    "one header without end": (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 4096),
    "a status line without end": (b"HTTP/1.1 200 ", b"x" * 4096),
    "interim answers without end": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
}


@pytest.mark.parametrize(("start", "more"), FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_of_headers_is_cut(make: Make, start: bytes, more: bytes) -> None:
    async def behave(call: Call) -> None:
        await call.send(start)
        while True:
            await call.send(more)

    async with receiver(behave) as there:
        with pytest.raises(PushFailed, match="headers are too long"):
            await make().get(f"http://127.0.0.1:{there.port}/", "a=1")
        await until(lambda: there.open == 0)


async def test_silence_ends_at_the_deadline_for_each_of_many(make: Make) -> None:
    async def behave(call: Call) -> None:
        await call.closed_by_peer()

    async with receiver(behave) as there:
        client = make(total_s=0.2, per_host=50)
        url = f"http://127.0.0.1:{there.port}/"
        ends = await asyncio.gather(*[client.get(url, f"n={n}") for n in range(50)], return_exceptions=True)
        assert [str(end) for end in ends] == ["no answer within 0.2 s"] * 50
        await until(lambda: there.open == 0)
        assert client.open_connections == 0


# Redirects (D05)


# EAPI-62
@pytest.mark.parametrize("status", [300, 301, 302, 303, 305, 307, 308])
@pytest.mark.parametrize("scheme", ["http", "file"])
async def test_redirects_are_told_and_never_followed(make: Make, status: int, scheme: str) -> None:
    async with receiver(OK) as elsewhere:
        location = f"Location: {scheme}://127.0.0.1:{elsewhere.port}/"
        async with receiver(http(f"{status} Moved", b"go", location)) as there:
            answer = await make().get(f"http://127.0.0.1:{there.port}/", "a=1")
            assert answer == Answer(status, 2, "Moved")
            assert len(there.requests) == 1
        assert elsewhere.connections == 0
