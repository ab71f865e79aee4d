"""What the simulated message centre remembers of messages, for receipts, query_sm and cancel_sm."""

from collections import OrderedDict
from typing import Final

from aldis.connectors.outcomes import Step
from aldis.smpp.commands import QuerySmResp, SubmitSm
from aldis.smpp.receipt import FINAL_STATES, MESSAGE_STATES

DELETED: Final = Step("DELETED")
_ENROUTE: Final = Step("ENROUTE")
_REMEMBERED: Final = 20_000


class Known:
    """One message that was taken."""

    __slots__ = ("_is_withdrawn", "_step", "message_id", "number", "pdu", "submitted_at", "system_id")

    def __init__(self, message_id: str, number: int, system_id: str, pdu: SubmitSm, submitted_at: int) -> None:
        """Begin on the way, under an id and the number that it spells; times are epoch ms."""
        self.message_id = message_id
        self.number = number
        self.system_id = system_id
        self.pdu = pdu
        self.submitted_at = submitted_at
        self._step = _ENROUTE
        self._is_withdrawn = False

    @property
    def is_final(self) -> bool:
        """Whether nothing more becomes of it."""
        return self._step.state in FINAL_STATES and not self._step.intermediate

    def reach(self, step: Step) -> bool:
        """Come to a step, unless it was withdrawn: then only to its deletion. What is final stays so."""
        if self._is_withdrawn and step is not DELETED:
            return False
        if not self.is_final:
            self._step = step
        return True

    def withdraw(self) -> bool:
        """Take it back, if it is still on its way."""
        if self._is_withdrawn or self.is_final:
            return False
        self._is_withdrawn = True
        self._step = DELETED
        return True

    def told(self) -> QuerySmResp:
        """Return the answer to query_sm."""
        error = int(self._step.error) if self._step.error.isdigit() else 0
        state = MESSAGE_STATES.index(self._step.state)
        return QuerySmResp(self.message_id.encode(), message_state=state, error_code=error)


class Memory:
    """The last messages that were taken."""

    def __init__(self) -> None:
        """Begin empty."""
        self._known: OrderedDict[bytes, Known] = OrderedDict()

    def remember(self, known: Known) -> None:
        """Take note of a message, and forget the oldest where there are too many."""
        self._known[known.message_id.encode()] = known
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def find(self, message_id: bytes, system_id: str, source: bytes) -> Known | None:
        """Return a message of an ESME by its id and originator, which must fit, as SMPP 3.4 has it."""
        known = self._known.get(message_id)
        if known is None or known.system_id != system_id or known.pdu.source_addr != source:
            return None
        return known
