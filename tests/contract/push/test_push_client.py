"""The push client against real servers on the loopback: good, broken and hostile ones."""

import asyncio
import contextlib
import gzip
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from push_receiver import OK, Call, receiver, until

from aldis.push.client import Answer, Limits, PushClient, PushFailed
from aldis.push.guard import EgressGuard, SockAddr

Make = Callable[..., PushClient]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[PushClient] = []

    def make(*, guard: EgressGuard | None = None, tls: ssl.SSLContext | None = None, **limits: Any) -> PushClient:
        client = PushClient(guard or EgressGuard(allow_private=True), Limits(**limits), tls)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.aclose()
        assert client.open_connections == 0


def http(status: str, body: bytes = b"1", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


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


# Kept connections (D16)


async def test_a_kept_connection_closed_at_the_moment_of_reuse_costs_one_hidden_resend(make: Make) -> None:
    async def behave(call: Call) -> None:
        if call.number == 1:
            call.close()
        else:
            await call.send(OK)

    async with receiver(behave) as there:
        client = make()
        for n in range(3):
            assert (await client.get(f"http://127.0.0.1:{there.port}/", f"n={n}")).status == 200
    assert there.targets == ["/?n=0", "/?n=1", "/?n=1", "/?n=2"]
    assert (client.resent, there.connections) == (1, 2)


async def test_a_resend_happens_at_most_once(make: Make) -> None:
    async def behave(call: Call) -> None:
        if call.number:
            call.close()
        else:
            await call.send(OK)

    async with receiver(behave) as there:
        client = make()
        await client.get(f"http://127.0.0.1:{there.port}/", "n=0")
        with pytest.raises(PushFailed, match="closed without an answer"):
            await client.get(f"http://127.0.0.1:{there.port}/", "n=1")
    assert there.targets == ["/?n=0", "/?n=1", "/?n=1"]
    assert client.resent == 1


async def test_nothing_is_resent_once_a_byte_of_the_answer_came(make: Make) -> None:
    async def behave(call: Call) -> None:
        await call.send(b"H" if call.number else OK)
        if call.number:
            call.close()

    async with receiver(behave) as there:
        client = make()
        await client.get(f"http://127.0.0.1:{there.port}/", "n=0")
        with pytest.raises(PushFailed, match="closed within the answer"):
            await client.get(f"http://127.0.0.1:{there.port}/", "n=1")
    assert len(there.requests) == 2
    assert client.resent == 0


async def test_a_connection_that_the_peer_closed_while_idle_is_not_used_again(make: Make) -> None:
    async def behave(call: Call) -> None:
        await call.send(OK)
        call.close()

    async with receiver(behave) as there:
        client = make()
        for n in range(3):
            await client.get(f"http://127.0.0.1:{there.port}/", f"n={n}")
            await until(lambda: client.open_connections == 0)
    assert (client.resent, len(there.requests)) == (0, 3)


async def test_an_answer_sent_ahead_never_meets_the_next_request(make: Make) -> None:
    ahead = asyncio.Event()

    async def behave(call: Call) -> None:
        await call.send(http("200 OK", b"right"))
        if call.number == 0:
            await ahead.wait()
            await call.send(http("500 Ahead"))

    async with receiver(behave) as there:
        client = make()
        url = f"http://127.0.0.1:{there.port}/"
        await client.get(url, "n=0")
        ahead.set()
        await until(lambda: client.open_connections == 0)
        assert await client.get(url, "n=1") == Answer(200, 5, "OK")
    assert there.connections == 2


async def test_a_cancelled_request_takes_its_connection_with_it(make: Make) -> None:
    async def behave(call: Call) -> None:
        if call.number == 0:
            await call.closed_by_peer()
        await call.send(http("200 OK", b"second"))

    async with receiver(behave) as there:
        client = make()
        url = f"http://127.0.0.1:{there.port}/"
        first = asyncio.ensure_future(client.get(url, "n=0"))
        await there.count(1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert client.open_connections == 0
        assert (await client.get(url, "n=1")).body_len == 6


async def test_idle_connections_are_closed_after_a_while(make: Make) -> None:
    async with receiver(OK) as there:
        client = make(idle_s=0.05)
        url = f"http://127.0.0.1:{there.port}/"
        await asyncio.gather(*[client.get(url, "") for _ in range(5)])
        assert 1 <= client.open_connections <= 5
        await until(lambda: client.open_connections == 0)
        await until(lambda: there.open == 0)


async def test_an_old_connection_is_not_kept(make: Make) -> None:
    async with receiver(OK) as there:
        client = make(max_age_s=-1)
        for _ in range(3):
            await client.get(f"http://127.0.0.1:{there.port}/", "")
    assert there.connections == 3


# Bounds


async def test_answers_of_many_at_once_never_mix(make: Make) -> None:
    async def behave(call: Call) -> None:
        n = int(call.target.rpartition("=")[2])
        await asyncio.sleep((n * 7919 % 5) / 1000)
        await call.send(http(f"{200 + n % 300} N{n}", bytes(n)))

    async with receiver(behave) as there:
        client = make(per_host=16)
        url = f"http://127.0.0.1:{there.port}/"
        answers = await asyncio.gather(*[client.get(url, f"n={n}") for n in range(300) if n % 300 not in (4, 104)])
    expected = [Answer(200 + n, n, f"N{n}") for n in range(300) if n not in (4, 104)]
    assert answers == expected
    assert there.most_open <= 16
    assert client.resent == 0


async def test_connections_in_all_are_bounded_and_idle_ones_make_room(make: Make) -> None:
    async with contextlib.AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(receiver(OK)) for _ in range(6)]
        client = make(connections=3, per_host=2)
        most = 0

        async def one(n: int) -> None:
            nonlocal most
            answer = await client.get(f"http://127.0.0.1:{servers[n % 6].port}/", f"n={n}")
            most = max(most, client.open_connections)
            assert answer.status == 200

        await asyncio.gather(*[one(n) for n in range(120)])
        assert most <= 3
        assert [len(server.requests) for server in servers] == [20] * 6


async def test_waiting_for_a_connection_has_a_deadline_too(make: Make) -> None:
    async def behave(call: Call) -> None:
        await call.closed_by_peer()

    async with receiver(behave) as there:
        client = make(per_host=1, total_s=0.2)
        url = f"http://127.0.0.1:{there.port}/"
        ends = await asyncio.gather(*[client.get(url, "") for _ in range(3)], return_exceptions=True)
    assert all(isinstance(end, PushFailed) for end in ends)
    assert len(there.requests) < 3


async def test_a_request_that_gives_up_waiting_does_not_lose_the_place_of_others(make: Make) -> None:
    release = asyncio.Event()

    async def behave(call: Call) -> None:
        if call.number == 0:
            await release.wait()
        await call.send(OK)

    async with receiver(behave) as there:
        client = make(per_host=1)
        url = f"http://127.0.0.1:{there.port}/"
        tasks = [asyncio.ensure_future(client.get(url, f"n={n}")) for n in range(4)]
        await there.count(1)
        tasks[1].cancel()
        release.set()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(end) for end in ends] == [Answer, asyncio.CancelledError, Answer, Answer]


# Connecting


async def test_a_refused_connection_fails_with_the_reason_and_no_address(make: Make) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with pytest.raises(PushFailed) as failed:
            await make().get(f"http://127.0.0.1:{port}/", "")
    assert str(failed.value) == "Connection refused"


async def test_connecting_has_a_deadline(make: Make) -> None:
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.socket())
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        client = make(connect_s=0.1)
        with pytest.raises(PushFailed, match=r"not connected within 0\.1 s"):
            await client.get(f"http://127.0.0.1:{full.getsockname()[1]}/", "")
        assert client.open_connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]"])
async def test_a_denied_address_is_never_dialled(make: Make, host: str) -> None:
    async with receiver(OK) as there:
        with pytest.raises(PushFailed, match="address not allowed: loopback"):
            await make(guard=EgressGuard()).get(f"http://{host}:{there.port}/", "")
    assert there.connections == 0


class Names(EgressGuard):
    """A guard whose names are in the test's hands, beneath the check."""

    def __init__(self, *networks: str) -> None:
        super().__init__([ip_network(network) for network in networks])
        self.found: list[str] = []
        self.lookups = 0
        self.never = False

    async def resolve(self, host: str, port: int) -> list[tuple[int, SockAddr]]:
        self.lookups += 1
        if self.never:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        return self.judge([(socket.AF_INET, (address, port)) for address in self.found])


async def test_of_mixed_addresses_only_the_allowed_are_dialled(make: Make) -> None:
    names = Names("127.0.0.2/32")
    names.found = ["127.0.0.1", "10.0.0.1", "127.0.0.2", "127.0.0.3"]
    async with receiver(OK, host="0.0.0.0") as there:
        await make(guard=names).get(f"http://mixed.example:{there.port}/", "")
    assert there.local_addresses == {"127.0.0.2"}


async def test_a_name_that_moves_to_a_denied_address_gets_no_new_connection(make: Make) -> None:
    names = Names("127.0.0.2/32")
    names.found = ["127.0.0.2"]
    async with receiver(OK, host="0.0.0.0") as there:
        client = make(guard=names, max_age_s=-1, names_s=0)
        url = f"http://moving.example:{there.port}/"
        await client.get(url, "n=0")
        names.found = ["127.0.0.1"]
        with pytest.raises(PushFailed, match="address not allowed: loopback"):
            await client.get(url, "n=1")
    assert there.local_addresses == {"127.0.0.2"}


async def test_the_next_address_is_tried_when_one_refuses(make: Make) -> None:
    names = Names("127.0.0.0/8")
    names.found = ["127.0.0.9", "127.0.0.1"]
    async with receiver(OK) as there:
        assert (await make(guard=names).get(f"http://two.example:{there.port}/", "")).status == 200


async def test_a_look_up_that_hangs_has_a_deadline_and_happens_once_for_all_who_wait(make: Make) -> None:
    names = Names("127.0.0.0/8")
    names.never = True
    client = make(guard=names, dns_s=0.1)
    ends = await asyncio.gather(*[client.get("http://slow.example/", "") for _ in range(8)], return_exceptions=True)
    assert {str(end) for end in ends} == {"host not looked up within 0.1 s"}
    assert names.lookups == 1


async def test_a_name_that_does_not_exist_fails(make: Make) -> None:
    with pytest.raises(PushFailed, match="host not (found|looked up)"):
        await make().get("http://does-not-exist.invalid/", "")


async def test_nothing_is_sent_after_the_client_is_closed(make: Make) -> None:
    async def behave(call: Call) -> None:
        await call.closed_by_peer()

    async with receiver(behave) as there:
        client = make()
        under_way = asyncio.ensure_future(client.get(f"http://127.0.0.1:{there.port}/", "n=0"))
        await there.count(1)
        await client.aclose()
        with pytest.raises(PushFailed, match="stopping"):
            await under_way
        with pytest.raises(PushFailed, match="stopping"):
            await client.get(f"http://127.0.0.1:{there.port}/", "n=1")
    assert len(there.requests) == 1


# TLS (D14)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for localhost, with its key."""
    both = tmp_path_factory.mktemp("tls") / "both.pem"
    key = both.with_name("key.pem")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    try:
        subprocess.run([*command.split(), "-keyout", key, "-out", both], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl command to make a certificate with")
    both.write_bytes(both.read_bytes() + key.read_bytes())
    return both


@pytest.fixture
def server_tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


async def test_https_verifies_and_keeps_connections(make: Make, certificate: Path, server_tls: ssl.SSLContext) -> None:
    async with receiver(OK, tls=server_tls) as there:
        client = make(tls=trusting(certificate))
        for n in range(3):
            assert await client.get(f"https://localhost:{there.port}/", f"n={n}") == Answer(200, 1, "OK")
    assert there.connections == 1


async def test_an_untrusted_certificate_is_refused_by_default(make: Make, server_tls: ssl.SSLContext) -> None:
    async with receiver(OK, tls=server_tls) as there:
        with pytest.raises(PushFailed, match="TLS: self-signed certificate"):
            await make().get(f"https://localhost:{there.port}/?pass=x", "a=1")
        assert there.requests == []


async def test_a_certificate_for_another_name_is_refused(
    make: Make, certificate: Path, server_tls: ssl.SSLContext
) -> None:
    async with receiver(OK, tls=server_tls) as there:
        with pytest.raises(PushFailed, match=r"TLS: .*not valid for '127.0.0.1'"):
            await make(tls=trusting(certificate)).get(f"https://127.0.0.1:{there.port}/", "a=1")
        assert there.requests == []


async def test_a_plaintext_server_behind_https_is_refused(make: Make) -> None:
    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        client = make()
        with pytest.raises(PushFailed, match="TLS: "):
            await client.get(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/", "a=1")
        assert client.open_connections == 0


async def test_a_handshake_that_hangs_has_a_deadline(make: Make) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        client = make(tls_s=0.1)
        with pytest.raises(PushFailed, match=r"TLS not agreed within 0\.1 s"):
            await client.get(f"https://127.0.0.1:{silent.getsockname()[1]}/", "a=1")
        assert client.open_connections == 0
