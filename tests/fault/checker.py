"""Joins what the witnesses saw with what the ledger holds, and counts the promises kept.

Nothing here is shared with the server; which codes are final or announced is written out from the documents.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

from tests.fault.dump import Batch, Dump, Event, Message, Snapshot
from tests.fault.load import BLOCKED, Ask, from_line
from tests.fault.tables import Table, quantile
from tests.fault.witness import Line

FINAL = frozenset((11, 22, 23, 24, 25, 26, 27, 28, 29, 31, 32, 33, 50, 51, 52, 53, 54, 55, 56, 57))
ANNOUNCED = FINAL | {64}
ALWAYS_REFUNDED = frozenset((22, 23, 24, 25, 26, 27, 28, 29, 31, 32, 33))
REFUNDED_IF_UNSENT = frozenset((50, 51, 52, 53, 54, 55, 56, 57))
UNACKNOWLEDGED = 12
PUSHES_IN_FLIGHT = 64
"""Connections to one customer's server: what one crash can repeat."""
_LAST_BYTES_S = 0.5
_SEEN_LATE_MS = 250
"""How long a submit_sm of a dead process may be on its way to the message centre's log."""
_TO_SEND_AGAIN = frozenset((0, 63, 64))
SHOWN = 4

_T = TypeVar("_T")
_K = TypeVar("_K")


@dataclass
class Row:
    """One promise: how many things it was checked on, and where it was broken."""

    name: str
    promise: str
    checked: int
    broken: list[str]

    @property
    def ok(self) -> bool:
        """Whether it holds; a promise that nothing was checked on does not."""
        return self.checked > 0 and not self.broken


@dataclass
class Evidence:
    """What the witnesses wrote, and what the ledger holds in the end."""

    client: list[Line]
    smsc: list[Line]
    receiver: list[Line]
    supervisor: list[Line]
    dump: Dump
    snapshots: list[Snapshot] = field(default_factory=list)
    uncertain: frozenset[int] = frozenset()
    """Codes that do not say what was done: 22 after a failed fsync."""

    @cached_property
    def asks(self) -> dict[int, Ask]:
        return {line["n"]: from_line(line) for line in self.client if line["e"] == "intent"}

    @cached_property
    def outcomes(self) -> dict[int, list[Line]]:
        found: dict[int, list[Line]] = {n: [] for n in self.asks}
        for line in self.client:
            if line["e"] == "outcome":
                found[line["n"]].append(line)
        return found

    @cached_property
    def acked(self) -> dict[int, int]:
        """Submission -> the batch that it was first acknowledged as."""
        oks = [(n, line["batch"]) for n, lines in self.outcomes.items() for line in lines if line["kind"] == "ok"]
        return dict(reversed(oks))

    @cached_property
    def unknown(self) -> set[int]:
        """Submissions without acknowledgement, of which a try got no answer, or none that says what was done."""
        return {n for n, lines in self.outcomes.items() if n not in self.acked and not self._is_refused(lines)}

    def _is_refused(self, lines: list[Line]) -> bool:
        return bool(lines) and all(one["kind"] == "refused" and one["code"] not in self.uncertain for one in lines)

    @cached_property
    def refused(self) -> set[int]:
        return {n for n in self.asks if n not in self.acked and n not in self.unknown}

    @cached_property
    def batches(self) -> dict[int, Batch]:
        return {batch.batch_id: batch for batch in self.dump.batches}

    @cached_property
    def by_source(self) -> dict[str, list[Batch]]:
        return _group(self.dump.batches, lambda batch: batch.source_id)

    @cached_property
    def messages(self) -> dict[int, list[Message]]:
        """Batch -> its messages in order."""
        return _group(self.dump.messages, lambda message: message.batch_id)

    @cached_property
    def ask_of(self) -> dict[str, Ask]:
        """Number -> the only submission to it."""
        return {number: ask for ask in self.asks.values() for number in ask.msisdns if number != BLOCKED}

    @cached_property
    def kills(self) -> list[tuple[float, float]]:
        """When each crash was ordered, and when the process was gone and its last bytes read."""
        ordered = [
            float(line["since"] if "since" in line else line["at"]) for line in self.supervisor if line["e"] == "kill"
        ]
        gone = [line["at"] + _LAST_BYTES_S for line in self.supervisor if line["e"] == "dead"]
        return list(zip(ordered, gone, strict=True))

    @cached_property
    def good_pushes(self) -> list[Line]:
        return [line for line in self.receiver if line["answer"] == 200]


def _group(items: Iterable[_T], key: Callable[[_T], _K]) -> dict[_K, list[_T]]:
    found: dict[_K, list[_T]] = defaultdict(list)
    for item in items:
        found[key(item)].append(item)
    return found


def check(evidence: Evidence) -> list[Row]:
    """Return a row for each promise."""
    return [Row(name, promise, *rule(evidence)) for name, promise, rule in _RULES]


_Finding = tuple[int, list[str]]


def _differences(ask: Ask, batch: Batch, messages: Sequence[Message]) -> list[str]:
    """Return the fields in which a batch on disk is not what was asked for."""
    pairs = {
        "account": (ask.account, batch.account),
        "body": (ask.body, batch.body),
        "originator": (ask.sender, batch.originator),
        "source_id": (ask.source_id, batch.source_id),
        "want_report": (int(ask.want_report), batch.want_report),
        "parts": (len(ask.pieces()), batch.parts),
        "recipients": (list(ask.msisdns), [message.msisdn for message in messages]),
    }
    return [name for name, (meant, found) in pairs.items() if meant != found]


def _acked_present(evidence: Evidence) -> _Finding:
    broken = []
    for n, batch_id in evidence.acked.items():
        batch = evidence.batches.get(batch_id)
        if batch is None:
            broken.append(f"submission {n} was acknowledged as {batch_id}, which is not there")
        elif wrong := _differences(evidence.asks[n], batch, evidence.messages.get(batch_id, [])):
            broken.append(f"batch {batch_id} differs in {', '.join(wrong)}")
    broken += [f"integrity: {evidence.dump.integrity}"] * (evidence.dump.integrity != "ok")
    broken += [f"after crash: {one.integrity}" for one in evidence.snapshots if one.integrity != "ok"]
    return len(evidence.acked), broken


def _all_or_nothing(evidence: Evidence) -> _Finding:
    broken = []
    for n, ask in evidence.asks.items():
        found = evidence.by_source.get(ask.source_id, [])
        told = {line["batch"] for line in evidence.outcomes[n] if line["kind"] == "ok"}
        if n in evidence.refused and found:
            broken.append(f"submission {n} was refused, and is there")
        elif len(found) > 1:
            broken.append(f"submission {n} made {len(found)} batches")
        elif len(told) > 1:
            broken.append(f"submission {n} with one stop_dup_id was told {len(told)} batches")
        elif n in evidence.unknown and found:
            wrong = _differences(ask, found[0], evidence.messages.get(found[0].batch_id, []))
            broken += [f"batch {found[0].batch_id} of unknown outcome differs in {', '.join(wrong)}"] * bool(wrong)
    sources = {ask.source_id for ask in evidence.asks.values()}
    broken += [f"nobody asked for batch {b.batch_id}" for b in evidence.dump.batches if b.source_id not in sources]
    return len(evidence.refused) + len(evidence.unknown) + len(evidence.acked), broken


def _submits(evidence: Evidence) -> list[Line]:
    return [line for line in evidence.smsc if line["event"] == "submit"]


def _part_of(line: Line) -> tuple[int, int, int, bytes]:
    """Return part number, total, reference (0, 1, 0 for none) and user data of a submit_sm, told by its UDH."""
    octets = bytes.fromhex(line["octets"])
    if line["esm_class"] & 0x40 and octets[:3] == b"\x05\x00\x03":
        return octets[5], octets[4], octets[3], octets[6:]
    return 1, 1, 0, octets


def count_upstream_repeats(evidence: Evidence) -> Counter[tuple[str, int]]:
    """Return number and part of each accepted submit_sm beyond the first, with their count."""
    taken = Counter((line["destination"], _part_of(line)[0]) for line in _submits(evidence) if line["message_id"])
    return Counter({key: count - 1 for key, count in taken.items() if count > 1})


def _never_twice(evidence: Evidence) -> _Finding:
    repeats = count_upstream_repeats(evidence)
    accepted = sum(1 for line in _submits(evidence) if line["message_id"])
    return accepted, [f"part {part} to {number} was taken {n + 1} times" for (number, part), n in repeats.items()]


def _no_ghosts(evidence: Evidence) -> _Finding:
    broken = []
    references: dict[str, set[int]] = defaultdict(set)
    for line in _submits(evidence):
        number = line["destination"]
        ask = evidence.ask_of.get(number)
        part_no, total, reference, octets = _part_of(line)
        references[number].add(reference)
        if ask is None or ask.n in evidence.refused:
            broken.append(f"submit_sm to {number} belongs to no submission that may have been accepted")
            continue
        pieces = ask.pieces()
        if line["source"] != ask.sender:
            broken.append(f"submit_sm to {number} comes from {line['source']}, not {ask.sender}")
        if total != len(pieces) or not 1 <= part_no <= total or octets != pieces[part_no - 1]:
            broken.append(f"submit_sm to {number}, part {part_no} of {total}: not the text that was asked for")
    broken += [f"parts to {number} have {len(one)} references" for number, one in references.items() if len(one) > 1]
    return sum(1 for _ in _submits(evidence)), broken


def _credits_conserve(evidence: Evidence) -> _Finding:
    dump = evidence.dump
    charges, refunds = _milli_by_account(evidence)
    broken = []
    for name, balance in dump.credits.items():
        due = sum(dump.top_ups.get(name, [])) - charges[name] + refunds[name]
        if balance != due or balance < 0:
            broken.append(f"{name} has {balance} milli-credits; top-ups - charges + refunds are {due}")
    given = {(line["account"], line["milli"]) for line in evidence.supervisor if line["e"] == "topup"}
    broken += [f"top-up of {milli} for {name} is gone" for name, milli in given if milli not in dump.top_ups[name]]
    broken += _wrong_charges(evidence)
    broken += _wrong_refunds(evidence)
    return len(dump.batches) + len(dump.messages), broken + _wrong_answers(evidence)


def _milli_by_account(evidence: Evidence) -> tuple[Counter[str], Counter[str]]:
    charges, refunds = Counter[str](), Counter[str]()
    for batch in evidence.dump.batches:
        charges[batch.account] += batch.charged_milli
        refunds[batch.account] += sum(one.refunded_milli for one in evidence.messages.get(batch.batch_id, []))
    return charges, refunds


def _wrong_charges(evidence: Evidence) -> list[str]:
    broken = []
    asks = {ask.source_id: ask for ask in evidence.asks.values()}
    for batch in evidence.dump.batches:
        messages = evidence.messages.get(batch.batch_id, [])
        ask = asks.get(batch.source_id)
        if ask is not None and batch.charged_milli != ask.charge():
            broken.append(f"batch {batch.batch_id} was charged {batch.charged_milli}, not {ask.charge()}")
        if batch.charged_milli != sum(one.price_milli for one in messages):
            broken.append(f"batch {batch.batch_id}: the messages' prices are not what was charged")
    return broken


def _wrong_refunds(evidence: Evidence) -> list[str]:
    seen = {line["destination"] for line in _submits(evidence) if line["message_id"]}
    broken = []
    for one in evidence.dump.messages:
        if one.refunded_milli not in (0, one.price_milli):
            broken.append(f"message {one.message_id} was refunded {one.refunded_milli} of {one.price_milli}")
        elif one.refunded_milli and one.status not in ALWAYS_REFUNDED | REFUNDED_IF_UNSENT:
            broken.append(f"message {one.message_id} was refunded at status {one.status}")
        elif one.refunded_milli and one.status in REFUNDED_IF_UNSENT and one.msisdn in seen:
            broken.append(f"message {one.message_id} was refunded though it was taken upstream")
        elif one.price_milli and not one.refunded_milli and one.status in ALWAYS_REFUNDED:
            broken.append(f"message {one.message_id} at status {one.status} was not refunded")
    return broken


def _wrong_answers(evidence: Evidence) -> list[str]:
    """Compare get_credits with the file: two decimals, half a cent to the even one."""
    broken = []
    for line in evidence.supervisor:
        if line["e"] == "credits":
            milli = evidence.dump.credits.get(line["account"], 0)
            cents, rest = divmod(milli, 10)
            cents += rest > 5 or (rest == 5 and cents % 2 == 1)
            if line["shown"] != f"0|{cents // 100}.{cents % 100:02d}":
                broken.append(f"get_credits of {line['account']} said {line['shown']}; the ledger has {milli}")
    return broken


def _may_follow(before: int, after: int) -> bool:
    """Say whether a status may come after another: what is final stays, or an expiry turns out delivered."""
    return before not in FINAL or after == before or (before == 53 and after == 11)


def _final_stays(evidence: Evidence) -> _Finding:
    checked, broken = 0, []
    for history in _histories(evidence):
        checked += len(history)
        broken += [f"{who}: {a} was followed by {b}" for (who, a), (_, b) in pairwise(history) if not _may_follow(a, b)]
    broken += _versions(evidence) + _last_words(evidence)
    return checked, broken


def _histories(evidence: Evidence) -> Iterable[list[tuple[str, int]]]:
    """Return, for each message, the statuses that outsiders and the file showed, in order of time."""
    yield from _seen(evidence).values()
    last = {one.message_id: one.status for one in evidence.dump.messages}
    for message_id, status_now in last.items():
        snaps = [one.messages[message_id][0] for one in evidence.snapshots if message_id in one.messages]
        yield [(f"message {message_id}", status) for status in (*snaps, status_now)]
    yield from _events(evidence)


def _seen(evidence: Evidence) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """Return what get_report showed, by batch and place; of answers that crossed on the way, the first."""
    found: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    heard: dict[int, float] = {}
    for line in (*evidence.client, *evidence.supervisor):
        if line["e"] == "seen" and line["asked"] >= heard.get(line["batch"], 0.0):
            heard[line["batch"]] = line["at"]
            for place, (number, status) in enumerate(line["rows"]):
                found[line["batch"], place].append((f"get_report of {line['batch']} for {number}", status))
    for batch_id, messages in evidence.messages.items():
        for place, message in enumerate(messages):
            if (batch_id, place) in found:
                found[batch_id, place].append(("the ledger", message.status))
    return found


def _events(evidence: Evidence) -> Iterable[list[tuple[str, int]]]:
    """Return each message's history in the order in which it was judged.

    Where only the ids tell, a receipt that waited in the inbox for its submit's answer counts after it, and one that
    was adopted after the last that was heard of a submit without an answer.
    """
    for message_id, events in _group(evidence.dump.events, lambda event: event.message_id).items():
        answers = {upstream_id: e.event_id for e in events if e.kind == "submit" for upstream_id in e.upstream_ids}
        unanswered = max((e.event_id for e in events if e.kind in ("lapsed", "submit", "late word")), default=0)
        moves = [e for e in events if not e.kind.startswith("push")]

        def judged(event: Event) -> tuple[int, int, bool, int]:
            is_receipt = event.kind == "receipt"
            waited_for = answers.get(event.upstream_id, unanswered if is_receipt else 0)  # noqa: B023 - used at once
            return event.place, max(event.event_id, waited_for), is_receipt, event.event_id

        yield [(f"history of {message_id}", event.status) for event in sorted(moves, key=judged)]


def _versions(evidence: Evidence) -> list[str]:
    """Compare what crashes left behind: a version never falls, and each new status has a new one."""
    broken = []
    now = {one.message_id: (one.status, one.seq) for one in evidence.dump.messages}
    stages = [*(snapshot.messages for snapshot in evidence.snapshots), now]
    for before, after in pairwise(stages):
        for message_id, (status, seq) in before.items():
            if message_id not in after:
                broken.append(f"message {message_id} was there after a crash, and is gone")
                continue
            new_status, new_seq = after[message_id]
            if new_seq < seq or (new_status != status and new_seq == seq):
                broken.append(f"message {message_id}: status {status} -> {new_status}, version {seq} -> {new_seq}")
    return broken


def _last_words(evidence: Evidence) -> list[str]:
    """Compare the newest push that was taken with the ledger, and the last get_report, made after all was quiet."""
    broken = []
    waiting = {push.message_id for push in evidence.dump.pushes}
    newest: dict[tuple[str, str], Line] = {}
    for line in evidence.good_pushes:
        key = (line["batch_id"], line["msisdn"])
        if key not in newest or int(line["unique_id"]) > int(newest[key]["unique_id"]):
            newest[key] = line
    for message in evidence.dump.messages:
        push = newest.get((str(message.batch_id), message.msisdn))
        if push and message.message_id not in waiting and int(push["status"]) != message.status:
            broken.append(f"message {message.message_id}: the last push said {push['status']}, not {message.status}")
    for line in evidence.supervisor:
        if line["e"] == "seen":
            found = [[one.msisdn, one.status] for one in evidence.messages.get(line["batch"], [])]
            broken += [f"the last get_report of {line['batch']} is not what the ledger says"] * (found != line["rows"])
    return broken


def _receipts_kept(evidence: Evidence) -> _Finding:
    answered = Counter(
        line["message_id"] for line in evidence.smsc if line["event"] == "receipt" and line["status"] == 0
    )
    kept = Counter(event.upstream_id for event in evidence.dump.events if event.kind == "receipt")
    kept.update(evidence.dump.inbox)
    missing = answered - kept
    return answered.total(), [
        f"{n} receipts for {one} were answered ESME_ROK and are gone" for one, n in missing.items()
    ]


def _pushes_arrive(evidence: Evidence) -> _Finding:
    arrived = {(line["batch_id"], line["msisdn"], int(line["status"])) for line in evidence.good_pushes}
    listed = {push.message_id for push in evidence.dump.pushes}
    wanted = {batch.batch_id for batch in evidence.dump.batches if batch.want_report}
    owed = [m for m in evidence.dump.messages if m.batch_id in wanted and m.status in ANNOUNCED]
    broken = [
        f"message {m.message_id} ended with {m.status}, and no push of it arrived or waits"
        for m in owed
        if (str(m.batch_id), m.msisdn, m.status) not in arrived and m.message_id not in listed
    ]
    return len(owed), broken


def count_push_repeats(evidence: Evidence) -> int:
    """Return how many pushes were taken again after they had been taken."""
    return len(evidence.good_pushes) - len({line["unique_id"] for line in evidence.good_pushes})


def _push_repeats(evidence: Evidence) -> _Finding:
    broken = []
    by_id = _group(evidence.good_pushes, lambda line: str(line["unique_id"]))
    for unique_id, lines in by_id.items():
        if len({line["query"] for line in lines}) > 1:
            broken.append(f"push {unique_id} came with two contents")
        for first, second in pairwise(lines):
            if not any(first["at"] <= gone and ordered <= second["at"] for ordered, gone in evidence.kills):
                broken.append(f"push {unique_id} came twice, and no crash lies between")
    endpoints = len({line["account"] for line in evidence.good_pushes})
    bound, repeats = len(evidence.kills) * PUSHES_IN_FLIGHT * endpoints, count_push_repeats(evidence)
    broken += [f"{repeats} repeats are more than the {bound} in flight at the crashes"] * (repeats > bound)
    return len(evidence.good_pushes), broken


def _apart(evidence: Evidence) -> _Finding:
    broken = []
    for line in evidence.receiver:
        batch = evidence.batches.get(int(line["batch_id"]))
        if batch is None or batch.account != line["account"]:
            broken.append(f"{line['account']} got a push for batch {line['batch_id']}, which is not its own")
        elif batch.source_id != line["source_id"] or not batch.want_report:
            broken.append(f"push {line['unique_id']} does not fit its batch")
    return len(evidence.receiver), broken


def _drained(evidence: Evidence) -> _Finding:
    broken = [f"message {one.message_id} is queued" for one in evidence.dump.messages if one.due_at is not None]
    broken += [f"message {one.message_id} is leased" for one in evidence.dump.messages if one.leased_until is not None]
    stopped = [line["wall_ms"] for line in evidence.supervisor if line["e"] == "quiet"]
    for push in evidence.dump.pushes:
        if push.due_at is not None and any(push.due_at <= at for at in stopped):
            broken.append(f"push {push.push_id} is due and was not tried")
    broken += [f"{line['unanswered']} repeats got no answer" for line in evidence.client if line.get("unanswered")]
    broken += ["nothing was quiet before the end"] * (not stopped)
    return len(evidence.dump.messages), broken


def _dead_stay_dead(evidence: Evidence) -> _Finding:
    """What was called off is over: its worker, if it still lives, moves it no more, and sends nothing of it."""
    single = {batch.batch_id for batch in evidence.dump.batches if batch.parts == 1}
    events = _group(evidence.dump.events, lambda event: event.message_id)
    last_sent = {line["destination"]: line.get("at", 0) for line in _submits(evidence)}
    broken = []
    for message in evidence.dump.messages:
        history = events.get(message.message_id, [])
        lapses = [event for event in history if event.kind == "lapsed"]
        if not lapses:
            continue
        broken += _moved_by_the_dead(message, history, lapses[0], is_single=message.batch_id in single)
        if last_sent.get(message.msisdn, 0) > lapses[0].at + _SEEN_LATE_MS:
            broken.append(f"message {message.message_id} was sent after its claim was called off")
    broken += [f"message {message_id} was claimed by {who}, dead" for who, message_id in evidence.dump.dead_claims]
    for one in evidence.dump.settled:
        if evidence.dump.lives.get(one.owner) != one.by:
            broken.append(f"push {one.push_id} of {one.owner} was settled by {one.by}, whose it was not")
    return len(evidence.dump.messages) + len(evidence.dump.settled), broken


def _moved_by_the_dead(message: Message, history: list[Event], lapse: Event, *, is_single: bool) -> list[str]:
    """Find the submits and ends that moved a message in spite of its claim having been called off.

    Where only the ids tell the order, they tell when a thing was heard; a zombie may have heard it before. So what
    comes before counts too: an attempt that was told of ended its claim, which could not be called off then, unless
    the message was to be sent again.
    """
    broken = []
    reached = {event.status for event in history if event.kind in ("lapsed", "receipt")}
    for event in history:
        after = (event.place, event.event_id) > (lapse.place, lapse.event_id)
        if event.kind in ("submit", "ended") and (after or (is_single and event.status not in _TO_SEND_AGAIN)):
            broken.append(f"message {message.message_id}: {event.kind} -> {event.status} of a claim called off")
        elif event.kind == "late word" and event.status not in reached:
            broken.append(f"message {message.message_id}: a late word moved it to {event.status}")
    return broken


_RULES: Sequence[tuple[str, str, Callable[[Evidence], _Finding]]] = (
    ("I1", "acknowledged is present, whole and byte-equal", _acked_present),
    ("I2", "refused is absent; unknown is whole or absent; one stop_dup_id, one batch", _all_or_nothing),
    ("I3", "no part is taken twice upstream", _never_twice),
    ("I4", "every submit_sm is somebody's, with text and originator", _no_ghosts),
    ("I5", "credits add up to the milli-credit", _credits_conserve),
    ("I6", "final stays final; versions rise; report, push and ledger agree", _final_stays),
    ("I7", "a receipt answered ESME_ROK is on disk", _receipts_kept),
    ("I8", "every push owed arrived or is listed", _pushes_arrive),
    ("I9", "pushes repeat only across a crash, unchanged", _push_repeats),
    ("I10", "pushes reach their own account only", _apart),
    ("I13", "nothing is queued, leased or due in the end", _drained),
    ("I17", "a dead node completes nothing: what was called off is over", _dead_stay_dead),
)


def table_of(rows: Sequence[Row]) -> str:
    """Return the rows as a table, and beneath it the first broken ones of each."""
    table = Table("promises", ("", "promise", "checked", "broken", ""))
    for row in rows:
        word = "ok" if row.ok else "BROKEN" if row.broken else "NOT SEEN"
        table.add(row.name, row.promise, row.checked, len(row.broken), word)
    details = [f"  {row.name}: {text}" for row in rows for text in row.broken[:SHOWN]]
    return "\n".join((str(table), *details))


def facts_of(evidence: Evidence) -> Table:
    """Return the figures that are no promises."""
    dump = evidence.dump
    ready = [line["s"] for line in evidence.supervisor if line["e"] == "ready"]
    codes = Counter(lines[-1].get("code") for n in evidence.refused if (lines := evidence.outcomes[n]))
    unknown_once = {n for n, lines in evidence.outcomes.items() if any(line["kind"] == "unknown" for line in lines)}
    table = Table("figures", ("what", "value"))
    table.add("crashes", len(evidence.kills))
    table.add("submissions acknowledged", len(evidence.acked))
    lost = [n for n, batch in evidence.acked.items() if batch not in evidence.batches]
    table.add("acknowledged and lost", len(lost))
    table.add("messages", len(dump.messages))
    table.add("submissions refused", " ".join(f"{code}: {n}" for code, n in sorted(codes.items(), key=str)) or 0)
    table.add("answers lost, later told by a repeat", f"{len(unknown_once)}, {len(unknown_once & set(evidence.acked))}")
    silent = sum(1 for n in evidence.unknown if evidence.by_source.get(evidence.asks[n].source_id))
    table.add("taken, and never told so", silent)
    table.add("submit_sm, taken twice", f"{len(_submits(evidence))}, {count_upstream_repeats(evidence).total()}")
    table.add("messages at 12", sum(one.status == UNACKNOWLEDGED for one in dump.messages))
    kinds = Counter(event.kind for event in dump.events)
    table.add("claims called off, late words", f"{kinds['lapsed']}, {kinds['late word']}")
    table.add("receipts in the inbox", len(dump.inbox))
    table.add("pushes taken, repeated", f"{len(evidence.good_pushes)}, {count_push_repeats(evidence)}")
    table.add("pushes waiting", len(dump.pushes))
    if ready:
        table.add("start to ready, s", f"p50 {quantile(ready, 0.5):.2f}, p99 {quantile(ready, 0.99):.2f}")
    return table
