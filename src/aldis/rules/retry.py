"""When to try again: pushes to customers' URLs, and messages that an upstream turned away for now."""

from typing import Final

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS

PUSH_DELAYS_MS: Final = (_HOUR_MS, 3 * _HOUR_MS, 12 * _HOUR_MS)
"""Waits after the first, second and third failed try of a push: 16 hours in all."""

SUBMIT_DELAYS_MS: Final = (5_000, 30_000, 2 * _MINUTE_MS, 10 * _MINUTE_MS, 30 * _MINUTE_MS, _HOUR_MS)
"""Waits after each temporary refusal of a message; the last of them repeats."""

THROTTLED_DELAYS_MS: Final = (1_000, 2_000, 5_000, 10_000, 30_000, _MINUTE_MS)
"""The same where the upstream only asked for a slower pace: short, for the message itself is fine."""

_SPREAD_STEPS: Final = 1 << 16
_SPREAD_DIVISOR: Final = 5
_GOLDEN: Final = 0x9E3779B97F4A7C15


def next_push_at(attempts: int, failed_at_ms: int) -> int | None:
    """Return when a failed push is tried again.

    Args:
        attempts: Tries made so far, the failed one included; 1 or more.
        failed_at_ms: When the last try failed, epoch ms.

    Returns:
        Epoch ms, or None after the fourth try: the push is given up.
    """
    if attempts > len(PUSH_DELAYS_MS):
        return None
    return failed_at_ms + PUSH_DELAYS_MS[max(attempts, 1) - 1]


def next_submit_at(attempt: int, now_ms: int, throttled: bool, message_id: int) -> int:
    """Return when a message is offered upstream again after a temporary refusal.

    The schedule never ends by itself: whoever calls decides whether the message is still valid then. Messages refused
    in the same millisecond come back spread over a fifth of the wait, each always at the same place.

    Args:
        attempt: Tries made so far, the refused one included; 1 or more.
        now_ms: The time of the refusal, epoch ms.
        throttled: Whether the upstream only asked for a slower pace.
        message_id: Whose place in the spread to take.

    Returns:
        Epoch ms, later than `now_ms`.
    """
    delays = THROTTLED_DELAYS_MS if throttled else SUBMIT_DELAYS_MS
    delay = delays[min(max(attempt, 1), len(delays)) - 1]
    return now_ms + delay + _spread(message_id, delay // _SPREAD_DIVISOR)


def _spread(message_id: int, width: int) -> int:
    """Return a number in 0..width-1 that neighbouring ids do not share (Fibonacci hashing)."""
    place = (message_id * _GOLDEN >> 48) % _SPREAD_STEPS
    return place * width // _SPREAD_STEPS
