"""A backup holds all that was acknowledged before it, and a restore loses neither the new ledger nor the old."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest
from tests.ledgers import Traffic
from tests.stores import sqlite_opener

from aldis.model.errors import SettingsError
from aldis.service.ledger_check import check
from aldis.service.ledger_place import LedgerPlace
from aldis.store.sqlite import backup
from aldis.store.sqlite.backup import back_up, restore
from aldis.store.sqlite.files import DirectoryLock
from aldis.store.testing import Bench
from aldis.store.testing.bench import NOON


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


async def made(directory: Path, seed: int = 1, steps: int = 80) -> Traffic:
    bench = Bench(sqlite_opener(directory))
    await bench.open()
    traffic = Traffic(bench, seed)
    await traffic.open_accounts()
    await traffic.run(steps)
    await bench.store.close()
    return traffic


def names(directory: Path) -> set[str]:
    """Return what is in a directory; a reader leaves a log behind in which nothing is."""
    return {path.name for path in directory.iterdir() if not path.name.startswith("ledger.sqlite-")}


async def sound(directory: Path) -> dict[str, int]:
    report = await check(LedgerPlace(directory, ""), quick=False)
    assert report.findings == []
    return dict(report.counts)


async def test_a_backup_under_load_holds_all_that_was_acknowledged_before_it(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I1 holds in the backup: the load commits between its steps, and it ends all the same."""
    monkeypatch.setattr(backup, "_STEP_PAGES", 1)
    bench = Bench(sqlite_opener(data))
    await bench.open()
    traffic = Traffic(bench, 1)
    await traffic.open_accounts()
    await traffic.run(150)
    before = list(traffic.batches)
    groups, during = bench.store.stats.groups, [0]

    def step(done: int, total: int) -> None:
        """Let something be committed between two steps."""
        committed = bench.store.stats.groups
        asyncio.run_coroutine_threadsafe(traffic.run(1), loop).result()
        during[0] += bench.store.stats.groups > committed

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(back_up, data, tmp_path / "backup", force=False, on_bytes=step)
    assert bench.store.stats.groups > groups
    assert during[0] > 10
    await bench.store.close()

    assert restore(tmp_path / "backup", tmp_path / "other", NOON, force=False) is None
    await sound(tmp_path / "other")
    other = Bench(sqlite_opener(tmp_path / "other"))
    await other.open()
    for account_id, batch_id in before:
        assert await other.ledger.find_report(account_id, batch_id, None) is not None
    for account_id, batch_id in set(traffic.batches) - set(before):
        assert await other.ledger.find_report(account_id, batch_id, None) is None, "one moment, and no mixture"
    await other.store.close()


async def test_a_backup_is_one_file_for_its_owner_alone(data: Path, tmp_path: Path) -> None:
    await made(data)
    size = back_up(data, tmp_path / "out.sqlite", force=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out.sqlite"]
    assert (tmp_path / "out.sqlite").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "out.sqlite").stat().st_size == size
    with pytest.raises(SettingsError, match=r"out\.sqlite exists: name another file, or say --force"):
        back_up(data, tmp_path / "out.sqlite", force=False)
    (tmp_path / "out.sqlite").write_bytes(b"old")
    assert back_up(data, tmp_path / "out.sqlite", force=True) == size
    with pytest.raises(SettingsError, match="exists"):
        back_up(data, data / "ledger.sqlite", force=True)
    with pytest.raises(SettingsError, match="there is no ledger in"):
        back_up(tmp_path / "nowhere", tmp_path / "x", force=False)


async def test_a_backup_that_fails_leaves_what_was_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(data)
    (tmp_path / "out").write_bytes(b"old")
    monkeypatch.setattr(backup, "damage_of", lambda connection: ["page 7 is gone"])
    with pytest.raises(SettingsError, match="the copy is damaged: page 7 is gone"):
        back_up(data, tmp_path / "out", force=True)
    assert (tmp_path / "out").read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


async def test_what_a_killed_backup_left_is_no_obstacle_but_a_running_one_is(data: Path, tmp_path: Path) -> None:
    await made(data)
    (tmp_path / "out.part").write_bytes(b"half" * 5_000)

    def again(done: int, total: int) -> None:
        with pytest.raises(SettingsError, match=r"another process writes .*out\.part"):
            back_up(data, tmp_path / "out", force=False)

    back_up(data, tmp_path / "out", force=False, on_bytes=again)
    assert restore(tmp_path / "out", tmp_path / "other", NOON, force=False) is None
    await sound(tmp_path / "other")


async def test_a_restore_keeps_the_ledger_that_it_replaces(data: Path, tmp_path: Path) -> None:
    traffic = await made(data)
    back_up(data, tmp_path / "out", force=False)
    old = await sound(data)
    bench = Bench(sqlite_opener(data))
    await bench.open()
    later = await bench.ledger.admit(bench.batch(traffic.accounts[0], [4915100000001]))
    await bench.store.close()

    with pytest.raises(SettingsError, match="say --force to replace it; it is kept beside"):
        restore(tmp_path / "out", data, NOON, force=False)
    kept = restore(tmp_path / "out", data, NOON, force=True)
    assert kept == data / "ledger.sqlite.replaced-20260101T120000Z"
    assert await sound(data) == old
    connection = apsw.Connection(str(kept), flags=apsw.SQLITE_OPEN_READONLY)
    assert connection.execute("SELECT count(*) FROM batches WHERE batch_id = ?", (later,)).fetchall() == [(1,)]
    connection.close()
    assert kept.stat().st_ino != (data / "ledger.sqlite").stat().st_ino


async def test_a_restore_is_refused_while_a_server_has_the_directory(data: Path, tmp_path: Path) -> None:
    await made(data)
    back_up(data, tmp_path / "out", force=False)
    lock = DirectoryLock(data)
    with pytest.raises(SettingsError, match="in use by another aldis process"):
        restore(tmp_path / "out", data, NOON, force=True)
    lock.release()
    with pytest.raises(SettingsError, match="is the ledger itself"):
        restore(data / "ledger.sqlite", data, NOON, force=True)
    with pytest.raises(SettingsError, match="there is no file"):
        restore(tmp_path / "nothing", data, NOON, force=True)
    assert names(data) == {"ledger.sqlite", "lock"}


def run(path: Path, statement: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(statement)
    connection.close()


def flip(path: Path) -> None:
    """Spoil the middle of an index."""
    connection = apsw.Connection(str(path))
    [(root,)] = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_accounts_1'")
    size = connection.pragma("page_size")
    connection.close()
    with path.open("r+b") as file:
        file.seek((root - 1) * size + size - 40)
        file.write(b"\xff" * 30)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda path: path.write_bytes(b"no database at all" * 500), "can't be copied as a ledger: .*not a database"),
        (lambda path: os.truncate(path, path.stat().st_size // 2), "malformed|is damaged"),
        (flip, "is damaged"),
        (lambda path: run(path, "DROP TABLE migrations"), "is no ledger"),
        (lambda path: run(path, "UPDATE migrations SET number = 9999 WHERE number = 1"), "the ledger is newer"),
    ],
    ids=["foreign", "cut", "flipped", "other tables", "newer"],
)
async def test_what_is_no_sound_ledger_is_not_restored(
    data: Path, tmp_path: Path, spoil: Callable[[Path], object], complaint: str
) -> None:
    await made(data)
    before = await sound(data)
    back_up(data, tmp_path / "out", force=False)
    spoil(tmp_path / "out")
    with pytest.raises(SettingsError, match=complaint):
        restore(tmp_path / "out", data, NOON, force=True)
    assert names(data) == {"ledger.sqlite", "lock"}
    assert await sound(data) == before


async def test_a_broken_ledger_is_kept_with_its_log(data: Path, tmp_path: Path) -> None:
    await made(data)
    back_up(data, tmp_path / "out", force=False)
    (data / "ledger.sqlite").write_bytes(b"rubbish")
    (data / "ledger.sqlite-wal").write_bytes(b"its log")
    kept = restore(tmp_path / "out", data, NOON, force=True)
    assert kept is not None and kept.read_bytes() == b"rubbish"
    assert kept.with_name(kept.name + "-wal").read_bytes() == b"its log"
    assert not (data / "ledger.sqlite-wal").exists()
    await sound(data)


KILLED = """
import os, signal, sys
from pathlib import Path
from aldis.store.sqlite import backup

real, left = {}, int(sys.argv[3])

def count(name):
    real[name] = getattr(backup, name)
    def call(*arguments, **named):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real[name](*arguments, **named)
    setattr(backup, name, call)

for name in ("_copy", "_look_at", "_keep", "_link", "_drop_logs", "_put", "_sync"):
    count(name)
backup.restore(Path(sys.argv[1]), Path(sys.argv[2]), 0, force=True)
"""


async def test_a_restore_that_is_killed_leaves_the_old_ledger_or_the_new(data: Path, tmp_path: Path) -> None:
    await made(data, seed=1)
    other = tmp_path / "other"
    await made(other, seed=2)
    back_up(other, tmp_path / "out", force=False)
    old, new = await sound(data), await sound(other)
    assert old != new
    seen = []
    for moment in range(1, 20, 2):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "out"), str(data), str(moment)]
        ended = subprocess.run(command, check=False)
        seen.append(await sound(data))
        for path in data.glob("*.replaced-*"):
            path.unlink()
        if ended.returncode == 0:
            break
    assert seen[0] == old
    assert seen[-1] == new
    assert all(one in (old, new) for one in seen)
    assert len(seen) > 4
