"""Receipts: what a message centre says about a part, read from TLVs and from text of every known shape.

No two networks write receipts alike: fields are missing, moved, renamed, in either case, or glued to the customer's own
text, which may look like a receipt itself. What is read here is what a person would read; what can't be read is left
empty.
"""

import re
from datetime import UTC, datetime
from itertools import zip_longest
from typing import Final

import msgspec

from aldis.smpp.pdu import DataSm, DeliverSm, EsmClass, Tlv

MESSAGE_STATES: Final = (
    "SCHEDULED",
    "ENROUTE",
    "DELIVRD",
    "EXPIRED",
    "DELETED",
    "UNDELIV",
    "ACCEPTD",
    "UNKNOWN",
    "REJECTD",
    "SKIPPED",
)
"""The states' words, at the number that the TLV message_state has for them."""

FINAL_STATES: Final = frozenset({"DELIVRD", "EXPIRED", "DELETED", "UNDELIV", "UNKNOWN", "REJECTD", "SKIPPED"})
"""The states that end a part's life. ACCEPTD is none: networks disagree, so it says no more than a submit response."""

SPELLINGS: Final = {
    **{word: word for word in MESSAGE_STATES},
    **dict.fromkeys(("DELIVERED", "DELIVERD", "DELIVRED", "DLVRD"), "DELIVRD"),
    **dict.fromkeys(
        ("UNDELIVERABLE", "UNDELIVERED", "UNDELIVERD", "UNDELIVRD", "UNDLVRD", "FAILED", "FAIL", "FAILURE"), "UNDELIV"
    ),
    **dict.fromkeys(("ACCEPTED", "ACCPTD"), "ACCEPTD"),
    **dict.fromkeys(("REJECTED", "REJCTD"), "REJECTD"),
    **dict.fromkeys(("EXPIRD", "EXPRD"), "EXPIRED"),
    **dict.fromkeys(("BUFFERED", "BUFFERD", "BUFFRED", "EN_ROUTE"), "ENROUTE"),
    **dict.fromkeys(("SCHEDULD", "SCHEDLD"), "SCHEDULED"),
    **dict.fromkeys(("SKIPPD", "SKIPED"), "SKIPPED"),
    "UNKNWN": "UNKNOWN",
}
"""Every word that receipts are known to have for a state -> the standard's."""


class ReceiptInfo(msgspec.Struct, frozen=True, gc=False):
    """What a receipt says."""

    upstream_id: str
    """The receipted id in the upstream's own spelling; empty if there is none."""
    state: str
    """One of MESSAGE_STATES, or the upstream's own word in upper case; empty if there is none."""
    error: str
    """The text's err as it stands, or the code of network_error_code in the same form; empty if there is neither."""
    is_final: bool
    """Whether no other receipt is to be expected."""
    text: str
    """The text, decoded for reading."""
    done_date: str
    """As it stands: local time of who knows where."""


def parse_receipt(deliver: DeliverSm | DataSm) -> ReceiptInfo | None:
    """Return what a receipt says, or None for what is no receipt but a message.

    The bits of esm_class decide together with the shape: a message with no bits set that looks like a receipt is one.
    TLVs go before text. Never raises, whatever the octets.
    """
    tlvs = deliver.tlvs or {}
    text = _text_of(deliver, tlvs)
    said = _read_text(text)
    if not _is_receipt(deliver.esm_class, tlvs, said):
        return None
    upstream_id = _as_word(tlvs.get(Tlv.RECEIPTED_MESSAGE_ID, b""))
    state = _read_message_state(tlvs.get(Tlv.MESSAGE_STATE, b""), said.state)
    intermediate = deliver.esm_class & (EsmClass.INTERMEDIATE | EsmClass.RECEIPT) == EsmClass.INTERMEDIATE
    return ReceiptInfo(
        upstream_id=upstream_id or said.upstream_id,
        state=state,
        error=_read_error(tlvs.get(Tlv.NETWORK_ERROR_CODE, b""), said.error),
        is_final=state in FINAL_STATES and not intermediate,
        text=text,
        done_date=said.done_date,
    )


class _Said(msgspec.Struct, frozen=True, gc=False):
    """What the text alone says."""

    upstream_id: str
    state: str
    error: str
    done_date: str
    looks_like_receipt: bool


def format_receipt(
    upstream_id: str, state: str, *, submitted_at: int, done_at: int, error: str = "000", text: str = ""
) -> bytes:
    """Return the standard text of a receipt, as a message centre writes it.

    Args:
        upstream_id: The message centre's id, ASCII.
        state: One of MESSAGE_STATES.
        submitted_at: Epoch milliseconds; written in UTC, to the minute.
        done_at: Likewise.
        error: The network's code.
        text: The message's text, of which the first 20 characters are shown.
    """
    delivered = int(state == "DELIVRD")
    line = (
        f"id:{upstream_id} sub:001 dlvrd:{delivered:03d} submit date:{_minute(submitted_at)}"
        f" done date:{_minute(done_at)} stat:{state} err:{error} text:{text[:20]}"
    )
    return line.encode("latin-1", "replace")


def receipt_tlvs(upstream_id: str, state: str) -> dict[int, bytes]:
    """Return the TLVs that go with a receipt: receipted_message_id and message_state.

    Raises:
        ValueError: the state is none of MESSAGE_STATES.
    """
    return {
        Tlv.RECEIPTED_MESSAGE_ID: upstream_id.encode("ascii") + b"\0",
        Tlv.MESSAGE_STATE: bytes((MESSAGE_STATES.index(state),)),
    }


def _minute(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms // 1000, UTC).strftime("%y%m%d%H%M")


def _is_receipt(esm_class: int, tlvs: dict[int, bytes], said: _Said) -> bool:
    kind = esm_class & EsmClass.MESSAGE_TYPE
    if kind & EsmClass.RECEIPT or kind & EsmClass.INTERMEDIATE or said.looks_like_receipt:
        return True
    # An acknowledgement by the handset or its user (0x08, 0x10) names the message too, but is text to be read.
    return Tlv.RECEIPTED_MESSAGE_ID in tlvs and (kind == 0 or Tlv.MESSAGE_STATE in tlvs)


def _as_word(octets: bytes) -> str:
    return octets.decode("latin-1").strip("\0 \t\r\n")


def _read_message_state(octets: bytes, said: str) -> str:
    number = _as_word(octets) if octets.isdigit() else str(int.from_bytes(octets[:2], "big")) if octets else ""
    state = _canonical(number)
    return state if state in SPELLINGS or not said else said


def _read_error(octets: bytes, said: str) -> str:
    if not octets:
        return said
    if len(octets) != 3:
        return said or octets.hex()
    code = int.from_bytes(octets[1:], "big")
    return f"{code:03d}" if code or not said else said


def _canonical(word: str) -> str:
    word = word.upper()
    if word.isascii() and word.isdigit() and len(word.lstrip("0")) <= 1:
        return MESSAGE_STATES[int(word[-1])]
    return SPELLINGS.get(word, word)


# --- text -------------------------------------------------------------------------------------------------------

_GSM_PUNCTUATION: Final = bytes.maketrans(b"\x00\x02\x11", b"@$_")
"""Where the GSM alphabet has the punctuation of ids among what ASCII has for control characters."""


def _text_of(deliver: DeliverSm | DataSm, tlvs: dict[int, bytes]) -> str:
    octets = deliver.short_message if isinstance(deliver, DeliverSm) else b""
    octets = octets or tlvs.get(Tlv.MESSAGE_PAYLOAD, b"")
    if deliver.esm_class & EsmClass.UDHI and octets:
        octets = octets[octets[0] + 1 :]
    return _decode_text(octets, deliver.data_coding)


def _decode_text(octets: bytes, data_coding: int) -> str:
    """Return readable text: what is plain ASCII is read as such, whatever data_coding claims."""
    plain = octets.rstrip(b"\0")
    if 0 in plain and _is_wide(octets):
        return octets.decode("utf-16-be" if octets[0] == 0 else "utf-16-le", "replace").strip("\0\ufeff")
    if data_coding & 0xEC == 0x08 and (0 in plain or not plain.isascii()):
        return octets.decode("utf-16-be", "replace").strip("\0\ufeff")
    return (plain.translate(_GSM_PUNCTUATION) if data_coding == 0 else plain).decode("latin-1")


def _is_wide(octets: bytes) -> bool:
    """Tell whether most of the text is ASCII in two octets each."""
    return max(octets[::2].count(0), octets[1::2].count(0)) * 3 > len(octets)


_EDGE: Final = r"(?<![^\s,;|])"
_find_keys = re.compile(
    _EDGE + r"(?:(id|text|dlvrd)|(sub|submit|done)(?:[ _]?date)?|(stat)(?:us)?|(err)(?:or)?) ?:",
    re.IGNORECASE | re.ASCII,
).finditer
_begins_with_key = re.compile(r"\s*(?:id|stat(?:us)?) ?:", re.IGNORECASE | re.ASCII).match
_find_state = re.compile(
    _EDGE + "(" + "|".join(sorted(SPELLINGS, key=len, reverse=True)) + r")(?![^\s,;|])", re.IGNORECASE | re.ASCII
).search
_match_date = re.compile(r"(\d[\d/:_. T+-]*)", re.ASCII).match
_STRUCTURE: Final = frozenset({"sub", "dlvrd", "submit", "done", "err"})


# The text as most networks write it; the general way below reads it alike, at three times the price.
_match_standard = re.compile(
    r"id:([^\s,;|]+) sub:\d+ dlvrd:\d+ submit date:\d+ done date:(\d+) stat:([A-Z]+) err:(\w+)(?: text:|$)",
    re.ASCII | re.IGNORECASE,
).match


def _read_text(text: str) -> _Said:
    if standard := _match_standard(text):
        upstream_id, done_date, word, error = standard.groups()
        return _Said(upstream_id, _canonical(word), error, done_date, looks_like_receipt=True)
    return _read_any_text(text)


def _read_any_text(text: str) -> _Said:
    fields, labelled = _fields_of(text)
    upstream_id = _first_word(fields.get("id", ""))
    state = _canonical(_first_word(fields.get("stat", "")))
    structure = _STRUCTURE & fields.keys()
    # A person may write of an id and a state too, but not begin with one of the keys.
    is_bare = state in MESSAGE_STATES and _begins_with_key(text) is not None
    date = _match_date(fields.get("done", ""))
    return _Said(
        upstream_id=upstream_id,
        state=state,
        error=_first_word(fields.get("err", "")),
        done_date=date[1].strip() if date else "",
        looks_like_receipt=bool(state)
        and (len(structure) >= 2 or (labelled and bool(upstream_id) and (bool(structure) or is_bare))),
    )


def _fields_of(text: str) -> tuple[dict[str, str], bool]:
    """Return the fields by short key, and whether the state has its label.

    Behind `text:` the customer's words begin, and they may say `id:` and `stat:` too. They are read only where the
    fields before them are not a whole receipt; there the last of equal keys counts, as the real ones follow the words.
    """
    head: dict[str, str] = {}
    tail: dict[str, str] = {}
    keys = list(_find_keys(text))
    text_at = len(text)
    for key, following in zip_longest(keys, keys[1:]):
        name = key[key.lastindex or 0].lower()
        chunk = text[key.end() : following.start() if following else len(text)].strip()
        if name == "text":
            text_at = min(text_at, key.start())
        elif chunk and text_at < key.start():
            tail[name] = chunk
        elif chunk:
            head.setdefault(name, chunk)
    return _merge(head, tail, text[:text_at])


def _merge(head: dict[str, str], tail: dict[str, str], before_text: str) -> tuple[dict[str, str], bool]:
    labelled = True
    if "stat" not in head and (bare := _find_state(before_text)):
        head["stat"] = bare[1]
        labelled = False
    if "stat" not in head or _STRUCTURE & (tail.keys() - head.keys()):
        head = tail | head
    return head, labelled


def _first_word(chunk: str) -> str:
    words = chunk.split(None, 1)
    return words[0].rstrip(",;|") if words else ""
