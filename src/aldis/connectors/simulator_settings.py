"""How the simulated message centre behaves."""

from typing import Literal

import msgspec

from aldis.connectors.habits import SimulatorHabits


class SimulatorRates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often what goes wrong with numbers that have no script of their own; shares from 0 to 1."""

    seed: int = 0
    fail: float = 0.0
    """The receipt says UNDELIV err:050."""
    no_receipt: float = 0.0
    throttle: float = 0.0
    """The submit is refused with ESME_RTHROTTLED."""
    early: float = 0.0
    """The receipt overtakes the submit_sm_resp."""
    duplicate: float = 0.0
    """The receipt comes twice."""


class SmscSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the simulated message centre behaves."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any free port."""
    passwords: dict[str, str] | None = None
    """system_id and password of each ESME; None lets everyone in."""
    max_binds: int = 0
    """Binds that a system_id may hold; 0: any number."""
    max_rate: float = 0.0
    """Submits a second that a system_id may make; what is above is refused with ESME_RTHROTTLED. 0: any number."""
    max_window: int = 0
    """Submits that a bind may have unanswered; what is above is refused with ESME_RMSGQFUL. 0: any number."""
    receipt_delay_ms: int = 50
    late_delay_ms: int = 30_000
    early_gap_ms: int = 100
    """How far a receipt that comes first is ahead of the submit_sm_resp."""
    slow_response_ms: int = 2_000
    resend_ms: int = 1_000
    """Pause before a refused receipt is sent again."""
    receipt_timeout_s: float = 10.0
    """How long a receipt may stay unanswered before it is sent again."""
    window: int = 100
    """Receipts that a bind may have unanswered."""
    max_receipts: int = 1_000_000
    """Receipts kept; more are dropped and counted."""
    enquire_link_s: float = 30.0
    version: Literal["3.3", "3.4", "5.0"] = "3.4"
    """3.3: no transceivers, no TLVs, ids in hexadecimal; 5.0: each submit_sm_resp has a congestion_state."""
    congestion: int = 0
    """That congestion_state, 0 to 100."""
    refuse: int = 0
    """command_status with which each number is refused whose script has no refusal of its own; 0: none."""
    rates: SimulatorRates = SimulatorRates()
    habits: SimulatorHabits = SimulatorHabits()
