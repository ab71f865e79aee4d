"""Who may be written to, and what may be said."""

from collections.abc import Iterable

from aldis.model.status import Status


class Admission:
    """The built-in policy: a blocklist of recipients (32) and a censor of bodies (33)."""

    def __init__(self, blocklist: Iterable[int] = (), censor: Iterable[str] = ()) -> None:
        """Take the numbers that may not be reached and the words that may not be sent, in any letter case."""
        self._blocked = frozenset(blocklist)
        self._censored = tuple(word.casefold() for word in censor if word)

    @property
    def censors(self) -> bool:
        """Whether there is any word to look for."""
        return bool(self._censored)

    def judge_body(self, text: str) -> Status | None:
        """Return 33 for a body that may not be sent, else None."""
        folded = text.casefold()
        return Status.CENSORED if any(word in folded for word in self._censored) else None

    def judge_recipient(self, msisdn: int) -> Status | None:
        """Return 32 for a number that may not be reached, else None."""
        return Status.BLOCKED if msisdn in self._blocked else None
