"""What a response says of the pace though it took its request: congestion_state, since SMPP 5.0."""

from collections.abc import Mapping
from typing import Final

from aldis.smpp.commands import Tlv

NEARLY_CONGESTED: Final = 90
"""From this congestion_state on a message centre is nearly congested, at 100 wholly."""


def is_congested(tlvs: Mapping[int, bytes]) -> bool:
    """Return whether a response's TLVs ask for a slower pace."""
    state = tlvs.get(Tlv.CONGESTION_STATE)
    return state is not None and state[-1:] >= bytes((NEARLY_CONGESTED,))
