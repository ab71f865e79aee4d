"""A hundred thousand spoilt receipts: reading never fails, never takes long, and never finds another message's id.

What is wrong is defined so: where the octets of the id's own field are whole (its key, its value, and what separates
them from their neighbours), the id that is read is that one, or none.
"""

import random
import time
from collections.abc import Callable

import pytest

from aldis.connectors.habits import DIALECTS, SimulatorHabits
from aldis.connectors.manners import Manners
from aldis.connectors.outcomes import Step
from aldis.connectors.simulator_memory import Known
from aldis.smpp.commands import DataSm, DeliverSm, EsmClass, SubmitSm, Tlv
from aldis.smpp.receipt import MESSAGE_STATES, parse_receipt

EACH, SEEDS = 10_000, 10
IDS = ("1764288000123456", "65f0c2a91b", "7.8.9", "A+b/C=", "5f1d6c1e-0c9b-4a53-9f63-0a1c2b3d4e5f", "0000123")
STAND_IN = "77777"
TOKENS = [f"{key}:" for key in ("sub", "dlvrd", "submit date", "done date", "stat", "err")]
TOKENS += [
    "\0",
    "\n",
    "\r\n",
    "  ",
    ",",
    ";",
    "|",
    ":",
    "::",
    " text:",
    " stat:",
    "@",
    "\x1b",
    "é",
    "\ud7ff",
    "id",
    "i:",
]
TOKENS += [*MESSAGE_STATES, "DELIVERED", "FAILED", "000", "-1", "9" * 40]
Cut = tuple[str, str, str]
"""What stands before the id's field, that field, and what stands behind it."""


def texts() -> list[str]:
    """Return a receipt of each dialect and state, with a stand-in for its id."""
    found = []
    for dialect in DIALECTS:
        manners = Manners(SimulatorHabits(dialect=dialect, says="text", payload=True), 1)
        for state in ("DELIVRD", "UNDELIV", "ENROUTE"):
            known = Known("", int(STAND_IN), "id", SubmitSm(), 1_767_268_800_000)
            pdu = manners.receipt(known, Step(state, "051"), 1_767_268_860_000)
            assert pdu.tlvs
            found.append(pdu.tlvs[Tlv.MESSAGE_PAYLOAD].decode("latin-1"))
    return found


TEXTS = texts()


def cut(text: str, upstream_id: str) -> Cut:
    """Take a text apart around the id's field, which keeps its neighbours' separators."""
    at = text.lower().index(f"id:{STAND_IN}")
    start, end = max(at - 1, 0), at + len(STAND_IN) + 4
    field = text[start:end].replace(STAND_IN, upstream_id)
    if not text[end - 1 : end].isspace():
        field += " "  # it was the last, and what chance writes behind it must not become part of it
    return text[:start], field, text[end:]


def spoil(text: str, rng: random.Random) -> str:
    """Change a text in one of the ways that networks and lines change them."""
    at = rng.randint(0, len(text))
    to = min(at + rng.randint(0, 30), len(text))
    piece = text[at:to]
    ways: list[Callable[[], str]] = [
        lambda: text[:at] + text[to:],
        lambda: text[:to] + piece + text[to:],
        lambda: text[:at] + rng.choice(TOKENS) + text[at:],
        lambda: text[:at] + chr(rng.randrange(256)) + text[at + 1 :],
        lambda: text[:at] + piece.swapcase() + text[to:],
        lambda: text[:at] + piece[::-1] + text[to:],
        lambda: " ".join(rng.sample(words := text.split(" "), len(words))),
        lambda: text[:at],
    ]
    return rng.choice(ways)()


def dress(text: str, rng: random.Random) -> DeliverSm | DataSm:
    """Put a text where receipts have theirs."""
    octets = text.encode("latin-1", "replace")
    coding = rng.choice((0, 0, 1, 3, 8))
    if rng.random() < 0.2:
        octets, coding = text.encode("utf-16-be", "surrogatepass"), 8
    esm_class = rng.choice((EsmClass.RECEIPT, EsmClass.RECEIPT, EsmClass.INTERMEDIATE, 0))
    if rng.random() < 0.3:
        return DataSm(esm_class=esm_class, data_coding=coding, tlvs={Tlv.MESSAGE_PAYLOAD: octets})
    return DeliverSm(esm_class=esm_class, data_coding=coding, short_message=octets)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_spoilt_receipt_never_names_another_id(seed: int) -> None:
    rng = random.Random(seed)
    right = 0
    for _ in range(EACH):
        upstream_id = rng.choice(IDS)
        before, field, behind = cut(rng.choice(TEXTS), upstream_id)
        is_quoting_first = "id:1 " in before  # then what tells the customer's words from the field is in front
        for _ in range(rng.randint(1, 4)):
            if before and not is_quoting_first and rng.random() < 0.4:
                before = spoil(before, rng)
            else:
                behind = spoil(behind, rng)
        text = before + (field if field[0] in " \n" or not before else " " + field) + behind
        if "id:" in (before + behind).lower().replace("id:1 ", ""):
            continue  # chance has written an id's key
        info = parse_receipt(dress(text, rng))
        assert info is None or info.upstream_id in (upstream_id, ""), text
        right += info is not None and info.upstream_id == upstream_id
    assert right > 0.8 * EACH, "spoilt elsewhere, most are still read"


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_receipt_spoilt_anywhere_is_read_or_left_and_never_fails(seed: int) -> None:
    rng = random.Random(1_000 + seed)
    for _ in range(EACH // 4):
        text = rng.choice(TEXTS).replace(STAND_IN, rng.choice(IDS))
        for _ in range(rng.randint(1, 8)):
            text = spoil(text, rng)
        pdu = dress(text, rng)
        tlvs = dict(pdu.tlvs or {})
        for tag in (Tlv.RECEIPTED_MESSAGE_ID, Tlv.MESSAGE_STATE, Tlv.NETWORK_ERROR_CODE):
            if rng.random() < 0.2:
                tlvs[tag] = rng.randbytes(rng.choice((0, 1, 2, 3, 8, 65)))
        pdu.tlvs = tlvs or None
        info = parse_receipt(pdu)
        assert info is None or len(info.upstream_id) <= 2 * len(text) + 65


@pytest.mark.parametrize(
    "unit", ["id:", "id:1 ", "stat:DELIVRD ", "text:id:1 stat:X ", " ", "\n:", "submit date:1 ", "DELIVRD", "1/:_. T+-"]
)
def test_a_text_of_the_greatest_length_takes_no_long_time(unit: str) -> None:
    text = (unit * (64_000 // len(unit))).encode()
    started = time.perf_counter()
    parse_receipt(DataSm(esm_class=EsmClass.RECEIPT, tlvs={Tlv.MESSAGE_PAYLOAD: text}))
    assert time.perf_counter() - started < 1.0
