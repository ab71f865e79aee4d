"""A ledger that was copied is the same ledger, and one that is not the same is not taken for it."""

import asyncio
import random
import shutil
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import apsw
import asyncpg
import pytest
from tests.ledgers import Traffic, picture
from tests.postgres import Server, fresh_database
from tests.stores import postgres_opener, sqlite_opener

from aldis.connectors.base import Accepted, Unknown
from aldis.model.errors import SettingsError
from aldis.model.status import Status
from aldis.service.ledger_check import check
from aldis.service.ledger_copy import Incomplete, copy
from aldis.service.ledger_place import LedgerPlace
from aldis.store.postgres import PostgresStore, transfer
from aldis.store.sqlite import SqliteStore
from aldis.store.sqlite.backup import back_up, restore
from aldis.store.testing import Bench
from aldis.store.testing.bench import DAY_MS, NOON
from aldis.store.transfer import TABLES

STEPS = 300


async def made(directory: Path, seed: int, steps: int = STEPS) -> Traffic:
    """Run traffic on a new SQLite ledger, and close it."""
    bench = Bench(sqlite_opener(directory))
    await bench.open()
    traffic = Traffic(bench, seed)
    await traffic.open_accounts()
    await traffic.run(steps)
    await bench.store.remember_last_id(bench.ledger.ids.last)
    await bench.store.close()
    return traffic


@pytest.fixture
def source(tmp_path: Path) -> LedgerPlace:
    return LedgerPlace(tmp_path / "data", "")


@pytest.fixture
def target(postgres_url: str) -> LedgerPlace:
    return LedgerPlace(None, postgres_url)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def opened(traffic: Traffic, place: LedgerPlace) -> Traffic:
    """Go on with traffic on a ledger."""
    opener = postgres_opener(place.url) if place.directory is None else sqlite_opener(place.directory)
    bench = Bench(opener)
    other = traffic.on(bench)
    now = bench.now
    await bench.open()
    bench.now = now
    return other


async def compare(*both: Traffic) -> None:
    one, other = [await picture(traffic) for traffic in both]
    assert {key: (one[key], other[key]) for key in one if one[key] != other[key]} == {}


async def sound(place: LedgerPlace) -> None:
    assert (await check(place, quick=False)).findings == []


@pytest.mark.parametrize("seed", range(3))
async def test_a_copy_is_the_same_ledger_and_goes_on_as_it(source: LedgerPlace, target: LedgerPlace, seed: int) -> None:
    """I1 to I6 hold across the move: every report, history, credit, queue and push, and what comes of them later."""
    traffic = await made(source.directory or Path(), seed)
    done = await copy(source, target, NOON, chunk=7)
    assert done.rows == done.copied > STEPS
    here, there = await opened(traffic, source), await opened(traffic, target)
    await compare(here, there)
    await asyncio.gather(here.run(150), there.run(150))
    await compare(here, there)
    await here.bench.store.close()
    await there.bench.store.close()
    await sound(source)
    await sound(target)


async def test_a_copy_goes_back_too(source: LedgerPlace, target: LedgerPlace, tmp_path: Path) -> None:
    traffic = await made(source.directory or Path(), 11)
    await copy(source, target, NOON)
    back = LedgerPlace(tmp_path / "back", "")
    await copy(target, back, NOON, chunk=50)
    here, there = await opened(traffic, source), await opened(traffic, back)
    await compare(here, there)
    await here.run(100)
    await there.run(100)
    await compare(here, there)
    await here.bench.store.close()
    await there.bench.store.close()
    await sound(back)


COPY = """
import asyncio, sys
from pathlib import Path
from aldis.service.ledger_copy import copy
from aldis.service.ledger_place import parse_place

def told(step, table, done, total):
    print(step, table, flush=True)

print(asyncio.run(copy(parse_place(sys.argv[1]), parse_place(sys.argv[2]), 0, chunk=int(sys.argv[3]), on_rows=told)))
"""


async def killed(source: LedgerPlace, target: LedgerPlace, after: int) -> bool:
    """Copy in another process, and kill it once it has told of so many pieces; tell whether it was done before."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", COPY, source.shown, target.url, "20", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    for _ in range(after):
        if not await process.stdout.readline():
            break
    if process.returncode is None:
        process.kill()
    rest = await process.stdout.read()
    await process.wait()
    return b"Copied" in rest


@pytest.mark.parametrize("seed", range(3))
async def test_a_copy_that_is_killed_goes_on_and_doubles_nothing(
    source: LedgerPlace, target: LedgerPlace, seed: int
) -> None:
    traffic = await made(source.directory or Path(), 20 + seed)
    chance = random.Random(seed)
    kills = 0
    for _ in range(4):
        if await killed(source, target, chance.randrange(1, 15)):
            break
        kills += 1
        with pytest.raises(SettingsError, match="this ledger is an unfinished copy of sqlite:"):
            await postgres_opener(target.url)(lambda pushes: None)
    assert kills
    done = await copy(source, target, NOON)
    assert done.copied < done.rows
    here, there = await opened(traffic, source), await opened(traffic, target)
    await compare(here, there)
    await here.bench.store.close()
    await there.bench.store.close()
    await sound(target)


class Stopped(Exception):
    """As if the copy had been ended here."""


async def partly(source: LedgerPlace, target: LedgerPlace) -> None:
    """Copy all of it, and stop before it is compared."""

    def stop(step: str, table: str, done: int, total: int) -> None:
        if step == "verifying":
            raise Stopped

    with pytest.raises(Stopped):
        await copy(source, target, NOON, on_rows=stop)


TAMPERING = [
    ("UPDATE accounts SET credits_milli = credits_milli + 1 WHERE username = 'ada'",
     "account ada: credits .* at the source"),
    ("DELETE FROM messages WHERE message_id = (SELECT min(message_id) FROM messages)",
     "messages: .* rows at the source"),
    ("UPDATE messages SET status = 11 WHERE message_id = (SELECT min(message_id) FROM messages WHERE status <> 11)",
     "messages: as many rows .* not all of them are the same"),
    ("UPDATE messages SET seq = CASE seq WHEN 1 THEN 2 WHEN 2 THEN 1 ELSE seq END", "messages: as many rows"),
    ("UPDATE top_ups SET amount_milli = amount_milli + 1 WHERE account_id = 1", "account ada: top-ups"),
    ("UPDATE batches SET charged_milli = charged_milli + 1 WHERE account_id = 3", "account Zoë \u2603: charges"),
    ("UPDATE batches SET body = body || 'x' WHERE account_id = 3", "batches: as many rows"),
    ("UPDATE events SET detail = detail || ' ' WHERE account_id = 3", "events: as many rows"),
    ("UPDATE queue SET due_at = due_at + 1", "queue: as many rows"),
    ("DELETE FROM parts WHERE part_no = 2", "parts: .* rows at the source"),
    ("DELETE FROM inbox WHERE inbox_id = (SELECT min(inbox_id) FROM inbox)", "inbox: .* rows at the source"),
    ("UPDATE pushes SET due_at = NULL", "pushes: as many rows"),
]  # fmt: skip


async def test_a_copy_that_differs_is_not_taken_for_the_ledger(
    source: LedgerPlace, target: LedgerPlace, postgres: Server
) -> None:
    await made(source.directory or Path(), 30, 250)
    await partly(source, target)
    for statement, complaint in TAMPERING:
        with fresh_database(postgres, target.url.rpartition("/")[2]) as url:
            connection = await asyncpg.connect(url)
            assert (await connection.execute(statement)).split()[1] != "0"
            await connection.close()
            with pytest.raises(Incomplete, match=complaint):
                await copy(source, LedgerPlace(None, url), NOON)
            with pytest.raises(SettingsError, match="unfinished copy"):
                await postgres_opener(url)(lambda pushes: None)
            assert "it is an unfinished copy of" in " ".join((await check(LedgerPlace(None, url), quick=True)).findings)
    assert (await copy(source, target, NOON)).copied == 0


async def test_a_copy_begins_anew_if_it_is_told_to(source: LedgerPlace, target: LedgerPlace, database: Any) -> None:
    await made(source.directory or Path(), 31, 100)
    await partly(source, target)
    await database.execute("UPDATE messages SET seq = seq + 1")
    with pytest.raises(Incomplete, match="Copy again with --restart"):
        await copy(source, target, NOON)
    done = await copy(source, target, NOON, restart=True)
    assert done.copied == done.rows
    await sound(target)


async def small(source: LedgerPlace) -> Traffic:
    return await made(source.directory or Path(), 40, 40)


async def test_a_source_that_was_written_meanwhile_is_noticed(source: LedgerPlace, target: LedgerPlace) -> None:
    traffic = await small(source)
    await partly(source, target)
    here = await opened(traffic, source)
    await here.bench.store.top_up(1, 5, NOON, "")
    await here.bench.store.close()
    with pytest.raises(SettingsError, match="the source has changed since the copy began: copy again with --restart"):
        await copy(source, target, NOON)
    await copy(source, target, NOON, restart=True)


async def test_what_is_in_use_or_holds_something_else_is_refused(
    source: LedgerPlace, target: LedgerPlace, database: Any, tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match="there is no ledger in"):
        await copy(source, target, NOON)
    traffic = await small(source)
    here = await opened(traffic, source)
    with pytest.raises(SettingsError, match="in use by another aldis process"):
        await copy(source, target, NOON)
    await here.bench.store.close()

    await PostgresStore.close(await PostgresStore.open(target.url, lambda _: None, lambda: NOON, must_be_durable=False))
    node = "INSERT INTO nodes VALUES (7, 99, 'all', 'host7', '', 0, $1)"
    await database.execute(node, NOON + 1)
    with pytest.raises(SettingsError, match=r"nodes run on this database \(7 on host7\): stop them first"):
        await copy(source, target, NOON)
    await database.execute("UPDATE nodes SET expires_at = $1", NOON)
    await copy(source, target, NOON)
    with pytest.raises(SettingsError, match="the target holds a ledger already"):
        await copy(source, target, NOON)
    with pytest.raises(SettingsError, match="the target holds a ledger already"):
        await copy(source, target, NOON, restart=True)
    with pytest.raises(SettingsError, match="source and target are the same"):
        await copy(source, source, NOON)
    await database.execute("UPDATE nodes SET expires_at = $1", NOON + 1)
    with pytest.raises(SettingsError, match="nodes run on this database"):
        await copy(target, LedgerPlace(tmp_path / "back", ""), NOON)


async def test_a_copy_of_another_ledger_is_not_gone_on_with(
    source: LedgerPlace, target: LedgerPlace, tmp_path: Path
) -> None:
    await small(source)
    other = LedgerPlace(tmp_path / "other", "")
    await small(other)
    await partly(source, target)
    with pytest.raises(SettingsError, match=r"the target is an unfinished copy of sqlite:.*/data: --restart"):
        await copy(other, target, NOON)
    await copy(other, target, NOON, restart=True)


async def test_two_copies_into_one_database_do_not_mix(
    source: LedgerPlace, target: LedgerPlace, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await small(source)
    monkeypatch.setattr(transfer, "_PATIENT", transfer._PATIENT.replace("15s", "10ms"))
    await database.execute("SELECT pg_advisory_lock($1)", transfer._LOCK)
    with pytest.raises(SettingsError, match="another copy into this database is under way"):
        await copy(source, target, NOON)


async def test_an_unfinished_copy_in_a_directory_starts_nothing(
    source: LedgerPlace, target: LedgerPlace, tmp_path: Path
) -> None:
    await small(source)
    await copy(source, target, NOON)
    back = LedgerPlace(tmp_path / "back", "")
    await partly(target, back)
    with pytest.raises(SettingsError, match="unfinished copy of postgresql://"):
        SqliteStore(tmp_path / "back", lambda pushes: None)
    with pytest.raises(SettingsError, match="the source is itself an unfinished copy"):
        await copy(back, target, NOON)
    assert (await copy(target, back, NOON)).copied == 0
    await sound(back)


async def test_a_history_of_weeks_lies_in_the_partitions_of_its_weeks(
    source: LedgerPlace, target: LedgerPlace, database: Any
) -> None:
    traffic = await small(source)
    for _ in range(3):
        traffic.bench.now += 9 * DAY_MS
        traffic = await opened(traffic, source)
        await traffic.run(60)
        await traffic.bench.store.close()
    await copy(source, target, NOON)
    for name in ("batches", "messages", "parts", "events", "upstream_ids"):
        weeks = await database.fetch(f"SELECT DISTINCT tableoid::regclass::text FROM {name}")
        assert len(weeks) >= 3
        assert f"{name}_rest" not in {row[0] for row in weeks}


async def test_what_a_killed_server_left_in_the_log_is_copied_too(
    source: LedgerPlace, target: LedgerPlace, tmp_path: Path
) -> None:
    assert source.directory
    traffic = await opened(await small(source), source)
    await traffic.run(60)
    crashed = LedgerPlace(Path(shutil.copytree(source.directory, tmp_path / "crashed")), "")
    assert (tmp_path / "crashed" / "ledger.sqlite-wal").stat().st_size
    await copy(crashed, target, NOON)
    there = await opened(traffic, target)
    await compare(traffic, there)
    back_up(tmp_path / "crashed", tmp_path / "backup", force=False)
    restore(tmp_path / "backup", tmp_path / "restored", NOON, force=False)
    restored = await opened(traffic, LedgerPlace(tmp_path / "restored", ""))
    await compare(traffic, restored)
    for one in (traffic, there, restored):
        await one.bench.store.close()


async def test_a_lease_that_has_outlived_its_reason_is_not_copied(
    source: LedgerPlace, target: LedgerPlace, tmp_path: Path
) -> None:
    """Earlier versions could leave a message leased that is upstream already: it is to be let be."""
    traffic = await opened(await small(source), source)
    bench = traffic.bench
    message_id = await bench.send(traffic.accounts[0], Unknown("no answer"))
    await bench.outcome(message_id, (1, Accepted("after all")))
    await bench.store.close()
    connection = apsw.Connection(str((source.directory or Path()) / "ledger.sqlite"))
    connection.execute("UPDATE messages SET leased_until = ? WHERE message_id = ?", (NOON, message_id))
    [[leased]] = connection.execute("SELECT count(*) FROM messages WHERE leased_until IS NOT NULL")
    connection.close()
    await sound(source)
    await copy(source, target, NOON)
    there = await opened(traffic, target)
    assert (await there.bench.store.queue_state(bench.now)).leased == leased - 1
    assert await there.bench.status(traffic.accounts[0], message_id) is Status.DELIVERED_UPSTREAM
    await there.bench.store.close()
    await copy(target, LedgerPlace(tmp_path / "back", ""), NOON)
    await sound(LedgerPlace(tmp_path / "back", ""))


async def test_rows_that_belong_to_nobody_are_not_copied_blindly(source: LedgerPlace, target: LedgerPlace) -> None:
    await small(source)
    connection = apsw.Connection(str((source.directory or Path()) / "ledger.sqlite"))
    connection.execute("INSERT INTO events VALUES (77, 78, 0, 'submit', 0, 1, '', '', '')")
    connection.close()
    with pytest.raises(SettingsError, match=r"a row of events belongs to nobody \(message_id 77, event_id 78"):
        await copy(source, target, NOON)


async def test_carried_sums_are_not_lost_on_the_way_back(
    source: LedgerPlace, target: LedgerPlace, database: Any, tmp_path: Path
) -> None:
    await small(source)
    await copy(source, target, NOON)
    await database.execute("UPDATE accounts SET carried_charges = 5, credits_milli = credits_milli - 5")
    await sound(target)
    with pytest.raises(SettingsError, match="which SQLite can't carry over"):
        await copy(target, LedgerPlace(tmp_path / "back", ""), NOON)


async def test_every_column_of_both_engines_is_copied(source: LedgerPlace, target: LedgerPlace, database: Any) -> None:
    """A migration that adds a column must add it to the copy too."""
    await small(source)
    await copy(source, target, NOON)
    elsewhere = {"pushes": {"owner"}, "queue": {"holder"}}
    connection = apsw.Connection(str((source.directory or Path()) / "ledger.sqlite"))
    for table in TABLES:
        found = await database.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'public' AND table_name = $1",
            table.name,
        )
        assert {row[0] for row in found} - elsewhere.get(table.name, set()) == set(table.columns)
        if table.name != "queue":
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
            assert columns - {"due_at", "leased_until"} <= set(table.columns)
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert names - {table.name for table in TABLES} == {"facts", "migrations", "unfinished_copy"}
    found = await database.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition "
        "AND relnamespace = 'public'::regnamespace"
    )
    tables = {row[0] for row in found} - {table.name for table in TABLES}
    assert tables == {"migrations", "unfinished_copy", "nodes", "binds", "last_ids", "commits", "facts"}
