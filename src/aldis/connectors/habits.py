"""Habits that networks have with ids and receipts: each a switch of the simulator, so that they can be rehearsed."""

from typing import Final, Literal

import msgspec

from aldis.smpp.receipt import MESSAGE_STATES

IdForm = Literal[
    "decimal", "hexadecimal", "HEXADECIMAL", "padded", "dotted", "word", "signed word", "word in HEXADECIMAL"
]
"""How a number is spelt as an id. A word is what 32 bits hold of it."""

_WORD: Final = 1 << 32
_PADDED_TO: Final = 20


def spell_id(number: int, form: IdForm) -> str:
    """Return an id in a form."""
    word = number % _WORD
    match form:
        case "hexadecimal":
            return f"{number:x}"
        case "HEXADECIMAL":
            return f"{number:X}"
        case "padded":
            return str(number).zfill(_PADDED_TO)
        case "dotted":
            return f"{number:,}".replace(",", ".")
        case "word":
            return str(word)
        case "signed word":
            return str(word - _WORD if word >= _WORD // 2 else word)
        case "word in HEXADECIMAL":
            return f"{word:08X}"
        case _:
            return str(number)


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """A way to write a receipt's text."""

    what: str
    """In words, for the documentation."""
    words: dict[str, str] = {}
    """State -> the word for it, where it is not the standard's."""
    order: tuple[str, ...] = ("id", "sub", "dlvrd", "submit date", "done date", "stat", "err", "text")
    separator: str = " "
    end: str = ""
    dates: str = "%y%m%d%H%M"
    letters: Literal["", "lower", "upper"] = ""
    """The letters of keys and states, where they are all alike."""
    quoted: str = ""
    """What the receipt shows of the customer's own text."""


_ALL = Dialect(what="").order

DIALECTS: Final[dict[str, Dialect]] = {
    "standard": Dialect(what="as appendix B of SMPP 3.4 has it"),
    "words": Dialect(
        what="whole words: `stat:DELIVERED`, `stat:UNDELIVERABLE`",
        words={
            "DELIVRD": "DELIVERED",
            "UNDELIV": "UNDELIVERABLE",
            "ACCEPTD": "ACCEPTED",
            "REJECTD": "REJECTED",
            "ENROUTE": "BUFFERED",
        },
    ),
    "failed": Dialect(
        what="`stat:FAILED` for every failure",
        words=dict.fromkeys(("UNDELIV", "EXPIRED", "DELETED", "REJECTD", "SKIPPED"), "FAILED"),
    ),
    "numbers": Dialect(
        what="`stat:2`: the state's number",
        words={"ENROUTE": "1", "DELIVRD": "2", "EXPIRED": "3", "DELETED": "4", "UNDELIV": "5", "ACCEPTD": "6"}
        | {"UNKNOWN": "7", "REJECTD": "8"},
    ),
    "lower": Dialect(what="keys and states in lower case", letters="lower"),
    "upper": Dialect(what="keys and states in upper case", letters="upper"),
    "short": Dialect(what="no `sub`, no `dlvrd`", order=tuple(key for key in _ALL if key not in ("sub", "dlvrd"))),
    "minimal": Dialect(what="`id` and `stat` alone", order=("id", "stat")),
    "reordered": Dialect(what="the state first, the id last", order=("stat", "err", "done date", "sub", "dlvrd", "id")),
    "seconds": Dialect(what="dates with seconds", dates="%y%m%d%H%M%S"),
    "years": Dialect(what="dates with seconds and a year of four digits", dates="%Y%m%d%H%M%S"),
    "undated": Dialect(what="dates that are all zeros", dates="0000000000"),
    "lines": Dialect(what="one field a line", separator="\n"),
    "nul": Dialect(what="a NUL behind the text", end="\0"),
    "quoting": Dialect(
        what="shows a text that looks like a receipt itself, behind the fields", quoted="id:1 stat:REJECTD err:1"
    ),
    "quoting first": Dialect(
        what="the same before the fields", order=("text", *_ALL[:-1]), quoted="id:1 stat:REJECTD err:1"
    ),
}
"""The values of the habit `dialect`."""


class SimulatorHabits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a network always does otherwise than one would wish; as they are, it does nothing so."""

    answer_ids: IdForm = "decimal"
    """Ids in the submit_sm_resp: decimal, hexadecimal, HEXADECIMAL, padded, dotted, word, signed word,
    word in HEXADECIMAL."""
    receipt_ids: IdForm = "decimal"
    """Ids in receipts, likewise."""
    first_id: int = 0
    """The first id; 0: the time. Two message centres with the same one hand out the same ids."""
    ids_repeat_after: int = 0
    """So many ids, then they begin again; 0: never."""
    ids_by_account: bool = False
    """Each system_id has its ids counted for itself: two of them are given the same."""
    one_id: bool = False
    """All parts of a message have one id."""
    no_answer: bool = False
    """What is submitted is taken, and never answered; its receipts come."""
    refused_part: int = 0
    """The part with this number is refused with ESME_RSUBMITFAIL (0x45), of each message that has several; 0: none."""
    reversed_answers: bool = False
    """The parts of a message are answered in reverse order, once all are there: the window must hold them all."""
    other_bind: bool = False
    """Receipts come on another bind than their submit_sm, where there is another."""
    by: Literal["deliver_sm", "data_sm", "both"] = "deliver_sm"
    """What receipts come by: deliver_sm, data_sm, or both: each comes twice."""
    says: Literal["text and TLVs", "text", "TLVs", "contradiction"] = "text and TLVs"
    """Where the state stands: text and TLVs, text, TLVs, or contradiction: TLVs tell it, and the text its opposite."""
    no_id: bool = False
    """Receipts name no id."""
    payload: bool = False
    """The text is in message_payload."""
    ucs2: bool = False
    """The text is in UCS-2."""
    unmarked: bool = False
    """esm_class is 0: nothing but the shape tells that it is a receipt."""
    dialect: str = "standard"
    """How the text is written; see below."""
    errors_in_tlv: bool = False
    """The error is a network_error_code, and not in the text."""
    zone_min: int = 0
    """Minutes by which the dates are ahead of UTC."""
    accepted_only: bool = False
    """ACCEPTD stands for DELIVRD: nothing better ever comes."""
    receipts_for: Literal["each part", "first part", "last part"] = "each part"
    """For which parts of a message that has several receipts come: each part, first part, last part."""
    part_states: tuple[str, ...] = ()
    """The states of the parts of such a message, by their numbers, such as DELIVRD, UNDELIV."""
    contradicts: bool = False
    """After each final receipt comes another that says the opposite."""
    forges: bool = False
    """After each final receipt comes another for the same number, with an id that was never given."""

    def __post_init__(self) -> None:
        """Refuse what no network could do."""
        if self.dialect not in DIALECTS:
            raise ValueError(f"dialect {self.dialect!r}: known are {', '.join(DIALECTS)}")
        if unknown := set(self.part_states) - set(MESSAGE_STATES):
            raise ValueError(f"part_states has {unknown.pop()!r}: known are {', '.join(MESSAGE_STATES)}")
        if min(self.first_id, self.ids_repeat_after, self.refused_part) < 0:
            raise ValueError("first_id, ids_repeat_after and refused_part are not negative")


def as_of_version(habits: SimulatorHabits, version: str) -> SimulatorHabits:
    """Return habits with what SMPP 3.3 brings with it: no TLVs, and ids of eight hexadecimal digits."""
    if version != "3.3":
        return habits
    form: IdForm = "word in HEXADECIMAL"
    return msgspec.structs.replace(
        habits,
        answer_ids=form if habits.answer_ids == "decimal" else habits.answer_ids,
        receipt_ids=form if habits.receipt_ids == "decimal" else habits.receipt_ids,
        says="text",
    )
