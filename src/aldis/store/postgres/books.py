"""A PostgreSQL ledger as a check sees it: one state of it, whatever is written meanwhile."""

from collections.abc import Sequence

import asyncpg

from aldis.model.errors import SettingsError
from aldis.store.books import questions
from aldis.store.migrate import refuse_older
from aldis.store.postgres.connection import Connection, connect_first, words_of
from aldis.store.postgres.migrate import applied
from aldis.store.rows import Row

QUESTIONS = questions("books", "books_postgres")
_PATIENCE_S = 86_400.0
_PATIENT = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0"


class PostgresBooks:
    """A read-only snapshot; it may be taken while nodes write."""

    def __init__(self, connection: Connection) -> None:
        """Take a connection in a transaction; `open` makes one."""
        self._connection = connection

    @classmethod
    async def open(cls, url: str) -> "PostgresBooks":
        """Connect and take the snapshot.

        Raises:
            SettingsError: the database can't be used, has no ledger, or one of another version.
        """
        connection = await connect_first(url, must_be_durable=False, what="the ledger's database")
        try:
            await connection.execute(_PATIENT)
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            refuse_older("postgres", await applied(connection), "the database")
        except BaseException:
            connection.terminate()
            raise
        return cls(connection)

    async def ask(self, question: str) -> Sequence[Row]:
        """Return the rows of an answer."""
        try:
            return list(map(tuple, await self._connection.fetch(QUESTIONS[question], timeout=_PATIENCE_S)))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            raise SettingsError(f"the database can't be read: {words_of(error)}") from error

    async def damage(self, *, quick: bool) -> list[str]:
        """Return nothing: the database watches over its own files."""
        return []

    async def close(self) -> None:
        """Let the snapshot go."""
        await self._connection.close(timeout=10.0)
