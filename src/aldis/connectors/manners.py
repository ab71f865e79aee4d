"""How the simulated message centre carries out its habits: ids, the order of answers, and what a receipt looks like."""

import itertools
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from aldis.connectors.habits import DIALECTS, SimulatorHabits, spell_id
from aldis.connectors.outcomes import Step
from aldis.connectors.simulator_memory import Known
from aldis.smpp.commands import DataSm, DeliverSm, EsmClass, SubmitSm, Tlv
from aldis.smpp.errors import CommandStatus
from aldis.smpp.receipt import FINAL_STATES, format_receipt, receipt_tlvs

_NEVER_GIVEN: Final = 10**11
"""Ahead of the ids that are given, so far that none of these gets there."""
_MANY_MESSAGES: Final = 10_000
_LONGEST_TEXT: Final = 254
_GSM_NETWORK: Final = 3
_UCS2: Final = 8
_NONE: Final = SimulatorHabits()


class Part(NamedTuple):
    """Which part of which message a submit_sm is, as its user data header says."""

    message: tuple[bytes, bytes, int]
    number: int
    parts: int


def part_of(pdu: SubmitSm) -> Part:
    """Read the concatenation header; what has none is a whole message."""
    head = pdu.short_message[:6]
    if pdu.esm_class & EsmClass.UDHI and len(head) == 6 and head[:3] == b"\x05\x00\x03":
        return Part((pdu.source_addr, pdu.destination_addr, head[3]), head[5], head[4])
    return Part((pdu.source_addr, pdu.destination_addr, -1), 1, 1)


def reply(submitted: SubmitSm, texts: tuple[str, ...]) -> list[DeliverSm]:
    """Return a subscriber's answer to a message, its last part first."""
    reference = zlib.crc32(submitted.destination_addr) % 256
    parts = []
    for number, text in enumerate(texts, 1):
        header = bytes((5, 0, 3, reference, len(texts), number)) if len(texts) > 1 else b""
        parts.append(
            DeliverSm(
                source_addr_ton=submitted.dest_addr_ton,
                source_addr_npi=submitted.dest_addr_npi,
                source_addr=submitted.destination_addr,
                dest_addr_ton=submitted.source_addr_ton,
                dest_addr_npi=submitted.source_addr_npi,
                destination_addr=submitted.source_addr,
                esm_class=EsmClass.UDHI if header else 0,
                short_message=header + text.encode("ascii"),
            )
        )
    return parts[::-1]


class Manners:
    """One message centre's habits at work."""

    def __init__(self, habits: SimulatorHabits, first_id: int) -> None:
        """Take the habits, and where ids begin unless these say otherwise."""
        self._habits = habits
        self._has_none = habits == _NONE
        self._first_id = habits.first_id or first_id
        self._counters: dict[str, Iterator[int]] = {}
        self._shared_ids: dict[tuple[bytes, bytes, int], int] = {}
        self._held: dict[tuple[bytes, bytes, int], list[Callable[[], None]]] = {}

    def next_number(self, system_id: str, pdu: SubmitSm) -> int:
        """Return the number that a new part's id spells."""
        if not self._habits.one_id or (part := part_of(pdu)).parts == 1:
            return self._count(system_id)
        if part.number == 1 or part.message not in self._shared_ids:
            self._shared_ids[part.message] = self._count(system_id)
            _forget_oldest(self._shared_ids)
        return self._shared_ids[part.message]

    def spell(self, number: int) -> str:
        """Return an id as it stands in the submit_sm_resp."""
        return spell_id(number, self._habits.answer_ids)

    def refusal(self, pdu: SubmitSm) -> int:
        """Return the command_status that refuses a part; 0 for none."""
        if not self._habits.refused_part:
            return 0
        part = part_of(pdu)
        is_refused = part.parts > 1 and part.number == self._habits.refused_part
        return CommandStatus.ESME_RSUBMITFAIL if is_refused else 0

    def answer(self, pdu: SubmitSm, say: Callable[[], None]) -> None:
        """Let a part be answered, now, later or never."""
        if self._habits.no_answer:
            return
        if not self._habits.reversed_answers or (part := part_of(pdu)).parts == 1:
            say()
            return
        held = self._held.setdefault(part.message, [])
        held.append(say)
        if len(held) == part.parts:
            for one in reversed(self._held.pop(part.message)):
                one()
        _forget_oldest(self._held)

    def steps(self, receipts: tuple[Step, ...], pdu: SubmitSm) -> list[Step]:
        """Return the receipts of a part, in place of those in its script."""
        if self._has_none:
            return list(receipts)
        habits, part = self._habits, part_of(pdu)
        if part.parts > 1:
            silent = {"first part": part.number > 1, "last part": part.number < part.parts}
            if silent.get(habits.receipts_for):
                return []
            if receipts and habits.part_states:
                receipts = (Step(habits.part_states[(part.number - 1) % len(habits.part_states)]),)
        return [sent for step in receipts for meant in self._meant(step) for sent in self._sent(meant)]

    def _meant(self, step: Step) -> Iterator[Step]:
        habits = self._habits
        if habits.accepted_only and step.state == "DELIVRD":
            step = msgspec.structs.replace(step, state="ACCEPTD")
        yield step
        if step.state in FINAL_STATES and not step.intermediate:
            if habits.contradicts:
                yield Step(_opposite(step.state))
            if habits.forges:
                yield msgspec.structs.replace(step, is_forged=True)

    def _sent(self, step: Step) -> Iterator[Step]:
        if self._habits.by != "data_sm":
            yield step
        if self._habits.by != "deliver_sm":
            yield msgspec.structs.replace(step, is_data_sm=True)

    def receipt(self, known: Known, step: Step, done_at: int) -> DeliverSm | DataSm:
        """Return the PDU of a receipt; `done_at` is epoch ms."""
        habits, submitted = self._habits, known.pdu
        upstream_id = spell_id(known.number + _NEVER_GIVEN * step.is_forged, habits.receipt_ids)
        text = self._text(upstream_id, step, known.submitted_at, done_at) if habits.says != "TLVs" else b""
        tlvs = self._tlvs(upstream_id, step)
        is_payload = habits.payload or step.is_data_sm or len(text) > _LONGEST_TEXT
        if is_payload and text:
            tlvs[Tlv.MESSAGE_PAYLOAD] = text
        kind = EsmClass.INTERMEDIATE if step.intermediate else EsmClass.RECEIPT
        deliver = DeliverSm(
            source_addr_ton=submitted.dest_addr_ton,
            source_addr_npi=submitted.dest_addr_npi,
            source_addr=submitted.destination_addr,
            dest_addr_ton=submitted.source_addr_ton,
            dest_addr_npi=submitted.source_addr_npi,
            destination_addr=submitted.source_addr,
            esm_class=0 if habits.unmarked else kind,
            data_coding=_UCS2 if habits.ucs2 else 0,
            short_message=b"" if is_payload else text,
            tlvs=tlvs or None,
        )
        return _as_data_sm(deliver) if step.is_data_sm else deliver

    def _count(self, system_id: str) -> int:
        key = system_id if self._habits.ids_by_account else ""
        counter = self._counters.get(key)
        if counter is None:
            first, size = self._first_id, self._habits.ids_repeat_after
            ids = range(first, first + size)
            counter = self._counters[key] = itertools.cycle(ids) if size else itertools.count(first)
        return next(counter)

    def _tlvs(self, upstream_id: str, step: Step) -> dict[int, bytes]:
        habits = self._habits
        tlvs = receipt_tlvs(upstream_id, step.state) if habits.says != "text" else {}
        if habits.no_id:
            tlvs.pop(Tlv.RECEIPTED_MESSAGE_ID, None)
        if habits.errors_in_tlv:
            tlvs[Tlv.NETWORK_ERROR_CODE] = bytes((_GSM_NETWORK,)) + int(step.error).to_bytes(2, "big")
        return tlvs

    def _text(self, upstream_id: str, step: Step, submitted_at: int, done_at: int) -> bytes:
        if self._has_none:
            return format_receipt(upstream_id, step.state, submitted_at=submitted_at, done_at=done_at, error=step.error)
        habits, dialect = self._habits, DIALECTS[self._habits.dialect]
        state = _opposite(step.state) if habits.says == "contradiction" else step.state
        values = {
            "id": upstream_id,
            "sub": "001",
            "dlvrd": f"{state == 'DELIVRD':03d}",
            "submit date": self._date(submitted_at),
            "done date": self._date(done_at),
            "stat": _in_letters(dialect.words.get(state, state), dialect.letters),
            "err": step.error,
            "text": dialect.quoted,
        }
        if habits.no_id:
            del values["id"]
        if habits.errors_in_tlv:
            del values["err"]
        shown = [f"{_in_letters(key, dialect.letters)}:{values[key]}" for key in dialect.order if key in values]
        text = dialect.separator.join(shown) + dialect.end
        return text.encode("utf-16-be" if habits.ucs2 else "latin-1", "replace")

    def _date(self, at_ms: int) -> str:
        at_s = at_ms // 1000 + 60 * self._habits.zone_min
        return datetime.fromtimestamp(at_s, UTC).strftime(DIALECTS[self._habits.dialect].dates)


def _in_letters(text: str, letters: str) -> str:
    return text.lower() if letters == "lower" else text.upper() if letters == "upper" else text


def _opposite(state: str) -> str:
    return "UNDELIV" if state == "DELIVRD" else "DELIVRD"


def _forget_oldest(remembered: dict[tuple[bytes, bytes, int], Any]) -> None:
    if len(remembered) > _MANY_MESSAGES:
        del remembered[next(iter(remembered))]


def _as_data_sm(deliver: DeliverSm) -> DataSm:
    return DataSm(
        source_addr_ton=deliver.source_addr_ton,
        source_addr_npi=deliver.source_addr_npi,
        source_addr=deliver.source_addr,
        dest_addr_ton=deliver.dest_addr_ton,
        dest_addr_npi=deliver.dest_addr_npi,
        destination_addr=deliver.destination_addr,
        esm_class=deliver.esm_class,
        data_coding=deliver.data_coding,
        tlvs=deliver.tlvs,
    )
