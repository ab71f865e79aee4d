"""What a subscriber's message answers, and the words that mean yes or no to more of them."""

import re
import unicodedata
from enum import StrEnum
from typing import Final

_TAIL: Final = 7
_NUMERIC = re.compile(r"\+?\d{3,15}", re.ASCII)
_STOP: Final = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT"})
_START: Final = frozenset({"START", "UNSTOP", "YES"})
_find_words = re.compile(r"[A-Z0-9]+").findall


class Keyword(StrEnum):
    """What a word asks for."""

    NONE = ""
    STOP = "stop"
    START = "start"


def keyword_of(text: str) -> Keyword:
    """Return what a message asks for: it is a single such word, or begins with STOP.

    Case, accents and punctuation do not count.
    """
    plain = unicodedata.normalize("NFKD", text[:100]).upper()
    words = _find_words("".join(char for char in plain if not unicodedata.combining(char)))
    if len(words) == 1 and words[0] in _START:
        return Keyword.START
    if words and (words[0] == "STOP" or (len(words) == 1 and words[0] in _STOP)):
        return Keyword.STOP
    return Keyword.NONE


def conversation(originator: str, number: str) -> str:
    """Return what stands for messages from an originator to a number: by their last seven digits.

    It takes the place of an upstream's id in a table of those, after a sign that no id has.

    Returns:
        Empty where nobody can answer: the originator is a word.
    """
    if not _NUMERIC.fullmatch(originator) or not _NUMERIC.fullmatch(number):
        return ""
    return f"\N{ENVELOPE}{originator[-_TAIL:]}>{number[-_TAIL:]}"
