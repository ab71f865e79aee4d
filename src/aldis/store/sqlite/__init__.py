"""The embedded store: SQLite with one writer thread and group commit."""

from aldis.store.sqlite.engine import SqliteStore

__all__ = ["SqliteStore"]
