"""The embedded store keeps the contract of every store, and what is promised of SQLite alone."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from importlib.resources import files as package_files
from pathlib import Path
from typing import Any

import apsw
import pytest

from aldis.connectors.base import Accepted
from aldis.model.errors import LedgerUnavailable, SettingsError
from aldis.model.status import Status
from aldis.model.types import Push
from aldis.store import migrate as migrations
from aldis.store.migrate import Migration
from aldis.store.sqlite import SqliteStore, files
from aldis.store.sqlite.migrate import migrate
from aldis.store.testing import Bench, OpenStore, StoreContract
from aldis.store.testing.bench import NOON

BIG_BODY = b"x" * 200_000


def opener(directory: Path, **options: int) -> OpenStore:
    async def open_store(on_pushes: Callable[[list[Push]], None]) -> SqliteStore:
        return SqliteStore(directory, on_pushes, **options)

    return open_store


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(opener(tmp_path / "data"))
    await bench.open()
    yield bench
    await bench.store.close()


@pytest.fixture
def store(bench: Bench) -> SqliteStore:
    assert isinstance(bench.store, SqliteStore)
    return bench.store


class TestSqliteStore(StoreContract):
    """The whole contract."""


async def on_writer(store: SqliteStore, act: Callable[[apsw.Connection], Any]) -> Any:
    """Run something on the write connection, in its thread."""
    [answer] = await store.writer.call(lambda context, items: [act(context.connection)], (None,))
    return answer


def unbalanced(directory: Path) -> list[tuple[Any, ...]]:
    """Accounts whose credits are not top-ups - charges + refunds, by the rows alone."""
    connection = apsw.Connection(str(directory / "ledger.sqlite"), flags=apsw.SQLITE_OPEN_READONLY)
    found = connection.execute("""
        SELECT * FROM (SELECT a.account_id, a.credits_milli,
            (SELECT coalesce(sum(amount_milli), 0) FROM top_ups t WHERE t.account_id = a.account_id)
            - (SELECT coalesce(sum(charged_milli), 0) FROM batches b WHERE b.account_id = a.account_id)
            + (SELECT coalesce(sum(refunded_milli), 0) FROM messages m WHERE m.account_id = a.account_id) AS owed
            FROM accounts a) WHERE credits_milli <> owed""").fetchall()
    connection.close()
    return found


# The directory and the engine


async def test_a_second_owner_of_the_directory_is_refused_and_the_first_unharmed(bench: Bench, tmp_path: Path) -> None:
    ada = await bench.account()
    with pytest.raises(SettingsError, match="in use by another aldis process"):
        SqliteStore(tmp_path / "data", lambda _: None)
    await bench.submit(ada)
    await bench.reopen()
    assert await bench.credits(ada) == 99_000


async def test_a_second_process_is_told_who_has_the_directory(bench: Bench, tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from aldis.store.sqlite.files import DirectoryLock; "
        "DirectoryLock(pathlib.Path(sys.argv[1]))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "data")], check=False, capture_output=True, text=True
    )
    assert ended.returncode != 0
    assert f"in use by another aldis process (pid {os.getpid()})" in ended.stderr


@pytest.mark.parametrize("version", ["3.7.0", "3.40.1", "3.51.2", "2.99.99"])
def test_an_sqlite_with_the_wal_reset_bug_is_refused(version: str) -> None:
    with pytest.raises(SettingsError, match=f"SQLite {version} can corrupt the ledger"):
        files.check_sqlite(version)


@pytest.mark.parametrize("version", ["3.51.3", "3.51.10", "3.54.1", "4.0.0", None])
def test_a_newer_sqlite_is_taken(version: str | None) -> None:
    files.check_sqlite(version)


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /mnt rw - tmpfs tmpfs rw
31 30 0:26 / /mnt/share rw,relatime shared:9 - nfs4 10.0.0.1:/export rw,vers=4.2
32 22 0:27 / /srv/with\\040space rw - cifs //server/share rw
33 31 254:3 / /mnt/share/local rw - xfs /dev/vdb rw
34 22 0:28 / /over rw - ext4 /dev/vdc rw
35 22 0:29 / /over rw - fuse.sshfs host: rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib/aldis", "ext4"),
        ("/", "ext4"),
        ("/mnt/share/aldis", "nfs4"),
        ("/mnt/share", "nfs4"),
        ("/mnt/shared", "tmpfs"),
        ("/mnt/share/local/deep/er", "xfs"),
        ("/srv/with space/aldis", "cifs"),
        ("/over/aldis", "fuse.sshfs"),
    ],
)
def test_the_innermost_and_newest_mount_tells_the_filesystem(path: str, kind: str) -> None:
    assert files.filesystem_of(Path(path), MOUNTS) == kind


def test_an_unreadable_table_of_mounts_tells_nothing() -> None:
    assert files.filesystem_of(Path("/var/lib/aldis"), "") == ""


async def test_a_network_filesystem_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "filesystem_of", lambda path, mountinfo: "nfs4")
    with pytest.raises(SettingsError, match=r"network filesystem \(nfs4\)"):
        SqliteStore(tmp_path / "data", lambda _: None)
    assert list((tmp_path / "data").iterdir()) == []


async def test_every_commit_is_synced(store: SqliteStore) -> None:
    found = await on_writer(store, lambda c: (c.pragma("synchronous"), c.pragma("journal_mode")))
    assert found == (2, "wal")


async def test_what_is_acknowledged_is_in_the_files_without_a_close(bench: Bench, tmp_path: Path) -> None:
    ada = await bench.account()
    message_id = await bench.send(ada, Accepted("a1"))
    await bench.receipt("a1")
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "data", copy)
    other = Bench(opener(copy))
    await other.open()
    report = await other.ledger.find_report(ada.account_id, bench.batch_of(message_id), None)
    assert report is not None and [one.status for one in report.reports] == [Status.DELIVERED]
    await other.store.close()


async def test_no_look_up_keeps_the_wal_from_being_reset(bench: Bench, store: SqliteStore, tmp_path: Path) -> None:
    ada = await bench.account()
    message_id = await bench.send(ada, Accepted("a1"))
    store.recall_account("ada")
    store.recall_account("nobody")
    await bench.credits(ada)
    await store.largest_id()
    await bench.report(ada, bench.batch_of(message_id))
    await store.queue_state(NOON)
    assert await store.owner_of(bench.batch_of(message_id)) is not None
    await store.top_up(ada.account_id, 1, NOON, "its answer is a look-up, too")
    other = apsw.Connection(str(tmp_path / "data" / "ledger.sqlite"))
    other.set_busy_timeout(2_000)
    assert other.execute("SELECT count(*) FROM accounts").fetchall() == [(1,)]
    frames, moved = other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    other.close()
    assert (frames, moved) == (0, 0), "a reader still held a snapshot"


# Migrations


async def test_migrations_run_once(bench: Bench, store: SqliteStore) -> None:
    numbers = [one.number for one in migrations.available("sqlite")]
    assert numbers == list(range(1, len(numbers) + 1))
    assert await on_writer(store, lambda c: [row[0] for row in c.execute("SELECT number FROM migrations")]) == numbers
    await bench.reopen()
    connection = apsw.Connection(":memory:")
    assert migrate(connection) == len(numbers)
    assert migrate(connection) == 0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("UPDATE migrations SET checksum = 'other' WHERE number = 1", "differs from the one that made this ledger"),
        ("INSERT INTO migrations VALUES (9999, 'from_the_future', 'x')", r"is newer \(migration 9999\)"),
    ],
    ids=["changed", "newer"],
)
async def test_a_ledger_of_another_program_is_refused_and_left_alone(
    tmp_path: Path, change: str, complaint: str
) -> None:
    bench = Bench(opener(tmp_path))
    await bench.open()
    await bench.account()
    await bench.store.close()
    connection = apsw.Connection(str(tmp_path / "ledger.sqlite"))
    connection.execute(change)
    for _ in range(2):
        with pytest.raises(SettingsError, match=complaint):
            SqliteStore(tmp_path, lambda _: None)
    connection.execute("DELETE FROM migrations WHERE number = 9999")
    checksum = migrations.available("sqlite")[0].checksum
    connection.execute("UPDATE migrations SET checksum = ? WHERE number = 1", (checksum,))
    connection.close()
    await bench.open()
    assert await bench.store.find_account("ada") is not None
    await bench.store.close()


async def test_a_migration_that_fails_leaves_no_half_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    good = migrations.available("sqlite")
    bad = [*good, Migration(len(good) + 1, "9998_bad", "CREATE TABLE half (a); INSERT INTO nowhere VALUES (1);")]
    monkeypatch.setattr(migrations, "available", lambda engine: bad)
    connection = apsw.Connection(":memory:")
    with pytest.raises(apsw.SQLError):
        migrate(connection)
    tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    assert "half" not in tables and "messages" in tables
    monkeypatch.setattr(migrations, "available", lambda engine: good)
    assert migrate(connection) == 0


def test_the_schema_on_file_is_the_sum_of_the_migrations() -> None:
    connection = apsw.Connection(":memory:")
    migrate(connection)
    statements = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY type DESC, name")
    summed = "\n\n".join(f"{row[0]};" for row in statements)
    on_file = (package_files("aldis.store") / "sql" / "sqlite_schema.sql").read_text(encoding="utf-8")
    assert on_file.split("\n\n", 1)[1].strip() == summed, "write the left side of this into store/sql/sqlite_schema.sql"


# When the disk fails


async def fill(bench: Bench, account: Any) -> list[int]:
    """Submit until the ledger refuses; return the acknowledged batches."""
    taken: list[int] = []
    while True:
        batch = bench.batch(account, [4915100000001])
        body = {name: getattr(batch, name) for name in batch.__struct_fields__} | {"body": BIG_BODY}
        try:
            taken.append(await bench.ledger.admit(type(batch)(**body)))
        except LedgerUnavailable:
            assert await bench.ledger.find_report(account.account_id, batch.batch_id, None) is None
            return taken


async def test_a_full_disk_refuses_and_recovers(bench: Bench, store: SqliteStore, tmp_path: Path) -> None:
    ada = await bench.account()
    sent = await bench.send(ada, Accepted("a1"))
    pages = await on_writer(store, lambda c: c.pragma("page_count"))
    await on_writer(store, lambda c: c.pragma("max_page_count", pages + 200))
    taken = await fill(bench, ada)
    assert len(taken) >= 3
    assert "disk is full" in store.problems()[0]
    with pytest.raises(LedgerUnavailable):
        await bench.ledger.receive([bench.delivery("a1") for _ in range(5_000)])
    assert await bench.status(ada, sent) is Status.DELIVERED_UPSTREAM, "reads go on, and nothing was half done"
    assert await bench.parked() == 0
    assert not await bench.claim(connector="nobody")
    assert store.problems(), "a transaction that wrote nothing proves nothing"

    await on_writer(store, lambda c: c.pragma("max_page_count", 1 << 30))
    await bench.receipt("a1")
    assert not store.problems()
    assert await bench.status(ada, sent) is Status.DELIVERED
    for batch_id in taken:
        assert (await bench.report(ada, batch_id)).body == BIG_BODY
    assert await bench.credits(ada) == 100_000 - 1_000 * (len(taken) + 1)
    assert not unbalanced(tmp_path / "data")


LIMITED = """
import asyncio, json, pathlib, resource, sys
from aldis.model.errors import OurError
from aldis.store.sqlite import SqliteStore
from aldis.store.testing import Bench

async def main(directory):
    async def opened(on_pushes):
        return SqliteStore(directory, on_pushes)
    bench = Bench(opened)
    await bench.open()
    ada = await bench.account(credits_milli=10_000_000)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))
    taken, refusals = [], []
    for _ in range(2_000):
        batch = bench.batch(ada, range(4915100000001, 4915100000011), price=1)
        try:
            taken.append(await bench.ledger.admit(batch))
        except OurError as error:
            refusals.append(type(error).__name__)
            if len(refusals) == 3:
                break
    print(json.dumps({"taken": taken, "refusals": refusals, "problems": list(bench.store.problems())}))
    sys.stdout.flush()

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


async def test_a_write_that_fails_stops_all_writing_until_a_restart(tmp_path: Path) -> None:
    """After a failed write nobody knows what the disk holds: no group is taken any more (RLIMIT_FSIZE is real)."""
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], check=True, capture_output=True, text=True, timeout=60
    )
    told = json.loads(ended.stdout.splitlines()[-1])
    assert len(told["taken"]) > 20
    assert told["refusals"] == ["OurError", "LedgerUnavailable", "LedgerUnavailable"]
    assert "the disk failed" in told["problems"][0]
    bench = Bench(opener(tmp_path))
    await bench.open()
    ada = await bench.store.find_account("ada")
    assert ada is not None
    for batch_id in told["taken"]:
        assert len((await bench.report(ada, batch_id)).reports) == 10
    assert await bench.credits(ada) == 10_000_000 - 10 * len(told["taken"])
    await bench.store.close()
    assert not unbalanced(tmp_path)


KILLED = """
import asyncio, pathlib, sys
from aldis.connectors.base import Accepted, Refused
from aldis.store.sqlite import SqliteStore
from aldis.store.testing import Bench

async def main(directory):
    async def opened(on_pushes):
        return SqliteStore(directory, on_pushes)
    bench = Bench(opened)
    await bench.open()
    ada = await bench.account(credits_milli=1_000_000_000)

    async def customer(number):
        while True:
            batch = bench.batch(ada, [4915100000000 + number], connector=f"c{number}")
            await bench.ledger.admit(batch)
            print("taken", batch.batch_id, flush=True)
            [due] = await bench.claim(connector=f"c{number}")
            outcome = Accepted(str(due.message_id)) if number % 2 else Refused(0x45, retryable=False)
            await bench.ledger.record([bench.submitted(due.message_id, (1, outcome), connector=f"c{number}")])
            if number % 2:
                await bench.receipt(str(due.message_id), connector=f"c{number}")
            print("final", batch.batch_id, 11 if number % 2 else 52, flush=True)

    await asyncio.gather(*map(customer, range(8)))

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


async def test_a_killed_process_has_lost_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    """I1, I5: killed in the middle of its commits, what it said is what the next one finds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(300)]
    process.send_signal(signal.SIGKILL)
    lines += (await process.stdout.read()).splitlines(keepends=True)
    await process.wait()
    told = [line.split() for line in lines if line.endswith(b"\n")]
    final = {int(words[1]): int(words[2]) for words in told if words[0] == b"final"}
    taken = {int(words[1]) for words in told if words[0] == b"taken"}
    assert len(final) > 50

    bench = Bench(opener(tmp_path))
    await bench.open()
    ada = await bench.store.find_account("ada")
    assert ada is not None
    for batch_id in taken:
        [one] = (await bench.report(ada, batch_id)).reports
        assert one.status == final.get(batch_id, one.status)
    await bench.ledger.recover(1 << 62)
    assert (await bench.store.queue_state(bench.now)).leased == 0
    await bench.store.close()
    assert not unbalanced(tmp_path)


# The writer


async def test_a_ledger_that_another_program_holds_refuses_for_now(
    bench: Bench, store: SqliteStore, tmp_path: Path
) -> None:
    ada = await bench.account()
    await on_writer(store, lambda c: c.set_busy_timeout(1))
    other = apsw.Connection(str(tmp_path / "data" / "ledger.sqlite"))
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerUnavailable):
        await bench.submit(ada)
    other.execute("ROLLBACK")
    other.close()
    await bench.submit(ada)
    assert await bench.credits(ada) == 99_000
    assert not store.problems()


async def test_a_bug_in_one_call_is_heard_of_by_that_call_alone(bench: Bench, store: SqliteStore) -> None:
    def poisoned(context: Any, items: list[Any]) -> list[Any]:
        raise ZeroDivisionError

    ada = await bench.account()
    ends = await asyncio.gather(
        bench.submit(ada), store.writer.call(poisoned, (1,)), bench.submit(ada), return_exceptions=True
    )
    assert isinstance(ends[1], ZeroDivisionError)
    assert not isinstance(ends[0], BaseException) and not isinstance(ends[2], BaseException)
    assert await bench.credits(ada) == 98_000
