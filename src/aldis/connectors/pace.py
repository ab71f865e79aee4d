"""How fast one bind may submit: a token bucket whose rate falls when the upstream throttles and grows back slowly."""

from math import ceil, inf

BURST_S = 0.1
"""The bucket holds this many seconds' worth of submits, and at least one."""
HOLD_S = 1.0
"""One decrease in this time: a whole window of throttled answers is one complaint."""
RECOVERY_S = 10.0
"""Time in which a halved rate grows back, without further complaints."""
_UNLIMITED = 1 << 30
_GRACE = 1e-6  # of a token, so that a timer set for the next one finds it in spite of rounding


class Pace:
    """The pace of one bind: additive increase, multiplicative decrease.

    Without a configured rate there is no limit until the upstream complains; then the limit is half of what was
    sent in the last second, and it is lifted once twice the complained-of rate went well. Times are seconds of any
    steady clock.
    """

    def __init__(self, rate: float = 0.0) -> None:
        """Take the configured rate in messages a second; 0 for none."""
        self._ceiling = rate or inf
        self._complained_rate = self._ceiling
        self.rate = self._ceiling
        self._tokens = self._depth()
        self._refilled_at = 0.0
        self._held_until = 0.0
        self._counted_from = 0.0
        self._counted = 0
        self._last_second = 0.0

    @property
    def is_limited(self) -> bool:
        """Whether there is any limit now."""
        return self.rate != inf

    def available(self, now: float) -> int:
        """Return how many submits the pace allows now."""
        if self.rate == inf:
            return _UNLIMITED
        self._refill(now)
        return max(0, int(self._tokens + _GRACE))

    def spend(self, count: int, now: float) -> None:
        """Take note of `count` submits."""
        self._measure(now)
        self._counted += count
        if self.rate != inf:
            self._tokens -= count

    def throttle(self, now: float) -> bool:
        """Halve the rate because the upstream complained; False if this complaint belongs to the one before."""
        if now < self._held_until:
            return False
        self._refill(now)
        self._held_until = now + HOLD_S
        self._complained_rate = self.rate if self.rate != inf else self._measured(now)
        self.rate = max(1.0, self._complained_rate / 2)
        self._tokens = 0.0
        return True

    def ready_in(self, now: float) -> float:
        """Return the seconds until at least one submit is allowed; 0 if one is allowed now."""
        if self.rate == inf:
            return 0.0
        self._refill(now)
        return 0.0 if self._tokens + _GRACE >= 1 else (1 - self._tokens) / self.rate

    def _depth(self) -> float:
        return max(1.0, self.rate * BURST_S) if self.rate != inf else 0.0

    def _refill(self, now: float) -> None:
        elapsed, self._refilled_at = now - self._refilled_at, now
        if self.rate == inf:
            return
        self._tokens = min(self._depth(), self._tokens + elapsed * self.rate)
        if now > self._held_until and self.rate < self._ceiling:
            self._grow(min(elapsed, now - self._held_until))

    def _grow(self, elapsed: float) -> None:
        self.rate += elapsed * max(1.0, self._complained_rate / 2) / RECOVERY_S
        if self.rate >= self._ceiling or (self._ceiling == inf and self.rate >= 2 * self._complained_rate):
            self.rate = self._ceiling

    def _measure(self, now: float) -> None:
        if now - self._counted_from >= 1.0:
            self._last_second = self._counted / (now - self._counted_from)
            self._counted_from, self._counted = now, 0

    def _measured(self, now: float) -> float:
        self._measure(now)
        return float(ceil(max(self._last_second, self._counted, 1.0)))
