"""What the contract suite works with: a store that can be closed and opened again, a ledger on it, and a clock."""

from collections.abc import Awaitable, Callable, Sequence

from aldis.connectors.base import Delivery, Outcome
from aldis.ledger import Ledger, Submitted
from aldis.model.ids import IdMaker
from aldis.model.status import Status
from aldis.model.types import Account, AccountId, BatchReport, MessageKey, Push
from aldis.store.base import Due, EventRow, MessageRow, NewBatch, Store

OpenStore = Callable[[Callable[[list[Push]], None]], Awaitable[Store]]
"""Opens the store under test, the same one each time; takes the engine's `on_pushes`."""

NOON = 1_767_268_800_000
"""2026-01-01T12:00:00Z, where the clock starts."""
DAY_MS = 86_400_000
VALIDITY_MS = 3 * DAY_MS
LEASE_MS = 60_000
URL = "http://customer.example/report"


class Bench:
    """A ledger on the store under test; time stands still until it is moved."""

    def __init__(self, open_store: OpenStore) -> None:
        """Take how to open the store; call `open` next."""
        self._open_store = open_store
        self.now = NOON
        self.pushes: list[Push] = []
        """What the engine has told of after its commits."""
        self._batches: dict[int, tuple[int, int]] = {}
        """message_id -> account_id, batch_id"""
        self.store: Store
        self.ledger: Ledger

    async def open(self) -> None:
        """Open the store, and continue behind its ids."""
        self.store = await self._open_store(self.pushes.extend)
        self.ledger = Ledger(self.store, IdMaker(after=await self.store.largest_id()), lambda: self.now)

    async def reopen(self) -> None:
        """Stop in good order, and start again."""
        await self.store.remember_last_id(self.ledger.ids.last)
        await self.store.close()
        await self.open()

    async def account(
        self, name: str = "ada", credits_milli: int = 100_000, quota: int | None = None, push_url: str = URL
    ) -> Account:
        """Create an account with credits."""
        nobody = ""
        account = Account(
            account_id=AccountId(0), username=name, password_hash=nobody, daily_quota=quota, push_url=push_url
        )
        account = await self.store.put_account(account)
        await self.store.top_up(account.account_id, credits_milli, self.now, "opening")
        return account

    def batch(  # noqa: PLR0913 - a batch has this many faces, and each test names two of them
        self,
        account: Account,
        msisdns: Sequence[int],
        *,
        price: int = 1_000,
        parts: int = 1,
        connector: str = "north",
        due_at: int | None = None,
        refused: Status | None = None,
        number: int = 0,
        want_report: bool = True,
    ) -> NewBatch:
        """Make a batch; `price` is of one message, `refused` ends all its messages at once, `number` names it."""
        ids = self.ledger.ids.take(len(msisdns) + 1, self.now)
        due = self.now if due_at is None else due_at
        rows: list[MessageRow] = []
        for message_id, msisdn in zip(ids[1:], msisdns, strict=True):
            if refused is None:
                rows.append((message_id, ids[0], account.account_id, msisdn, 0, price, connector, due, None))
            else:
                rows.append((message_id, ids[0], account.account_id, msisdn, int(refused), 0, "", None, self.now))
        self._batches.update((row[0], (account.account_id, ids[0])) for row in rows)
        charged = 0 if refused else len(rows)
        return NewBatch(
            batch_id=ids[0],
            account_id=account.account_id,
            created_at=self.now,
            last_message_id=ids[-1],
            parts=parts,
            dca=7,
            body=b"hello",
            originator="Aldis",
            msg_class=2,
            want_report=want_report,
            source_id="mine",
            stop_dup_id=number,
            valid_until=due + VALIDITY_MS,
            charge_milli=charged * price,
            counted=charged,
            messages=rows,
        )

    async def submit(self, account: Account, msisdns: Sequence[int] = (4915112345678,), *, parts: int = 1) -> list[int]:
        """Admit a batch for 1,000 milli-credits a message and return its message ids."""
        batch = self.batch(account, msisdns, parts=parts)
        assert await self.ledger.admit(batch) == batch.batch_id
        return [row[0] for row in batch.messages]

    async def send(self, account: Account, *outcomes: Outcome, msisdn: int = 4915112345678) -> int:
        """Submit a message of as many parts as outcomes, claim it, and record them; return its id."""
        [message_id] = await self.submit(account, [msisdn], parts=len(outcomes))
        await self.claim()
        await self.outcome(message_id, *enumerate(outcomes, 1))
        return message_id

    async def claim(self, parts: int = 1_000, connector: str = "north") -> Sequence[Due]:
        """Claim for a minute."""
        return await self.ledger.claim(connector, parts, LEASE_MS)

    def submitted(
        self,
        message_id: int,
        *outcomes: tuple[int, Outcome],
        attempt: int = 1,
        retry_at: int | None = None,
        connector: str = "north",
    ) -> Submitted:
        """Make the news of a try."""
        news_id = self.ledger.next_id()
        account_id = self._batches.get(message_id, (0, 0))[0]
        return Submitted(account_id, message_id, news_id, self.now, attempt, connector, outcomes, retry_at)

    async def outcome(
        self, message_id: int, *outcomes: tuple[int, Outcome], attempt: int = 1, retry_at: int | None = None
    ) -> None:
        """Record (part number, outcome) pairs of a try."""
        await self.ledger.record([self.submitted(message_id, *outcomes, attempt=attempt, retry_at=retry_at)])

    def delivery(
        self, upstream_id: str, state: str = "DELIVRD", *, source: str = "", error: str = "", connector: str = "north"
    ) -> Delivery:
        """Make a receipt that has just come in."""
        return Delivery(
            connector=connector,
            received_at=self.now,
            is_receipt=True,
            upstream_id=upstream_id,
            state=state,
            error=error,
            is_final=True,
            source=source,
            destination="Aldis",
            text=f"id:{upstream_id} stat:{state}",
            pdu=b"\0pdu",
            answer=lambda _: None,
        )

    async def receipt(
        self, upstream_id: str, state: str = "DELIVRD", *, source: str = "", connector: str = "north"
    ) -> None:
        """Take in one receipt."""
        await self.ledger.receive([self.delivery(upstream_id, state, source=source, connector=connector)])

    async def rematch(self) -> int:
        """Look again at all parked receipts; returns how many found their part."""
        return await self.ledger.rematch(0, self.now + 1)

    async def report(self, account: Account, batch_id: int) -> BatchReport:
        """Return a batch's report."""
        found = await self.ledger.find_report(account.account_id, batch_id, None)
        assert found is not None
        return found

    async def status(self, account: Account, message_id: int) -> Status:
        """Return where a message stands."""
        return (await self.find(account, message_id))[0]

    async def find(self, account: Account, message_id: int) -> tuple[Status, int | None, int]:
        """Return a message's status, time of completion and version."""
        batch_id = self.batch_of(message_id)
        [one] = [one for one in (await self.report(account, batch_id)).reports if one.message_id == message_id]
        return one.status, one.completed_at, one.seq

    def batch_of(self, message_id: int) -> int:
        """Return the batch that a message was made for."""
        return self._batches[message_id][1]

    def key_of(self, message_id: int) -> MessageKey:
        """Return what names a message."""
        return MessageKey(self._batches[message_id][0], message_id)

    async def history(self, message_id: int) -> list[EventRow]:
        """Return the events of one message."""
        events = await self.store.history(*self._batches[message_id])
        return [event for event in events if event.message_id == message_id]

    async def credits(self, account: Account) -> int:
        """Return milli-credits."""
        return await self.store.credits_of(account.account_id)

    async def parked(self) -> int:
        """Return how many receipts match nothing."""
        return (await self.store.queue_state(self.now)).parked
