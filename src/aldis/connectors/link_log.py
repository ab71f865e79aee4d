"""What the log says of a link: one line when it goes down, one when it is back, however often it is tried between."""

import structlog

_log = structlog.get_logger("aldis.connectors")


class LinkLog:
    """Tells of one link. Times are seconds of any steady clock."""

    def __init__(self, connector: str, bind: int, kind: str) -> None:
        """Begin with a link that was never up.

        Args:
            connector: The connector's name.
            bind: Which of its binds.
            kind: Which link of the bind: transceiver, transmitter or receiver.
        """
        self._names = {"connector": connector, "bind": bind, "link": kind}
        self.at = ""
        """The address that it is, or is to be, connected to."""
        self._was_bound = False
        self._down_since: float | None = None
        self._refusal = ""

    def bound(self, now: float) -> None:
        """Tell that it is up, and how long it was down."""
        lasted = {} if self._down_since is None else {"down_s": round(now - self._down_since, 3)}
        _log.info("bound again" if self._was_bound else "bound", **self._names, at=self.at, **lasted)
        self._was_bound, self._down_since, self._refusal = True, None, ""

    def down(self, reason: str, now: float, refusal: str = "") -> None:
        """Tell that it is down, unless that was told.

        A refusal of the bind is told once also of a link that was down before: waiting won't mend it.
        """
        if self._down_since is None:
            self._down_since = now
            _log.warning("link down", **self._names, at=self.at, reason=reason)
        elif refusal and refusal != self._refusal:
            _log.warning("link still down", **self._names, at=self.at, reason=reason)
        else:
            _log.debug("link still down", **self._names, at=self.at, reason=reason)
        self._refusal = refusal or self._refusal

    def left(self, reason: str) -> None:
        """Tell that it is not wanted any more: what comes next is a new beginning."""
        _log.info("link left", **self._names, at=self.at, reason=reason)
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._was_bound, self._down_since, self._refusal = False, None, ""
