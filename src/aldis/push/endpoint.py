"""A receiver as the engine sees it: its queue, and how much it bears."""

import asyncio
from collections import deque
from enum import Enum, auto

import msgspec

from aldis.model.types import Push
from aldis.push.request import InvalidUrl, parse_url


class PushSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The engine's bounds. Times in seconds unless the name says otherwise."""

    max_in_flight: int = 256
    """Tries at once, in all; half of them to endpoints whose last try had no answer, or that were never tried."""
    max_waiting: int = 20_000
    """Pushes waiting in memory; half of them may be one endpoint's."""
    small_queue: int = 100
    """What every endpoint may have waiting, however full memory is; all that one may that does not answer."""
    page: int = 5_000
    """News that one reading of the table brings; also the most that a sweep puts off."""
    group: int = 512
    """Results recorded together."""
    start_limit: int = 8
    """An endpoint's tries at once after its first answer."""
    max_limit: int = 64
    """The same at most."""
    breaker_after: int = 5
    """Tries without an answer, one after the other, after which an endpoint is left alone between tries."""
    probe_pause: float = 1.0
    """Wait before a probe; doubles up to `probe_pause_max`."""
    probe_pause_max: float = 30.0
    poll: float = 15.0
    """How often the table is read when nothing asks for it."""
    put_off_ms: int = 300_000
    """How long a due push of an endpoint with a full queue makes way for others."""
    retry_record: float = 1.0
    """Wait after the ledger refused results."""


class End(Enum):
    """What a try says about its endpoint."""

    ANSWERED = auto()
    PUSHED_BACK = auto()
    SILENT = auto()


class State(Enum):
    """Where a job stands. A done one waits for its result to be on disk."""

    WAITING = auto()
    FLYING = auto()
    DONE = auto()


class Job:
    """What memory holds of one message: the push at work, and a newer one that waits for its end."""

    __slots__ = ("endpoint", "is_trial", "newer", "push", "state")

    def __init__(self, push: Push, endpoint: "Endpoint", state: State) -> None:
        self.push = push
        self.endpoint = endpoint
        self.state = state
        self.newer: Push | None = None
        self.is_trial = False
        """Whether the endpoint was not proven when the try began."""

    def holds(self, push: Push) -> bool:
        """Tell whether this very push is held already."""
        return push.push_id == self.push.push_id or (self.newer is not None and push.push_id == self.newer.push_id)


class Endpoint:
    """One account's URL: its queue, and how much it bears (additive increase, multiplicative decrease)."""

    __slots__ = (
        "host",
        "in_flight",
        "is_proven",
        "key",
        "limit",
        "listed",
        "overflowed",
        "probe",
        "queue",
        "settings",
        "silent",
    )

    def __init__(self, key: tuple[int, str], settings: PushSettings) -> None:
        self.key = key
        self.host = _host(key[1])
        self.settings = settings
        self.queue: deque[Job] = deque()
        self.in_flight = 0
        self.limit = float(settings.start_limit)
        self.silent = 0
        """Tries without an answer, one after the other."""
        self.is_proven = False
        """Whether the last try had an answer."""
        self.listed = False
        """Whether it stands in the ring."""
        self.overflowed = False
        """Whether the table holds pushes of it that were offered to memory in vain."""
        self.probe: asyncio.TimerHandle | None = None
        """Runs while not even a probe may start."""

    @property
    def is_broken(self) -> bool:
        """Whether it is left alone between tries."""
        return self.silent >= self.settings.breaker_after

    @property
    def is_idle(self) -> bool:
        """Whether forgetting it loses nothing."""
        return not (self.queue or self.in_flight or self.silent or self.overflowed)

    def may_start(self) -> bool:
        """Tell whether a try may start now."""
        if not self.queue or self.probe is not None:
            return False
        return self.in_flight < (int(self.limit) if self.is_proven else 1)

    def learn(self, end: End) -> None:
        """Adapt to how a try ended."""
        self.is_proven = end is not End.SILENT
        self.silent = 0 if self.is_proven else self.silent + 1
        if end is End.ANSWERED:
            step = 1.0 if self.limit < self.settings.start_limit else 1.0 / self.limit
            self.limit = min(float(self.settings.max_limit), self.limit + step)
        else:
            self.limit = max(1.0, self.limit / 2)

    def pause_s(self) -> float:
        """Return how long to leave a broken endpoint alone."""
        doublings = min(self.silent - self.settings.breaker_after, 16)
        return min(self.settings.probe_pause_max, self.settings.probe_pause * 2.0**doublings)


def _host(url: str) -> str:
    try:
        return parse_url(url).host
    except InvalidUrl:
        return "(unusable URL)"
