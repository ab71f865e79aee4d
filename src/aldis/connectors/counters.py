"""What a connector counts."""


class Counters:
    """What a connector has done since the start of the process."""

    def __init__(self) -> None:
        """Begin at zero."""
        self.submits = 0
        self.accepted = 0
        self.refusals = 0
        self.throttles = 0
        """Refusals among `refusals` that asked for a slower pace."""
        self.unknowns = 0
        self.not_sent = 0
        self.late_responses = 0
        self.deliveries = 0
        self.deliveries_refused = 0
        """Deliveries whose answer asked the upstream to send them again."""
        self.binds = 0
        self.reconnects = 0
        """Connections tried again after a failure or loss."""
        self.bad_pdus = 0
