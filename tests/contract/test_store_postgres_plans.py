"""The shared store's plans: every look into a large table is by key, whatever the table held when it was planned."""

import re
from typing import Any

import pytest

from aldis.model.ids import id_at
from aldis.store.postgres import partitions
from aldis.store.postgres.connection import connect
from aldis.store.postgres.lane import SQL
from aldis.store.rows import DAY_MS
from aldis.store.testing.bench import NOON

WEEK_MS = 7 * DAY_MS


LARGE = ("queue", "messages", "batches", "parts", "events", "upstream_ids", "pushes", "inbox", "deduplications")
BY_KEY = {
    "find_duplicates": {"deduplications": {"account_id", "stop_dup_id"}},
    "admit": {"accounts": {"account_id"}},
    "admit_at_once": {"accounts": {"account_id"}},
    "batches_there": {"batches": {"batch_id"}},
    "claim": {"queue": {"connector", "due_at"}, "batches": {"batch_id"}},
    "load_parts": {"parts": {"account_id", "message_id"}},
    "lock_messages": {"messages": {"account_id", "message_id"}, "batches": {"batch_id"}},
    "lock_queued": {"queue": {"account_id", "message_id"}},
    "save": {"queue": {"account_id", "message_id"}},
    "keep_queued": {"messages": {"account_id", "message_id"}},
    "match_receipts": {
        "upstream_ids": {"connector", "upstream_id"},
        "messages": {"account_id", "message_id"},
        "parts": {"account_id", "message_id"},
    },
    "parked_receipts": {"inbox": {"connector", "upstream_id"}},
    "parked_since": {"inbox": {"received_at"}},
    "submissions": {
        "messages": {"account_id", "message_id"},
        "batches": {"batch_id"},
        "events": {"account_id", "message_id"},
    },
    "waiting_inbound": {"inbox": {"received_at"}},
    "pieces_of_inbound": {"inbox": {"connector", "upstream_id"}},
    "delete_inbox": {"inbox": {"inbox_id"}},
    "end_pushes": {"pushes": {"account_id", "message_id"}, "messages": {"account_id", "message_id"}},
    "reschedule_pushes": {"pushes": {"account_id", "message_id"}},
    "adopt_pushes": {"pushes": {"owner", "due_at"}},
    "due_pushes": {"pushes": {"owner", "due_at"}},
    "find_batches": {"batches": {"batch_id"}, "messages": {"account_id", "message_id"}},
    "refund": {"accounts": {"account_id"}},
    "lock_purses": {"accounts": {"account_id"}},
    "find_accounts": {"accounts": {"username"}},
}
"""Query -> table -> columns, all of which each look into the table must be narrowed by."""
ROWS = ("no rows yet", "many rows", "no rows any more")
VALUES = {
    "tid[]": "'{\"(0,1)\"}'",
    "bigint": "1",
    "bigint[]": "'{1,2}'",
    "text": "'x'",
    "text[]": "'{x,y}'",
    "bytea[]": "'{a,b}'",
}


async def prepared(connection: Any, name: str) -> list[str]:
    """Prepare a query as `asked`; returns the types of what it takes."""
    await connection.execute(f"PREPARE asked AS {SQL[name]}")
    types = await connection.fetchval("SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'asked'")
    return list(types)


async def plan_of(connection: Any, name: str, *values: str, how: str = "COSTS OFF") -> str:
    """Return how a query of ours is run, on a connection as ours are; with values of no meaning if none are given."""
    types = await prepared(connection, name)
    given = values or tuple(VALUES[one] for one in types)
    lines = await connection.fetch(f"EXPLAIN ({how}) EXECUTE asked({', '.join(given)})")
    await connection.execute("DEALLOCATE asked")
    return "\n".join(line[0] for line in lines)


def looks(plan: str) -> list[tuple[str, str]]:
    """Return (table, condition) of each look into a table or a partition of it."""
    found = re.findall(
        r"(?:Index (?:Only )?|Seq )Scan (?:using \w+ )?on (\w+?)(?:_\d+|_rest)?(?: \w+)?\n(.*)", plan + "\n"
    )
    return [(table, line.partition("Index Cond:")[2]) for table, line in found]


async def fill(connection: Any) -> None:
    """Put some ten thousand rows into each large table, and let the planner know."""
    base, days = id_at(NOON - 3 * DAY_MS), 86_400_000
    numbers = f"generate_series(1, 20000) n, LATERAL (SELECT {base} + n * ({id_at(NOON) - base} / 20000) AS id) i"
    await connection.execute(f"""
        INSERT INTO accounts (account_id, username, password_hash) SELECT n, n::text, '' FROM generate_series(1, 100) n;
        INSERT INTO batches SELECT n % 100, id, 0, id + 1, 1, 7, '', '', 2, 1, '', 0, 0 FROM {numbers};
        INSERT INTO messages (account_id, message_id, batch_id, msisdn, status, price_milli, connector)
            SELECT n % 100, id + 1, id, n, 0, 0, 'x' FROM {numbers};
        INSERT INTO queue (account_id, message_id, batch_id, msisdn, parts, connector, due_at)
            SELECT n % 100, id + 1, id, n, 1, 'c' || n % 5, {NOON} - n FROM {numbers};
        INSERT INTO parts SELECT n % 100, id + 1, 1, 0, 0 FROM {numbers};
        INSERT INTO events SELECT n % 100, id + 1, id + 2, 0, '', 0, 0, '', '', '' FROM {numbers};
        INSERT INTO upstream_ids SELECT 'c' || n % 5, n::text, {NOON} / {days} - n % 3, n % 100, id + 1, 1, 1
            FROM {numbers};
        INSERT INTO pushes SELECT n % 100, id + 1, id, id, '', n, 11, 0, '', 0, 0, {NOON} - n, '', n % 3 FROM {numbers};
        INSERT INTO inbox SELECT id, 'c' || n % 5, {NOON} - n, n % 2, n::text, '', '', '', '', '', '' FROM {numbers};
        INSERT INTO deduplications SELECT n % 100, n, id FROM {numbers};
        ANALYZE
    """)


async def prepare(connection: Any, rows: str) -> None:
    """Bring the tables to a time of their lives."""
    if rows != "no rows yet":
        await fill(connection)
    if rows == "no rows any more":
        for table in LARGE:
            await connection.execute(f"DELETE FROM {table}")
        await connection.execute("VACUUM ANALYZE")


@pytest.mark.parametrize("rows", ROWS)
async def test_every_look_into_a_large_table_is_by_key(postgres_url: str, rows: str) -> None:
    """A kept plan must be good on the first day and on the thousandth."""
    connection = await connect(postgres_url, "plans")
    await prepare(connection, rows)
    for name, keys in BY_KEY.items():
        plan = await plan_of(connection, name)
        found = looks(plan)
        assert {table for table, _ in found} >= set(keys), f"{name}\n{plan}"
        for table, condition in found:
            lacking = [column for column in keys.get(table, set()) if f"({column} " not in condition]
            assert not lacking, f"{name}: {table} is not narrowed by {lacking}\n{plan}"
    await connection.close()


@pytest.mark.parametrize("rows", ROWS)
async def test_no_query_reads_a_large_table_whole(postgres_url: str, rows: str) -> None:
    connection = await connect(postgres_url, "plans")
    await prepare(connection, rows)
    for name in SQL:
        if name not in ("beat", "living_nodes", "bury_nodes"):
            plan = await plan_of(connection, name) if (await taken(connection, name)) else ""
            whole = re.findall(rf"Seq Scan on ({'|'.join(LARGE)})(?:_\w+)?\b", plan)
            assert not whole, f"{name}\n{plan}"
    await connection.close()


async def taken(connection: Any, name: str) -> list[str]:
    """Return the types of what a query takes, none for one that takes nothing."""
    types = await prepared(connection, name)
    await connection.execute("DEALLOCATE asked")
    return types


async def test_only_partitions_of_the_time_in_question_are_looked_into(postgres_url: str) -> None:
    connection = await connect(postgres_url, "plans")
    await fill(connection)
    this_week = partitions.week_of(NOON) // DAY_MS
    low, high = id_at(NOON - 3_600_000), id_at(NOON)
    keys = "'{1,2}'", f"'{{{low},{high}}}'"
    for name, values in {
        "lock_messages": (*keys, str(low), str(high), str(low)),
        "load_parts": (*keys, str(low), str(high)),
        "find_batches": (*keys, str(low), str(high)),
    }.items():
        plan = await plan_of(connection, name, *values, how="ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF")
        ran = [line for line in plan.splitlines() if " on " in line and "never executed" not in line]
        days = {int(day) for line in ran for day in re.findall(r" on (?:messages|batches|parts)_(\d+) ", line)}
        assert days == {this_week}, plan
    today = NOON // DAY_MS
    values = ("'c1'", "'{1,6}'", f"'{{{today},{today - 1}}}'")
    plan = await plan_of(connection, "match_receipts", *values, how="ANALYZE, COSTS OFF, TIMING OFF, SUMMARY OFF")
    ran = [line for line in plan.splitlines() if "never executed" not in line]
    assert {int(day) for line in ran for day in re.findall(r" on upstream_ids_(\d+) ", line)} == {today, today - 1}, (
        plan
    )
    await connection.close()


async def test_refunds_lock_accounts_in_the_order_given(postgres_url: str) -> None:
    connection = await connect(postgres_url, "plans")
    for rows in ROWS[:2]:
        await prepare(connection, rows)
        plan = await plan_of(connection, "refund")
        assert re.search(r"Nested Loop\n.*Scan on v", plan), plan
    await connection.close()
