"""The scenarios and rules of receipts, in words, and the tests that are marked with their names."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_MARK = re.compile(r"\b(?:SCENARIO-\d+|RULE-[a-z]{1,2})\b")

SCENARIOS: Mapping[str, tuple[str, str]] = {
    "1": ("a normal message", "two transitions, one id"),
    "2": ("the same receipt comes again", "kept, and nothing changes"),
    "3": ("the receipt comes before the submit_sm_resp", "parked, then applied"),
    "4": ("the receipt comes on another connection of the account", "found: an id belongs to the connector"),
    "5": ("DELIVRD, then ENROUTE", "the second is kept, and moves nothing"),
    "6": ("ENROUTE, ACCEPTD, DELIVRD", "all are kept, the end is told once"),
    "7": ("ids hexadecimal in answers, decimal in receipts", "learnt by itself"),
    "8": ("the id in other letters", "found"),
    "9": ("an id with dots", "read whole"),
    "10": ("three parts: DELIVRD, UNDELIV, DELIVRD", "failed; the parts say which"),
    "11": ("the parts are answered in reverse order", "each receipt finds its part"),
    "12": ("part 1 is refused, the others are delivered", "failed, for the reason of part 1"),
    "13": ("two links hand out the same id", "each message has its own"),
    "14": ("an id is given again", "the number decides, then the newest"),
    "15": ("a receipt with esm_class 0", "a receipt by its shape"),
    "16": ("`stat:DELIVERED`", "delivered"),
    "17": ("`stat:FAILED`", "failed"),
    "18": ("throttled once, then delivered", "one transient, which is not told, then the delivery"),
    "19": ("1,200 characters", "refused, or sent to the last"),
    "20": ("a plain message", "ends in a report"),
}
"""What happens, and what comes of it."""

RULES: Mapping[str, tuple[str, str]] = {
    "a": ("a receipt overtakes its answer", "parked on disk, matched with the answer, kept for 14 days"),
    "b": ("no answer in time, and yet taken", "12, never sent again; the receipt is adopted"),
    "c": ("ids in another base", "found with the number, then learnt for the link"),
    "d": ("zeros, letters, NUL, a 32-bit sign", "the very id first, and no two ids are ever made one"),
    "e": ("another bind, process or node", "one ledger for all; an id belongs to the connector"),
    "f": ("an id is used twice", "number, then what still waits, then the newest; a doubt moves nothing"),
    "g": ("a receipt comes twice", "kept, and nothing changes; one push"),
    "h": ("out of order, or contradicting", "the strongest word stands; all are kept"),
    "i": ("after we gave up", "replaces the end that we assumed"),
    "j": ("it never comes", "53, assumed, when its time is over"),
    "k": ("some parts only, or mixed ends", "a standing for each part; the link's habit is learnt"),
    "l": ("one id for all parts", "each receipt goes to the next part that waits"),
    "m": ("TLVs, text, or both, disagreeing", "the TLV where there is one; the text is kept"),
    "n": ("states of every version, unknown ones", "one table; what nobody knows is 70"),
    "o": ("ACCEPTD as the last word", "10, unless an operator locks it as the last word"),
    "p": ("errors by TLV or text", "kept as they are; a table for each connector gives the reason"),
    "q": ("dates of a local clock", "kept as they are, the zone is learnt; order is that of arrival"),
    "r": ("odd esm_class", "bits and shape decide; words alone make no receipt"),
    "s": ("message_payload, UCS-2, data_sm", "all are read"),
    "t": ("a slow push receiver", "the network is answered after the commit, whatever the push does"),
    "u": ("asking for it again", "only when the ledger could not write"),
    "v": ("a receipt for what we never sent", "kept apart, never a message and never somebody else's"),
    "w": ("receipts that the upstream makes up", "a doubt is shown with the link's profile"),
    "x": ("the customer wants no report", "the receipt is asked for all the same"),
    "y": ("our process dies before the answer", "12 when its lease is over; the receipt is adopted"),
    "z": ("what was in memory is lost", "the ledger is the only map"),
    "aa": ("several receipts in one transaction", "judged in turn"),
    "bb": ("receipts of a message that was refused, or waits for a retry", "a transient never closes it"),
    "cc": ("fields that change their meaning", "a push has exactly the documented parameters"),
    "dd": ("an upstream with words of its own", "its words stay in the history, to the letter"),
}
"""What networks do, and what Aldis does."""


def files() -> list[Path]:
    """Return the files that have tests in them."""
    return sorted([*(ROOT / "tests").rglob("*.py"), *(ROOT / "src/aldis/store/testing").rglob("*.py")])


def _marks_of(text: str) -> Iterator[tuple[str, str]]:
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            above = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 2
            while above >= 0 and lines[above].lstrip().startswith("#"):
                yield from ((mark, node.name) for mark in _MARK.findall(lines[above]))
                above -= 1


@cache
def marked() -> dict[str, list[tuple[Path, str]]]:
    """Return the tests by the scenarios and rules in the comments right above them."""
    found: dict[str, list[tuple[Path, str]]] = {}
    for path in files():
        text = path.read_text(encoding="utf-8")
        if _MARK.search(text):
            for mark, name in _marks_of(text):
                found.setdefault(mark, []).append((path, name))
    return found


def rows(kind: str, table: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, case, answer and tests."""
    for name, (case, answer) in table.items():
        tests = [f"`{test}`" for _, test in marked().get(f"{kind}-{name}", ())]
        yield name, case, answer, "<br>".join(tests)
