"""No client can hold the HTTP server up: what is too much, too slow or gone is dealt with."""

import asyncio
import contextlib
import re
import socket
import time

import pytest
from http_site import LAST, PATIENCE, Site, chunked, connect, get, post, serving, talk

from aldis.web.server import HttpServer, bind_socket


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


async def test_nothing_is_read_while_requests_wait():
    site = Site()
    protocol, wire = connect(site)
    protocol.data_received(get("/held") + get("/later") + get("/now"))
    assert wire.paused
    site.gate.set()
    async with asyncio.timeout(PATIENCE):
        while protocol.server_state.total_requests < 1:
            await asyncio.sleep(0)
        assert wire.paused, "one is being answered and one waits"
        while protocol.server_state.total_requests < 3:
            await asyncio.sleep(0)
    assert not wire.paused


async def test_a_body_that_we_do_not_read_on_is_not_late():
    site = Site()
    protocol, wire = connect(site)
    request = post("/now", b"ab")
    protocol.data_received(get("/held") + request[:-1])
    protocol.check_deadlines(protocol.loop.time() + 1000)
    site.gate.set()
    async with asyncio.timeout(PATIENCE):
        while wire.paused:
            await asyncio.sleep(0)
    protocol.data_received(request[-1:])
    assert re.findall(rb"HTTP/1.1 (\d+)", wire.sent) == [b"200", b"200"]


async def test_a_client_has_time_to_read_as_long_as_it_goes_on():
    protocol, wire = connect(Site(), write_s=60)
    start = protocol.loop.time()
    wire.unread = 100_000
    protocol.pause_writing()
    for seconds, unread in ((50, 80_000), (100, 60_000), (150, 40_000)):
        wire.unread = unread
        protocol.check_deadlines(start + seconds)
    wire.unread -= 100
    protocol.check_deadlines(start + 209)
    assert not wire.aborted
    protocol.check_deadlines(start + 212)
    assert wire.aborted


async def test_a_closing_connection_is_not_kept_for_a_client_that_does_not_read():
    protocol, wire = connect(Site(), linger_s=2)
    start = protocol.loop.time()
    wire.close()
    protocol.check_deadlines(start)
    protocol.check_deadlines(start + 1)
    assert not wire.aborted
    protocol.check_deadlines(start + 3)
    assert wire.aborted


async def test_nothing_after_a_close_is_done():
    site = Site()
    async with serving(site) as (_, port):
        await talk(port, get("/now?1", "Connection: close") + get("/now?2") + get("/cold"))
    assert site.calls == [b"1"]


async def test_a_trailer_is_no_header():
    trailed = get("/now", "Transfer-Encoding: chunked", method="POST") + b"0\r\nContent-Type: forged\r\n\r\n"
    for hot in (True, False):
        async with serving(Site(), hot=hot) as (_, port):
            assert b"POST|/now||-|\n" in await talk(port, trailed + LAST)


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
    assert {sample.name: sample.value for sample in server.samples()}["aldis_http_refusals_total"] == 1


async def test_endless_headers_are_refused_without_waiting_for_their_end():
    async with serving(Site(), max_head=10_000) as (_, port):
        for flood in (b"GET /" + b"x" * 1000, b"GET / HTTP/1.1\r\nX: " + b"x" * 1000):
            answer = await talk(port, flood, *[b"x" * 4000] * 30)
            assert answer.startswith(b"HTTP/1.1 431 ")


async def test_a_head_over_the_limit_is_refused_though_it_came_in_one_piece():
    protocol, wire = connect(Site(), max_head=10_000)
    protocol.data_received(get("/now", "X: " + "x" * 11_000))
    assert wire.sent.startswith(b"HTTP/1.1 431 ")


async def test_endless_chunks_are_refused_while_they_come():
    one = b"1\r\nx\r\n"
    async with serving(Site(), max_body=1000) as (_, port):
        for path in ("/now", "/cold"):
            head = get(path, "Transfer-Encoding: chunked", method="POST")
            assert (await talk(port, head, *[one * 100] * 30)).startswith(b"HTTP/1.1 413 ")


async def test_chunks_that_are_mostly_marks_are_refused():
    protocol, wire = connect(Site(), max_body=1000, max_head=1000)
    protocol.data_received(get("/now", "Transfer-Encoding: chunked", method="POST"))
    for _ in range(100):
        protocol.data_received(b"1;" + b"x" * 100 + b"\r\nx\r\n")
    assert wire.sent.startswith(b"HTTP/1.1 413 ")


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


async def test_a_later_request_has_its_own_time():
    async with serving(Site(), header_s=0.15, keep_alive_s=PATIENCE * 2, linger_s=0.1) as (_, port):
        answer = await talk(port, get("/now"), get("/now")[:-2])
    assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"200", b"408"]


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
    site = Site()
    protocol, _ = connect(site)
    protocol.data_received(get("/cold/waits") + get("/now"))
    async with asyncio.timeout(PATIENCE):
        while not site.calls:
            await asyncio.sleep(0)
        protocol.connection_lost(None)
        await asyncio.gather(*protocol.server_state.tasks)
    assert site.calls == [b"waits", b"left"]


async def test_a_half_sent_body_is_let_go_when_its_client_leaves():
    protocol, _ = connect(Site())
    protocol.data_received(get("/cold", "Content-Length: 5", method="POST") + b"ab")
    assert protocol.lane.buffered == 2
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


# ------------------------------------------------------------------------------------------------- on uvloop

ON_UVLOOP = [
    test_endless_headers_are_refused_without_waiting_for_their_end,
    test_endless_chunks_are_refused_while_they_come,
    test_an_answer_given_before_the_body_ended_is_not_followed_by_a_refusal,
    test_bodies_of_all_connections_together_are_bounded,
    test_a_connection_too_many_is_told_so,
    test_a_slow_answer_is_not_the_clients_fault,
    test_a_client_that_never_reads_takes_bounded_memory_and_is_cut,
    test_a_half_closed_client_still_gets_its_answer,
    test_a_client_that_leaves_disturbs_nobody,
    test_a_stop_lets_what_has_begun_finish_and_takes_nothing_new,
    test_a_stop_waits_no_longer_than_its_budget,
    test_a_cancelled_server_leaves_nothing_open,
]


@pytest.mark.parametrize("scenario", ON_UVLOOP, ids=lambda scenario: scenario.__name__.removeprefix("test_"))
def test_the_server_on_uvloop(scenario):
    pytest.importorskip("uvloop").run(scenario())


@pytest.mark.parametrize(("sent", "expected"), SLOW.values(), ids=SLOW)
def test_a_client_that_does_not_go_on_is_cut_on_uvloop(sent, expected):
    pytest.importorskip("uvloop").run(test_a_client_that_does_not_go_on_is_cut(sent, expected))
