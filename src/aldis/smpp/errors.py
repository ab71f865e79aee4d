"""The command_status of SMPP 3.4: names, and what a refusal means for whoever sends again."""

from enum import Enum, IntEnum


class CommandStatus(IntEnum):
    """A command_status of SMPP 3.4; other values are the vendor's or a later version's and stay plain integers."""

    ESME_ROK = 0x00
    ESME_RINVMSGLEN = 0x01
    ESME_RINVCMDLEN = 0x02
    ESME_RINVCMDID = 0x03
    ESME_RINVBNDSTS = 0x04
    ESME_RALYBND = 0x05
    ESME_RINVPRTFLG = 0x06
    ESME_RINVREGDLVFLG = 0x07
    ESME_RSYSERR = 0x08
    ESME_RINVSRCADR = 0x0A
    ESME_RINVDSTADR = 0x0B
    ESME_RINVMSGID = 0x0C
    ESME_RBINDFAIL = 0x0D
    ESME_RINVPASWD = 0x0E
    ESME_RINVSYSID = 0x0F
    ESME_RCANCELFAIL = 0x11
    ESME_RREPLACEFAIL = 0x13
    ESME_RMSGQFUL = 0x14
    ESME_RINVSERTYP = 0x15
    ESME_RINVNUMDESTS = 0x33
    ESME_RINVDLNAME = 0x34
    ESME_RINVDESTFLAG = 0x40
    ESME_RINVSUBREP = 0x42
    ESME_RINVESMCLASS = 0x43
    ESME_RCNTSUBDL = 0x44
    ESME_RSUBMITFAIL = 0x45
    ESME_RINVSRCTON = 0x48
    ESME_RINVSRCNPI = 0x49
    ESME_RINVDSTTON = 0x50
    ESME_RINVDSTNPI = 0x51
    ESME_RINVSYSTYP = 0x53
    ESME_RINVREPFLAG = 0x54
    ESME_RINVNUMMSGS = 0x55
    ESME_RTHROTTLED = 0x58
    ESME_RINVSCHED = 0x61
    ESME_RINVEXPIRY = 0x62
    ESME_RINVDFTMSGID = 0x63
    ESME_RX_T_APPN = 0x64
    ESME_RX_P_APPN = 0x65
    ESME_RX_R_APPN = 0x66
    ESME_RQUERYFAIL = 0x67
    ESME_RINVOPTPARSTREAM = 0xC0
    ESME_ROPTPARNOTALLWD = 0xC1
    ESME_RINVPARLEN = 0xC2
    ESME_RMISSINGOPTPARAM = 0xC3
    ESME_RINVOPTPARAMVAL = 0xC4
    ESME_RDELIVERYFAILURE = 0xFE
    ESME_RUNKNOWNERR = 0xFF


class Refusal(Enum):
    """What a refusal is about."""

    THROTTLED = "throttled"
    """The pace: the same PDU is welcome later, more slowly."""
    TEMPORARY = "temporary"
    """The upstream's or the bind's condition: the same PDU may be taken later."""
    PERMANENT = "permanent"
    """The PDU itself, or a condition that waiting doesn't mend."""


_THROTTLED = frozenset({CommandStatus.ESME_RTHROTTLED, CommandStatus.ESME_RMSGQFUL})
_SERVICE_TYPE_UNAVAILABLE = 0x102  # SMPP 5.0: ESME_RSERTYPUNAVAIL, "temporarily"
_TEMPORARY = frozenset(
    {
        CommandStatus.ESME_RSYSERR,
        CommandStatus.ESME_RX_T_APPN,
        CommandStatus.ESME_RINVBNDSTS,
        CommandStatus.ESME_RALYBND,
        CommandStatus.ESME_RBINDFAIL,
        _SERVICE_TYPE_UNAVAILABLE,
    }
)


def classify(status: int) -> Refusal:
    """Return what kind of refusal a command_status is; a status that nobody knows is permanent.

    Args:
        status: A command_status other than 0.

    Raises:
        ValueError: 0, which refuses nothing.
    """
    if status == CommandStatus.ESME_ROK:
        raise ValueError("ESME_ROK is not a refusal")
    if status in _THROTTLED:
        return Refusal.THROTTLED
    return Refusal.TEMPORARY if status in _TEMPORARY else Refusal.PERMANENT


_NAMES = {int(status): status.name for status in CommandStatus}


def name_of(status: int) -> str:
    """Return a status's standard name, or `0x00000450` style where the standard has none."""
    return _NAMES.get(status) or f"0x{status:08X}"
