"""The shared store: PostgreSQL, written by any number of nodes."""

from aldis.store.postgres.engine import PostgresStore

__all__ = ["PostgresStore"]
