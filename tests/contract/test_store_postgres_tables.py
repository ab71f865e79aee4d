"""What the shared store's tables promise: claims past dead rows, partitions that come and go, migrations, any text."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
from tests.contract.postgres_nodes import Site, result, site
from tests.contract.test_store_postgres_plans import plan_of
from tests.postgres import Server, fresh_database
from tests.stores import Postgres, postgres_opener

from aldis.connectors.base import Accepted, Refused
from aldis.ledger import Ended
from aldis.model.errors import LedgerUnavailable, SettingsError
from aldis.model.status import Status
from aldis.store import migrate as migrations
from aldis.store.migrate import Migration
from aldis.store.postgres import PostgresStore, engine, partitions
from aldis.store.postgres import connection as connections
from aldis.store.postgres.connection import connect
from aldis.store.postgres.migrate import migrate
from aldis.store.rows import DAY_MS
from aldis.store.testing import Bench
from aldis.store.testing.bench import NOON

WEEK_MS = 7 * DAY_MS
WRONG = Refused(0x0B, retryable=False)


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[Site]:
    async with site(postgres_url) as made:
        yield made


@pytest.fixture
async def bench(postgres_url: str) -> AsyncIterator[Bench]:
    bench = Bench(postgres_opener(postgres_url))
    await bench.open()
    yield bench
    await bench.store.close()


# The low-water mark


async def test_what_became_due_behind_the_mark_is_claimed_within_the_sweep(
    bench: Bench, db: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed late, or given back far in the past: claims begin at the mark, and the sweep sets that back."""
    monkeypatch.setattr(engine, "MARK_SWEEP_S", 0.02)
    monkeypatch.setattr(engine, "MARK_SWEEP_SHARE", 0)
    await bench.reopen()
    ada = await bench.account()
    for late_ms in (1_000, 3_600_000):
        await bench.submit(ada)
        assert len(await bench.claim()) == 1
        late = bench.batch(ada, [4915100000002], due_at=NOON - late_ms)
        await bench.ledger.admit(late)
        async with asyncio.timeout(20):
            while not (dues := await bench.claim()):
                await asyncio.sleep(0.01)
        assert [due.message_id for due in dues] == [late.last_message_id]


async def test_a_claim_under_way_does_not_undo_what_the_sweep_has_found(
    bench: Bench, db: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a busy connector's late messages would wait until it is idle."""
    monkeypatch.setattr(engine, "MARK_SWEEP_S", 3_600.0)
    await bench.reopen()
    ada = await bench.account()
    store = bench.store
    assert isinstance(store, PostgresStore)
    await bench.submit(ada, [4915100000001, 4915100000002])
    await bench.claim(1)
    assert store._marks["north"] == NOON - engine.LATE_COMMIT_MS
    await bench.ledger.admit(bench.batch(ada, [4915100000003], due_at=NOON - 60_000))
    under_way = asyncio.ensure_future(bench.claim(1))
    await asyncio.sleep(0)
    store._marks["north"] = NOON - 60_000  # the sweep
    await under_way
    assert [due.msisdn for due in await bench.claim(1)] == [4915100000003]


async def test_what_is_committed_a_little_late_needs_no_sweep(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MARK_SWEEP_S", 3_600.0)
    await bench.reopen()
    ada = await bench.account()
    await bench.submit(ada)
    await bench.claim()
    await bench.ledger.admit(bench.batch(ada, [4915100000002], due_at=NOON - 500))
    assert len(await bench.claim()) == 1


async def test_a_snapshot_held_open_does_not_make_claims_read_what_is_dead(bench: Bench, db: Site) -> None:
    """As a backup does for hours: rows that were claimed and sent since can't be cleaned away."""
    ada = await bench.account(credits_milli=10_000_000)
    snapshot = await asyncpg.connect(db.url)
    transaction = snapshot.transaction(isolation="repeatable_read")
    await transaction.start()
    await snapshot.fetch("SELECT count(*) FROM queue")
    for n in range(10):
        bench.now = NOON + n * 1_000
        await bench.ledger.admit(bench.batch(ada, range(4915100000000, 4915100000500), price=1))
        dues = await bench.claim(10_000)
        await bench.ledger.record([bench.submitted(due.message_id, (1, Accepted(f"{due.message_id}"))) for due in dues])
    assert await db.rows("SELECT count(*) FROM queue") == [(0,)]
    await db.connection.execute("VACUUM queue")
    store = bench.store
    assert isinstance(store, PostgresStore)
    connection = await connect(db.url, "plans")
    read = {}
    for since in (0, store._marks["north"]):
        values = ("'north'", str(since), str(bench.now), "100", "1", "0", "1", "1")
        plan = await plan_of(connection, "claim", *values, how="ANALYZE, BUFFERS, COSTS OFF, TIMING OFF")
        [look] = re.findall(r"Index Scan using queue_due.*\n\s+Index Cond.*\n\s+Buffers: shared hit=(\d+)", plan)
        read[since > 0] = int(look)
    assert read[True] * 5 < read[False], "from the beginning, it reads every dead row"
    await transaction.rollback()
    await snapshot.close()
    await connection.close()


# Partitions


async def names(db: Site, table: str) -> set[str]:
    rows = await db.rows(
        "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1)",
        table,
    )
    return {name for (name,) in rows}


async def test_partitions_are_made_ahead_of_time(bench: Bench, db: Site) -> None:
    week, today = partitions.week_of(NOON), NOON // DAY_MS
    for table in partitions.WEEKLY:
        wanted = {f"{table}_{(week + n * WEEK_MS) // DAY_MS}" for n in range(-1, partitions.WEEKS_AHEAD)}
        assert await names(db, table) == {*wanted, f"{table}_rest"}
    wanted = {f"upstream_ids_{today + n}" for n in range(-1, partitions.DAYS_AHEAD)}
    assert await names(db, "upstream_ids") == {*wanted, "upstream_ids_rest"}
    before = await names(db, "messages")
    await bench.store.tidy(NOON + WEEK_MS)
    after = await names(db, "messages")
    assert after - before == {f"messages_{(week + partitions.WEEKS_AHEAD * WEEK_MS) // DAY_MS}"}
    assert week % WEEK_MS == 4 * DAY_MS, "weeks begin on Mondays"


async def test_rows_of_a_time_without_a_partition_are_kept_and_found(bench: Bench, db: Site) -> None:
    """A clock far ahead, or a night in which no partition could be made."""
    ada = await bench.account()
    bench.now = NOON + 400 * DAY_MS
    sent = await bench.send(ada, Accepted("a1"), Accepted("b1"))
    assert await db.rows("SELECT count(*) FROM messages_rest") == [(1,)]
    assert await db.rows("SELECT count(*) FROM upstream_ids_rest") == [(2,)]
    await bench.receipt("a1")
    await bench.receipt("b1")
    assert await bench.status(ada, sent) is Status.DELIVERED
    await bench.store.tidy(bench.now)
    [queued] = await bench.submit(ada)
    assert [due.message_id for due in await bench.claim()] == [queued]
    assert (await bench.status(ada, sent), len(await bench.history(sent))) == (Status.DELIVERED, 3)


async def test_what_upstreams_called_parts_goes_by_the_day(bench: Bench, db: Site) -> None:
    ada = await bench.account()
    old = await bench.send(ada, Accepted("old"))
    bench.now += 14 * DAY_MS
    await bench.store.tidy(bench.now)
    await bench.receipt("old", "ENROUTE")
    assert (await bench.find(ada, old))[2] == 2, "it is found for so long"
    new = await bench.send(ada, Accepted("new"))
    bench.now += 2 * DAY_MS
    await bench.store.tidy(bench.now)
    kept = {name for name in await names(db, "upstream_ids") if not name.endswith("_rest")}
    assert min(kept) > f"upstream_ids_{NOON // DAY_MS}"
    await bench.receipt("old")
    await bench.receipt("new")
    assert await bench.parked() == 1
    assert await bench.status(ada, new) is Status.DELIVERED


async def keeping(url: str, days: int) -> Bench:
    """Open a bench whose store keeps messages for so many days."""
    bench = Bench(postgres_opener(url, retention_ms=days * DAY_MS))
    await bench.open()
    return bench


# PROMISE-5
async def test_weeks_past_retention_go_and_the_books_still_add_up(postgres_url: str, db: Site) -> None:
    bench = await keeping(postgres_url, 30)
    ada, bob = await bench.account("ada"), await bench.account("bob")
    old = [await bench.send(ada, WRONG), await bench.send(ada, Accepted("a1")), await bench.send(bob, Accepted("b1"))]
    for push in bench.pushes:
        await bench.ledger.record_push_results([result(push)])
    bench.now += 20 * DAY_MS
    kept = await bench.send(bob, WRONG)
    database = Postgres(postgres_url)
    before = database.books()
    bench.now = partitions.week_of(NOON) + WEEK_MS + 30 * DAY_MS - 1
    await bench.store.tidy(bench.now)
    assert await bench.status(ada, old[0]) is Status.UNROUTABLE, "its week has not ended for so long"
    bench.now += 3_600_000 + 1
    await bench.store.tidy(bench.now)
    for account, message_id in zip((ada, ada, bob), old, strict=True):
        assert await bench.ledger.find_report(account.account_id, bench.batch_of(message_id), None) is None
    assert await bench.status(bob, kept) is Status.UNROUTABLE
    assert database.books() == before == dict(await db.rows("SELECT account_id, credits_milli FROM accounts"))
    assert await db.rows("SELECT account_id, carried_charges, carried_refunds FROM accounts ORDER BY account_id") == [
        (ada.account_id, 2_000, 1_000),
        (bob.account_id, 1_000, 0),
    ]
    database.close()
    await bench.store.close()


async def test_a_week_stays_while_something_of_it_waits(postgres_url: str, db: Site) -> None:
    """To be sent, or to be told; what was told in vain for the last time waits no more."""
    bench = await keeping(postgres_url, 1)
    ada = await bench.account()
    late = bench.batch(ada, [4915100000001], due_at=NOON + 60 * DAY_MS)
    await bench.ledger.admit(late)
    week = f"messages_{partitions.week_of(NOON) // DAY_MS}"

    async def stays(after_days: int) -> bool:
        bench.now = NOON + after_days * DAY_MS
        await bench.store.tidy(bench.now)
        return week in await names(db, "messages")

    assert await stays(20)
    bench.now = NOON + 60 * DAY_MS
    await bench.claim()
    await bench.outcome(late.last_message_id, (1, WRONG))
    [push] = bench.pushes
    assert await stays(61)
    await bench.ledger.record_push_results([result(push, delivered=False)])
    assert not await stays(62)
    await bench.store.close()


async def test_tables_that_others_hold_are_left_for_later_and_nobody_waits_long(postgres_url: str, db: Site) -> None:
    """A backup holds all tables for hours: who wants to change one must not let all writers stand behind it."""
    bench = await keeping(postgres_url, 1)
    ada = await bench.account()
    await bench.submit(ada)
    await db.connection.execute("UPDATE queue SET due_at = due_at; DELETE FROM queue")
    week = f"messages_{partitions.week_of(NOON) // DAY_MS}"
    later = NOON + 60 * DAY_MS
    async with db.transaction() as backup:
        await backup.connection.execute(f"LOCK TABLE messages, {week}, upstream_ids IN ACCESS SHARE MODE")
        async with asyncio.timeout(5):
            assert await bench.store.tidy(later) == 0
        assert week in await names(db, "messages")
        bench.now = later
        await bench.submit(ada)
    await bench.store.tidy(later + 59_999)
    assert week in await names(db, "messages"), "it was tried a moment ago"
    await bench.store.tidy(later + 60_000)
    assert week not in await names(db, "messages")
    await bench.store.close()


# Migrations, and the first look at a server


async def test_nodes_that_start_at_once_make_the_tables_once(empty_postgres_url: str) -> None:
    url = empty_postgres_url
    open_store = postgres_opener(url)
    async with asyncio.timeout(60):
        stores = await asyncio.gather(*(open_store(lambda _: None) for _ in range(4)))
    connection = await asyncpg.connect(url)
    numbers = [row[0] for row in await connection.fetch("SELECT number FROM migrations ORDER BY number")]
    assert numbers == [one.number for one in migrations.available("postgres")]
    assert await migrate(connection) == 0
    await connection.close()
    for store in stores:
        await store.close()


async def test_partitions_too_are_made_once_by_nodes_that_start_at_once(postgres_url: str) -> None:
    """Of which there are none for their time: they were off for a while."""
    later = NOON + 365 * DAY_MS
    async with asyncio.timeout(60):
        stores = await asyncio.gather(
            *(PostgresStore.open(postgres_url, print, lambda: later, must_be_durable=False) for _ in range(4))
        )
    for store in stores:
        await store.close()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE migrations SET checksum = 'other' WHERE number = 1", "differs from the one that made this ledger"),
        ("INSERT INTO migrations VALUES (9999, 'from_the_future', 'x')", r"is newer \(migration 9999\)"),
    ],
    ids=["changed", "newer"],
)
async def test_a_ledger_of_another_program_is_refused_and_left_alone(db: Site, change: str, complaint: str) -> None:
    await db.connection.execute(change)
    tables = await db.rows("SELECT relname FROM pg_class ORDER BY relname")
    for _ in range(2):
        with pytest.raises(SettingsError, match=complaint):
            await postgres_opener(db.url)(lambda _: None)
    assert await db.rows("SELECT relname FROM pg_class ORDER BY relname") == tables
    ours = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    assert await db.rows(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND {ours}") == [(0,)]


async def test_a_migration_that_fails_leaves_no_half_of_itself(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = migrations.available("postgres")
    bad = [*good, Migration(len(good) + 1, "9998_bad", "CREATE TABLE half (a INT); INSERT INTO nowhere VALUES (1);")]
    connection = await asyncpg.connect(empty_postgres_url)
    monkeypatch.setattr(migrations, "available", lambda engine: bad)
    with pytest.raises(asyncpg.UndefinedTableError):
        await migrate(connection)
    assert await connection.fetchval("SELECT to_regclass('half')") is None
    assert await connection.fetchval("SELECT to_regclass('messages')") is not None
    monkeypatch.setattr(migrations, "available", lambda engine: good)
    assert await migrate(connection) == 0
    await connection.close()


async def test_a_node_that_waits_too_long_for_another_s_change_says_so(
    db: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partitions, "WAIT_S", 0.1)
    await db.connection.execute("SELECT pg_advisory_lock($1)", partitions.LOCK)
    with pytest.raises(SettingsError, match="another node has been changing the tables"):
        await postgres_opener(db.url)(lambda _: None)


async def test_a_server_that_may_lose_what_was_committed_is_refused_unless_told_otherwise(
    db: Site, postgres: Server
) -> None:
    if postgres.fetch("SHOW fsync")[0][0] == "on":
        pytest.skip("this server is durable")
    with pytest.raises(SettingsError, match="fsync is off there: it would lose what was acknowledged; set it on"):
        await PostgresStore.open(db.url, lambda _: None, lambda: NOON)
    store = await PostgresStore.open(db.url, lambda _: None, lambda: NOON, must_be_durable=False)
    await store.close()


@pytest.mark.parametrize("setting", ["off", "local"])
async def test_a_commit_waits_for_the_disk_whatever_the_database_s_default(db: Site, setting: str) -> None:
    name = db.url.rpartition("/")[2]
    await db.connection.execute(f"ALTER DATABASE {name} SET synchronous_commit = {setting}")
    connection = await connect(db.url, "test")
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    await connection.close()


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql://postgres:{SECRET}@127.0.0.1:1/x", "nothing listens there; is PostgreSQL running"),
        ("postgresql://postgres:{SECRET}@{HOST}/no_such_database", "does not exist: create it with ENCODING 'UTF8'"),
        ("postgresql://nobody_of_this_name:{SECRET}@{HOST}/postgres", "are user and password right"),
        ("http://postgres:{SECRET}@{HOST}/x", "it is not understood: postgresql://user:password@host"),
        ("postgresql://postgres:a/{SECRET}@{HOST}/x", "with %40 for @ and %2F for / in names"),
        ("postgresql://postgres:{SECRET}#b@{HOST}/x", "it is not understood"),
        ("postgresql://postgres:a?{SECRET}@{HOST}/x", "it is not understood"),
    ],
    ids=["no server", "no database", "no such user", "scheme", "slash", "hash", "question mark"],
)
async def test_a_database_that_can_t_be_used_is_named_with_what_to_do_and_without_the_password(
    postgres: Server, url: str, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    host = re.sub(r".*@", "", postgres.url("x")).partition("/")[0]
    with pytest.raises(SettingsError) as caught:
        await PostgresStore.open(url.format(SECRET=SECRET, HOST=host), lambda _: None, lambda: NOON)
    said = str(caught.value)
    assert said.startswith("the database of ledger.url can't be used: ") and complaint in said
    assert SECRET not in said and caught.value.__cause__ is None


async def test_a_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "CONNECT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(SettingsError, match="no answer in time"):
            await PostgresStore.open(f"postgresql://a@127.0.0.1:{port}/x", lambda _: None, lambda: NOON)


async def test_a_store_that_can_t_be_opened_whole_leaves_no_connection(
    postgres: Server, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, opened = connect, 0

    async def limited(url: str, name: str, **options: Any) -> Any:
        nonlocal opened
        opened += 1
        if opened > 3:
            raise asyncpg.TooManyConnectionsError("sorry, too many clients already")
        return await original(url, name, **options)

    monkeypatch.setattr("aldis.store.postgres.lane.connect", limited)
    with pytest.raises(SettingsError, match="too many clients"):
        await postgres_opener(postgres_url)(lambda _: None)
    async with asyncio.timeout(10):
        while postgres.backend_pids(postgres_url.rpartition("/")[2]):
            await asyncio.sleep(0.01)


async def test_a_database_in_another_encoding_is_refused(postgres: Server) -> None:
    with fresh_database(postgres) as url:
        name = url.rpartition("/")[2]
        postgres.drop_database(name)
        postgres.fetch(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        with pytest.raises(SettingsError, match="its encoding is not UTF8: create it with ENCODING 'UTF8'"):
            await postgres_opener(url)(lambda _: None)


# What customers and upstreams write


async def test_text_and_octets_of_any_kind_are_kept(bench: Bench, db: Site) -> None:
    """NUL, which PostgreSQL's text can't hold, is shown as its symbol; characters of four bytes are as they are."""
    ada = await bench.account()
    batch = bench.batch(ada, [4915100000001])
    fields = {name: getattr(batch, name) for name in batch.__struct_fields__}
    body = bytes(range(256)) * 2
    odd = type(batch)(**fields | {"body": body, "originator": "a\0b😀", "source_id": "\0\U0010ffff"})
    await bench.ledger.admit(odd)
    report = await bench.report(ada, batch.batch_id)
    assert (report.body, report.originator, report.source_id) == (body, "a␀b😀", "␀\U0010ffff")
    [due] = await bench.claim()
    assert due.body == body
    await bench.outcome(batch.last_message_id, (1, Accepted("id\0😀")))
    await bench.receipt("id\0😀", "UNDELIV")
    assert await bench.status(ada, batch.last_message_id) is Status.FAILED_PHONE
    [push] = bench.pushes
    await bench.ledger.record_push_results([result(push, next_at=NOON)])
    await bench.receipt("nobody\0s")
    assert await bench.parked() == 1
    assert [event.upstream_id for event in await bench.history(batch.last_message_id)] == ["id␀😀", "id␀😀", ""]


async def test_an_early_receipt_with_a_nul_in_its_id_finds_its_message(bench: Bench) -> None:
    ada = await bench.account()
    [message_id] = await bench.submit(ada)
    await bench.claim()
    await bench.receipt("a\0b")
    await bench.outcome(message_id, (1, Accepted("a\0b")))
    assert await bench.status(ada, message_id) is Status.DELIVERED


async def test_an_id_as_long_as_an_upstream_can_make_it_is_kept_or_refused_alone(bench: Bench) -> None:
    ada = await bench.account()
    message_id = await bench.send(ada, Accepted("a1"))
    ends = await asyncio.gather(
        bench.receipt("".join(map(chr, range(256, 4_000)))), bench.receipt("a1"), return_exceptions=True
    )
    assert ends[1] is None
    assert await bench.status(ada, message_id) is Status.DELIVERED


@pytest.mark.parametrize("name", ["\ud800", "nobody\0"])
async def test_a_name_that_no_account_can_have_hinders_no_other_look_up(bench: Bench, name: str) -> None:
    await bench.account("ada")
    calls = [bench.store.find_account(one) for one in ("ada", name, "bob")]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert getattr(ends[0], "username", "") == "ada"
    assert ends[1] is None or isinstance(ends[1], LedgerUnavailable)
    assert ends[2] is None


async def test_a_batch_id_beyond_64_bits_hinders_no_other_look_up(bench: Bench) -> None:
    ada = await bench.account()
    [message_id] = await bench.submit(ada)
    calls = [bench.ledger.find_report(ada.account_id, one, None) for one in (bench.batch_of(message_id), 1 << 70, 5)]
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert getattr(ends[0], "batch_id", 0) == bench.batch_of(message_id)
    assert ends[2] is None


async def test_a_message_due_since_ever_leaves_the_queue_when_it_is_over(bench: Bench) -> None:
    """A time of zero is a time: such a message would be sent although it is over."""
    ada = await bench.account()
    batch = bench.batch(ada, [4915100000001], due_at=0)
    await bench.ledger.admit(batch)
    key = bench.key_of(batch.last_message_id)
    await bench.ledger.record([Ended(*key, bench.ledger.next_id(), NOON, Status.EXPIRED, "too late")])
    assert not await bench.claim()
    state = await bench.store.queue_state(NOON)
    assert (state.due, state.leased) == (0, 0)
