"""PostgreSQL beside the server: a cluster of the bench's own, on a disk and with fsync, gone at the end."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Self

import asyncpg
from tests.postgres import Administration, Cluster, find_binaries

_TICKS = os.sysconf("SC_CLK_TCK")
_SETTINGS: dict[str, str | int | bool] = {"shared_buffers": "1GB"}
_GROUP = 100
_BODY = "Your parcel is on its way"
TOP = 14
_STATEMENTS = """
SELECT s.calls, s.total_exec_time, s.total_plan_time, s.mean_exec_time * 1000, s.rows, s.wal_bytes,
regexp_replace(s.query, '\\s+', ' ', 'g')
FROM pg_stat_statements s WHERE s.query NOT LIKE '%pg_stat_statements%' ORDER BY s.total_exec_time DESC LIMIT $1"""


def _times(pid: int, *, with_gone: bool) -> float:
    """Return a process's processor time, with that of its children that are gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return sum(map(int, fields[11 : 15 if with_gone else 13])) / _TICKS


class Database:
    """The cluster, as a context manager."""

    def __init__(self, folder: Path, *, is_profiled: bool = False) -> None:
        """Take where its files go, and whether to count where its statements' time goes."""
        folder.chmod(0o711)  # as root, the cluster runs as another, who must get through
        binaries = find_binaries()
        has_statements = hasattr(binaries, "directory") and _has_statements(binaries.directory)
        self.counts_statements = is_profiled and has_statements
        settings = dict(_SETTINGS)
        if self.counts_statements:
            settings |= {"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_planning": True}
        self._cluster = Cluster(durable=True, settings=settings, parent=folder)
        self._numbers = count(1)
        self._stack = ExitStack()
        if self.counts_statements:
            self._cluster.fetch("CREATE EXTENSION pg_stat_statements")

    def __enter__(self) -> Self:
        self._stack.enter_context(self._cluster)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def about(self) -> str:
        chosen = ", ".join(f"{name} {value}" for name, value in _SETTINGS.items())
        return f"PostgreSQL {self._cluster.version} by its defaults but {chosen}; fsync on"

    def new_url(self) -> str:
        """Make an empty database."""
        name = f"bench_{next(self._numbers)}"
        self._cluster.create_database(name)
        return self._cluster.url(name)

    def cpu_s(self) -> float:
        """Return the processor time of all its processes so far, those that are gone included."""
        children = Path(f"/proc/{self._cluster.pid}/task/{self._cluster.pid}/children").read_text().split()
        return _times(self._cluster.pid, with_gone=True) + sum(_times(int(pid), with_gone=False) for pid in children)

    def forget_statements(self) -> None:
        if self.counts_statements:
            self._cluster.fetch("SELECT pg_stat_statements_reset()")

    def statements(self) -> list[str]:
        """Return where its time went since they were forgotten, a line a statement."""
        if not self.counts_statements:
            return ["PostgreSQL: pg_stat_statements is not there"]
        lines = ["PostgreSQL by statement: ms in all, of that planning, calls, us a call, rows a call, WAL kB"]
        for calls, spent, planned, mean, rows, wal, query in self._cluster.fetch(_STATEMENTS, TOP):
            each = f"{calls:8,} {mean:8.0f} {rows / calls:7.1f} {wal / 1000:8.0f}"
            lines.append(f"  {spent + planned:8.0f} {planned:6.0f} {each}  {query[:90]}")
        return lines


def _has_statements(directory: Path) -> bool:
    return any(directory.parent.glob("**/pg_stat_statements.so"))


class Connection:
    """A way for this program, which has no loop of its own, to put statements."""

    def __init__(self, url: str) -> None:
        self._administration = Administration(url)

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self._administration.close()

    def fetch(self, statement: str, *arguments: object) -> list[Any]:
        return self._administration.fetch(statement, *arguments)


def commits(database: Database, seconds: float) -> list[tuple[str, float]]:
    """Return how many rows one bare connection makes durable in a second: one a commit, and in groups."""
    return asyncio.run(_commits(database.new_url(), seconds))


async def _commits(url: str, seconds: float) -> list[tuple[str, float]]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE rows (id BIGINT PRIMARY KEY, body TEXT NOT NULL)")
        single = await connection.prepare("INSERT INTO rows VALUES ($1, $2)")
        grouped = await connection.prepare("INSERT INTO rows SELECT * FROM unnest($1::bigint[], $2::text[])")
        numbers = count()

        def some(n: int) -> list[int]:
            return [next(numbers) for _ in range(n)]

        return [
            ("single commits", await _rate(lambda: single.fetch(next(numbers), _BODY), seconds)),
            (
                f"rows, {_GROUP} a commit",
                _GROUP * await _rate(lambda: grouped.fetch(some(_GROUP), [_BODY] * _GROUP), seconds),
            ),
        ]
    finally:
        await connection.close()


async def _rate(once: Callable[[], Awaitable[object]], seconds: float) -> float:
    done, started_at = 0, time.perf_counter()
    while time.perf_counter() - started_at < seconds:
        await once()
        done += 1
    return done / (time.perf_counter() - started_at)
