"""The write connection as verbs use it: few statements, and what a transaction causes once it is on disk."""

from array import array
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

import apsw

from aldis.store.group import Effects
from aldis.store.rows import Purse
from aldis.store.sqlfile import queries

SQL = queries("sqlite") | queries("sqlite_inbound")
_CHUNK = 64
"""Rows in one statement at most; each number of rows is a statement of its own, kept ready."""


@cache
def _with_rows(sql: str, width: int, count: int) -> str:
    row = f"({','.join('?' * width)})"
    return sql.replace("{rows}", ",".join([row] * count))


def carray(values: list[Any]) -> Any:
    """Make an SQL array of a list that is not empty, all integers or all text."""
    return apsw.carray(array("q", values) if isinstance(values[0], int) else tuple(values))


class Context:
    """The write connection, and what a transaction will have caused once it is committed."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.cursor = connection.cursor()
        self.effects = Effects()
        self._before_item = self.effects
        self.purses: dict[int, Purse] = {}
        """By account; the writer alone changes what they can pay with."""
        self.parked = int(self.one(SQL["count_parked"]) or 0)
        self._parked_before = self.parked

    def begin(self) -> None:
        """Forget what an earlier transaction caused."""
        self.effects = Effects()
        self._parked_before = self.parked

    def begin_item(self) -> None:
        """Mark where one job starts."""
        self._before_item = self.effects.mark()

    def rolled_back_item(self) -> None:
        """Take back what one job caused."""
        self.purses.clear()
        self.effects = self._before_item
        self.parked = int(self.one(SQL["count_parked"]) or 0)

    def rolled_back(self) -> None:
        """Take back what the transaction caused."""
        self.purses.clear()
        self.parked = self._parked_before

    def one(self, sql: str, bindings: Sequence[Any] = ()) -> Any:
        """Return the first column of the first row, or None."""
        rows: list[Any] = self.cursor.execute(sql, bindings).fetchall()  # to the end: an open cursor holds the WAL
        return rows[0][0] if rows else None

    def write(self, name: str, rows: list[tuple[Any, ...]]) -> None:
        """Run a query over many rows, in chunks: each statement gives the GIL away and must win it back."""
        if not rows:
            return
        sql, width, start = SQL[name], len(rows[0]), 0
        while start < len(rows):
            chunk = rows[start : start + _CHUNK]
            self.cursor.execute(_with_rows(sql, width, len(chunk)), tuple(chain.from_iterable(chunk)))
            start += _CHUNK
