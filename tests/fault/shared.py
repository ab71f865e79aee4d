"""A rig with several nodes on one PostgreSQL, and how its ledger is read."""

import asyncio
import json
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import asyncpg
from tests.fault import kill
from tests.fault.checker import Evidence
from tests.fault.dump import LOOKED_AT_MS, Batch, Dump, Event, Message, Push, Settled, Snapshot
from tests.fault.rig import Rig
from tests.fault.server import SERVER, RigError, Server
from tests.postgres import Cluster, Missing, find_binaries

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

NODES = ("node_a", "node_b")
"""Each is a role of the database too, so that triggers can tell who did what."""
BINDS = 4
DATABASE = "aldis"
ALL_ROLES = ("web", "dispatch", "push")
CLIENT_TIMEOUT_S = 4.0
"""A stopped node takes connections and says nothing on them."""
SETTLE_S = 60.0

# Ids of several nodes do not tell the order in which things were judged; the places do, for a message is locked then.
TRIGGERS = """
CREATE TABLE witness_lives (epoch BIGINT, who NAME);
CREATE TABLE witness_settled (at TIMESTAMPTZ DEFAULT clock_timestamp(), who NAME, push_id BIGINT, owner BIGINT);
CREATE TABLE witness_events (place BIGSERIAL, message_id BIGINT, event_id BIGINT);
CREATE FUNCTION witness_event() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO witness_events (message_id, event_id) VALUES (NEW.message_id, NEW.event_id);
    RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER INSERT ON events FOR EACH ROW EXECUTE FUNCTION witness_event();
CREATE FUNCTION witness_life() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.epoch <> 0 THEN INSERT INTO witness_lives VALUES (NEW.epoch, session_user); END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION witness_settled() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO witness_settled (who, push_id, owner) VALUES (session_user, OLD.push_id, OLD.owner);
    RETURN NULL;
END $$;
CREATE TABLE witness_claims (who NAME, message_id BIGINT, holder BIGINT);
CREATE FUNCTION witness_claim() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NOT EXISTS (SELECT FROM nodes WHERE epoch = NEW.holder) THEN
        INSERT INTO witness_claims VALUES (session_user, NEW.message_id, NEW.holder);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER witness AFTER UPDATE ON queue FOR EACH ROW
    WHEN (OLD.leased_until IS NULL AND NEW.leased_until IS NOT NULL) EXECUTE FUNCTION witness_claim();
CREATE TRIGGER witness AFTER INSERT OR UPDATE OF epoch ON nodes FOR EACH ROW EXECUTE FUNCTION witness_life();
CREATE TRIGGER witness_gone AFTER DELETE ON pushes FOR EACH ROW EXECUTE FUNCTION witness_settled();
CREATE TRIGGER witness_late AFTER UPDATE ON pushes FOR EACH ROW
    WHEN (OLD.push_id = NEW.push_id AND OLD.attempts <> NEW.attempts) EXECUTE FUNCTION witness_settled();
"""

_UNFINISHED = f"""
SELECT (SELECT count(*) FROM queue)
+ (SELECT count(*) FROM pushes WHERE due_at <= extract(epoch FROM clock_timestamp()) * 1000)
+ (SELECT count(*) FROM inbox
   WHERE is_receipt = 1 AND received_at > extract(epoch FROM clock_timestamp()) * 1000 - {LOOKED_AT_MS})
"""


class SharedLedger:
    """The ledger on PostgreSQL, read without the server's code."""

    def __init__(self, url: str) -> None:
        self.url = url

    def url_for(self, server: str) -> str:
        parts = urlsplit(self.url)
        return parts._replace(netloc=f"{server}@{parts.hostname}:{parts.port}").geturl()

    def fetch(self, statement: str, *arguments: object) -> list[Any]:
        async def ask(connection: "Connection") -> list[Any]:
            return list(await connection.fetch(statement, *arguments))

        return self._run(ask)

    def execute(self, script: str) -> None:
        async def tell(connection: "Connection") -> None:
            await connection.execute(script)

        self._run(tell)

    def unfinished(self) -> int:
        return int(self.fetch(_UNFINISHED)[0][0])

    def snapshot(self) -> Snapshot:
        rows = self.fetch("SELECT message_id, status, seq FROM messages")
        return Snapshot({row[0]: (row[1], row[2]) for row in rows}, "ok")

    def take(self) -> Dump:
        return self._run(_take)

    def _run(self, what: Callable[["Connection"], Any]) -> Any:
        async def main() -> Any:
            connection = await asyncpg.connect(self.url, timeout=30, command_timeout=60)
            try:
                return await what(connection)
            finally:
                await connection.close()

        return asyncio.run(main())


async def _take(connection: "Connection") -> Dump:
    """Read all in one transaction, as of one moment."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        query = connection.fetch
        dump = Dump(credits=dict(await query("SELECT username, credits_milli FROM accounts")))
        for name, milli in await query("SELECT username, amount_milli FROM top_ups JOIN accounts USING (account_id)"):
            dump.top_ups.setdefault(name, []).append(milli)
        batches = (
            "SELECT batch_id, username, parts, body, originator, want_report, source_id, charged_milli "
            "FROM batches JOIN accounts USING (account_id) ORDER BY batch_id"
        )
        dump.batches = [Batch(*row) for row in await query(batches)]
        messages = (
            "SELECT message_id, m.batch_id, m.msisdn::text, status, seq, price_milli, refunded_milli, due_at, "
            "leased_until FROM messages m LEFT JOIN queue q USING (account_id, message_id) ORDER BY message_id"
        )
        dump.messages = [Message(*row) for row in await query(messages)]
        events = (
            "SELECT message_id, event_id, kind, status, upstream_id, detail, at, place "
            "FROM events JOIN witness_events USING (message_id, event_id) ORDER BY message_id, place"
        )
        dump.events = [Event(*row) for row in await query(events)]
        dump.inbox = [row[0] for row in await query("SELECT upstream_id FROM inbox")]
        dump.pushes = [Push(*row) for row in await query("SELECT message_id, push_id, status, due_at FROM pushes")]
        dump.settled = [Settled(*row) for row in await query("SELECT who, push_id, owner FROM witness_settled")]
        dump.dead_claims = [tuple(row) for row in await query("SELECT who, message_id FROM witness_claims")]
        dump.lives = dict(await query("SELECT epoch, who FROM witness_lives"))
    return dump


class SharedRig(Rig):
    """Nodes on one cluster."""

    def __init__(self, name: str, seed: int, cluster: Cluster, roles: Sequence[Sequence[str]]) -> None:
        super().__init__(name, seed, stop_budget_s=10.0)
        self.cluster = cluster
        self.shared = self.ledger = SharedLedger(cluster.url(DATABASE))
        self.servers = [self.add_server(node) for node in NODES]
        self.binds = BINDS
        self.draw = random.Random(seed)
        self.snapshots: list[Snapshot] = []
        self._roles = dict(zip(NODES, roles, strict=True))

    def roles_of(self, server: Server) -> Sequence[str]:
        return self._roles[server.name]

    def other_than(self, server: Server) -> Server:
        return next(one for one in self.servers if one is not server)

    def set_stage(self) -> None:
        for node in NODES:
            self.cluster.fetch(f"CREATE ROLE {node} SUPERUSER LOGIN")
        self.cluster.create_database(DATABASE)
        super().set_stage()
        self.shared.execute(TRIGGERS)

    def start_all(self) -> None:
        for server in self.servers:
            server.start()
        for server in self.servers:
            self.log.write("ready", s=round(server.wait_ready(), 3), node=server.name)
        self.wait_until(lambda: sum(self.owned().values()) == BINDS, "all binds are owned")

    def owned(self) -> dict[str, int]:
        """Return how many binds each node's present life owns, by the ledger."""
        rows = self.shared.fetch(
            "SELECT w.who, count(*) FROM binds b JOIN nodes n ON n.epoch = b.epoch AND n.epoch <> 0 "
            "JOIN witness_lives w ON w.epoch = n.epoch GROUP BY 1"
        )
        return {row[0]: row[1] for row in rows}

    def wait_until(self, what: Callable[[], object], why: str, patience_s: float = SETTLE_S) -> float:
        """Wait for a condition of other processes; return the seconds. Raises RigError."""
        began = time.monotonic()
        while not what():
            if time.monotonic() - began > patience_s:
                raise RigError(f"not within {patience_s:.0f} s: {why}")
            time.sleep(0.02)
        return time.monotonic() - began

    def keep_ledger(self, evidence: Evidence) -> None:
        """Write the ledger into the directory, for the cluster is gone afterwards."""
        dump = evidence.dump
        tables = {name: getattr(dump, name) for name in ("messages", "events", "pushes", "settled", "inbox")}
        tables["batches"] = [one._replace(body=b"") for one in dump.batches]
        text = json.dumps({**tables, "lives": dump.lives, "credits": dump.credits}, default=bytes.hex)
        (self.folder / "ledger.json").write_text(text, encoding="utf-8")
        (self.folder / "postgres.log").write_text(self.cluster.log, encoding="utf-8")


@contextmanager
def shared_rig(
    name: str,
    seed: int,
    command: Sequence[str] = SERVER,
    roles: Sequence[Sequence[str]] = (ALL_ROLES, ALL_ROLES),
) -> Iterator[SharedRig]:
    """Give a rig whose cluster syncs, as a customer's does. Raises RigError where there is no PostgreSQL."""
    found = find_binaries()
    if isinstance(found, Missing):
        raise RigError(str(found))
    with Cluster(found, durable=True) as cluster, SharedRig(name, seed, cluster, roles) as rig:
        rig.server_command = command
        yield rig


def witness(rig: SharedRig, rate: float, act: Callable[[SharedRig], None]) -> Evidence:
    """Set the stage, do what the scenario is about under load, let it drain, and gather the evidence."""
    rig.set_stage()
    rig.start_all()
    client = rig.start_client(rate, timeout_s=CLIENT_TIMEOUT_S)
    wait_for_load(rig)
    act(rig)
    for server in rig.servers:
        server.wait_ready()
    rig.end_client(client)
    ended = time.monotonic()
    evidence = kill.wind_up(rig, rig.draw, rig.snapshots)
    rig.log.write("drained", s=round(time.monotonic() - ended, 1))
    rig.keep_ledger(evidence)
    return evidence


def wait_for_load(rig: SharedRig) -> None:
    """Wait until the network has seen something new: work flows from end to end."""
    path = rig.path("smsc")
    size = path.stat().st_size if path.exists() else 0
    rig.wait_until(lambda: path.exists() and path.stat().st_size > size, "the network sees load")


class Progress:
    """Says how far a long scenario has come."""

    def __init__(self, rounds: int, say: Callable[[str], None]) -> None:
        self._rounds = rounds
        self._say = say
        self._began = time.monotonic()

    def note(self, turn: int, words: str = "") -> None:
        if turn % 5 == 0 or turn == self._rounds:
            self._say(f"  round {turn} of {self._rounds}, {time.monotonic() - self._began:.0f} s {words}".rstrip())


def folder_of(rig: Rig) -> str:
    return str(Path(rig.folder)) if rig.keep else ""
