"""The fault checker bites: on made-up logs that hold every promise, each promise is broken once, and it says so."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.fault.checker import Evidence, check, facts_of, table_of
from tests.fault.dump import Batch, Dump, Event, Message, Push, Settled, Snapshot
from tests.fault.listen import pickups
from tests.fault.load import Ask, Source, from_line
from tests.fault.outage import error_seconds
from tests.fault.witness import Line

ACKED, LOST, REFUSED, LONG = 1, 2, 3, 4
"""Submissions: acknowledged; answer lost, found again by its stop_dup_id; refused; acknowledged, of two parts."""
ASKS = {
    ACKED: Ask(ACKED, "alpha", "7bit", "1 lamp", ("44700000017777", "44710000020053"), True, 0),
    LOST: Ask(LOST, "bravo", "16bit", "2 Ωж", ("44700000037777",), True, 2),
    REFUSED: Ask(REFUSED, "poor", "7bit", "3 ship", ("44700000047777",), True, 0),
    LONG: Ask(LONG, "alpha", "7bit", "4 " + "long " * 50, ("44700000057777",), False, 0),
}
ONE, OTHER = "44700000017777", "44710000020053"
STATUSES = {"44700000017777": 11, "44710000020053": 53, "44700000037777": 11, "44700000057777": 11}


Spoil = Callable[["World"], object]


class World:
    """Logs and a ledger in which every promise holds; each test spoils one thing."""

    def __init__(self) -> None:
        self.client: list[Line] = []
        self.smsc: list[Line] = []
        self.receiver: list[Line] = []
        self.supervisor: list[Line] = [
            {"e": "kill", "at": 50.0},
            {"e": "dead", "at": 50.1},
            {"e": "quiet", "at": 90.0, "wall_ms": 9_000},
        ]
        self.dump = Dump(credits={"alpha": 10_000, "bravo": 10_000, "poor": 0})
        self.dump.top_ups = {name: [10_000] for name in ("alpha", "bravo")}
        self.snapshots: list[Snapshot] = []
        self._ids = iter(range(1_000, 9_000))
        for ask in ASKS.values():
            self.client.append({"e": "intent", "at": 1.0, **ask.to_line()})
            if ask.n != REFUSED:
                self._accept(ask)
        self.told(REFUSED, kind="refused", code=25)
        self.snapshots.append(Snapshot({m.message_id: (10, 1) for m in self.dump.messages}, "ok"))
        self.supervisor += [
            {"e": "credits", "at": 91.0, "account": name, "shown": f"0|{milli // 1000}.{milli % 1000 // 10:02d}"}
            for name, milli in self.dump.credits.items()
        ]

    def evidence(self) -> Evidence:
        return Evidence(self.client, self.smsc, self.receiver, self.supervisor, self.dump, self.snapshots)

    def told(self, n: int, **fields: object) -> None:
        self.client.append({"e": "outcome", "at": 2.0, "n": n, **fields})

    def batch_of(self, n: int) -> Batch:
        return next(one for one in self.dump.batches if one.source_id == f"s{n}")

    def message_to(self, number: str) -> Message:
        return next(one for one in self.dump.messages if one.msisdn == number)

    def change(self, number: str, **fields: Any) -> None:
        at = self.dump.messages.index(self.message_to(number))
        self.dump.messages[at] = self.dump.messages[at]._replace(**fields)

    def change_batch(self, n: int, **fields: Any) -> None:
        at = self.dump.batches.index(self.batch_of(n))
        self.dump.batches[at] = self.dump.batches[at]._replace(**fields)

    def _accept(self, ask: Ask) -> None:
        batch_id = next(self._ids)
        if ask.n == LOST:
            self.told(ask.n, kind="unknown", why="IncompleteReadError")
        self.told(ask.n, kind="ok", batch=batch_id)
        parts = len(ask.pieces())
        self.dump.batches.append(
            Batch(batch_id, ask.account, parts, ask.body, ask.sender, int(ask.want_report), ask.source_id, ask.charge())
        )
        self.dump.credits[ask.account] -= ask.charge()
        for number in ask.msisdns:
            self._send(ask, batch_id, number)
        rows = [[number, STATUSES[number]] for number in ask.msisdns]
        self.client.append(
            {"e": "seen", "at": 20.0, "asked": 19.0, "batch": batch_id, "rows": [[n, 10] for n, _ in rows]}
        )
        self.supervisor.append({"e": "seen", "at": 91.0, "asked": 90.5, "batch": batch_id, "rows": rows})

    def _send(self, ask: Ask, batch_id: int, number: str) -> None:
        message_id, status = next(self._ids), STATUSES[number]
        price = replace(ask, msisdns=(number,)).charge()
        self.dump.messages.append(Message(message_id, batch_id, number, status, 2, price, 0, None, None))
        pieces = ask.pieces()
        upstream_ids = [f"u{message_id}-{part_no}" for part_no in range(1, len(pieces) + 1)]
        words = "; ".join(f"{part_no}: {one}" for part_no, one in enumerate(upstream_ids, 1))
        self.dump.events.append(Event(message_id, next(self._ids), "submit", 10, upstream_ids[0], words))
        for part_no, (piece, upstream_id) in enumerate(zip(pieces, upstream_ids, strict=True), 1):
            head = b"\x05\x00\x03\x07" + bytes((len(pieces), part_no)) if len(pieces) > 1 else b""
            self.smsc.append(submit(number, ask.sender, upstream_id, head + piece, 0x40 if head else 0))
            self.smsc.append({"event": "receipt", "message_id": upstream_id, "status": 0})
            reached = status if part_no == len(pieces) else 10
            self.dump.events.append(Event(message_id, next(self._ids), "receipt", reached, upstream_id, "id:"))
        if ask.want_report:
            self.push(ask, batch_id, number, status)

    def push(self, ask: Ask, batch_id: int, number: str, status: int, answer: int = 200) -> None:
        unique_id = str(next(self._ids))
        self.receiver.append(
            {
                "e": "push",
                "at": 10.0,
                "account": ask.account,
                "answer": answer,
                "query": f"msisdn={number}&status={status}&unique_id={unique_id}",
                "msisdn": number,
                "batch_id": str(batch_id),
                "status": str(status),
                "source_id": ask.source_id,
                "unique_id": unique_id,
            }
        )


def submit(number: str, sender: str, upstream_id: str, octets: bytes, esm_class: int = 0) -> Line:
    return {
        "event": "submit",
        "message_id": upstream_id,
        "source": sender,
        "destination": number,
        "esm_class": esm_class,
        "octets": octets.hex(),
    }


# ------------------------------------------------------------------------------------------------- what is spoilt


def part(world: World, part_no: int) -> Line:
    octets = [line for line in world.smsc if line.get("esm_class")]
    return octets[part_no - 1]


def other_reference(octets: str) -> str:
    return octets[:6] + "08" + octets[8:]


def refund(world: World, number: str) -> None:
    message = world.message_to(number)
    world.change(number, refunded_milli=message.price_milli)
    world.dump.credits["alpha"] += message.price_milli
    world.supervisor = [line for line in world.supervisor if line["e"] != "credits"]


def unroutable(world: World) -> None:
    world.change(ONE, status=31)


def unknown_half(world: World) -> None:
    world.client = [line for line in world.client if line["e"] != "outcome" or line["n"] != ACKED]
    world.told(ACKED, kind="unknown", why="TimeoutError")
    world.dump.messages.remove(world.message_to(OTHER))


def credits_line(account: str, shown: str) -> Line:
    return {"e": "credits", "at": 92.0, "account": account, "shown": shown}


def last_event(world: World, status: int) -> Event:
    return Event(world.message_to(ONE).message_id, 99_999, "lapsed", status, "", "")


def call_off(world: World, *events: tuple[str, int], sent_at: int = 0) -> None:
    """Let the claim of a message be called off at 50,000, and then let events come: kind, status."""
    message = world.message_to(ONE)
    status = events[-1][1] if events else 12
    world.change(ONE, status=status)
    world.dump.events = [event for event in world.dump.events if event.message_id != message.message_id]
    for at, (kind, reached) in enumerate((("lapsed", 12), *events)):
        world.dump.events.append(Event(message.message_id, 90_000 + at, kind, reached, "", "", at=50_000 + at))
    own = f"u{message.message_id}-1"
    world.smsc = [line for line in world.smsc if line["event"] != "receipt" or line["message_id"] != own]
    world.smsc[0]["at"] = sent_at
    world.receiver = [line for line in world.receiver if line["msisdn"] != ONE]
    for line in world.supervisor:
        if line["e"] == "seen" and line["batch"] == message.batch_id:
            line["rows"][0][1] = status


def settle(world: World, by: str) -> None:
    world.dump.lives[77] = "node_a"
    world.dump.settled.append(Settled(by, 5, 77))


def heard_by_two_nodes(world: World) -> None:
    """Let two nodes judge a message, the one with the older ids later."""
    message = world.message_to(ONE)
    world.dump.events = [event for event in world.dump.events if event.message_id != message.message_id]
    told = (("submit", 10, 95_002, 1), ("receipt", 10, 95_003, 2), ("receipt", 11, 95_001, 3))
    for kind, status, event_id, place in told:
        upstream_id = f"u{message.message_id}-1" if status == 11 else ""
        world.dump.events.append(Event(message.message_id, event_id, kind, status, upstream_id, "", place=place))


def seen(world: World, n: int, rows: list[list[object]], asked: float = 30.0) -> Line:
    return {"e": "seen", "at": asked + 0.5, "asked": asked, "batch": world.batch_of(n).batch_id, "rows": rows}


def snapshot(world: World, number: str, status: int, seq: int) -> Snapshot:
    return Snapshot({**world.snapshots[-1].messages, world.message_to(number).message_id: (status, seq)}, "ok")


def corrected(world: World) -> None:
    world.snapshots.append(snapshot(world, ONE, 53, 2))
    world.change(ONE, seq=3)


def listed(world: World) -> None:
    world.receiver[0]["answer"] = 500
    message = world.message_to(ONE)
    world.dump.pushes.append(Push(message.message_id, 1, 11, 99_000))


def kept_twice(world: World) -> None:
    world.smsc.append(world.smsc[1])
    again = next(event for event in world.dump.events if event.kind == "receipt")
    world.dump.events.append(again._replace(event_id=99_998))


def in_inbox(world: World) -> None:
    world.smsc.append({"event": "receipt", "message_id": "u-x", "status": 0})
    world.dump.inbox.append("u-x")


def early(world: World) -> None:
    at = next(n for n, event in enumerate(world.dump.events) if event.kind == "receipt")
    world.dump.events[at] = world.dump.events[at]._replace(event_id=1)
    world.dump.events.sort()


# ---------------------------------------------------------------------------------------------------- the tests


def test_every_promise_holds_in_a_world_without_faults() -> None:
    rows = check(World().evidence())
    assert [row.broken for row in rows] == [[]] * len(rows)
    assert all(row.ok and row.checked for row in rows)


SPOILT: list[tuple[str, str, Spoil]] = [
    ("an acknowledged batch is gone", "I1", lambda w: w.dump.batches.remove(w.batch_of(LONG))),
    ("a recipient is gone", "I1", lambda w: w.dump.messages.remove(w.message_to(OTHER))),
    ("a body differs by one byte", "I1", lambda w: w.change_batch(ACKED, body=b"1 lamb")),
    ("a batch belongs to another account", "I1", lambda w: w.change_batch(ACKED, account="bravo")),
    ("the file is corrupt", "I1", lambda w: setattr(w.dump, "integrity", "row 1 missing from index")),
    ("a crash leaves a corrupt file", "I1", lambda w: w.snapshots.append(Snapshot(w.snapshots[0].messages, "bad"))),
    ("a refused submission is there", "I2", lambda w: w.change_batch(LONG, source_id="s3")),
    ("a repeat makes a second batch", "I2", lambda w: w.dump.batches.append(w.batch_of(LOST)._replace(batch_id=1))),
    ("a repeat is told another batch", "I2", lambda w: w.told(LOST, kind="ok", batch=999)),
    ("a batch that nobody asked for", "I2", lambda w: w.change_batch(ACKED, source_id="s99")),
    ("half a batch of unknown outcome", "I2", unknown_half),
    ("a part is taken twice", "I3", lambda w: w.smsc.append({**w.smsc[0], "message_id": "u-again"})),
    ("a number that nobody wrote to", "I4", lambda w: w.smsc.append(submit("44700099", "Alpha", "", b"1 lamp"))),
    ("a refused submission is sent", "I4", lambda w: w.smsc.append(submit("44700000047777", "24242", "", b"3 ship"))),
    ("another's originator", "I4", lambda w: w.smsc[0].update(source="Nobody")),
    ("another text", "I4", lambda w: w.smsc[0].update(octets=b"1 lamb".hex())),
    ("parts with two references", "I4", lambda w: part(w, 2).update(octets=other_reference(part(w, 2)["octets"]))),
    ("a milli-credit too much", "I5", lambda w: w.dump.credits.update(alpha=w.dump.credits["alpha"] + 1)),
    ("a wrong charge", "I5", lambda w: w.change_batch(LONG, charged_milli=1)),
    ("a refund for a delivered message", "I5", lambda w: refund(w, ONE)),
    ("a refund for what was taken upstream", "I5", lambda w: refund(w, OTHER)),
    ("a refund that is owed is missing", "I5", unroutable),
    ("a top-up is gone", "I5", lambda w: w.supervisor.append({"e": "topup", "account": "bravo", "milli": 7})),
    ("get_credits says something else", "I5", lambda w: w.supervisor.append(credits_line("alpha", "0|0.00"))),
    ("a history goes on behind its end", "I6", lambda w: w.dump.events.append(last_event(w, 10))),
    ("an outsider sees an end undone", "I6", lambda w: w.client.append(seen(w, ACKED, [[ONE, 50], [OTHER, 53]]))),
    ("a crash undoes an end", "I6", lambda w: w.snapshots.append(snapshot(w, ONE, 51, 2))),
    ("a version falls", "I6", lambda w: w.snapshots.append(snapshot(w, ONE, 11, 3))),
    ("a new status keeps its version", "I6", lambda w: w.snapshots.append(snapshot(w, ONE, 10, 2))),
    ("a message vanishes after a crash", "I6", lambda w: w.snapshots[0].messages.update({1: (10, 1)})),
    ("the last push says something else", "I6", lambda w: w.push(ASKS[ACKED], w.batch_of(ACKED).batch_id, ONE, 50)),
    ("the last report says something else", "I6", lambda w: w.supervisor.append(seen(w, LONG, [], asked=99.0))),
    ("a receipt is gone", "I7", lambda w: w.smsc.append({"event": "receipt", "message_id": "u-x", "status": 0})),
    ("one of two equal receipts is gone", "I7", lambda w: w.smsc.append(w.smsc[1])),
    ("a push never arrived", "I8", lambda w: w.receiver.pop(0)),
    ("a push was refused, and is not listed", "I8", lambda w: w.receiver[0].update(answer=500)),
    ("a push told another status", "I8", lambda w: w.receiver[0].update(status="50")),
    ("a push comes twice without a crash", "I9", lambda w: w.receiver.append({**w.receiver[0], "at": 10.5})),
    ("a repeat has another content", "I9", lambda w: w.receiver.append({**w.receiver[0], "at": 60.0, "query": "x"})),
    ("a push reaches another account", "I10", lambda w: w.receiver[0].update(account="bravo")),
    (
        "a push that was not wanted",
        "I10",
        lambda w: w.push(ASKS[LONG], w.batch_of(LONG).batch_id, "44700000057777", 11),
    ),
    ("a message is still queued", "I13", lambda w: w.change(ONE, due_at=5)),
    ("a lease is left", "I13", lambda w: w.change(ONE, leased_until=5)),
    ("a push is due", "I13", lambda w: w.dump.pushes.append(Push(w.dump.messages[0].message_id, 1, 11, 8_000))),
    ("a repeat got no answer", "I13", lambda w: w.client.append({"e": "end", "at": 80.0, "unanswered": 1})),
    ("a claim called off is told of", "I17", lambda w: call_off(w, ("submit", 10))),
    ("a claim called off is ended", "I17", lambda w: call_off(w, ("ended", 53))),
    ("a claim that was told of is called off", "I17", lambda w: call_off(w, ("late word", 12), ("submit", 10))),
    ("a late word moves a message", "I17", lambda w: call_off(w, ("late word", 63))),
    ("a message is sent after its claim was called off", "I17", lambda w: call_off(w, sent_at=50_300)),
    ("a push is settled by another node", "I17", lambda w: settle(w, "node_b")),
    ("a dead node claims", "I17", lambda w: w.dump.dead_claims.append(("node_a", w.message_to(ONE).message_id))),
    ("it never was quiet", "I13", lambda w: w.supervisor.remove(w.supervisor[2])),
]


@pytest.mark.parametrize(("promise", "spoil"), [pytest.param(p, s, id=name) for name, p, s in SPOILT])
def test_what_breaks_a_promise_is_seen_to_break_it(promise: str, spoil: Spoil) -> None:
    world = World()
    spoil(world)
    rows = check(world.evidence())
    assert promise in [row.name for row in rows if row.broken]
    assert "BROKEN" in table_of(rows)


ALLOWED: list[tuple[str, Spoil]] = [
    ("a push repeats across a crash", lambda w: w.receiver.append({**w.receiver[0], "at": 60.0})),
    ("a refused push is listed", listed),
    ("a message is refused, then taken", lambda w: w.smsc.append({**w.smsc[0], "message_id": ""})),
    ("a receipt comes again, and is kept again", kept_twice),
    ("a receipt that matches nothing waits", in_inbox),
    ("an assumed expiry turns out delivered", corrected),
    ("an early receipt has an older event", early),
    ("a claim is called off", call_off),
    ("a late word changes nothing", lambda w: call_off(w, ("late word", 12), sent_at=49_000)),
    ("a push is settled by its node", lambda w: settle(w, "node_a")),
    ("nodes judge in another order than their ids", heard_by_two_nodes),
    ("answers of get_report cross on the way", lambda w: w.client.append(seen(w, ACKED, [[ONE, 0], [OTHER, 0]], 18.0))),
]


@pytest.mark.parametrize("allow", [pytest.param(a, id=name) for name, a in ALLOWED])
def test_what_a_crash_may_do_breaks_nothing(allow: Spoil) -> None:
    world = World()
    allow(world)
    assert [text for row in check(world.evidence()) for text in row.broken] == []


def test_an_uncertain_refusal_may_be_there_or_not() -> None:
    world = World()
    world.client = [line for line in world.client if line["e"] != "outcome" or line["n"] != LOST]
    world.told(LOST, kind="refused", code=22)
    assert "I2" in [row.name for row in check(world.evidence()) if row.broken]
    lenient = replace(world.evidence(), uncertain=frozenset((22,)))
    assert [text for row in check(lenient) for text in row.broken] == []


def test_a_promise_that_nothing_was_checked_on_does_not_hold() -> None:
    assert not any(row.ok for row in check(Evidence([], [], [], [], Dump())))


def test_the_figures_count_what_was_lost_and_what_came_twice() -> None:
    world = World()
    world.dump.batches.remove(world.batch_of(LONG))
    world.smsc.append({**world.smsc[0], "message_id": "u-again"})
    figures = {row[0]: row[1] for row in facts_of(world.evidence()).rows}
    assert figures["submissions acknowledged"] == 3
    assert figures["acknowledged and lost"] == 1
    assert figures["submit_sm, taken twice"] == "6, 1"
    assert figures["answers lost, later told by a repeat"] == "1, 1"


def outcome(at: float, kind: str, **fields: object) -> Line:
    return {"e": "outcome", "at": at, "n": 1, "kind": kind, **fields}


def test_error_seconds_run_from_the_first_failure_to_a_success_that_was_asked_for_after_it() -> None:
    client = [
        outcome(9.0, "ok", ms=5.0),
        outcome(10.2, "refused", code=40, ms=1.0),
        outcome(10.3, "ok", ms=400.0),  # it had begun before
        outcome(10.4, "refused", code=25, ms=1.0),  # no failure of ours
        outcome(11.0, "unknown", waited_ms=500.0),
        outcome(11.7, "ok", ms=10.0),
        outcome(21.0, "ok", ms=10.0),
    ]
    found = error_seconds(client, [10.0, 20.0])
    assert [tuple(round(one, 3) for one in numbers) for numbers in found] == [(1.5, 0.8, 2), (0.0, 0.0, 0)]


def test_pickup_is_from_the_acknowledgement_to_the_first_part_that_the_network_sees() -> None:
    world = World()
    quiet = next(line for line in world.supervisor if line["e"] == "quiet")
    for line in world.smsc:
        line["at"] = quiet["wall_ms"] - 88_000 + 125  # outcomes are at 2 s of the clock that says 90 now
    assert pickups(world.evidence()) == [(2.0, pytest.approx(0.125))] * 3


def test_submissions_come_back_from_the_log_as_they_were_written() -> None:
    asks = [ask for ask, _ in zip(Source(5), range(200), strict=False)]
    assert [from_line({"e": "intent", **ask.to_line()}) for ask in asks] == asks
    numbers = [number for ask in asks for number in ask.msisdns if not number.startswith("4470000000000")]
    assert len(set(numbers)) == len(numbers)
