"""What upstreams are asked: how messages stand whose receipts do not come (query_sm), to take some back (cancel_sm)."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

import structlog

from aldis.connectors.base import Answer, Cancelled, Connector, Declined, Found, Inquirer, SentPart, Unanswered
from aldis.ledger import CANCEL, CANCEL_REFUSED, QUERY, Ended, Ledger, Received
from aldis.lifecycle import is_final
from aldis.model.errors import OurError
from aldis.model.ids import id_at
from aldis.model.status import Status
from aldis.model.types import MessageKey
from aldis.rules.failover import connectors_of
from aldis.smpp.errors import CommandStatus, Refusal, classify
from aldis.store.rows import DAY_MS, KEEP_UPSTREAM_IDS_DAYS, quote

log = structlog.get_logger()

SWEEP_S = 15.0
AT_ONCE: Final = 10
"""Questions that a connector has unanswered at most: the window is the submits'."""
PAUSE_S = 0.1
"""Between two lots of questions: a hundred a second at most."""
GROWTH: Final = 4
LAST_WORD_MS: Final = 10 * 60_000
"""How long before a message's end is assumed its upstream is asked once more."""
_UNKNOWN_COMMANDS: Final = (CommandStatus.ESME_RINVCMDID, CommandStatus.ESME_RINVBNDSTS)


_WISH: Final = "cancel\x1f"
"""How the names of facts begin that say which messages upstreams are to take back."""


class Withdrawal(NamedTuple):
    """What comes of cancelling a batch, in messages."""

    cancelled: int
    asked: int
    """An upstream has them, and will be asked to take them back."""
    out_of_reach: int
    """Being sent at this moment, or taken under an id that nobody knows."""
    over: int
    """Were over already."""


async def cancel(ledger: Ledger, account_id: int, batch_id: int, msisdn: int | None = None) -> Withdrawal | None:
    """Cancel what is left of a batch: what waits here at once; upstreams will be asked for what they have.

    Returns:
        What comes of it; None: there is no such batch of this account.
    """
    before = await ledger.find_report(account_id, batch_id, msisdn)
    if before is None:
        return None
    moving = sorted(one.message_id for one in before.reports if not is_final(one.status))
    now = ledger.now_ms()
    await ledger.record(
        [
            Ended(account_id, message_id, news_id, now, Status.CANCELLED, "cancelled before it was sent")
            for message_id, news_id in zip(moving, ledger.ids.take(len(moving), now), strict=True)
        ]
    )
    after = await ledger.find_report(account_id, batch_id, msisdn) or before
    left = {one.message_id for one in after.reports if not is_final(one.status)}
    were_moving = frozenset(moving)
    cancelled = [one for one in after.reports if one.status is Status.CANCELLED and one.message_id in were_moving]
    sent = await ledger.sent_parts([MessageKey(account_id, message_id) for message_id in sorted(left)])
    known = {part.message_id for parts in sent.values() for part in parts}
    await ledger.store.add_facts({_wish_of(message_id): account_id for message_id in known})
    over = len(after.reports) - len(cancelled) - len(left)
    return Withdrawal(len(cancelled), len(known), len(left) - len(known), over)


def _wish_of(message_id: int) -> str:
    return f"{_WISH}{message_id}\x1f"


def _may_ask_again(answer: Answer) -> bool:
    """Tell whether an answer says nothing of the message: none came, or the upstream can't be asked just now."""
    if isinstance(answer, Declined):
        return classify(answer.command_status) is not Refusal.PERMANENT
    return isinstance(answer, Unanswered)


class _NotNow(Exception):
    """The link is down."""


def ages_to_ask_at(first_ms: int, end_ms: int) -> dict[str, int]:
    """Return how old a message is each time that its upstream is asked: less and less often, and before its end.

    Args:
        first_ms: When to ask first.
        end_ms: How old it is when its end is assumed.

    Returns:
        Names of the times, under which the ledger keeps how far each has come, and ages in ms.
    """
    last = max(end_ms - LAST_WORD_MS, 0)
    ages: dict[str, int] = {}
    while first_ms < last:
        ages[str(len(ages) + 1)] = first_ms
        first_ms *= GROWTH
    return ages | {"last": last}


class Asking:
    """Looks at messages as they come to certain ages, and asks about those that are not over.

    What an upstream tells weighs what a receipt that says so weighs. The node that holds a connector's first bind asks
    for all nodes, and the ledger keeps how far it has come.
    """

    def __init__(
        self,
        ledger: Ledger,
        connectors: Mapping[str, Connector],
        ages_ms: Callable[[], Mapping[str, Mapping[str, int]]],
    ) -> None:
        """Take the ledger, all connectors, and what tells by queue the ages at which messages are asked about."""
        self._ledger = ledger
        self._connectors = connectors
        self._ages_ms = ages_ms
        self._deaf: set[str] = set()
        """Connectors whose upstream does not know the question."""
        self.answers: Counter[tuple[str, str]] = Counter()
        """By connector and kind of answer: found, declined or unanswered."""

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            try:
                await self.withdraw()
            except OurError as error:
                log.warning("upstreams are asked to take messages back later", error=str(error))
            except Exception:
                log.exception("upstreams can't be asked to take messages back")
            for queue, ages in self._ages_ms().items():
                try:
                    for name, age_ms in ages.items():
                        await self.sweep(queue, name, age_ms)
                except _NotNow:
                    pass
                except OurError as error:
                    log.warning("upstreams are asked later", queue=queue, error=str(error))
                except Exception:
                    log.exception("upstreams can't be asked", queue=queue)
            await asyncio.sleep(SWEEP_S)

    async def sweep(self, queue: str, time: str, age_ms: int) -> None:
        """Ask about what has come of an age since the last sweep, of this node or another."""
        if not any(self._may_query(name) for name in connectors_of(queue)):
            return
        store, name = self._ledger.store, f"asked {queue} {time}"
        position = await store.fact(name)
        until = id_at(max(self._ledger.now_ms() - age_ms, 0))
        while position < until:
            found, position = await store.unfinished(queue, position, until)
            for connector, parts in (await self._ledger.sent_parts(found)).items():
                await self._query_all(connector, parts)
            await store.note_fact(name, position)

    async def withdraw(self) -> None:
        """Ask upstreams to take messages back that were cancelled, until each part is answered for."""
        wishes = await self._ledger.store.facts(_WISH)
        keys = [MessageKey(account_id, int(name.split("\x1f")[1])) for name, account_id in wishes.items()]
        oldest = id_at(max(self._ledger.now_ms() - KEEP_UPSTREAM_IDS_DAYS * DAY_MS, 0))
        sent = await self._ledger.sent_parts(keys)
        unanswered = Counter(dict.fromkeys((key.message_id for key in keys), 0))
        unanswered.update(part.message_id for parts in sent.values() for part in parts)
        for connector, parts in sent.items():
            if not self._is_ours(connector) or not self._connectors[connector].is_bound:
                continue
            for start in range(0, len(parts), AT_ONCE):
                told = await self._ask(connector, parts[start : start + AT_ONCE], is_withdrawn=True)
                unanswered.subtract(part.message_id for part, answer in told if not _may_ask_again(answer))
                await asyncio.sleep(PAUSE_S)
        for message_id, count in unanswered.items():
            if not count or message_id < oldest:
                await self._ledger.store.forget_facts(_wish_of(message_id))

    def _may_query(self, name: str) -> bool:
        """Tell whether a connector can be asked how parts stand, and by this node."""
        inquirer = self._inquirer(name)
        return inquirer is not None and inquirer.can_query and name not in self._deaf and self._is_ours(name)

    def _is_ours(self, name: str) -> bool:
        return self._inquirer(name) is not None and 0 in self._connectors[name].held

    def _inquirer(self, name: str) -> Inquirer | None:
        connector: object = self._connectors.get(name)
        return connector if isinstance(connector, Inquirer) else None

    async def _query_all(self, name: str, parts: Sequence[SentPart]) -> None:
        rest = list(parts)
        while rest and self._may_query(name):
            if not self._connectors[name].is_bound:
                raise _NotNow
            rest = rest[len(await self._ask(name, rest[:AT_ONCE])) :]
            await asyncio.sleep(PAUSE_S)

    async def _ask(
        self, name: str, parts: list[SentPart], *, is_withdrawn: bool = False
    ) -> list[tuple[SentPart, Answer]]:  # fmt: skip
        """Ask about some parts, as far as there is room, or for them; record what is told, and return it."""
        inquirer = self._inquirer(name)
        assert inquirer is not None
        told: list[tuple[SentPart, Answer]] = []
        came = asyncio.Event()

        def tell(_: str, answers: Sequence[tuple[SentPart, Answer]]) -> None:
            told.extend(answers)
            came.set()

        asked = inquirer.cancel(parts, tell) if is_withdrawn else inquirer.query(parts, tell)
        while len(told) < asked:
            await came.wait()
            came.clear()
        now = self._ledger.now_ms()
        news = [self._news_of(name, part, answer, now, is_withdrawn=is_withdrawn) for part, answer in told]
        await self._ledger.record([one for one in news if one is not None])
        return told

    def _news_of(
        self, name: str, part: SentPart, answer: Answer, now: int, *, is_withdrawn: bool
    ) -> Received | None:  # fmt: skip
        if not is_withdrawn:
            self.answers[name, type(answer).__name__.lower()] += 1
        state, error = "", ""
        if isinstance(answer, Cancelled):
            by, detail = CANCEL, "the upstream has taken it back"
        elif isinstance(answer, Declined) and is_withdrawn and not _may_ask_again(answer):
            by, detail = CANCEL_REFUSED, f"cancel_sm refused 0x{answer.command_status:08X}"
        elif isinstance(answer, Found) and answer.is_final:
            by, detail = QUERY, f"query_sm: {answer.state} err:{answer.error}"
            state, error = answer.state, answer.error
        else:
            self._note_deafness(name, answer)
            return None
        return Received(
            part.account_id,
            part.message_id,
            self._ledger.next_id(now),
            now,
            part.part_no,
            name,
            quote(part.upstream_id),
            state,
            error,
            detail,
            by=by,
        )

    def _note_deafness(self, name: str, answer: Answer) -> None:
        if isinstance(answer, Declined) and answer.command_status in _UNKNOWN_COMMANDS and name not in self._deaf:
            self._deaf.add(name)
            log.warning("the upstream does not answer query_sm: it is asked no more", connector=name)
