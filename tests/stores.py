"""How tests open each engine's store."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aldis.model.types import Push
from aldis.store.postgres import PostgresStore
from aldis.store.sqlite import SqliteStore
from aldis.store.testing import OpenStore
from aldis.store.testing.bench import NOON


def sqlite_opener(directory: Path, **options: Any) -> OpenStore:
    """Open the embedded store on a directory."""

    async def open_store(on_pushes: Callable[[list[Push]], None]) -> SqliteStore:
        return SqliteStore(directory, on_pushes, **options)

    return open_store


def postgres_opener(url: str, **options: Any) -> OpenStore:
    """Open the shared store on a throwaway database; its tables are made for the time at which benches begin."""

    async def open_store(on_pushes: Callable[[list[Push]], None]) -> PostgresStore:
        return await PostgresStore.open(url, on_pushes, lambda: NOON, must_be_durable=False, **options)

    return open_store
