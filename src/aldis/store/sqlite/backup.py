"""Copies of the ledger's file: taken while it is written, and put back."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import apsw

from aldis.model.errors import SettingsError
from aldis.store.migrate import pending
from aldis.store.sqlite.books import damage_of
from aldis.store.sqlite.engine import LEDGER_FILE
from aldis.store.sqlite.files import DirectoryLock, check_filesystem, check_sqlite
from aldis.store.sqlite.migrate import applied

_STEP_PAGES = 1_024
"""Pages between two words of progress."""

OnBytes = Callable[[int, int], None]
"""Hears of progress: bytes done, bytes in all."""


def back_up(directory: Path, file: Path, *, force: bool, on_bytes: OnBytes = lambda done, total: None) -> int:
    """Copy the ledger into one file, also while a server writes; returns its size in bytes.

    It holds all that was acknowledged before the call. Until it is whole, sound and on disk it has another name.

    Args:
        directory: The data directory.
        file: Where the copy goes.
        force: Whether it may take the place of another file.
        on_bytes: Hears of progress.

    Raises:
        SettingsError: there is no ledger, the file exists, or the copy is damaged.
    """
    check_sqlite()
    ledger = directory / LEDGER_FILE
    if not ledger.is_file():
        raise SettingsError(f"there is no ledger in {directory}: it would be {LEDGER_FILE}")
    if file.exists() and (not force or file.samefile(ledger)):
        raise SettingsError(f"{file} exists: name another file" + ("" if force else ", or say --force"))
    with _draft(file) as draft:
        _copy(ledger, draft, on_bytes)
        _look_at(draft, "the copy")
        size = draft.stat().st_size
        _put(draft, file)
    return size


def restore(
    file: Path, directory: Path, now: int, *, force: bool, on_bytes: OnBytes = lambda done, total: None
) -> Path | None:
    """Make a copy the ledger of a data directory; returns where the ledger is that was there before.

    At any moment, also of a crash, the directory has either the old ledger or the whole new one.

    Args:
        file: The copy; it is read only.
        directory: The data directory; made if missing.
        now: The time, epoch ms, for the old ledger's new name.
        force: Whether there may be a ledger already.
        on_bytes: Hears of progress.

    Raises:
        SettingsError: the file is no sound ledger, a server has the directory, or there is a ledger and no `force`.
    """
    check_sqlite()
    if not file.is_file():
        raise SettingsError(f"there is no file {file}")
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    check_filesystem(directory)
    lock = DirectoryLock(directory)
    try:
        ledger = directory / LEDGER_FILE
        if ledger.exists() and not force:
            raise SettingsError(f"there is a ledger in {directory}: say --force to replace it; it is kept beside")
        if ledger.exists() and ledger.samefile(file):
            raise SettingsError(f"{file} is the ledger itself")
        with _draft(ledger) as draft:
            _copy(file, draft, on_bytes)
            _look_at(draft, str(file))
            kept = _keep(ledger, now) if ledger.exists() else None
            _drop_logs(ledger)
            _put(draft, ledger)
        return kept
    finally:
        lock.release()


@contextmanager
def _draft(file: Path) -> Iterator[Path]:
    """Hold a file beside another one that only we write; gone at the end, if it was not renamed.

    Raises:
        SettingsError: another process holds it.
    """
    draft = file.with_name(file.name + ".part")
    with suppress(FileExistsError):  # left behind by one that was killed, unless somebody has it locked
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with draft.open("r+b") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise SettingsError(f"another process writes {draft}") from None
        try:
            held.truncate(0)
            yield draft
        finally:
            for name in (draft.name, f"{draft.name}-journal", f"{draft.name}-wal", f"{draft.name}-shm"):
                draft.with_name(name).unlink(missing_ok=True)


def _copy(source: Path, target: Path, on_bytes: OnBytes) -> None:
    """Copy a database as it is at this moment.

    The open transaction keeps this state: the copy would begin anew with each commit of another process.
    """
    try:
        reader = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READONLY)
        try:
            reader.set_busy_timeout(5_000)
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM sqlite_master").fetchall()
            page = int(reader.pragma("page_size"))
            writer = apsw.Connection(str(target))
            try:
                writer.pragma("synchronous", "off")  # it is synced whole, at the end
                with writer.backup("main", reader, "main") as backup:
                    while not backup.done:
                        backup.step(_STEP_PAGES)
                        total = backup.page_count * page
                        on_bytes(total - backup.remaining * page, total)
                writer.pragma("journal_mode", "delete")  # one file, which can be read where nothing can be written
            finally:
                writer.close()
        finally:
            reader.close()
    except apsw.Error as error:
        raise SettingsError(f"{source} can't be copied as a ledger: {error}") from None


def _look_at(draft: Path, what: str) -> None:
    """Refuse what is no sound ledger of a version that we know."""
    connection = apsw.Connection(str(draft), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        done = applied(connection)
        if not done:
            raise SettingsError(f"{what} is no ledger")
        pending("sqlite", done)
        if damage := damage_of(connection):
            raise SettingsError(f"{what} is damaged: {'; '.join(damage)}")
    except apsw.Error as error:
        raise SettingsError(f"{what} can't be read as a ledger: {error}") from None
    finally:
        connection.close()


def _put(draft: Path, file: Path) -> None:
    """Give a file its name once it is on disk."""
    _sync(draft)
    draft.replace(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _keep(ledger: Path, now: int) -> Path:
    """Give the old ledger, with the log beside it, a second name."""
    with suppress(apsw.Error):  # a sound one has no log then; a broken one is kept as it is
        connection = apsw.Connection(str(ledger))
        try:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        finally:
            connection.close()
    day = datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    kept = ledger.with_name(f"{ledger.name}.replaced-{day}")
    if kept.exists():
        raise SettingsError(f"{kept} exists: try again in a second")
    wal = ledger.with_name(f"{ledger.name}-wal")
    if wal.exists():
        _link(wal, kept.with_name(f"{kept.name}-wal"))
    _link(ledger, kept)
    _sync(ledger.parent)
    return kept


def _link(path: Path, other: Path) -> None:
    """Give a file a second name; where a filesystem knows no such thing, make a copy of it."""
    try:
        os.link(path, other)
    except OSError:
        other.write_bytes(path.read_bytes())
        other.chmod(0o600)
        _sync(other)


def _drop_logs(ledger: Path) -> None:
    """Drop what belongs to a ledger that goes: a log of one file must never be played into another."""
    for ending in ("-wal", "-shm"):
        ledger.with_name(ledger.name + ending).unlink(missing_ok=True)
