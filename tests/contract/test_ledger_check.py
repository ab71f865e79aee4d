"""What is wrong with a ledger is told in words, and nothing is told of a sound one."""

import asyncio
import re
import shutil
from pathlib import Path

import apsw
import asyncpg
import pytest
from tests.ledgers import Traffic
from tests.postgres import Server, fresh_database
from tests.stores import postgres_opener, sqlite_opener

from aldis.connectors.base import Accepted, Refused
from aldis.model.errors import SettingsError
from aldis.model.status import Status
from aldis.service.ledger_check import check, show
from aldis.service.ledger_place import LedgerPlace, parse_place, postgres_commands
from aldis.store.sqlfile import queries
from aldis.store.testing import Bench

Damage = tuple[str, str]
"""A statement, and what is said of what it does."""
ANY = "(SELECT min(message_id) FROM messages)"
MOVING = "(SELECT min(message_id) FROM messages WHERE status = 10)"
ALIKE: list[Damage] = [
    ("UPDATE accounts SET credits_milli = credits_milli - 1 WHERE username = 'ada'",
     r"account ada has [\d.]+ credits, and its books say [\d.]+: top-ups 5\d+\.\d+, charges [\d.]+, refunds [\d.]+"),
    ("UPDATE top_ups SET amount_milli = amount_milli + 1 WHERE account_id = 1",
     "account ada has .* credits, and its books say"),
    ("UPDATE messages SET refunded_milli = price_milli WHERE message_id = (SELECT min(message_id) FROM messages "
     "WHERE price_milli > 0 AND refunded_milli = 0)", "account .* has .* credits, and its books say"),
    ("DELETE FROM accounts WHERE username = 'bob'", r"batch \d+ is of account 2, which does not exist"),
    ("DELETE FROM accounts WHERE username = 'bob'", r"top-up \d+ is of account 2, which does not exist"),
    ("UPDATE batches SET charged_milli = charged_milli + 1 WHERE account_id = 1",
     r"batch \d+ was charged \d+\.001 credits, and its messages cost"),
    (f"DELETE FROM messages WHERE message_id = {MOVING}", r"there is history of message \d+, which does not exist"),
    ("DELETE FROM messages WHERE message_id IN (SELECT message_id FROM pushes)",
     r"there is a push of message \d+, which does not exist"),
    ("DELETE FROM messages WHERE message_id IN (SELECT message_id FROM parts)",
     r"there is a part of message \d+, which does not exist"),
    ("DELETE FROM messages WHERE message_id IN (SELECT message_id FROM upstream_ids)",
     r"connector (north|south) has an id for message \d+, which does not exist"),
    ("DELETE FROM batches WHERE batch_id = (SELECT max(batch_id) FROM deduplications)",
     r"the submission number \d+ stands for batch \d+, which does not exist"),
    (f"DELETE FROM batches WHERE batch_id = (SELECT batch_id FROM messages WHERE message_id = {ANY})",
     r"message \d+ is not in its batch \d+"),
    (f"UPDATE messages SET completed_at = 5 WHERE message_id = {MOVING}",
     r"message \d+ stands at 10, and its time of completion says otherwise"),
    (f"UPDATE messages SET status = 99 WHERE message_id = {ANY}", "1 messages stand at 99, which is no status"),
    ("UPDATE messages SET status = 0, price_milli = 7 WHERE message_id = (SELECT min(message_id) FROM messages "
     "WHERE status = 10 AND refunded_milli = 0)",
     r"message \d+ was paid for and stands at 0, and is neither due nor being sent"),
    ("DELETE FROM batches", "… and more of the same: message … is not in its batch …"),
]  # fmt: skip
SQLITE: list[Damage] = [
    (f"UPDATE messages SET due_at = 5 WHERE message_id = {MOVING}",
     r"message \d+ waits to be sent although it stands at 10"),
    ("UPDATE messages SET status = 11 WHERE leased_until IS NOT NULL OR due_at IS NOT NULL",
     r"message \d+ waits to be sent although it stands at 11"),
    ("UPDATE messages SET account_id = 3 WHERE account_id = 1", r"message \d+ is not in its batch \d+"),
    ("CREATE INDEX wrong ON messages (msisdn); PRAGMA writable_schema = 1; "
     "UPDATE sqlite_master SET sql = 'CREATE INDEX wrong ON messages (status)' WHERE name = 'wrong'",
     "the file is damaged: .*wrong"),
]  # fmt: skip
POSTGRES: list[Damage] = [
    ("UPDATE queue SET msisdn = msisdn + 1", r"message \d+ is queued in other terms than its own"),
    ("DELETE FROM messages WHERE message_id = (SELECT min(message_id) FROM queue)",
     r"message \d+ waits to be sent although it stands at None"),
    ("UPDATE messages SET status = 11 WHERE message_id IN (SELECT message_id FROM queue)",
     r"message \d+ waits to be sent although it stands at 11"),
]  # fmt: skip


async def made(bench: Bench) -> None:
    await bench.open()
    traffic = Traffic(bench, 5)
    await traffic.open_accounts()
    await traffic.run(200)
    for _ in range(20):
        await bench.submit(traffic.accounts[0])  # so that some wait
    await bench.store.close()


async def findings(place: LedgerPlace) -> str:
    return "\n".join((await check(place, quick=False)).findings)


@pytest.fixture
def sqlite(tmp_path: Path) -> LedgerPlace:
    return LedgerPlace(tmp_path / "data", "")


async def test_damage_to_a_file_is_found(sqlite: LedgerPlace, tmp_path: Path) -> None:
    assert sqlite.directory
    await made(Bench(sqlite_opener(sqlite.directory)))
    assert await findings(sqlite) == ""
    for number, (statement, words) in enumerate([*ALIKE, *SQLITE]):
        damaged = LedgerPlace(Path(shutil.copytree(sqlite.directory, tmp_path / str(number))), "")
        connection = apsw.Connection(str(tmp_path / str(number) / "ledger.sqlite"))
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
        connection.execute(statement)
        connection.close()
        assert re.search(words, found := await findings(damaged)), (statement, found)


async def test_damage_to_a_database_is_found(postgres: Server, postgres_url: str) -> None:
    await made(Bench(postgres_opener(postgres_url)))
    assert await findings(LedgerPlace(None, postgres_url)) == ""
    for statement, words in [*ALIKE, *POSTGRES]:
        with fresh_database(postgres, postgres_url.rpartition("/")[2]) as url:
            connection = await asyncpg.connect(url)
            await connection.execute(statement)
            await connection.close()
            assert re.search(words, found := await findings(LedgerPlace(None, url))), (statement, found)


async def test_a_ledger_in_use_is_checked_as_it_is_at_one_moment(sqlite: LedgerPlace) -> None:
    assert sqlite.directory
    bench = Bench(sqlite_opener(sqlite.directory))
    await bench.open()
    ada = await bench.account()
    await bench.submit(ada)
    steps: list[str] = []

    def submit(step: str) -> None:
        steps.append(step)
        tasks.create_task(bench.submit(ada))

    async with asyncio.TaskGroup() as tasks:
        report = await check(sqlite, quick=True, on_step=submit)
    assert report.findings == []
    assert dict(report.counts)["batches"] == 1
    assert len(steps) > 5
    assert dict((await check(sqlite, quick=True)).counts)["batches"] == 1 + len(steps)
    await bench.store.close()


async def test_everything_is_counted(sqlite: LedgerPlace, postgres_url: str) -> None:
    assert sqlite.directory
    for bench, place in (
        (Bench(sqlite_opener(sqlite.directory)), sqlite),
        (Bench(postgres_opener(postgres_url)), LedgerPlace(None, postgres_url)),
    ):
        await bench.open()
        ada = await bench.account()
        await bench.send(ada, Accepted("a1"), Accepted("a2"))
        await bench.receipt("a1")
        await bench.receipt("nobody's")
        await bench.send(ada, Refused(0x45, retryable=False))
        await bench.submit(ada)
        await bench.ledger.admit(bench.batch(ada, [4915100000001], refused=Status.BLOCKED, number=9))
        [lapsing] = await bench.submit(ada)
        await bench.ledger.admit(bench.batch(ada, [4915100000001], connector="south"))
        await bench.claim(connector="south")
        await bench.store.close()
        assert lapsing
        assert dict((await check(place, quick=False)).counts) == {
            "accounts": 1, "top-ups": 1, "batches": 6, "messages": 6, "  moving": 4, "  delivered": 0, "  failed": 2,
            "  waiting to be sent": 2, "  being sent": 1, "parts of long messages": 2, "events": 3,
            "ids of upstreams": 2, "submission numbers": 1, "receipts parked": 1, "inbound messages": 0,
            "  that lack parts": 0, "  waiting for parts": 0,
            "pushes to do": 1, "pushes given up": 0,
        }  # fmt: skip


async def test_what_is_no_ledger_is_said_to_be_none(sqlite: LedgerPlace, empty_postgres_url: str) -> None:
    with pytest.raises(SettingsError, match=r"there is no ledger .*ledger\.sqlite"):
        await check(sqlite, quick=True)
    assert sqlite.directory
    sqlite.directory.mkdir()
    (sqlite.directory / "ledger.sqlite").write_bytes(b"not a database, however long it is" * 100)
    with pytest.raises(SettingsError, match="can't be read as a ledger"):
        await check(sqlite, quick=True)
    with pytest.raises(SettingsError, match="the database holds no ledger"):
        await check(LedgerPlace(None, empty_postgres_url), quick=True)
    with pytest.raises(SettingsError, match="the ledger's database can't be used"):
        await check(LedgerPlace(None, "postgresql://nobody@127.0.0.1:1/none"), quick=True)


async def test_an_older_ledger_is_to_be_migrated_first(sqlite: LedgerPlace) -> None:
    assert sqlite.directory
    await made(Bench(sqlite_opener(sqlite.directory)))
    connection = apsw.Connection(str(sqlite.directory / "ledger.sqlite"))
    connection.execute("DELETE FROM migrations WHERE number = (SELECT max(number) FROM migrations)")
    connection.close()
    with pytest.raises(SettingsError, match="is of an older aldis: bring it up to date with `aldis ledger migrate`"):
        await check(sqlite, quick=True)


@pytest.mark.parametrize("table", sorted(queries("books_sqlite").keys() ^ queries("books_postgres").keys()))
def test_engines_are_asked_the_same_but_for_the_queue(table: str) -> None:
    assert table == "queued_otherwise"


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("sqlite:aldis-data", LedgerPlace(Path("aldis-data"), "")),
        ("sqlite:/var/lib/aldis", LedgerPlace(Path("/var/lib/aldis"), "")),
        ("sqlite:///var/lib/aldis", LedgerPlace(Path("/var/lib/aldis"), "")),
        ("postgresql://a:b@db/aldis", LedgerPlace(None, "postgresql://a:b@db/aldis")),
    ],
)
def test_a_place_of_a_ledger_is_read(text: str, place: LedgerPlace) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", "sqlite", "sqlite:", "sqlite://host/path", "mysql://u:secret@h/d", "aldis-data"])
def test_what_is_no_place_of_a_ledger_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(SettingsError, match=r"is no ledger: sqlite:DIRECTORY \(the data directory\)") as caught:
        parse_place(text)
    assert "secret" not in str(caught.value)


def test_no_password_is_shown() -> None:
    place = parse_place("postgresql://aldis:secret@db.example:5432/aldis?sslmode=require&password=secret")
    assert place.shown == "postgresql://aldis@db.example:5432/aldis?sslmode=require"
    assert "secret" not in "".join(postgres_commands(place.url, Path("a file")))


@pytest.mark.parametrize(("milli", "text"), [(0, "0.000"), (1, "0.001"), (-1, "-0.001"), (12_345, "12.345")])
def test_credits_are_shown_to_the_milli_credit(milli: int, text: str) -> None:
    assert show(milli) == text
