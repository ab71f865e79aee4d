"""The simulator's habits as settings: in the configuration, on the command line, and what is refused."""

from pathlib import Path

import pytest

from aldis.connectors.habits import DIALECTS, IdForm, SimulatorHabits, as_of_version, spell_id
from aldis.connectors.manners import Manners, part_of
from aldis.connectors.outcomes import DELIVERED, Step
from aldis.connectors.simulator_main import _parse, read_habits, read_settings
from aldis.connectors.simulator_memory import Known
from aldis.model.errors import SettingsError
from aldis.service.settings import load
from aldis.smpp.commands import EsmClass, SubmitSm
from aldis.smpp.receipt import format_receipt, parse_receipt

AT = 1_767_268_800_000


def long_part(number: int, parts: int = 3, reference: int = 9) -> SubmitSm:
    head = bytes((5, 0, 3, reference, parts, number))
    return SubmitSm(esm_class=EsmClass.UDHI, destination_addr=b"4477", short_message=head + b"x")


def test_habits_stand_in_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "aldis.toml"
    path.write_text(
        '[[connector]]\nname = "a"\nkind = "simulator"\n[connector.smsc.habits]\nanswer_ids = "hexadecimal"\n'
        'part_states = ["DELIVRD", "UNDELIV"]\nunmarked = true\n'
    )
    [connector] = load(path, {}).connectors
    assert connector.options.smsc.habits == SimulatorHabits(
        answer_ids="hexadecimal", part_states=("DELIVRD", "UNDELIV"), unmarked=True
    )


@pytest.mark.parametrize(
    "line", ['answer_ids = "roman"', 'dialect = "klingon"', 'part_states = ["LOST"]', "first_id = -1", "unknown = 1"]
)
def test_what_no_network_could_do_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "aldis.toml"
    path.write_text(f'[[connector]]\nname = "a"\nkind = "simulator"\n[connector.smsc.habits]\n{line}\n')
    with pytest.raises(SettingsError, match="connector 'a'"):
        load(path, {})


def test_habits_are_options_of_the_program() -> None:
    options = _parse(["--habit", "one_id=true", "--habit", "part_states=DELIVRD,UNDELIV", "--habit", "first_id=7"])
    wanted = SimulatorHabits(one_id=True, part_states=("DELIVRD", "UNDELIV"), first_id=7)
    assert read_settings(options).habits == wanted
    assert read_settings(_parse([])).habits == SimulatorHabits()
    for wrong in ("one_id=perhaps", "no_such=1", "one_id"):
        with pytest.raises(ValueError, match=r"Expected|unknown"):
            read_habits([wrong])


@pytest.mark.parametrize(
    ("form", "spelt"),
    [
        ("decimal", "3735928559"), ("hexadecimal", "deadbeef"), ("HEXADECIMAL", "DEADBEEF"),
        ("padded", "00000000003735928559"), ("dotted", "3.735.928.559"), ("word", "3735928559"),
        ("signed word", "-559038737"), ("word in HEXADECIMAL", "DEADBEEF"),
    ],
)  # fmt: skip
def test_a_number_is_spelt_in_every_form(form: IdForm, spelt: str) -> None:
    assert spell_id(0xDEADBEEF, form) == spelt


def test_smpp_3_3_brings_its_own_habits() -> None:
    assert as_of_version(SimulatorHabits(), "3.4") == SimulatorHabits()
    old = as_of_version(SimulatorHabits(answer_ids="padded"), "3.3")
    assert (old.answer_ids, old.receipt_ids, old.says) == ("padded", "word in HEXADECIMAL", "text")


def test_without_habits_a_receipt_is_to_the_letter_that_of_the_standard() -> None:
    known = Known("77", 77, "id", SubmitSm(destination_addr=b"4477"), AT)
    plain = Manners(SimulatorHabits(), 1).receipt(known, Step("DELIVRD"), AT + 60_000)
    general = Manners(SimulatorHabits(zone_min=0, refused_part=9), 1).receipt(known, Step("DELIVRD"), AT + 60_000)
    text = format_receipt("77", "DELIVRD", submitted_at=AT, done_at=AT + 60_000)
    assert plain == general
    assert plain.short_message == text  # type: ignore[union-attr]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_a_dialect_is_written_and_read_back(dialect: str) -> None:
    known = Known("77", 77, "id", SubmitSm(destination_addr=b"4477"), AT)
    receipt = Manners(SimulatorHabits(dialect=dialect, says="text"), 1).receipt(known, Step("UNDELIV", "051"), AT)
    info = parse_receipt(receipt)
    assert info is not None
    assert (info.upstream_id, info.state) == ("77", "UNDELIV")


def test_parts_are_known_by_their_header() -> None:
    assert part_of(long_part(2)).number == 2
    assert part_of(SubmitSm(short_message=b"\x05\x00\x03\x01\x03\x02")).parts == 1, "no header without its bit"


def test_reversed_answers_wait_for_the_last_part() -> None:
    said: list[int] = []
    manners = Manners(SimulatorHabits(reversed_answers=True), 1)
    for number in (1, 3, 2):
        assert said == []
        manners.answer(long_part(number), lambda number=number: said.append(number))  # type: ignore[misc]
    assert said == [2, 3, 1]
    manners.answer(SubmitSm(), lambda: said.append(0))
    assert said == [2, 3, 1, 0], "a message of one part is answered at once"


def test_one_id_is_for_one_message() -> None:
    manners = Manners(SimulatorHabits(one_id=True, first_id=5), 1)
    numbers = [manners.next_number("id", long_part(n)) for n in (1, 2, 3, 1, 2, 3)]
    assert numbers == [5, 5, 5, 6, 6, 6]
    assert manners.next_number("id", SubmitSm()) == 7


def test_silence_stays_silence_whatever_the_habits() -> None:
    habits = SimulatorHabits(part_states=("DELIVRD",), contradicts=True, forges=True, by="both")
    assert Manners(habits, 1).steps((), long_part(1)) == []
    steps = Manners(habits, 1).steps(DELIVERED.receipts, long_part(1))
    assert [(step.state, step.is_forged, step.is_data_sm) for step in steps] == [
        ("DELIVRD", False, False), ("DELIVRD", False, True),
        ("UNDELIV", False, False), ("UNDELIV", False, True),
        ("DELIVRD", True, False), ("DELIVRD", True, True),
    ]  # fmt: skip
