"""The codec against 20,000 mutated PDUs, with another codec, smpp34, as oracle."""

import time
import tracemalloc
from collections import Counter
from typing import Any, TypeAlias

import pytest
import smpp34
from tests.interop.mutations import MESSAGES, MUTATIONS, PDUS, REFUSALS, SEEDS, mutated

from aldis.smpp.errors import CommandStatus
from aldis.smpp.pdu import (
    DEFAULT_MAX_LENGTH,
    HEADER_LENGTH,
    DeliverSm,
    FrameError,
    Framer,
    Header,
    PduError,
    SubmitSm,
    decode,
    encode,
)

SEED, COUNT = 2_775, 20_000
SLOW_S = 0.005
STRINGS = {
    "service_type": 5, "source_addr": 20, "destination_addr": 20, "schedule_delivery_time": 16, "validity_period": 16,
}  # fmt: skip
"""The strings of submit_sm and deliver_sm, and the standard's longest of each, without its NUL."""
NUMBERS = (
    "source_addr_ton", "source_addr_npi", "dest_addr_ton", "dest_addr_npi", "esm_class", "protocol_id", "priority_flag",
    "registered_delivery", "replace_if_present_flag", "data_coding", "sm_default_msg_id",
)  # fmt: skip

Message: TypeAlias = SubmitSm | DeliverSm
Theirs: TypeAlias = smpp34.SubmitSm | smpp34.DeliverSm


def read_ours(frame: bytes) -> tuple[Header, Any] | PduError | FrameError:
    """Return what our decoder says; anything but its own errors ends the test."""
    try:
        return decode(frame)
    except (PduError, FrameError) as error:
        return error


def read_theirs(frame: bytes) -> Any:
    try:
        return smpp34.decode(frame)
    except smpp34.SmppError as error:
        return error


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    return list(mutated(SEED, COUNT, MUTATIONS))


# SMPP-13
def test_mutated_pdus_are_read_or_refused_with_an_error_of_our_own(frames: list[bytes]) -> None:
    tally: Counter[str] = Counter()
    for frame in frames:
        said = read_ours(frame)
        tally["read" if isinstance(said, tuple) else type(said).__name__] += 1
        is_whole = len(frame) >= HEADER_LENGTH and int.from_bytes(frame[:4], "big") == len(frame)
        assert isinstance(said, FrameError) == (not is_whole)
        if isinstance(said, PduError):
            assert said.command_status in set(CommandStatus) - {CommandStatus.ESME_ROK}
            assert said.header.command_length == len(frame)
    assert sum(tally.values()) == COUNT
    assert min(tally.values()) > 1_000, tally


def test_none_takes_five_milliseconds(frames: list[bytes]) -> None:
    for frame in frames:
        if _seconds(frame) > SLOW_S:  # a garbage collection may have fallen into it
            assert _best_seconds(frame) < SLOW_S, frame.hex()


def test_the_time_grows_with_the_length_and_no_faster() -> None:
    """The PDUs that are the most work: as many TLVs without a value as fit."""
    long, short = (_message_of_many_tlvs(length) for length in (DEFAULT_MAX_LENGTH, DEFAULT_MAX_LENGTH // 16))
    assert _best_seconds(long) < 16 * 3 * _best_seconds(short)
    assert _best_seconds(long) < 10 * SLOW_S


def _best_seconds(frame: bytes) -> float:
    return min(_seconds(frame) for _ in range(20))


def _seconds(frame: bytes) -> float:
    """Return the processor's time for one PDU; that of the clock is other processes' too."""
    started = time.process_time()
    read_ours(frame)
    return time.process_time() - started


def _message_of_many_tlvs(length: int) -> bytes:
    tags = range((length - len(encode(SubmitSm(), 1))) // 4)
    return encode(SubmitSm(tlvs=dict.fromkeys(tags, b"")), 1)


def test_memory_is_bound_by_what_arrived_and_not_by_what_was_claimed(frames: list[bytes]) -> None:
    tracemalloc.start()
    try:
        for frame in frames[:5_000]:
            assert _peak(frame) < 8_192 + 40 * len(frame), frame.hex()
        before = tracemalloc.get_traced_memory()[0]
        for frame in frames:
            read_ours(frame)
        assert tracemalloc.get_traced_memory()[0] - before < 65_536
    finally:
        tracemalloc.stop()


def _peak(frame: bytes) -> int:
    """Return the most octets in use while a PDU is cut from the stream and read, above those before."""
    before = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    try:
        for whole in Framer().feed(frame):
            read_ours(whole)
    except FrameError as error:
        assert len(error.frames) <= 1
    return tracemalloc.get_traced_memory()[1] - before


# ------------------------------------------------------------------------------------------- the oracle's opinion


def judge(frame: bytes) -> str:
    """Compare both readings of a frame, and return what kind of agreement or difference it is.

    A kind of difference is proved by what the oracle read, not by what our error says.
    """
    ours, theirs = read_ours(frame), read_theirs(frame)
    if isinstance(ours, FrameError):
        assert isinstance(theirs, smpp34.SmppError)
        return "no whole PDU to either"
    header = ours[0] if isinstance(ours, tuple) else ours.header
    if isinstance(theirs, smpp34.RawPdu):
        assert header == (theirs.command_length, theirs.command_id, theirs.command_status, theirs.sequence_number)
        assert theirs.body == frame[HEADER_LENGTH:]
        return "a header to the oracle"
    if isinstance(theirs, smpp34.SmppError):
        assert isinstance(ours, PduError), f"only we take {frame.hex()}"
        return "malformed to both"
    assert (header.command_id, header.sequence) == (theirs.command_id, theirs.sequence_number)
    if isinstance(ours, PduError):
        return _only_theirs(ours, theirs, frame)
    return _both(ours[1], theirs, frame)


def _only_theirs(error: PduError, theirs: Theirs, frame: bytes) -> str:
    """Return why we refuse what the oracle takes: it has no limits, and drops what is left of a cut TLV."""
    assert isinstance(theirs, smpp34.SubmitSm), "a message centre's deliver_sm is refused by us alone"
    if any(len(getattr(theirs, name)) > size for name, size in STRINGS.items()):
        return "submit_sm: a string is too long"
    if theirs.sm_length > 254:
        return "submit_sm: sm_length is 255"
    assert error.command_status == CommandStatus.ESME_RINVOPTPARSTREAM
    assert _left_over(theirs, frame) > 0, frame.hex()
    return "submit_sm: the last TLV is cut"


def _both(ours: Message, theirs: Theirs, frame: bytes) -> str:
    """Compare a message field by field."""
    assert {name: getattr(ours, name) for name in NUMBERS} == {name: getattr(theirs, name) for name in NUMBERS}
    assert ours.short_message == theirs.short_message
    for name in STRINGS:  # the oracle's strings are text: what is no UTF-8 is lost in them
        assert getattr(ours, name).decode("utf-8", "replace") == getattr(theirs, name)
    first: dict[int, bytes] = {}
    for tlv in theirs.tlvs:
        first.setdefault(tlv.tag, tlv.value)
    assert (ours.tlvs or {}) == first
    is_cut = isinstance(ours, DeliverSm) and ours.cut_tlv
    if not all(getattr(ours, name).isascii() for name in STRINGS):
        return "a string that is not ASCII"
    assert is_cut == (_left_over(theirs, frame) > 0)
    if is_cut:
        return "deliver_sm: the last TLV is cut"
    if len(first) < len(theirs.tlvs):
        return "a TLV that comes twice"
    if any(len(getattr(ours, name)) > size for name, size in STRINGS.items()) or len(ours.short_message) > 254:
        assert isinstance(ours, DeliverSm), f"an ESME may not have this: {frame.hex()}"
        return "deliver_sm: longer than the standard"
    assert encode(ours, int.from_bytes(frame[12:16], "big"), int.from_bytes(frame[8:12], "big")) == frame
    return "the same, octet for octet"


def _left_over(theirs: Theirs, frame: bytes) -> int:
    """Return how many octets at the end the oracle did not read."""
    strings = sum(len(getattr(theirs, name)) + 1 for name in STRINGS)
    tlvs = sum(4 + len(tlv.value) for tlv in theirs.tlvs)
    return len(frame) - HEADER_LENGTH - strings - len(NUMBERS) - 1 - len(theirs.short_message) - tlvs


def test_an_oracle_reads_mutated_pdus_alike_but_for_differences_that_have_a_name(frames: list[bytes]) -> None:
    kinds = Counter(map(judge, frames))
    assert sum(kinds.values()) == COUNT
    expected = {
        "the same, octet for octet": 1_000,
        "malformed to both": 1_000,
        "no whole PDU to either": 1_000,
        "a header to the oracle": 5_000,
        "submit_sm: the last TLV is cut": 100,
        "deliver_sm: the last TLV is cut": 100,
        "submit_sm: a string is too long": 20,
        "submit_sm: sm_length is 255": 1,
        "deliver_sm: longer than the standard": 20,
        "a string that is not ASCII": 20,
        "a TLV that comes twice": 20,
    }
    assert kinds.keys() == expected.keys()
    assert all(kinds[kind] >= least for kind, least in expected.items()), kinds


def test_the_oracle_reads_what_we_write_and_writes_the_same() -> None:
    for seed in MESSAGES:
        theirs = read_theirs(seed)
        assert isinstance(theirs, smpp34.SubmitSm | smpp34.DeliverSm)
        assert theirs.encode() == seed
        assert judge(seed) == "the same, octet for octet"


def test_we_read_what_the_oracle_writes() -> None:
    tlvs = [smpp34.Tlv(0x1E, b"abc\0"), smpp34.Tlv(0x1400, b"v")]
    made = smpp34.DeliverSm("447700900123", "Aldis", b"text", service_type="CMT", esm_class=4, tlvs=tlvs)
    header, pdu = decode(made.encode())
    assert header.command_id == DeliverSm.command_id
    assert pdu == DeliverSm(
        b"CMT",
        source_addr=b"447700900123",
        destination_addr=b"Aldis",
        esm_class=4,
        short_message=b"text",
        tlvs={0x1E: b"abc\0", 0x1400: b"v"},
    )


# SMPP-13
@pytest.mark.parametrize("name", STRINGS)
def test_a_string_may_be_as_long_as_the_standard_says_and_no_longer(name: str) -> None:
    """The oracle writes any length; of a message centre we take any, too."""
    for length in (STRINGS[name], STRINGS[name] + 1):
        strings: dict[str, Any] = {"source_addr": "1", "destination_addr": "2", name: "x" * length}
        deliver = decode(smpp34.DeliverSm(**strings).encode())[1]
        assert getattr(deliver, name) == b"x" * length
        submit = read_ours(smpp34.SubmitSm(**strings).encode())
        assert isinstance(submit, PduError) == (length > STRINGS[name])


def test_the_seeds_are_well_formed() -> None:
    for pdu, seed in zip(PDUS, SEEDS, strict=True):
        assert decode(seed)[1] == pdu
    assert all(decode(refusal)[0].command_status for refusal in REFUSALS)
