"""What our message centre saw of a customer."""

from dataclasses import dataclass, field

from aldis.smpp.commands import SubmitSm

DELIVERED, FAILED, REFUSED, THROTTLED_ONCE = "27820001111", "27820000050", "27820000109", "27820000105"
"""What becomes of messages to these numbers; see `aldis.connectors.outcomes`."""


@dataclass
class Seen:
    """An observer of a message centre that has one customer."""

    system_id: str
    submits: list[tuple[SubmitSm, str]] = field(default_factory=list)
    answered: list[tuple[str, int]] = field(default_factory=list)

    def on_submit(self, system_id: str, pdu: SubmitSm, message_id: str) -> None:
        assert system_id == self.system_id
        self.submits.append((pdu, message_id))

    def on_receipt_answered(self, message_id: str, status: int) -> None:
        self.answered.append((message_id, status))

    def to(self, number: str) -> list[SubmitSm]:
        """Return what was submitted to a number."""
        return [pdu for pdu, _ in self.submits if pdu.destination_addr == number.encode()]
