"""The push client's connections, against real servers on the loopback: kept, bounded, refused, verified."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest
from push_receiver import OK, Call, Make, http, receiver, until

from aldis.push.client import Answer, PushFailed
from aldis.push.guard import EgressGuard, SockAddr

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


async def test_a_resend_never_trusts_another_kept_connection(make: Make) -> None:
    both = asyncio.Barrier(2)

    async def behave(call: Call) -> None:
        if call.number < 2:
            await both.wait()
        if call.number >= 2 and call.connection < 2:
            call.close()
        else:
            await call.send(OK)

    async with receiver(behave) as there:
        client = make()
        url = f"http://127.0.0.1:{there.port}/"
        await asyncio.gather(client.get(url, "n=0"), client.get(url, "n=1"))
        assert (await client.get(url, "n=2")).status == 200
    assert (client.resent, there.connections) == (1, 3)


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


async def test_a_wake_up_that_comes_too_late_is_passed_on(make: Make) -> None:
    release = asyncio.Event()

    async def behave(call: Call) -> None:
        await release.wait()
        await call.send(OK)

    async with receiver(behave) as there:
        client = make(per_host=1)
        url = f"http://127.0.0.1:{there.port}/"

        async def first() -> None:
            await client.get(url, "n=0")
            second.cancel()  # it has been woken, and has not run yet

        leading = asyncio.ensure_future(first())
        await there.count(1)
        second = asyncio.ensure_future(client.get(url, "n=1"))
        third = asyncio.ensure_future(client.get(url, "n=2"))
        await asyncio.sleep(0)
        release.set()
        async with asyncio.timeout(5):
            await leading
            assert (await third).status == 200
        with pytest.raises(asyncio.CancelledError):
            await second
    assert there.targets == ["/?n=0", "/?n=2"]


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


# EAPI-66 PROMISE-11
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


# EAPI-66 PROMISE-11
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
    with pytest.raises(PushFailed, match=r"host not (found|looked up)"):
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
