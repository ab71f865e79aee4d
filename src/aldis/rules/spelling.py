"""How an upstream may spell the id of a part in its receipts: not always as in its answer.

Old habits meet new ones: an answer in hexadecimal and a receipt in decimal, zeros in front added or stripped, letters
in the other case, a number cut to 32 bits. Two different ids may then look like one: a spelling alone decides nothing.
"""

from collections.abc import Iterator
from enum import Enum
from functools import lru_cache

_ZEROS_UP_TO = 20
"""Digits of the longest id that zeros in front make."""
_HEX_WIDTHS = (8, 16)
_WORD = 1 << 32


class Spelling(Enum):
    """How the id in a receipt differs from the id in the answer to its submit_sm."""

    SAME = "same"
    CASE = "letter case"
    ZEROS = "leading zeros"
    DECIMAL = "decimal of hexadecimal"
    """The answer had hexadecimal digits, the receipt has the same number in decimal."""
    HEXADECIMAL = "hexadecimal of decimal"
    WORD = "cut to 32 bits"
    """The receipt has the number as a signed or unsigned word of 32 bits."""


@lru_cache(maxsize=4096)
def origins(upstream_id: str) -> dict[str, Spelling]:
    """Return the ids in an answer that a receipt's id may stand for, itself left out, the likeliest first.

    Some dozen at most. Ids with letters of both cases are found only where one side has them all in one case.
    """
    found: dict[str, Spelling] = {}
    if upstream_id.isascii():
        for spelling, candidate in _candidates(upstream_id):
            found.setdefault(candidate, spelling)
        found.pop(upstream_id, None)
        found.pop("", None)
    return found


def _candidates(upstream_id: str) -> Iterator[tuple[Spelling, str]]:
    yield Spelling.CASE, upstream_id.lower()
    yield Spelling.CASE, upstream_id.upper()
    negative, digits = upstream_id.startswith("-"), upstream_id.removeprefix("-")
    if len(digits) > _ZEROS_UP_TO:
        return
    if digits.isdigit():
        number = int(digits)
        if negative:
            yield from _as_word(-number)
            return
        yield from ((Spelling.DECIMAL, one) for one in _in_hexadecimal(number))
        yield from _with_zeros(digits)
        yield from _as_word(number)
    if not negative and digits and not set(digits.lower()) - set("0123456789abcdef"):
        yield Spelling.HEXADECIMAL, str(int(digits, 16))
        if not digits.isdigit():
            yield from _with_zeros(digits)


def _in_hexadecimal(number: int) -> Iterator[str]:
    plain = f"{number:x}"
    for digits in (plain, *(plain.zfill(width) for width in _HEX_WIDTHS)):
        yield digits
        yield digits.upper()


def _with_zeros(digits: str) -> Iterator[tuple[Spelling, str]]:
    plain = digits.lstrip("0") or "0"
    for width in range(len(plain), min(len(plain) + 10, _ZEROS_UP_TO) + 1):
        yield Spelling.ZEROS, plain.zfill(width)


def _as_word(number: int) -> Iterator[tuple[Spelling, str]]:
    """Yield what a signed word may have been as an unsigned one; what was cut off is not known any more."""
    if -_WORD // 2 <= number < 0:
        yield Spelling.WORD, str(number + _WORD)
        yield from ((Spelling.WORD, one) for one in _in_hexadecimal(number + _WORD))
