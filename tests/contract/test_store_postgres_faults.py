"""When the database, or the network to it, fails: what was acknowledged is there, once; and all goes on by itself."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import pytest
from tests.conftest import make_tables
from tests.contract.postgres_proxy import Proxy, proxy
from tests.postgres import Binaries, Cluster, Server, home
from tests.stores import Postgres, postgres_opener, until_lost

from aldis.connectors.base import Accepted, Refused
from aldis.model.errors import LedgerUnavailable, NoCredits
from aldis.model.status import Status
from aldis.model.types import PushResult
from aldis.store.postgres import PostgresStore, lane
from aldis.store.postgres import connection as connections
from aldis.store.postgres.lane import Tx
from aldis.store.testing import Bench
from aldis.store.testing.bench import NOON

WRONG = Refused(0x0B, retryable=False)
LANES = ("intake 0", "news", "claims", "pushes")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "RECONNECT_S", 0.01)
    monkeypatch.setattr(lane, "PROBE_S", 0.05)
    monkeypatch.setattr(lane, "DOUBT_PAUSE_S", 0.02)


@pytest.fixture
def database(postgres_url: str) -> Iterator[Postgres]:
    database = Postgres(postgres_url)
    yield database
    database.close()


async def opened(url: str) -> Bench:
    bench = Bench(postgres_opener(url))
    await bench.open()
    return bench


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[Bench]:
    bench = await opened(postgres_url)
    yield bench
    await bench.store.close()


@pytest.fixture
async def network(postgres_url: str) -> AsyncIterator[Proxy]:
    async with proxy(postgres_url) as made:
        yield made


@pytest.fixture
async def remote(network: Proxy) -> AsyncIterator[Bench]:
    """A bench whose database is behind the network."""
    bench = await opened(network.url)
    yield bench
    await bench.store.close()


async def until(is_so: Callable[[], Any]) -> None:
    """Wait until something holds that nobody tells of."""
    async with asyncio.timeout(30):
        while not is_so():
            await asyncio.sleep(0.01)


def store_of(bench: Bench) -> PostgresStore:
    assert isinstance(bench.store, PostgresStore)
    return bench.store


async def works(bench: Bench, account: Any) -> None:
    """Use every lane and every kind of look-up."""
    message_id = await bench.send(account, WRONG)
    assert await bench.status(account, message_id) is Status.UNROUTABLE
    await bench.ledger.record_push_results(
        [PushResult(p.push_id, p.account_id, p.message_id, True, 1, None, "", NOON) for p in bench.pushes[-1:]]
    )
    assert await bench.store.find_account("ada") is not None
    assert await bench.store.queued_connectors() == []


# A commit in doubt


ways = pytest.mark.parametrize("number", [0, 7], ids=["with one statement", "with several"])
"""How a batch is written: those with a number of the customer's need more than one statement."""


# PROMISE-16
@ways
async def test_a_commit_whose_answer_was_lost_is_acknowledged_once(
    network: Proxy, remote: Bench, database: Postgres, number: int
) -> None:
    ada = await remote.account()
    batch = remote.batch(ada, [4915100000001], number=number)
    network.fate = "reply lost"
    async with asyncio.timeout(20):
        assert await remote.ledger.admit(batch) == batch.batch_id
    assert network.hit.is_set()
    await remote.claim()
    network.fate = "reply lost"
    async with asyncio.timeout(20):
        await remote.outcome(batch.last_message_id, (1, WRONG))
    assert [push.status for push in remote.pushes] == [Status.UNROUTABLE]
    assert await remote.status(ada, batch.last_message_id) is Status.UNROUTABLE
    assert database.look("SELECT count(*) FROM batches") == [(1,)]
    assert await remote.credits(ada) == 100_000
    await until(lambda: not remote.store.problems())


# PROMISE-16
@ways
async def test_a_commit_that_did_not_happen_is_refused_and_works_when_repeated(
    network: Proxy, remote: Bench, number: int
) -> None:
    ada = await remote.account()
    batch = remote.batch(ada, [4915100000001], number=number)
    network.fate = "never sent"
    with pytest.raises(LedgerUnavailable):
        await remote.ledger.admit(batch)
    assert await remote.ledger.find_report(ada.account_id, batch.batch_id, None) is None
    assert await remote.credits(ada) == 100_000
    [message_id] = await remote.submit(ada)
    await remote.claim()
    news = remote.submitted(message_id, (1, WRONG))
    network.fate = "never sent"
    with pytest.raises(LedgerUnavailable):
        await remote.ledger.record([news])
    assert not remote.pushes
    assert await remote.status(ada, message_id) is Status.IN_PROGRESS
    for _ in range(2):
        await remote.ledger.record([news])
    assert await remote.find(ada, message_id) == (Status.UNROUTABLE, NOON, 1)
    assert (len(await remote.history(message_id)), len(remote.pushes)) == (1, 1)
    assert await remote.credits(ada) == 100_000


async def test_of_a_group_whose_answer_was_lost_each_call_hears_its_own(network: Proxy, remote: Bench) -> None:
    """One could pay, one could not, and one has a number: what was not written is refused, and works when repeated."""
    ada, bob = await remote.account("ada"), await remote.account("bob", credits_milli=500)
    paid, unpaid = remote.batch(ada, [4915100000001]), remote.batch(bob, [4915100000002])
    numbered = remote.batch(ada, [4915100000003], number=7)
    network.fate = "reply lost"
    calls = [asyncio.ensure_future(remote.ledger.admit(batch)) for batch in (paid, unpaid, numbered)]
    async with asyncio.timeout(20):
        await network.hit.wait()
        network.open_to_new = False
        with pytest.raises(LedgerUnavailable):  # of this one nothing was sent: it need not wait for the database
            await calls[2]
        assert not calls[0].done() and not calls[1].done()
        network.open_to_new = True
        assert await calls[0] == paid.batch_id
        with pytest.raises(LedgerUnavailable):
            await calls[1]
    assert await remote.credits(ada) == 99_000
    assert await remote.ledger.admit(numbered) == numbered.batch_id
    with pytest.raises(NoCredits):
        await remote.ledger.admit(unpaid)
    assert (await remote.credits(ada), await remote.credits(bob)) == (98_000, 500)


async def test_what_one_statement_has_written_does_not_wait_for_the_rest_of_its_group(
    network: Proxy, remote: Bench
) -> None:
    ada = await remote.account()
    first, numbered = remote.batch(ada, [4915100000001]), remote.batch(ada, [4915100000003], number=7)
    passed = asyncio.ensure_future(remote.ledger.admit(first))
    held = asyncio.ensure_future(remote.ledger.admit(numbered))
    async with asyncio.timeout(20):
        await passed
        network.fate = "held"
        await network.hit.wait()
        assert not held.done()
        network.may_commit.set()
        assert await held == numbered.batch_id


# PROMISE-2
async def test_a_commit_is_asked_about_until_all_is_known(network: Proxy, remote: Bench) -> None:
    """The connection that asks is lost, too, between the question whether it happened and the one for its answers."""
    ada = await remote.account()
    batch = remote.batch(ada, [4915100000001])
    network.fate, network.cut_at = "reply lost", b"SELECT b.batch_id FROM unnest"
    async with asyncio.timeout(20):
        assert await remote.ledger.admit(batch) == batch.batch_id
    assert not network.cut_at, "it was asked on a connection that was lost"
    assert await remote.credits(ada) == 99_000


async def test_while_a_commit_is_in_doubt_its_callers_wait_and_others_go_on(network: Proxy, remote: Bench) -> None:
    """A connection is gone, and the server has not heard of it yet: the transaction may still be committed."""
    ada, bob = await remote.account("ada"), await remote.account("bob")
    batch = remote.batch(ada, [4915100000001], number=7)
    network.fate = "held"
    doubtful = asyncio.ensure_future(remote.ledger.admit(batch))
    async with asyncio.timeout(20):
        await network.hit.wait()
        await remote.submit(bob)
    assert not doubtful.done()
    network.may_commit.set()
    async with asyncio.timeout(20):
        assert await doubtful == batch.batch_id
    assert await remote.status(ada, batch.last_message_id) is Status.IN_PROGRESS


# PROMISE-16
async def test_a_statement_that_comes_late_does_not_write_what_was_refused(
    network: Proxy, remote: Bench, database: Postgres
) -> None:
    """It was on its way, with its client gone, when the database was asked what had become of it."""
    ada = await remote.account()
    await remote.submit(ada)
    batch = remote.batch(ada, [4915100000001])
    network.fate, network.hit = "held", asyncio.Event()
    with pytest.raises(LedgerUnavailable):
        await remote.ledger.admit(batch)
    network.hit.clear()
    network.may_commit.set()
    await network.hit.wait()
    assert database.look("SELECT count(*) FROM batches") == [(1,)]
    assert await remote.credits(ada) == 99_000
    await remote.submit(ada)


# PROMISE-16
async def test_a_statement_that_waits_for_a_lock_does_not_write_what_was_refused(
    bench: Bench, database: Postgres
) -> None:
    """Its first, on a line without a commit so far; its process goes on without knowing that its client is gone."""
    ada = await bench.account()
    intake = store_of(bench)._intake[0]
    intake._drop("so that the next line is a new one")
    blocker = await connections.connect(database.url, "blocker")
    async with blocker.transaction():
        await blocker.execute("SELECT FROM accounts FOR UPDATE")
        batch = bench.batch(ada, [4915100000001])
        doubtful = asyncio.ensure_future(bench.ledger.admit(batch))
        waits = "SELECT FROM pg_stat_activity WHERE application_name = 'aldis intake 0' AND wait_event_type = 'Lock'"
        await until(lambda: database.look(waits))
        assert intake._connection is not None
        intake._connection._transport.abort()  # type: ignore[attr-defined]
        with pytest.raises(LedgerUnavailable):
            await doubtful
        assert database.look(waits), "it would be written now"
    await blocker.close()
    await until(lambda: not database.look(waits))
    assert await bench.ledger.find_report(ada.account_id, batch.batch_id, None) is None
    assert await bench.credits(ada) == 100_000
    await bench.submit(ada)


async def test_a_store_that_is_closed_in_doubt_leaves_nobody_waiting(
    network: Proxy, remote: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "CLOSE_S", 0.1)
    ada = await remote.account()
    network.fate = "held"
    doubtful = asyncio.ensure_future(remote.submit(ada))
    async with asyncio.timeout(20):
        await network.hit.wait()
        await asyncio.sleep(0)
        network.open_to_new = False
        await remote.store.close()
        with pytest.raises(LedgerUnavailable):
            await doubtful


# Connections that are lost


@pytest.mark.parametrize("name", [*LANES, "reports", "accounts", "questions"])
async def test_a_lost_connection_is_made_again(bench: Bench, database: Postgres, name: str) -> None:
    ada = await bench.account()
    await works(bench, ada)
    assert database.cut(f"aldis {name}") >= 1
    async with asyncio.timeout(20):
        while True:
            try:
                await works(bench, ada)
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.01)
    assert not bench.store.problems()


async def test_what_was_under_way_on_a_lost_connection_is_refused_at_once(bench: Bench, database: Postgres) -> None:
    """Nothing of it is there, and the same again works."""
    ada = await bench.account()
    [message_id] = await bench.submit(ada)
    await bench.claim()
    news = bench.submitted(message_id, (1, WRONG))
    blocker = await connections.connect(database.url, "blocker")
    async with blocker.transaction():
        await blocker.execute("SELECT FROM messages FOR UPDATE")
        recorded = asyncio.ensure_future(bench.ledger.record([news]))
        waits = "SELECT FROM pg_stat_activity WHERE application_name = 'aldis news' AND wait_event_type = 'Lock'"
        await until(lambda: database.look(waits))
        database.cut("aldis news")
        async with asyncio.timeout(2):
            with pytest.raises(LedgerUnavailable):
                await recorded
    await blocker.close()
    assert await bench.status(ada, message_id) is Status.IN_PROGRESS
    await bench.ledger.record([news])
    assert await bench.status(ada, message_id) is Status.UNROUTABLE
    assert len(bench.pushes) == 1


async def test_without_a_database_calls_fail_at_once_and_it_is_known_when_it_is_back(
    network: Proxy, remote: Bench, database: Postgres
) -> None:
    """Nobody need call for that: who is told of the problem sends no calls."""
    ada = await remote.account()
    network.open_to_new = False
    database.cut("aldis %")
    await until_lost(store_of(remote))
    async with asyncio.timeout(5):
        for call in (remote.submit(ada), remote.claim(), remote.outcome(1, (1, WRONG)), remote.report(ada, 1)):
            with pytest.raises(LedgerUnavailable):
                await call
    assert remote.store.problems()
    network.open_to_new = True
    await until(lambda: not remote.store.problems())
    await works(remote, ada)


# PROMISE-1
async def test_a_crash_of_the_server_loses_nothing_that_was_acknowledged(postgres_binaries: Binaries) -> None:
    """The store goes on without being opened again, and says in between that it can't."""
    with Cluster(postgres_binaries, durable=True, parent=home(durable=False)) as cluster:
        cluster.create_database("ledger")
        make_tables(cluster.url("ledger"))
        bench = await opened(cluster.url("ledger"))
        ada = await bench.account(credits_milli=1_000_000)
        taken: list[int] = []
        refused = asyncio.Event()

        async def submit() -> None:
            while not (refused.is_set() and len(taken) > 50):
                try:
                    taken.extend(await bench.submit(ada))
                except LedgerUnavailable:
                    refused.set()
                    await asyncio.sleep(0.01)

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for _ in range(4):
                tasks.create_task(submit())
            await until(lambda: len(taken) > 20)
            await asyncio.to_thread(cluster.restart, "immediate")
        await until(lambda: not bench.store.problems())
        claimed = {due.message_id for due in await bench.claim(100_000)}
        assert claimed >= set(taken)
        assert await bench.credits(ada) == 1_000_000 - 1_000 * len(claimed)
        await bench.store.close()


@contextmanager
def stopped(database: Postgres, name: str) -> Iterator[None]:
    """Keep a connection's process from running."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND datname = current_database()"
    [(pid,)] = database.look(query, f"aldis {name}")
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("name", ["intake 0", "reports"])
async def test_a_server_that_does_not_answer_is_given_up_and_asked_anew(
    postgres_url: str, database: Postgres, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(connections, "COMMAND_S", 0.3)
    monkeypatch.setattr("aldis.store.postgres.engine.REPORT_CONNECTIONS", 1)
    bench = await opened(postgres_url)
    monkeypatch.setattr(connections, "COMMAND_S", 15.0)
    ada = await bench.account()
    [message_id] = await bench.submit(ada)
    said: list[str] = []
    execute = asyncpg.Connection.execute

    async def overheard(self: Any, query: str, *arguments: Any, **options: Any) -> str:
        said.append(query)
        return await execute(self, query, *arguments, **options)

    with stopped(database, name):
        with monkeypatch.context() as patch:
            patch.setattr(asyncpg.Connection, "execute", overheard)
            with pytest.raises(LedgerUnavailable):
                await (bench.submit(ada) if name == "intake 0" else bench.status(ada, message_id))
        assert "ROLLBACK" not in said, "it would not be answered, either"
        async with asyncio.timeout(10):
            await works(bench, ada)
    await bench.store.close()


async def test_a_stopped_process_that_holds_locks_makes_others_wait_and_no_longer_than_it_is_stopped(
    postgres_url: str, database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections._SETTINGS, "lock_timeout", "300ms")
    monkeypatch.setattr(connections, "COMMAND_S", 1.0)
    bench = await opened(postgres_url)
    ada = await bench.account()
    first, second = await bench.submit(ada, [4915100000001, 4915100000002])
    await bench.claim()
    news = [bench.submitted(one, (1, WRONG)) for one in (first, second)]
    blocker = await connections.connect(postgres_url, "blocker")
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SET LOCAL lock_timeout = 0; SELECT FROM messages WHERE message_id = 1", timeout=30)
    await blocker.execute("SELECT FROM queue FOR UPDATE", timeout=30)
    monkeypatch.setitem(connections._SETTINGS, "lock_timeout", "300ms")
    recorded = asyncio.ensure_future(bench.ledger.record(news))
    waits = "SELECT FROM pg_stat_activity WHERE application_name = 'aldis news' AND wait_event_type = 'Lock'"
    await until(lambda: database.look(waits))
    with stopped(database, "news"):
        await transaction.rollback()
        with pytest.raises(LedgerUnavailable):
            await recorded
        with pytest.raises(LedgerUnavailable):
            await bench.ledger.record(news)
        await bench.submit(ada)
    async with asyncio.timeout(20):
        while True:
            try:
                await bench.ledger.record(news)
                break
            except LedgerUnavailable:
                await asyncio.sleep(0.01)
    assert [await bench.status(ada, one) for one in (first, second)] == [Status.UNROUTABLE] * 2
    assert (len(bench.pushes), await bench.credits(ada)) == (2, 99_000)
    await blocker.close()
    await bench.store.close()


# A database that can't be written


async def test_a_database_that_can_only_be_read_refuses_and_recovers(bench: Bench, database: Postgres) -> None:
    ada = await bench.account()
    message_id = await bench.send(ada, Accepted("a1"))
    async with database.refuse_writes(store_of(bench)):
        for call in (bench.submit(ada), bench.receipt("a1"), bench.claim()):
            with pytest.raises(LedgerUnavailable):
                await call
        assert await bench.status(ada, message_id) is Status.DELIVERED_UPSTREAM, "reads go on"
        assert any("read-only" in problem for problem in bench.store.problems())
    await until(lambda: not bench.store.problems())
    await bench.receipt("a1")
    assert await bench.status(ada, message_id) is Status.DELIVERED
    await works(bench, ada)


FULL = """
CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER full_disk BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION full_disk()
"""


async def test_a_full_disk_is_a_problem_until_something_was_written(
    bench: Bench, database: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "PROBE_S", 60.0)
    ada = await bench.account()
    await bench.send(ada, WRONG)
    for statement in FULL.format(table="pushes").split(";\nCREATE"):
        database.look(statement if "FUNCTION full_disk() RETURNS" in statement else f"CREATE{statement}")
    [push] = bench.pushes
    done = PushResult(push.push_id, push.account_id, push.message_id, True, 1, None, "", NOON)
    with pytest.raises(LedgerUnavailable):
        await bench.ledger.record_push_results([done])
    assert "No space left" in bench.store.problems()[0]
    assert await bench.ledger.due_pushes(NOON, 10) == [push], "it was not half done, and can be read"
    assert bench.store.problems(), "a transaction that wrote nothing proves nothing"
    database.look("DROP FUNCTION full_disk CASCADE")
    await bench.ledger.record_push_results([done])
    assert not bench.store.problems()
    assert not await bench.ledger.due_pushes(NOON, 10)


async def test_a_database_that_lets_nobody_in_any_more_is_a_problem(
    bench: Bench, database: Postgres, postgres: Server
) -> None:
    ada = await bench.account()
    name = database.url.rpartition("/")[2]
    database.look("SELECT 'connected before nobody can'")
    postgres.fetch(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    database.cut("aldis %")
    await until_lost(store_of(bench))
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            await bench.submit(ada)
    assert "not currently accepting connections" in " ".join(bench.store.problems())
    postgres.fetch(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await until(lambda: not bench.store.problems())
    await works(bench, ada)


async def test_a_privilege_that_was_taken_away_makes_outcomes_wait_and_loses_none(
    bench: Bench, database: Postgres
) -> None:
    """It is no fault of theirs: who gets anything but LedgerUnavailable drops the news that it could not record."""
    ada = await bench.account()
    [message_id] = await bench.submit(ada)
    await bench.claim()
    news = bench.submitted(message_id, (1, WRONG))
    database.look("ALTER TABLE events RENAME TO gone")
    database.cut("aldis %")
    for _ in range(2):
        with pytest.raises(LedgerUnavailable):
            await bench.ledger.record([news])
    assert bench.store.problems()
    database.look("ALTER TABLE gone RENAME TO events")
    await bench.ledger.record([news])
    assert await bench.status(ada, message_id) is Status.UNROUTABLE


# Locks that somebody holds


async def test_a_customer_whose_row_is_held_does_not_hold_up_the_others(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connections._SETTINGS, "lock_timeout", "100ms")
    monkeypatch.setattr(lane, "_SINGLY", "SET LOCAL lock_timeout = '1s'")
    monkeypatch.setattr(lane, "_LOCKS_TO_WAIT_FOR", 2)
    bench = await opened(postgres_url)
    ada, bob = await bench.account("ada"), await bench.account("bob")
    blocker = await connections.connect(postgres_url, "blocker")
    async with blocker.transaction():
        await blocker.execute("SELECT FROM accounts WHERE username = 'ada' FOR UPDATE")
        calls = [bench.submit(ada) for _ in range(40)]
        async with asyncio.timeout(20):
            ends = await asyncio.gather(*calls, bench.submit(bob), return_exceptions=True)
        assert [type(end) for end in ends] == [*[LedgerUnavailable] * 40, list]
    await bench.submit(ada)
    assert await bench.credits(ada) == 99_000
    await blocker.close()
    await bench.store.close()


async def test_a_bug_in_one_call_is_heard_of_by_that_call_alone(bench: Bench) -> None:
    async def poisoned(tx: Tx, items: list[Any]) -> list[Any]:
        raise ZeroDivisionError

    ada = await bench.account()
    intake = store_of(bench)._intake[0]
    ends = await asyncio.gather(
        bench.submit(ada), intake.call(poisoned, (1,)), bench.submit(ada), return_exceptions=True
    )
    assert isinstance(ends[1], ZeroDivisionError)
    assert not isinstance(ends[0], BaseException) and not isinstance(ends[2], BaseException)
    assert await bench.credits(ada) == 98_000
    assert not bench.store.problems()
