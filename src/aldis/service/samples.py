"""The numbers of the machines, as /metrics shows them."""

from collections.abc import Iterator, Mapping
from typing import Any

from aldis.connectors.base import Connector
from aldis.dispatch import Dispatch
from aldis.inbound import Inbound
from aldis.ledger import Ledger
from aldis.push.engine import PushEngine
from aldis.store.base import QueueState, Store
from aldis.store.group import SIZE_BUCKETS, TIME_BUCKETS_S
from aldis.web.metrics import Histogram, Sample

_NONE: Mapping[str, str] = {}


def samples_of(
    store: Store,
    dispatch: Dispatch,
    inbound: Inbound,
    push: PushEngine,
    connectors: Mapping[str, Connector],
    state: QueueState,
    now: int,
    ambiguous: Mapping[str, int],
) -> Iterator[Sample | Histogram]:
    """Return all numbers but those of the web floor; `ambiguous` is by connector."""
    yield from _ledger(store, state, now)
    yield _counter("aldis_parts_submitted_total", "Parts handed to connectors.", dispatch.submitted)
    yield _counter("aldis_messages_moved_total", "Messages that another connector took over.", dispatch.moved)
    yield _counter("aldis_outcomes_recorded_total", "Outcomes of submissions on disk.", dispatch.recorded)
    yield _gauge("aldis_outcomes_unrecorded", "Outcomes that are not on disk yet.", dispatch.unrecorded)
    yield _counter("aldis_deliveries_received_total", "deliver_sm and data_sm on disk and answered.", inbound.received)
    yield _counter("aldis_deliveries_refused_total", "Deliveries that the ledger could not take.", inbound.refused)
    for (name, keyword), count in sorted(inbound.messages.items()):
        yield Sample(
            "aldis_inbound_messages_total",
            "counter",
            "Messages of subscribers that were put together.",
            {"connector": name, "keyword": keyword},
            count,
        )
    for name, count in sorted(inbound.incomplete.items()):
        labels = {"connector": name}
        yield Sample("aldis_inbound_incomplete_total", "counter", "Those of them that lack parts.", labels, count)
    for name in connectors:
        yield Sample(
            "aldis_receipts_ambiguous_total",
            "counter",
            "Looks at receipts that could mean several parts, and moved none.",
            {"connector": name},
            ambiguous.get(name, 0),
        )
    yield from _connectors(connectors)
    yield from _pushes(push)


def receipts(ledger: Ledger) -> Iterator[Sample]:
    """Return what was odd about receipts."""
    for name, label, what, counts in (
        ("aldis_receipts_contradicting_total", "connector", "Receipts that contradict an earlier end.",
         ledger.contradicting),
        ("aldis_receipts_missing_total", "queue", "Messages whose receipt never came.", ledger.missing),
    ):  # fmt: skip
        for value, count in sorted(dict(counts).items()):
            yield Sample(name, "counter", what, {label: value}, count)


def questions(answers: Mapping[tuple[str, str], int]) -> Iterator[Sample]:
    """Return what became of questions to upstreams, by connector and kind of answer."""
    for (name, answer), count in sorted(answers.items()):
        labels = {"connector": name, "answer": answer}
        yield Sample("aldis_queries_total", "counter", "query_sm sent, by what came of it.", labels, count)


def _ledger(store: Store, state: QueueState, now: int) -> Iterator[Sample | Histogram]:
    stats = store.stats
    yield _gauge("aldis_queue_depth", "Messages that may be sent now and wait.", state.due)
    age = (now - state.oldest_due_at) / 1000 if state.oldest_due_at is not None else 0
    yield _gauge("aldis_queue_age_seconds", "How long the oldest of them waits.", age)
    yield _gauge("aldis_messages_leased", "Messages on their way to an upstream.", state.leased)
    yield _gauge("aldis_receipts_parked", "Receipts that match no message.", state.parked)
    yield _gauge("aldis_pushes_due", "Pushes that may be tried now.", state.pushes)
    push_age = (now - state.oldest_push_at) / 1000 if state.oldest_push_at is not None else 0
    yield _gauge("aldis_push_age_seconds", "How long the oldest of them is due.", push_age)
    yield _gauge("aldis_ledger_writable", "1 while durability can be given.", 0 if store.problems() else 1)
    yield _gauge("aldis_commit_waiting", "Items that wait for a commit.", stats.waiting)
    yield from (_gauge(*one) for one in store.gauges())
    yield Histogram("aldis_commit_items", "Items in a commit.", SIZE_BUCKETS, stats.size_counts, stats.items)
    yield Histogram("aldis_commit_seconds", "Time of a commit.", TIME_BUCKETS_S, stats.time_counts, stats.busy_s)
    for status, count in sorted(dict(store.stats.statuses).items()):
        yield Sample(
            "aldis_statuses_total", "counter", "Statuses that messages reached.", {"status": str(status)}, count
        )


def _connectors(connectors: Mapping[str, Connector]) -> Iterator[Sample]:
    for name, connector in connectors.items():
        labels = {"connector": name}
        yield Sample("aldis_connector_bound", "gauge", "1 while parts can be submitted.", labels, connector.is_bound)
        link: Any = getattr(connector, "smpp", connector)
        counters = getattr(link, "counters", None)
        if counters is None:
            continue
        yield Sample("aldis_window_used", "gauge", "Parts without an answer yet.", labels, link.in_flight)
        for field, what in (
            ("submits", "Parts sent."),
            ("accepted", "Parts taken."),
            ("refusals", "Parts refused."),
            ("throttles", "Refusals that asked for a slower pace."),
            ("unknowns", "Parts sent that were never answered."),
            ("deliveries", "deliver_sm and data_sm received."),
            ("reconnects", "Connections tried again."),
            ("bad_pdus", "PDUs that could not be read."),
        ):
            yield Sample(f"aldis_smpp_{field}_total", "counter", what, labels, getattr(counters, field))


def _pushes(push: PushEngine) -> Iterator[Sample]:
    stats = push.stats
    for field, what in (
        ("sent", "Tries made."),
        ("delivered", "Pushes delivered."),
        ("failed", "Tries that failed."),
        ("exhausted", "Pushes given up."),
        ("superseded", "Pushes that a newer one made pointless."),
    ):
        yield _counter(f"aldis_push_{field}_total", what, getattr(stats, field))
    yield _gauge("aldis_push_in_flight", "Tries under way.", stats.in_flight)
    yield _gauge("aldis_push_waiting", "Pushes waiting in memory.", stats.waiting)
    yield _gauge("aldis_push_lag_seconds", "How long the oldest push in memory is due.", stats.lag_ms / 1000)


def _counter(name: str, what: str, value: float) -> Sample:
    return Sample(name, "counter", what, _NONE, value)


def _gauge(name: str, what: str, value: float) -> Sample:
    return Sample(name, "gauge", what, _NONE, value)
