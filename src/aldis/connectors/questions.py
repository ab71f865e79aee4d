"""Questions about parts on their way through a session: each is answered once, and no part's outcome is touched."""

from collections.abc import Sequence

import msgspec

from aldis.connectors.base import Answer, Cancelled, Declined, Found, SentPart, Tell, Unanswered
from aldis.smpp import events
from aldis.smpp.commands import CancelSmResp, QuerySmResp
from aldis.smpp.receipt import FINAL_STATES, MESSAGE_STATES


class Question(msgspec.Struct, frozen=True, gc=False):
    """The token of a query_sm or cancel_sm."""

    part: SentPart
    tell: Tell


class Questions:
    """Those of one leg that wait for their answer."""

    def __init__(self, connector: str) -> None:
        """Begin with none."""
        self.waiting = 0
        self._connector = connector

    def take(self, batch: Sequence[events.Event]) -> list[events.Event]:
        """Tell the answers among events; return the other events."""
        rest: list[events.Event] = []
        answers: dict[int, tuple[Tell, list[tuple[SentPart, Answer]]]] = {}
        for event in batch:
            if isinstance(event, events.End) and isinstance(event.token, Question):
                question = event.token
                answers.setdefault(id(question.tell), (question.tell, []))[1].append((question.part, answer_of(event)))
                self.waiting -= 1
            else:
                rest.append(event)
        for tell, told in answers.values():
            tell(self._connector, told)
        return rest


def answer_of(event: events.End) -> Answer:
    """Return what the end of a question says."""
    if isinstance(event, events.Refused):
        return Declined(event.status)
    if isinstance(event, events.Accepted):
        return _read(event)
    return Unanswered(event.reason)


def _read(event: events.Accepted) -> Answer:
    if isinstance(event.pdu, CancelSmResp):
        return Cancelled()
    if not isinstance(event.pdu, QuerySmResp):
        return Unanswered("the answer can't be read")
    number = event.pdu.message_state
    state = MESSAGE_STATES[number] if number < len(MESSAGE_STATES) else ""
    return Found(state, f"{event.pdu.error_code:03d}", state in FINAL_STATES)
