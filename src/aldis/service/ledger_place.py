"""Where a ledger lives: a data directory, or a PostgreSQL database."""

import shlex
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

from aldis.model.errors import SettingsError
from aldis.service.settings import NO_DRIVER, Settings

_POSTGRES = ("postgresql://", "postgres://")


class LedgerPlace(NamedTuple):
    """One of the two is set."""

    directory: Path | None
    url: str

    @property
    def shown(self) -> str:
        """How it is named to people and in other ledgers: never with a password."""
        return f"sqlite:{self.directory.absolute()}" if self.directory is not None else without_password(self.url)


def parse_place(text: str) -> LedgerPlace:
    """Read `sqlite:DIRECTORY`, `sqlite:///DIRECTORY` or `postgresql://…`.

    Raises:
        SettingsError: it is none of them; the text says what is wanted.
    """
    if text.startswith(_POSTGRES):
        return LedgerPlace(None, text)
    kind, colon, path = text.partition(":")
    if kind == "sqlite" and colon and path and not (path.startswith("//") and not path.startswith("///")):
        return LedgerPlace(Path(path.removeprefix("//")), "")
    raise SettingsError(
        f"{without_password(text)!r} is no ledger: sqlite:DIRECTORY (the data directory) or "
        "postgresql://user:password@host:port/database is wanted"
    )


def place_of(settings: Settings) -> LedgerPlace:
    """Return where the configured ledger lives."""
    return LedgerPlace(settings.data_dir, "") if settings.ledger_url == "sqlite" else parse_place(settings.ledger_url)


def without_password(url: str) -> str:
    """Return a URL as it may be shown."""
    try:
        parts = urlsplit(url)
        name, _, host = parts.netloc.rpartition("@")
    except ValueError:
        return url.partition(":")[0] + ":…"
    user = name.partition(":")[0]
    query = urlencode([pair for pair in parse_qsl(parts.query) if "password" not in pair[0]], safe="/")
    return parts._replace(netloc=f"{user}@{host}" if user else host, query=query).geturl()


def postgres_commands(url: str, file: Path) -> tuple[str, str]:
    """Return what to say to who wants to back up, and to restore, a PostgreSQL ledger: its own tools do that."""
    shown, server = (
        shlex.quote(without_password(url)),
        shlex.quote(urlsplit(without_password(url))._replace(path="").geturl()),
    )
    name, folder = shlex.quote(str(file)), shlex.quote(f"{file}.base")
    saving = (
        "the ledger is in PostgreSQL, whose own tools back it up while nodes run. This database into a file:\n"
        f"  pg_dump --format=custom --file={name} --dbname={shown}\n"
        "The whole server, from which it can also be brought to any later moment if its log is archived:\n"
        f"  pg_basebackup --dbname={server} --pgdata={folder} --wal-method=stream --checkpoint=fast --progress"
    )
    restoring = (
        "the ledger is in PostgreSQL, whose own tools restore it. Stop all nodes, then:\n"
        f"  pg_restore --clean --if-exists --single-transaction --dbname={shown} {name}"
    )
    return saving, restoring


def postgres_engine() -> ModuleType:
    """Return `aldis.store.postgres`, which is looked for only when it is needed: its driver is optional.

    Raises:
        SettingsError: the driver is not installed.
    """
    try:
        import aldis.store.postgres.books  # noqa: PLC0415
        import aldis.store.postgres.transfer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise SettingsError(NO_DRIVER) from None
    return aldis.store.postgres
