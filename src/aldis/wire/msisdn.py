"""Read subscriber numbers as customers write them."""

import re

_NOT_DIGITS = re.compile(r"[^0-9]+")
_LIST_NOISE = b" +\t\r\n"
_LIST_CHARACTERS = b"0123456789," + _LIST_NOISE
_MIN_DIGITS, _MAX_DIGITS = 7, 15


def parse_msisdn(text: str) -> int | None:
    """Return the number that a text means, or None if it means none.

    Everything but the digits 0 to 9 is dropped, then a leading 00. What remains must be 7 to 15 digits, the first of
    them not 0. Digits of other scripts are no digits.
    """
    digits = text if text.isascii() and text.isdigit() else _NOT_DIGITS.sub("", text)
    digits = digits.removeprefix("00")
    if not _MIN_DIGITS <= len(digits) <= _MAX_DIGITS or digits[0] == "0":
        return None
    return int(digits)


def parse_msisdns(text: str) -> tuple[list[int], str | None]:
    """Read a comma-separated list of numbers, skipping empty entries.

    Returns:
        The good numbers in the order given, and the first bad entry, or None if all are good.
    """
    if "," in text:
        numbers = _parse_clean(text)
    else:
        number = parse_msisdn(text)
        numbers = [] if number is None else [number]
    return (numbers, None) if numbers else _parse_each(text)


def _parse_clean(text: str) -> list[int]:
    """Return the numbers of a list in which nothing needs a second look, else an empty list."""
    if not text.isascii():
        return []
    octets = text.encode()
    if octets.translate(None, _LIST_CHARACTERS):
        return []
    clean = octets.translate(None, _LIST_NOISE).decode()
    entries = clean.split(",")
    lengths = list(map(len, entries))
    if min(lengths) < _MIN_DIGITS or max(lengths) > _MAX_DIGITS or clean[0] == "0" or ",0" in clean:
        return []
    return list(map(int, entries))


def _parse_each(text: str) -> tuple[list[int], str | None]:
    """Read a list entry by entry."""
    numbers: list[int] = []
    bad: str | None = None
    for entry in map(str.strip, text.split(",")):
        number = parse_msisdn(entry)
        if number is not None:
            numbers.append(number)
        elif entry and bad is None:
            bad = entry
    return numbers, bad
