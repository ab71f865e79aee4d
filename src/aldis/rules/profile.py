"""What a link's receipts have taught us about it: how its upstream spells ids, and what else it always does alike.

Facts are counted by topic and value. A topic is settled once enough receipts speak for one value, or when an operator
has locked it; what is not settled changes nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from aldis.rules.spelling import Spelling

ENOUGH = 20
SHARE = 0.95
MANY = 1_000
NEARLY_ALL = 0.999
HORIZON_MS = 86_400_000
_SHORTEST_HORIZON_S = 3_600
_WITHOUT_FAILURE = frozenset({"DELIVRD", "ACCEPTD", "ENROUTE", "SCHEDULED"})
LAST_WORD = "ACCEPTD"
_LONGEST_OFFSET_MIN = 14 * 60
AT_ONCE = "1 s"
_DELAYS = (
    (1, AT_ONCE),
    (60, "1 min"),
    (600, "10 min"),
    (3_600, "1 h"),
    (21_600, "6 h"),
    (86_400, "1 day"),
    (259_200, "3 days"),
)


class Topic(StrEnum):
    """What is learnt."""

    SPELLING = "spelling"
    """How the id in a receipt differs from the one in the answer."""
    STATE = "state"
    """The receipts' words: a link that says ACCEPTD and never DELIVRD means by it the end."""
    ESM_CLASS = "esm_class"
    """What marks a receipt, if anything does."""
    CLOCK = "clock"
    """Minutes by which the dates in receipts are ahead of UTC."""
    PART = "part"
    """For which parts of long messages final receipts come."""
    DELAY = "delay"
    """Within which time after submission final receipts come."""


MEANINGS: Mapping[Topic, str] = {
    Topic.SPELLING: "how receipts spell the ids of answers",
    Topic.STATE: "words of receipts",
    Topic.ESM_CLASS: "esm_class of receipts",
    Topic.CLOCK: "minutes that their dates are ahead of UTC",
    Topic.PART: "parts of long messages that final receipts come for",
    Topic.DELAY: "final receipts came within",
}


class Fact(NamedTuple):
    """How often receipts of a connector spoke for a value."""

    connector: str
    topic: Topic
    value: str
    times: int


class Profiles:
    """What is known of all links. Counts are added up over nodes and lives of a process by whoever stores them.

    Facts may be noted by one thread while another reads: dicts are read as copies, which are made at once.
    """

    def __init__(self) -> None:
        """Begin without knowing anything."""
        self._counts: dict[tuple[str, Topic], Counter[str]] = {}
        self._locked: dict[tuple[str, Topic], str] = {}
        self._new: Counter[tuple[str, Topic, str]] = Counter()

    def note(self, connector: str, topic: Topic, value: str) -> None:
        """Count a fact."""
        self._new[connector, topic, value] += 1
        counts = self._counts.get((connector, topic))
        if counts is None:
            counts = self._counts[connector, topic] = Counter()
        counts[value] += 1

    def take_new(self) -> list[Fact]:
        """Return what was counted since the last call, for it to be stored."""
        new, self._new = self._new, Counter()
        return [Fact(*key, times) for key, times in dict(new).items()]

    def give_back(self, facts: Iterable[Fact]) -> None:
        """Take facts back that could not be stored."""
        for connector, topic, value, times in facts:
            self._new[connector, topic, value] += times

    def learn(self, facts: Iterable[Fact], locked: Iterable[tuple[str, Topic, str]]) -> None:
        """Take what is stored, by this process and all others, in place of what was known."""
        counts: dict[tuple[str, Topic], Counter[str]] = {}
        for connector, topic, value, times in [*facts, *(Fact(*key, n) for key, n in dict(self._new).items())]:
            counts.setdefault((connector, topic), Counter())[value] += times
        self._counts = counts
        self._locked = {(connector, topic): value for connector, topic, value in locked}

    def counts(self, connector: str) -> dict[Topic, dict[str, int]]:
        """Return what was counted of a link, by topic."""
        return {topic: dict(self._counts.get((connector, topic), {})) for topic in Topic}

    def locked(self, connector: str, topic: Topic) -> str:
        """Return what an operator has settled; empty if nothing is."""
        return self._locked.get((connector, topic), "")

    def settled(self, connector: str, topic: Topic) -> str:
        """Return the value that a topic is settled on; empty if it is not."""
        if locked := self._locked.get((connector, topic)):
            return locked
        counts = dict(self._counts.get((connector, topic), {}))
        total = sum(counts.values())
        if total < ENOUGH:
            return ""
        value = max(counts, key=counts.__getitem__)
        return value if counts[value] >= SHARE * total else ""

    def doubts(self, connector: str) -> list[str]:
        """Return what speaks for receipts that no phone has caused; nothing follows from it but that it is shown."""
        found = []
        if self.settled(connector, Topic.DELAY) == AT_ONCE:
            found.append(f"nearly all final receipts come within {AT_ONCE}: phones take longer")
        words = self.counts(connector)[Topic.STATE]
        if sum(words.values()) >= MANY and set(words) <= _WITHOUT_FAILURE:
            found.append(f"not one of {MANY} receipts or more tells of a failure: some phones are always off")
        return found

    def horizon_ms(self, connector: str) -> int:
        """Return how long after a message's validity its receipt may still come: as long as nearly all took until now.

        Before enough were seen, and where they take longer than is measured, it is a day.
        """
        counts = self.counts(connector)[Topic.DELAY]
        total, within = sum(counts.values()), 0
        for seconds, name in _DELAYS if total >= MANY else ():
            within += counts.get(name, 0)
            if within >= NEARLY_ALL * total:
                return 1000 * max(seconds, _SHORTEST_HORIZON_S)
        return HORIZON_MS

    def meant(self, connector: str, state: str) -> str:
        """Return what a link means by a receipt's word: ACCEPTD is a delivery where that is locked as its last word."""
        is_last = state == LAST_WORD and self.locked(connector, Topic.STATE) == LAST_WORD
        return "DELIVRD" if is_last else state

    def spelling(self, connector: str) -> Spelling:
        """Return how a link's receipts spell ids, as far as is settled."""
        value = self.settled(connector, Topic.SPELLING)
        return Spelling(value) if value else Spelling.SAME


def refuse_bad_lock(topic: Topic, value: str) -> None:
    """Refuse what a topic can't be settled on.

    Raises:
        ValueError: and what it can.
    """
    allowed: list[str] = []
    if topic is Topic.SPELLING:
        allowed = [spelling.value for spelling in Spelling]
    elif topic is Topic.PART:
        allowed = ["first", "last"]
    elif topic is Topic.STATE:
        allowed = [LAST_WORD]
    if value not in allowed:
        known = f"one of: {', '.join(allowed)}" if allowed else "nothing: it is only shown"
        raise ValueError(f"{topic.value} can be locked on {known}")


def part_of(part_no: int, parts: int) -> str:
    """Return which part of a long message this is, in a profile's words."""
    return "first" if part_no == 1 else "last" if part_no == parts else "middle"


def delay_of(submitted_at: int, received_at: int) -> str:
    """Return within which time a receipt came, both in epoch ms."""
    seconds = max(received_at - submitted_at, 0) / 1000
    return next((name for limit, name in _DELAYS if seconds <= limit), "more")


def offset_of(done_date: str, received_at: int) -> str:
    """Return by how many minutes a receipt's date is ahead of UTC, to a quarter of an hour.

    Args:
        done_date: As it stands: 10, 12 or 14 digits; anything else says nothing.
        received_at: When it came, epoch ms: the event that it tells of is taken to have just happened.
    """
    written_at = _time_of(done_date)
    if written_at is None:
        return ""
    minutes = round((written_at - received_at / 1000) / 900) * 15
    return str(minutes) if abs(minutes) <= _LONGEST_OFFSET_MIN else ""


@lru_cache(maxsize=1024)
def _time_of(done_date: str) -> float | None:
    """Return a receipt's date as if it were UTC; most of a second's receipts have the same."""
    form = {10: "%y%m%d%H%M", 12: "%y%m%d%H%M%S", 14: "%Y%m%d%H%M%S"}.get(len(done_date))
    if form is None or not (done_date.isascii() and done_date.isdigit()):
        return None
    try:
        return datetime.strptime(done_date, form).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
