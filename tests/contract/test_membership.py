"""Nodes among others: lives, burials, binds by lease, and what a node does once its lease has run out."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from aldis.model.errors import LeaseLost
from aldis.rules.binds import Bind
from aldis.service import membership as rules
from aldis.service.membership import TTL_S, Membership
from aldis.service.process import identity, is_gone
from aldis.store.postgres.connection import LOST, connect, labelled
from aldis.store.postgres.migrate import migrate
from aldis.store.postgres.nodes import NodeTable

ALL = frozenset({"web", "dispatch", "push"})


class Link:
    """A connector's side of holding: what it was told, and connections that end when the test says so."""

    def __init__(self, name: str, binds: int) -> None:
        self.name = name
        self.binds = binds
        self.wanted: frozenset[int] = frozenset()
        self.open: frozenset[int] = frozenset()
        self.cuts: list[str] = []
        self.lingers = False

    @property
    def held(self) -> frozenset[int]:
        return self.wanted | self.open

    def hold(self, numbers: Collection[int]) -> None:
        self.wanted = frozenset(numbers)
        self.open = self.open | self.wanted if self.lingers else self.wanted

    def cut(self, reason: str) -> None:
        self.wanted = self.open = frozenset()
        self.cuts.append(reason)


class World:
    """Nodes on one database, and a clock for each that stands until it is moved."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ttl_ms = int(TTL_S * 1000)
        self.clocks: dict[Membership, float] = {}

    async def node(self, *links: Link, roles: frozenset[str] = ALL, label: str = "") -> Membership:
        told: list[Membership] = []
        node = Membership(
            NodeTable(labelled(self.url, label), self.ttl_ms, label),
            roles,
            {link.name: link for link in links},  # type: ignore[misc]
            steady=lambda: self.clocks[told[0]],
        )
        told.append(node)
        self.clocks[node] = 1_000.0
        await node.join()
        return node

    async def let_lapse(self, node: Membership) -> None:
        """Let a node's lease end by the database's time."""
        await self.execute("UPDATE nodes SET expires_at = 0 WHERE epoch = $1", node.epoch)

    async def age(self, node: Membership) -> None:
        """Let a node have been heard long enough to find others dead."""
        for _ in range(6):
            self.clocks[node] += TTL_S / 4
            await node.beat()

    async def execute(self, sql: str, *arguments: object) -> None:
        await self._fetch(sql, *arguments)

    async def living(self) -> int:
        """Return how many nodes the table has."""
        [[number]] = await self._fetch("SELECT count(*) FROM nodes WHERE epoch <> 0")
        return int(number)

    async def _fetch(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetch(sql, *arguments)
        finally:
            await connection.close()


@pytest.fixture
async def world(postgres_url: str) -> AsyncIterator[World]:
    first = await connect(postgres_url, "test", keep_plans=False)
    await migrate(first)
    await first.close()
    world = World(postgres_url)
    yield world
    for node in world.clocks:
        node._table.drop()


def up(binds: int = 2) -> Link:
    return Link("up", binds)


async def test_nodes_have_numbers_and_epochs_of_their_own(world: World) -> None:
    nodes = [await world.node(up()) for _ in range(5)]
    assert [node.number for node in nodes] == [0, 1, 2, 3, 4]
    assert len({node.epoch for node in nodes}) == 5
    await nodes[2].leave()
    again = await world.node(up())
    assert again.number == 2 and again.epoch > nodes[2].epoch


async def test_a_goodbye_waits_for_the_beat_under_way_and_is_the_last_word(world: World) -> None:
    """A beat that comes after it would be told that this life is over, and the node would start again."""
    for turns in range(40):
        node = await world.node(up())
        beats = [asyncio.create_task(node.beat())]
        for _ in range(turns):
            await asyncio.sleep(0)
        leaving = asyncio.create_task(node.leave())
        await asyncio.sleep(0)
        beats.append(asyncio.create_task(node.beat()))
        await asyncio.gather(leaving, *beats)
        assert await world.living() == 0
        assert not node.may_work()


async def test_nodes_that_start_at_once_share_no_number(world: World) -> None:
    nodes = await asyncio.gather(*(world.node(up()) for _ in range(12)))
    assert sorted(node.number for node in nodes) == list(range(12))


async def test_a_node_holds_nothing_before_it_owns_it(world: World) -> None:
    link = up()
    link.hold((0, 1))
    node = await world.node(link)
    assert not link.held
    await node.beat()
    assert link.held == {0, 1} and node.owned == {Bind("up", 0), Bind("up", 1)}


async def test_a_second_node_gets_its_share_once_the_first_has_let_go(world: World) -> None:
    mine, theirs = up(), up()
    first = await world.node(mine)
    await first.beat()
    mine.lingers = True
    second = await world.node(theirs)
    for _ in range(3):
        await first.beat()
        await second.beat()
        assert not theirs.held, "the first has a connection on it still"
    assert mine.wanted == {0}
    mine.open = frozenset({0})
    await first.beat()
    await second.beat()
    assert (mine.held, theirs.held) == ({0}, {1})


async def test_a_node_without_the_role_owns_no_bind(world: World) -> None:
    link, other = up(), up()
    web = await world.node(roles=frozenset({"web"}))
    await web.beat()
    assert not web.others_dispatch
    push = await world.node(link, roles=frozenset({"push"}))
    await push.beat()
    worker = await world.node(other)
    await worker.beat()
    assert not link.held and other.held == {0, 1}
    await web.beat()
    assert web.others_dispatch and not worker.others_dispatch and web.living == 3


async def test_what_a_dead_node_owned_is_another_s_after_its_burial(world: World) -> None:
    mine, theirs = up(), up()
    first, second = await world.node(mine), await world.node(theirs)
    await first.beat()
    await world.age(second)
    await world.let_lapse(first)
    assert second.owned == {Bind("up", 1)}
    await world.age(second)
    assert theirs.held == {0, 1} and second.living == 1
    with pytest.raises(LeaseLost):
        await first.beat()
    assert not mine.held and mine.cuts and not first.may_work()


async def test_a_dead_node_s_connections_are_ended_whatever_they_were_at(world: World) -> None:
    """Frozen between the two halves of preparing a statement it would hold its locks for ever."""
    first, second = await world.node(up(), label="one"), await world.node(up(), label="two")
    await world.execute("INSERT INTO facts VALUES ('f', 1)")
    frozen, well = [await connect(labelled(world.url, label), "news") for label in ("one", "two")]
    alike = await connect(labelled(world.url, "onetwo"), "news")
    await frozen.execute("BEGIN")
    await frozen.execute("UPDATE facts SET value = 2")
    await frozen._get_statement("SELECT value + $1 FROM facts", None)  # type: ignore[attr-defined]
    await world.age(second)
    await world.let_lapse(first)
    await world.age(second)
    await well.execute("UPDATE facts SET value = 3")
    with pytest.raises(LOST):
        await frozen.fetchval("SELECT 1")
    assert await alike.fetchval("SELECT value FROM facts") == 3
    for connection in (well, alike):
        await connection.close()


async def test_who_was_not_heard_itself_finds_nobody_dead(world: World) -> None:
    """After an outage of the database every lease has run out: that is nobody's death."""
    first, second = await world.node(up()), await world.node(up())
    await world.let_lapse(first)
    await second.beat()
    world.clocks[second] += TTL_S - 0.1
    await second.beat()
    await first.beat()
    assert first.may_work()


async def test_a_missed_beat_begins_the_time_anew(world: World) -> None:
    first, second = await world.node(up()), await world.node(up())
    await world.age(second)
    good, second._table._url = second._table._url, "postgresql://postgres@127.0.0.1:1/nowhere"
    second._table.drop()
    await second.beat()
    second._table._url = good
    await world.let_lapse(first)
    await second.beat()
    await first.beat()
    assert first.may_work()


async def test_a_node_whose_lease_has_run_out_lets_go_at_once_and_comes_back(world: World) -> None:
    link = up()
    came_back: list[bool] = []
    node = await world.node(link)
    node._on_valid = lambda: came_back.append(True)
    await node.beat()
    world.clocks[node] += TTL_S - 0.01
    node._check()
    assert link.held and node.may_work()
    world.clocks[node] += 0.02
    assert not node.may_work()
    node._check()
    assert not link.held and len(link.cuts) == 1
    node._check()
    assert len(link.cuts) == 1
    await node.beat()
    assert link.held == {0, 1} and node.may_work() and came_back == [True]


async def test_a_stopped_process_does_no_work_when_it_wakes(world: World) -> None:
    """The clock runs on while it stands still: before any beat it knows that it may count as dead."""
    node = await world.node(up())
    await node.beat()
    world.clocks[node] += 3_600
    assert not node.may_work()


async def test_two_nodes_never_own_the_same_bind(world: World) -> None:
    links = [up(5) for _ in range(3)]
    nodes = [await world.node(link) for link in links]
    for _ in range(6):
        await asyncio.gather(*(node.beat() for node in nodes))
        held = [number for link in links for number in link.held]
        assert len(held) == len(set(held))
    assert sorted(number for link in links for number in link.held) == [0, 1, 2, 3, 4]


async def test_of_two_that_take_a_bind_at_once_one_gets_it(world: World) -> None:
    """Who waits for the other's transaction must look again, and at what that one has written."""
    first, second = await world.node(), await world.node(up(), roles=frozenset({"dispatch"}))
    beat = await second._table.beat(second.epoch, may_bury=False)
    assert beat is not None and set(beat.owners.values()) == {0}
    connection = await asyncpg.connect(world.url)
    taking = connection.transaction()
    await taking.start()
    await connection.execute("UPDATE binds SET epoch = $1, fence = fence + 1", first.epoch)
    other = asyncio.ensure_future(second._table.take(second.epoch, list(beat.owners)))
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    while not await connection.fetchval(waits):
        await asyncio.sleep(0.01)
    await taking.commit()
    await connection.close()
    assert await other == []


async def test_a_bind_that_is_not_configured_here_is_left_to_others(world: World) -> None:
    big, small = up(4), up(2)
    await world.node(big)
    node = await world.node(small)
    await node.beat()
    assert small.held <= {0, 1}


async def test_the_time_is_the_database_s(world: World) -> None:
    node = await world.node(up())
    connection = await asyncpg.connect(world.url)
    now = await connection.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    await connection.close()
    assert abs(node.now_ms() - now) < 2_000
    before = node.now_ms()
    world.clocks[node] += 5
    assert node.now_ms() - before == 5_000


async def test_a_node_that_starts_again_ends_its_former_life_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is gone: nobody needs to wait for its lease to end."""
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    monkeypatch.setattr(rules, "identity", lambda: identity(ended.pid))
    mine, theirs = up(), up()
    first = await world.node(mine)
    await first.beat()
    second = await world.node(theirs)
    assert second.number == 1, "the process lives"
    await second.leave()
    ended.communicate(b"\n")
    monkeypatch.undo()
    second = await world.node(theirs)
    await second.beat()
    assert second.number == 0 and theirs.held == {0, 1}
    with pytest.raises(LeaseLost):
        await first.beat()


async def test_a_node_stops_beating_when_it_is_found_dead(world: World) -> None:
    node = await world.node(up())
    await world.execute("UPDATE nodes SET epoch = 0")
    with pytest.raises(LeaseLost):
        async with asyncio.timeout(10):
            await _unwrapped(node.run)


async def _unwrapped(run: Callable[[], object]) -> None:
    try:
        await run()  # type: ignore[misc]
    except* LeaseLost as group:
        raise group.exceptions[0] from None


@asynccontextmanager
async def _ended_process() -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    name = identity(process.pid)
    await process.wait()
    yield name


async def test_a_process_is_told_from_another_that_has_its_number() -> None:
    me = identity()
    assert me and not is_gone(me)
    boot, namespace, pid, start = me.split()
    assert is_gone(f"{boot} {namespace} {pid} {int(start) + 1}")
    assert not is_gone(f"other-boot {namespace} {pid} {int(start) + 1}")
    assert not is_gone(f"{boot} pid:[1] {pid} {int(start) + 1}")
    assert not is_gone("") and not is_gone("nonsense")
    async with _ended_process() as name:
        assert is_gone(name)


def test_where_there_is_no_proc_nobody_is_gone(tmp_path: Path) -> None:
    assert identity(proc=tmp_path) == ""
    assert not is_gone(identity(os.getpid()), proc=tmp_path)
