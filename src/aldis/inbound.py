"""What upstreams send: on disk first, answered then (T4)."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Final

import structlog

from aldis.connectors.assembly import choose, join, piece_of
from aldis.connectors.base import Delivery
from aldis.ledger import Ledger
from aldis.model.errors import OurError
from aldis.rules.replies import keyword_of
from aldis.store.base import Assembled, InboundMessage, Parked, Span

log = structlog.get_logger()

MAX_GROUP = 2_000
FEW: Final = 50
"""Receipts in a group that are no burden: no more come than messages go out."""
LOOK_AGAIN_S = 1.0
LOOK_FOR_OLD_S = 60.0
AGES_MS = (1_000, 10_000, 60_000, 600_000)
"""How long a receipt has waited when it is looked at again: its part may have been unknown, or written in a transaction
that overlapped with its own, or the answer to the submit may have come late."""


PARTS_WAIT_MS: Final = AGES_MS[-1]
"""How long the parts of a subscriber's message that came wait for the others, from the newest on."""
LONGEST_YIELD_S: Final = 0.5
YIELD: Final = 1.5
"""How long receipts give way while messages go out, as a multiple of the time that their last group took."""


class Inbound:
    """Writes deliveries in groups and answers each after its group is on disk.

    A group that can't be written is answered with a temporary error, so that the upstream sends it again.

    While messages go out, receipts leave them a share of the time: after an outage an upstream has hours of receipts to
    tell, and waits for each answer. Where nothing goes out they come as fast as they can be written.
    """

    def __init__(self, ledger: Ledger) -> None:
        """Take the ledger."""
        self._ledger = ledger
        self._waiting: list[Delivery] = []
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._writing = False
        self._messages_since: int | None = None
        """When the first message came, epoch ms, that nobody has looked at; its parts may have come before."""
        self._messages_wake = asyncio.Event()
        self._parts_until = ledger.now_ms() + 2 * PARTS_WAIT_MS
        """Until when parts may wait that came to this process, or to the one before it, epoch ms."""
        self.received = 0
        self.refused = 0
        self.messages: Counter[tuple[str, str]] = Counter()
        """By connector and keyword: messages of subscribers that were put together."""
        self.incomplete: Counter[str] = Counter()
        """By connector: those of them that lack parts."""

    def offer(self, deliveries: Sequence[Delivery]) -> None:
        """Take what a connector has received."""
        self._waiting.extend(deliveries)
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Deliveries not on disk yet."""
        return len(self._waiting)

    async def flush(self) -> None:
        """Wait until everything offered so far is on disk and answered."""
        while self._waiting or self._writing:
            await self._written.wait()
            self._written.clear()

    async def run(self) -> None:
        """Write until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_forever())
            tasks.create_task(self._look_again())
            tasks.create_task(self._gather_new())
            tasks.create_task(self._gather_old())

    async def _look_again(self) -> None:
        """Give parked receipts a home that had none when they came: at the start all of them, then each a few times."""
        until = [0, *(self._ledger.now_ms() - age for age in AGES_MS[1:])]
        while True:
            for at, age in enumerate(AGES_MS):
                since, now = until[at], self._ledger.now_ms() - age
                try:
                    await self._ledger.rematch(since, now)
                    if self._ledger.now_ms() < self._parts_until:
                        await self.gather(since, now)
                    until[at] = now
                except OurError as error:
                    log.warning("what waits in the inbox is looked at later", error=str(error))
                except Exception:
                    log.exception("what waits in the inbox can't be looked at")
                    until[at] = now
            await asyncio.sleep(LOOK_AGAIN_S)

    async def _gather_old(self) -> None:
        """Look now and then for parts of messages that came to a node which is gone."""
        while True:
            try:
                await self.gather(0, self._ledger.now_ms() - PARTS_WAIT_MS)
            except OurError as error:
                log.warning("old parts of messages are looked at later", error=str(error))
            except Exception:
                log.exception("old parts of messages can't be looked at")
            await asyncio.sleep(LOOK_FOR_OLD_S)

    async def _gather_new(self) -> None:
        """Put messages of subscribers together as soon as their last part is on disk."""
        while True:
            await self._messages_wake.wait()
            self._messages_wake.clear()
            since, self._messages_since = self._messages_since, None
            try:
                await self.gather(since or 0, self._ledger.now_ms() + 1)
            except OurError as error:  # they are looked at again in a second
                log.warning("messages of subscribers are put together later", error=str(error))
            except Exception:
                log.exception("messages of subscribers can't be put together")

    async def gather(self, since: int, until: int) -> None:
        """Put messages of subscribers together that came in a span of time, epoch ms.

        Their parts wait for each other, in the inbox, until all are there or `PARTS_WAIT_MS` have passed.
        """
        rest: Span | None = Span(since, until)
        while rest:
            given_up = self._ledger.now_ms() - PARTS_WAIT_MS
            found, rest = await self._ledger.store.gather(rest, partial(assemble, given_up_before=given_up))
            for one in found:
                self.messages[one.connector, one.keyword] += 1
                self.incomplete[one.connector] += one.parts_got < one.parts

    async def _write_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                group, self._waiting = self._waiting[:MAX_GROUP], self._waiting[MAX_GROUP:]
                self._writing = True
                outbound, started = self._ledger.outbound, time.monotonic()
                await self._write(group)
                self._writing = False
                if self._ledger.outbound != outbound and len(group) > FEW:
                    await asyncio.sleep(min(YIELD * (time.monotonic() - started), LONGEST_YIELD_S))
            self._written.set()

    async def _write(self, group: list[Delivery]) -> None:
        try:
            await self._ledger.receive(group)
        except OurError as error:
            log.error("receipts refused: the ledger can't take them", count=len(group), error=str(error))
            self._answer(group, taken=False)
        except Exception:
            if len(group) > 1:
                for one in group:
                    await self._write([one])
                return
            log.exception("receipt refused", connector=group[0].connector)
            self._answer(group, taken=False)
        else:
            self._answer(group, taken=True)

    def _answer(self, group: list[Delivery], *, taken: bool) -> None:
        if taken:
            self.received += len(group)
            self._note_messages(group)
        else:
            self.refused += len(group)
        for delivery in group:
            delivery.answer(taken)

    def _note_messages(self, group: list[Delivery]) -> None:
        for delivery in group:
            if not delivery.is_receipt:
                since = self._messages_since
                self._messages_since = delivery.received_at if since is None else min(since, delivery.received_at)
                self._parts_until = self._ledger.now_ms() + 2 * PARTS_WAIT_MS
                self._messages_wake.set()


def assemble(
    single: Sequence[Parked], groups: Sequence[Sequence[Parked]], *, given_up_before: int
) -> Assembled:  # fmt: skip
    """Put messages of subscribers together.

    Args:
        single: PDUs that are whole messages.
        groups: Those that share a reference, oldest first.
        given_up_before: Epoch ms: where nothing has come since, the parts that are missing are not waited for any more.
    """
    messages = [_message([one]) for one in single]
    used = [one.inbox_id for one in single]
    for group in groups:
        pieces = [piece_of(one.pdu) for one in group]
        parts, repeats = choose(pieces)
        is_whole = len(parts) == pieces[0].place.total
        if is_whole or max(one.received_at for one in group) <= given_up_before:
            messages.append(_message([group[at] for at in parts]))
            used += [group[at].inbox_id for at in (*parts, *repeats)]
    return Assembled(messages, used)


def _message(parts: Sequence[Parked]) -> InboundMessage:
    """Return a message from its parts, in the order of its text."""
    first = min(parts, key=lambda part: part.inbox_id)
    whole = join([piece_of(part.pdu) for part in parts])
    return InboundMessage(
        inbound_id=first.inbox_id,
        connector=first.connector,
        received_at=first.received_at,
        source=first.source,
        destination=first.destination,
        data_coding=whole.data_coding,
        text=whole.text,
        octets=whole.octets,
        parts=whole.parts,
        parts_got=whole.got,
        keyword=keyword_of(whole.text).value,
    )
