"""Questions to upstreams about messages whose receipts do not come (query_sm), where an upstream allows them."""

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import structlog

from aldis.connectors.base import Answer, Connector, Declined, Found, Inquirer, SentPart
from aldis.ledger import Ledger, Received
from aldis.model.errors import OurError
from aldis.model.ids import id_at
from aldis.rules.failover import connectors_of
from aldis.smpp.errors import CommandStatus
from aldis.store.rows import quote

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


class _NotNow(Exception):
    """The link is down."""


def ages_to_ask_at(first_ms: int, end_ms: int) -> list[int]:
    """Return how old a message is each time that its upstream is asked: less and less often, and before its end.

    Args:
        first_ms: When to ask first.
        end_ms: How old it is when its end is assumed.
    """
    last = max(end_ms - LAST_WORD_MS, 0)
    ages = []
    while first_ms < last:
        ages.append(first_ms)
        first_ms *= GROWTH
    return [*ages, last]


class Asking:
    """Looks at messages as they come to certain ages, and asks about those that are not over.

    What an upstream tells weighs what a receipt that says so weighs. The node that holds a connector's first bind asks
    for all nodes, and the ledger keeps how far it has come.
    """

    def __init__(
        self, ledger: Ledger, connectors: Mapping[str, Connector], ages_ms: Mapping[str, Sequence[int]]
    ) -> None:
        """Take the ledger, all connectors, and by queue how old its messages are when they are asked about."""
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
            for queue, ages in self._ages_ms.items():
                try:
                    for age in ages:
                        await self.sweep(queue, age)
                except _NotNow:
                    pass
                except OurError as error:
                    log.warning("upstreams are asked later", queue=queue, error=str(error))
                except Exception:
                    log.exception("upstreams can't be asked", queue=queue)
            await asyncio.sleep(SWEEP_S)

    async def sweep(self, queue: str, age_ms: int) -> None:
        """Ask about what has come of an age since the last sweep, of this node or another."""
        if not any(self._may_ask(name) for name in connectors_of(queue)):
            return
        store, name = self._ledger.store, f"asked {queue} {age_ms}"
        position = await store.fact(name)
        until = id_at(max(self._ledger.now_ms() - age_ms, 0))
        while position < until:
            found, position = await store.unfinished(queue, position, until)
            for connector, parts in (await self._ledger.sent_parts(found)).items():
                await self._ask_all(connector, parts)
            await store.note_fact(name, position)

    def _may_ask(self, name: str) -> bool:
        """Tell whether a connector can be asked, and by this node."""
        inquirer = self._inquirer(name)
        if inquirer is None or not inquirer.can_query or name in self._deaf:
            return False
        return 0 in self._connectors[name].held

    def _inquirer(self, name: str) -> Inquirer | None:
        connector: object = self._connectors.get(name)
        return connector if isinstance(connector, Inquirer) else None

    async def _ask_all(self, name: str, parts: Sequence[SentPart]) -> None:
        rest = list(parts)
        while rest and self._may_ask(name):
            if not self._connectors[name].is_bound:
                raise _NotNow
            asked = await self._ask(name, rest[:AT_ONCE])
            rest = rest[asked:]
            await asyncio.sleep(PAUSE_S)

    async def _ask(self, name: str, parts: list[SentPart]) -> int:
        """Ask about some parts, as far as there is room, and record what is told; returns about how many."""
        inquirer = self._inquirer(name)
        assert inquirer is not None
        told: list[tuple[SentPart, Answer]] = []
        came = asyncio.Event()

        def tell(_: str, answers: Sequence[tuple[SentPart, Answer]]) -> None:
            told.extend(answers)
            came.set()

        asked = inquirer.query(parts, tell)
        while len(told) < asked:
            await came.wait()
            came.clear()
        await self._ledger.record(list(self._news(name, told)))
        return asked

    def _news(self, name: str, told: Sequence[tuple[SentPart, Answer]]) -> Iterator[Received]:
        now = self._ledger.now_ms()
        for part, answer in told:
            self.answers[name, type(answer).__name__.lower()] += 1
            if isinstance(answer, Declined) and answer.command_status in _UNKNOWN_COMMANDS:
                self._deaf.add(name)
                log.warning("the upstream does not answer query_sm: it is asked no more", connector=name)
            if isinstance(answer, Found) and answer.is_final:
                yield Received(
                    part.account_id,
                    part.message_id,
                    self._ledger.next_id(now),
                    now,
                    part.part_no,
                    name,
                    quote(part.upstream_id),
                    answer.state,
                    answer.error,
                    f"query_sm: {answer.state} err:{answer.error}",
                    by="query",
                )
