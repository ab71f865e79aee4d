"""What the client asks for, each submission unlike any other, and what must come of it upstream.

Written from the documents, not from the server: the alphabet, the cutting and the prices here are a second opinion.
"""

import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from urllib.parse import urlencode

PRICES = {"4470": 1_000, "4471": 35}
"""Prefix -> milli-credits of a part."""
ROUTES = "".join(
    f'[[route]]\nprefix = "{prefix}"\nconnector = "up"\nprice = "{milli / 1000}"\n' for prefix, milli in PRICES.items()
)
BLOCKED = "44700000000000"
"""A number on the blocklist: a message to it is refused at once, free of charge, and never seen upstream."""
SENDERS = {"alpha": "Alpha", "bravo": "447000111222", "poor": "24242"}
"""Each account has an originator of its own, so that what is seen upstream can be traced to it."""
PASSWORDS = {name: f"secret of {name}" for name in SENDERS}
OPENING = {"alpha": 1_000_000, "bravo": 1_000_000, "poor": 40}
"""Credits; the last account runs out of them."""

_SEPTETS = {"é": 0x05, "ä": 0x7B, "ö": 0x7C, "ß": 0x1E, "£": 0x01}
_WORDS = ("lamp", "ship", "signal", "answer", "flash", "night", "water", "report", "Größe", "café", "£5", "ändern")
_UNICODE = "Ωмир光信号→ж"
_ENDINGS = ("0053", "0057", "0050", "0104", "0103", "0107", "0108", "0109", "0055")
"""Numbers with scripts of their own in the simulator: failures, early, repeated and disordered receipts, refusals."""
_THROTTLED, _THROTTLED_SHARE = "0105", 0.001
"""Refused once with ESME_RTHROTTLED. Few, for each of them halves the pace of a bind."""


@dataclass(frozen=True)
class Ask:
    """One submission. `means` is what is wrong with it on purpose, or `good`."""

    n: int
    account: str
    coding: str
    text: str
    """Hexadecimal where the coding is 8bit."""
    msisdns: tuple[str, ...]
    want_report: bool
    dup: int
    means: str = "good"

    @property
    def source_id(self) -> str:
        return f"s{self.n}"

    @property
    def sender(self) -> str:
        return SENDERS.get(self.account, "Nobody")

    @property
    def body(self) -> bytes:
        """The body as the ledger is to hold it."""
        return bytes.fromhex(self.text) if self.coding == "8bit" else self.text.encode()

    def pieces(self) -> list[bytes]:
        """Return the user data of each part, without its header."""
        if self.coding == "8bit":
            return [self.body]
        if self.coding == "16bit":
            octets, single, size = self.text.encode("utf-16-be"), 140, 134
        else:
            octets, single, size = bytes(_SEPTETS.get(char, ord(char)) for char in self.text), 160, 153
        return [octets] if len(octets) <= single else [octets[at : at + size] for at in range(0, len(octets), size)]

    def charge(self) -> int:
        """Return what the whole submission costs, in milli-credits."""
        parts = len(self.pieces())
        return sum(PRICES[number[:4]] * parts for number in self.msisdns if number != BLOCKED)

    def form(self) -> bytes:
        """Return the parameters of send_sms."""
        text = self.text.encode("utf-16-be").hex() if self.coding == "16bit" else self.text
        fields = {
            "username": self.account,
            "password": PASSWORDS.get(self.account, "wrong"),
            "message": text,
            "dca": self.coding,
            "sender": self.sender,
            "msisdn": "12" if self.means == "bad number" else ",".join(self.msisdns),
            "want_report": str(int(self.want_report)),
            "source_id": self.source_id,
        }
        if self.dup:
            fields["stop_dup_id"] = str(self.dup)
        if self.means != "too long":
            fields |= {"allow_concat_text_sms": "1", "concat_text_sms_max_parts": "8"}
        return urlencode(fields, encoding="latin-1").encode()

    def to_line(self) -> dict[str, object]:
        return asdict(self)


def from_line(line: dict[str, object]) -> Ask:
    """Return the submission that an `intent` line of the client's log is about."""
    values = {name: line[name] for name in Ask.__dataclass_fields__}
    values["msisdns"] = tuple(values["msisdns"])  # type: ignore[arg-type]
    return Ask(**values)  # type: ignore[arg-type]


class Source:
    """Makes submissions without end, the same ones for the same seed."""

    def __init__(self, seed: int, scripted: float = 0.15) -> None:
        """Take a seed, and the share of recipients whose numbers have a script."""
        self._random = random.Random(seed)
        self._recipients = count(1)
        self._scripted = scripted

    def __iter__(self) -> Iterator[Ask]:
        for n in count(1):
            yield self._make(n)

    def _make(self, n: int) -> Ask:
        draw = self._random
        means = draw.choices(("good", "bad number", "too long", "stranger"), (94, 2, 2, 2))[0]
        account = "stranger" if means == "stranger" else draw.choices(tuple(SENDERS), (48, 48, 4))[0]
        coding = draw.choices(("7bit", "16bit", "8bit"), (75, 15, 10))[0]
        return Ask(
            n=n,
            account=account,
            coding="7bit" if means == "too long" else coding,
            text=self._text(n, coding, means),
            msisdns=tuple(self._number() for _ in range(self._how_many())),
            want_report=draw.random() < 0.85,
            dup=n if draw.random() < 0.6 else 0,
            means=means,
        )

    def _how_many(self) -> int:
        draw = self._random
        return draw.choices((1, draw.randint(2, 5), draw.randint(15, 40)), (75, 22, 3))[0]

    def _number(self) -> str:
        draw = self._random
        if draw.random() < 0.005:
            return BLOCKED
        ending = (
            _THROTTLED
            if draw.random() < _THROTTLED_SHARE
            else draw.choice(_ENDINGS)
            if draw.random() < self._scripted
            else "7777"
        )
        return f"447{draw.randint(0, 1)}{next(self._recipients):06d}{ending}"

    def _text(self, n: int, coding: str, means: str) -> str:
        draw = self._random
        long = means == "too long" or draw.random() < 0.15
        if coding == "8bit" and means != "too long":
            return f"{n:08d}".encode().hex() + draw.randbytes(draw.randint(1, 100)).hex()
        if coding == "16bit" and means != "too long":
            return f"{n} " + "".join(draw.choices(_UNICODE, k=draw.randint(80, 200) if long else draw.randint(1, 50)))
        words = " ".join(draw.choices(_WORDS, k=draw.randint(40, 80) if long else draw.randint(1, 12)))
        return f"{n} {words}"
