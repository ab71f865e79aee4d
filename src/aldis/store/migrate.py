"""Migrations: `migrations/ENGINE/NNNN_name.sql`, forward only, each remembered with its checksum."""

import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import NamedTuple

from aldis.model.errors import SettingsError


class Migration(NamedTuple):
    """One step of the tables."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """What the text is known by."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def available(engine: str) -> list[Migration]:
    """Return all migrations of an engine (`sqlite` or `postgres`) in order."""
    folder = files("aldis.store") / "migrations" / engine
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))
    return [Migration(int(name[:4]), name[:-4], (folder / name).read_text(encoding="utf-8")) for name in names]


def pending(engine: str, done: Mapping[int, str]) -> list[Migration]:
    """Return the migrations that a ledger still needs.

    Args:
        engine: Whose migrations.
        done: Number -> checksum of those that it had.

    Raises:
        SettingsError: the ledger is newer than this program, or a migration was changed after it ran.
    """
    known = available(engine)
    if done and max(done) > known[-1].number:
        raise SettingsError(f"the ledger is newer (migration {max(done)}) than this aldis: install a newer version")
    for one in known:
        if one.number in done and done[one.number] != one.checksum:
            raise SettingsError(f"migration {one.name} differs from the one that made this ledger")
    return [one for one in known if one.number not in done]


def refuse_older(engine: str, done: Mapping[int, str], what: str) -> None:
    """Refuse a ledger whose tables are not those of this program.

    Args:
        engine: Whose migrations.
        done: Number -> checksum of those that the ledger had; none: it is no ledger.
        what: The ledger, in words.

    Raises:
        SettingsError: it is no ledger, or an older or a newer one.
    """
    if not done:
        raise SettingsError(f"{what} holds no ledger")
    if pending(engine, done):
        raise SettingsError(f"{what} is of an older aldis: bring it up to date with `aldis ledger migrate`")


def refuse_unfinished(sources: Sequence[str]) -> None:
    """Refuse a ledger that another one is being copied into.

    Args:
        sources: What the ledger says that it is a copy of; none: it is complete.

    Raises:
        SettingsError: there is one.
    """
    if sources:
        raise SettingsError(
            f"this ledger is an unfinished copy of {sources[0]}: run the same `aldis ledger copy` again, "
            "it goes on where it stopped and verifies what is there"
        )
