"""Kept plans look rows up by key, whatever the planner believed of the tables when they were made."""

import re

import pytest
from tests.stores import postgres_opener

from aldis.store.postgres.connection import connect
from aldis.store.postgres.lane import SQL
from aldis.store.testing import Bench

BY_KEY = (
    "claim",
    "end_pushes",
    "find_batches",
    "find_duplicates",
    "keep_queued",
    "load_parts",
    "lock_messages",
    "lock_queued",
    "match_receipts",
    "reschedule_pushes",
    "save",
)


@pytest.mark.parametrize("is_analyzed", [False, True], ids=["never analyzed", "analyzed while empty"])
async def test_a_plan_made_while_tables_are_empty_goes_by_key(postgres_url: str, is_analyzed: bool) -> None:
    bench = Bench(postgres_opener(postgres_url))
    await bench.open()
    await bench.store.close()
    connection = await connect(postgres_url, "plans")
    try:
        if is_analyzed:
            await connection.execute("VACUUM ANALYZE")
        for name in BY_KEY:
            sql = SQL[name].rstrip().rstrip(";")
            nulls = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", sql))))
            await connection.execute(f"PREPARE {name} AS {sql}")
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE {name}({nulls})"))
            assert "Join Filter" not in plan, f"{name}\n{plan}"
            assert "Seq Scan" not in plan, f"{name}\n{plan}"
    finally:
        await connection.close()
