"""Ledgers made by random traffic of every kind, and what is to be seen of one on any engine."""

import copy
import random
from collections.abc import Callable
from typing import Any

import msgspec

from aldis.connectors.base import Accepted, NotSent, Outcome, Refused, Unknown
from aldis.connectors.translate import to_delivery
from aldis.inbound import Inbound
from aldis.ledger import Ended, Lapsed
from aldis.model.errors import NoCredits, QuotaExceeded
from aldis.model.status import Status
from aldis.model.types import Account, Push, PushResult
from aldis.smpp.commands import DeliverSm
from aldis.smpp.events import Incoming
from aldis.smpp.pdu import encode
from aldis.store.base import Due, NewBatch
from aldis.store.testing import Bench
from aldis.store.testing.bench import DAY_MS, LEASE_MS

CONNECTORS = ("north", "south")
RETRY_MS = 5_000
STATES = ("DELIVRD", "DELIVRD", "ACCEPTD", "ENROUTE", "UNDELIV", "EXPIRED", "REJECTD", "UNKNOWN")
OUTCOMES: tuple[Callable[[str], Outcome], ...] = (
    Accepted,
    Accepted,
    Accepted,
    lambda _: Accepted(""),
    lambda _: Refused(0x45, retryable=False),
    lambda _: Refused(0x0B, retryable=False),
    lambda _: Refused(0x14, retryable=True),
    lambda _: NotSent("cut"),
    lambda _: Unknown("no answer"),
)
STEPS = (0, 1, 900, RETRY_MS, LEASE_MS, DAY_MS, 9 * DAY_MS)


class Traffic:
    """Random news for a ledger: the same seed does the same, whatever engine it runs on."""

    def __init__(self, bench: Bench, seed: int) -> None:
        self.bench = bench
        self.random = random.Random(seed)
        self.accounts: list[Account] = []
        self.batches: list[tuple[int, int]] = []
        """account_id, batch_id"""
        self.claimed: list[tuple[str, Due]] = []
        """connector, claim whose outcome is not told yet"""
        self.ids: list[tuple[str, str]] = []
        """connector, what it calls a part, or will"""

    async def open_accounts(self) -> None:
        self.accounts = [
            await self.bench.account("ada", 50_000_000),
            await self.bench.account("bob", 90_000, quota=40, push_url=""),
            await self.bench.account("Zoë \u2603", 9_000_000_000_000),
        ]
        changes = {
            "report_header": "results",
            "show_transient": False,
            "strict_latin1": True,
            "accept_empty_push": True,
        }
        changed = msgspec.structs.replace(self.accounts[2], password_hash="$argon2id$v=19$x", **changes)
        self.accounts[2] = await self.bench.store.put_account(changed)

    async def run(self, steps: int) -> None:
        kinds = [self.admit] * 6 + [self.claim] * 4 + [self.tell] * 8 + [self.receive] * 6 + [self.push] * 3
        kinds += [self.call_off, self.expire, self.top_up, self.inbound]
        for _ in range(steps):
            await self.random.choice(kinds)()
            self.bench.now += self.random.choice(STEPS) if self.random.random() < 0.05 else 1

    def on(self, bench: Bench) -> "Traffic":
        """Go on with the same on another ledger."""
        bench.now, bench._batches = self.bench.now, dict(self.bench._batches)
        other = Traffic(bench, 0)
        other.random = copy.deepcopy(self.random)
        other.accounts, other.batches = list(self.accounts), list(self.batches)
        other.claimed, other.ids = list(self.claimed), list(self.ids)
        return other

    async def admit(self) -> None:
        account = self.random.choice(self.accounts)
        refused = self.random.choice([None, None, None, None, Status.BLOCKED])
        batch = self.bench.batch(
            account,
            [4_915_100_000_000 + self.random.randrange(10_000) for _ in range(self.random.choice([1, 1, 1, 2, 7]))],
            price=self.random.choice([0, 1, 999, 2_500]),
            parts=self.random.choice([1, 1, 2, 3]),
            connector=self.random.choice(CONNECTORS),
            due_at=self.bench.now + self.random.choice([0, 0, 0, 3_000, 40 * DAY_MS]),
            number=self.random.choice([0, 0, 0, self.random.randrange(100)]),
            refused=refused,
            want_report=self.random.random() < 0.8,
        )
        body = self.random.randbytes(self.random.randrange(300))
        batch = msgspec.structs.replace(batch, body=body, originator=self.random.choice(["Aldis", "4477", "Zoë\u2603"]))
        if refused:
            batch = msgspec.structs.replace(batch, pushes=self.refusals(account, batch))
        elif self.random.random() < 0.1:
            rows = [(*row[:5], 0, row[6], None, None) for row in batch.messages]
            batch = msgspec.structs.replace(batch, messages=rows, charge_milli=0, counted=0)  # a rehearsal
        try:
            if await self.bench.ledger.admit(batch) == batch.batch_id:
                self.batches.append((account.account_id, batch.batch_id))
        except (NoCredits, QuotaExceeded):
            pass

    def refusals(self, account: Account, batch: NewBatch) -> list[Push]:
        if not account.push_url:
            return []
        return [
            Push(
                row[0], row[0], row[1], row[2], account.push_url, row[3], row[4], row[8], "mine", True, 0, row[8] or 0
            )
            for row in batch.messages
        ]  # fmt: skip

    async def claim(self) -> None:
        connector = self.random.choice(CONNECTORS)
        dues = await self.bench.claim(self.random.choice([1, 3, 20]), connector)
        self.claimed += [(connector, due) for due in dues]

    async def tell(self) -> None:
        if not self.claimed:
            return
        connector, due = self.claimed.pop(self.random.randrange(len(self.claimed)))
        names = {part: f"{due.message_id}-{part}-{due.attempt}" for part in due.pending}
        self.ids += [(connector, name) for name in names.values()]
        if self.random.random() < 0.1:
            return  # never a word of it
        if self.random.random() < 0.2:
            await self.bench.receipt(next(iter(names.values())), connector=connector)  # before the answer
        outcomes = [(part, self.random.choice(OUTCOMES)(name)) for part, name in names.items()]
        retry_at = self.bench.now + RETRY_MS
        news = self.bench.submitted(
            due.message_id, *outcomes, attempt=due.attempt, retry_at=retry_at, connector=connector
        )
        await self.bench.ledger.record([news])

    async def receive(self) -> None:
        connector, name = self.random.choice(self.ids) if self.ids else ("north", "nobody's")
        name = self.random.choice([name] * 8 + ["nobody's"])
        error = self.random.choice(["", "", "000", "0\0"])
        one = self.bench.delivery(name, self.random.choice(STATES), error=error, connector=connector)
        await self.bench.ledger.receive([one])

    async def inbound(self) -> None:
        number = self.random.choice([0, 1, 2])
        header = bytes((5, 0, 3, self.random.randrange(4), 2, number)) if number else b""
        pdu = DeliverSm(
            source_addr=b"447700900123", destination_addr=b"60777", esm_class=0x40 if number else 0, data_coding=8,
            short_message=header + "STOP\0 ☃".encode("utf-16-be"),
        )  # fmt: skip
        one = to_delivery("north", Incoming(1, pdu, encode(pdu, 1)), self.bench.now, lambda taken: None)
        await self.bench.ledger.receive([one])
        if self.random.random() < 0.7:
            await Inbound(self.bench.ledger).gather(0, self.bench.now + 1)

    async def push(self) -> None:
        pushes = sorted(await self.bench.ledger.due_pushes(self.bench.now, 10_000), key=lambda one: one.push_id)
        results = []
        for one in pushes[: self.random.randrange(6)]:
            delivered = self.random.random() < 0.5
            next_at = None if delivered or self.random.random() < 0.4 else self.bench.now + DAY_MS
            results.append(
                PushResult(
                    one.push_id, one.account_id, one.message_id, delivered, one.attempts + 1, next_at,
                    "200 OK" if delivered else "refused \0 here", self.bench.now,
                )
            )  # fmt: skip
        await self.bench.ledger.record_push_results(results)

    async def call_off(self) -> None:
        """Do what `Ledger.recover` does, in an order that does not depend on the engine."""
        leases = sorted(await self.bench.store.lapsed(self.bench.now, 1_000))
        ids = self.bench.ledger.ids.take(len(leases), self.bench.now)
        await self.bench.ledger.record(
            [
                Lapsed(*one[:2], news_id, self.bench.now, one.attempt, one.queue)
                for one, news_id in zip(leases, ids, strict=True)
            ]
        )

    async def expire(self) -> None:
        """Do what `Ledger.expire` does, in an order that does not depend on the engine."""
        keys = sorted(await self.bench.store.expired(self.random.choice(CONNECTORS), self.bench.now, 1_000))
        ids = self.bench.ledger.ids.take(len(keys), self.bench.now)
        await self.bench.ledger.record(
            [
                Ended(*one, news_id, self.bench.now, Status.EXPIRED, "over")
                for one, news_id in zip(keys, ids, strict=True)
            ]
        )

    async def top_up(self) -> None:
        account = self.random.choice(self.accounts)
        await self.bench.store.top_up(account.account_id, self.random.choice([1, 5_000]), self.bench.now, "a\0note")


async def picture(traffic: Traffic) -> dict[str, Any]:
    """Return all that is to be seen of a ledger through its store."""
    bench, store = traffic.bench, traffic.bench.store
    seen: dict[str, Any] = {}
    for account_id, batch_id in traffic.batches:
        owner = await store.owner_of(batch_id)
        seen[f"batch {batch_id}"] = [
            await store.find_report(account_id, batch_id, None),
            list(await store.history(account_id, batch_id)),
            owner and owner.username,
        ]
    seen["accounts"] = list(await store.list_accounts())
    for later in (0, RETRY_MS, 50 * DAY_MS):
        at = bench.now + later
        seen[f"queue {later}"] = await store.queue_state(at)
        seen[f"lapsed {later}"] = sorted(await store.lapsed(at, 10_000))
        seen[f"pushes {later}"] = sorted(await store.due_pushes(at, 10_000), key=lambda one: one.push_id)
        for name in CONNECTORS:
            seen[f"expired {name} {later}"] = sorted(await store.expired(name, at, 10_000))
    seen["connectors"] = sorted(await store.queued_connectors())
    seen["largest id"] = await store.largest_id()
    return {key: _plain(value) for key, value in seen.items()}


def _plain(value: Any) -> str:
    """Return a value as text; PostgreSQL holds no NUL."""
    return msgspec.json.encode(value).decode().replace("\\u0000", "\u2400")
