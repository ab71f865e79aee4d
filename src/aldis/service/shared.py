"""A ledger on PostgreSQL, and this node among the others that work on it."""

import secrets
from collections.abc import Callable, Iterator, Mapping

from aldis.connectors.base import Connector
from aldis.model.errors import SettingsError
from aldis.model.types import Push
from aldis.service.membership import TTL_S, Membership
from aldis.service.settings import Settings
from aldis.store.postgres import PostgresStore
from aldis.store.postgres.bell import Bell
from aldis.store.postgres.connection import labelled, words_of
from aldis.store.postgres.lane import Seat
from aldis.store.postgres.nodes import NodeTable
from aldis.web.metrics import Sample


class SharedLedger:
    """The store, the node's membership and its bell, opened together."""

    def __init__(self, store: PostgresStore, membership: Membership, bell: Bell) -> None:
        """Take what was opened."""
        self.store = store
        self.membership = membership
        self.bell = bell

    @classmethod
    async def open(
        cls,
        settings: Settings,
        connectors: Mapping[str, Connector],
        on_pushes: Callable[[list[Push]], None],
        on_ring: Callable[[str], None],
        clock: Callable[[], int],
    ) -> "SharedLedger":
        """Open the store and join the nodes.

        Args:
            settings: The whole configuration.
            connectors: Those whose binds this node may own.
            on_pushes: Gets this node's pushes once they are durable.
            on_ring: Hears what other nodes ring for.
            clock: The machine's, epoch ms; from joining on the database's counts.

        Raises:
            SettingsError: the database can't be reached or used.
        """
        seat = Seat(pushes="push" in settings.roles)
        shared: SharedLedger

        def hear(kind: str) -> None:
            if kind in ("accounts", ""):
                shared.store.forget_accounts()
            on_ring(kind)

        label = secrets.token_hex(4)
        url = labelled(settings.ledger_url, label)
        bell = Bell(url, seat, hear)
        store = await PostgresStore.open(
            url,
            on_pushes,
            clock,
            seat=seat,
            on_ring=bell.ring,
            writers=settings.ledger_writers,
            retention_ms=settings.retention_ms,
        )
        table = NodeTable(url, int(TTL_S * 1000), label)
        membership = Membership(table, settings.roles, connectors, lambda: hear(""))
        try:
            await membership.join()
        except Exception as error:  # noqa: BLE001 - whatever keeps it out, the operator is told in one line
            await store.close()
            raise SettingsError(f"this node can't join the others: {words_of(error)}") from None
        seat.epoch, seat.number = membership.epoch, membership.number
        shared = cls(store, membership, bell)
        return shared

    def samples(self) -> Iterator[Sample]:
        """Return the numbers for /metrics."""
        membership = self.membership
        yield Sample("aldis_node_number", "gauge", "This node's number.", {}, membership.number)
        yield Sample("aldis_nodes_living", "gauge", "Nodes that live, this one included.", {}, membership.living)
        yield Sample("aldis_binds_owned", "gauge", "Binds that are this node's.", {}, len(membership.owned))
        yield Sample("aldis_notifications_total", "counter", "Wake-ups sent to other nodes.", {}, self.bell.rung)
