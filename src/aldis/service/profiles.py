"""What is learnt of links, kept in the ledger: added up over all nodes, and over the lives of a process."""

import asyncio
from collections.abc import Iterable

import structlog

from aldis.model.errors import OurError
from aldis.rules.profile import Fact, Profiles, Topic, refuse_bad_lock
from aldis.store.base import Store

log = structlog.get_logger()

EVERY_S = 5.0
_FACT, _LOCK, _BETWEEN = "profile", "lock", "\x1f"


class ProfileKeeper:
    """Stores what a ledger's profiles learn, and reads what others have."""

    def __init__(self, store: Store, profiles: Profiles) -> None:
        """Take an open store, and what is kept in it."""
        self._store = store
        self._profiles = profiles

    async def run(self) -> None:
        """Keep until cancelled."""
        while True:
            try:
                await self.keep()
            except OurError as error:
                log.warning("what was learnt of links is stored later", error=str(error))
            except Exception:
                log.exception("what was learnt of links can't be stored")
            await asyncio.sleep(EVERY_S)

    async def keep(self) -> None:
        """Store what is new, then read everything."""
        new = self._profiles.take_new()
        try:
            if new:
                await self._store.add_facts({_name(_FACT, *fact[:3]): fact.times for fact in new})
        except BaseException:
            self._profiles.give_back(new)
            raise
        facts = await self._store.facts(_FACT + _BETWEEN)
        locks = await self._store.facts(_LOCK + _BETWEEN)
        known = [(connector, topic, value, facts[name]) for name, connector, topic, value in _read(facts)]
        self._profiles.learn(
            [Fact(*fact) for fact in known],
            [(connector, topic, value) for _, connector, topic, value in _read(locks)],
        )

    async def lock(self, connector: str, topic: Topic, value: str) -> None:
        """Settle a topic by hand; with an empty value leave it to what receipts say.

        Raises:
            ValueError: it can't be settled on that.
        """
        if value:
            refuse_bad_lock(topic, value)
        await self._store.forget_facts(_BETWEEN.join((_LOCK, connector, topic, "")))
        if value:
            await self._store.note_fact(_name(_LOCK, connector, topic, value), 1)
        await self.keep()

    async def forget(self, connector: str) -> None:
        """Forget what receipts have said of a link, such as after its upstream has changed."""
        self._profiles.take_new()
        await self._store.forget_facts(_BETWEEN.join((_FACT, connector, "")))
        await self.keep()


def _name(kind: str, connector: str, topic: Topic, value: str) -> str:
    return _BETWEEN.join((kind, connector, topic.value, value))


def _read(names: Iterable[str]) -> list[tuple[str, str, Topic, str]]:
    found = []
    for name in names:
        _, connector, topic, value = name.split(_BETWEEN, 3)
        if topic in list(Topic):  # another version may know more
            found.append((name, connector, Topic(topic), value))
    return found
