"""The tree of errors: ours, the customer's, the upstream's.

Each carries the legacy `status` code that a customer sees, and `retryable`: whether the same request may work later.
The docstring's first line is the default message.

    AldisError
    ├── OurError                 22   something here failed
    │   ├── LedgerUnavailable    40   durability can't be given now
    │   ├── Overloaded           40   too much waits already
    │   ├── LeaseLost            40   other nodes have found this one dead
    │   └── SettingsError        22   the configuration is wrong
    └── CustomerError            24
        ├── AuthenticationFailed 23
        ├── InvalidField         24
        ├── NoCredits            25
        └── QuotaExceeded        27

What an upstream says is not an exception but an outcome: see `aldis.connectors.base`.
"""

from typing import ClassVar

from aldis.model.status import Status


class AldisError(Exception):
    """internal error"""

    status: ClassVar[Status] = Status.INTERNAL_ERROR
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None) -> None:
        """Take a message, or the docstring's first line."""
        super().__init__(message if message is not None else (type(self).__doc__ or "").splitlines()[0])


class OurError(AldisError):
    """internal error"""


class LedgerUnavailable(OurError):
    """temporarily unavailable"""

    status = Status.TEMPORARILY_UNAVAILABLE
    retryable = True


class Overloaded(OurError):
    """temporarily unavailable"""

    status = Status.TEMPORARILY_UNAVAILABLE
    retryable = True


class LeaseLost(OurError):
    """other nodes have found this one dead"""

    status = Status.TEMPORARILY_UNAVAILABLE
    retryable = True


class SettingsError(OurError):
    """the configuration is wrong"""


class CustomerError(AldisError):
    """the request is wrong"""

    status = Status.DATA_INVALID


class AuthenticationFailed(CustomerError):
    """invalid credentials"""

    status = Status.AUTHENTICATION_FAILURE


class InvalidField(CustomerError):
    """invalid parameter"""


class NoCredits(CustomerError):
    """insufficient credits"""

    status = Status.NO_CREDITS


class QuotaExceeded(CustomerError):
    """daily quota exceeded"""

    status = Status.QUOTA_EXCEEDED
