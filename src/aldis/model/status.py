"""The codes that customers see. What each of them does is one table in `aldis.lifecycle`."""

from enum import Enum, IntEnum


class Phase(Enum):
    """Where a message stands, seen from far away."""

    MOVING = "moving"
    DELIVERED = "delivered"
    FAILED = "failed"


class Status(IntEnum):
    """A status code of the legacy API, 0 to 70, as get_report and the pushes show it."""

    IN_PROGRESS = 0
    DELIVERED_UPSTREAM = 10
    DELIVERED = 11
    UPSTREAM_UNACKNOWLEDGED = 12
    INTERNAL_ERROR = 22
    AUTHENTICATION_FAILURE = 23
    DATA_INVALID = 24
    NO_CREDITS = 25
    UPSTREAM_NO_CREDITS = 26
    QUOTA_EXCEEDED = 27
    UPSTREAM_QUOTA_EXCEEDED = 28
    CANCELLED = 29
    UNROUTABLE = 31
    BLOCKED = 32
    CENSORED = 33
    TEMPORARILY_UNAVAILABLE = 40
    FAILED = 50
    FAILED_PHONE = 51
    FAILED_NETWORK = 52
    EXPIRED = 53
    FAILED_REMOTE_NETWORK = 54
    REMOTELY_BLOCKED = 55
    REMOTELY_CENSORED = 56
    HANDSET_FAULT = 57
    UPSTREAM_TRANSIENT = 60
    UPSTREAM_UPDATE = 61
    UPSTREAM_CANCEL_FAILED = 62
    RETRY_QUEUED = 63
    RETRY_QUEUED_HANDSET = 64
    UNKNOWN_UPSTREAM = 70


STATUS = {int(status): status for status in Status}
"""Status by code, several times as fast as calling the enum."""
