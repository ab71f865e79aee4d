"""Ids that a receipt's may stand for."""

import pytest

from aldis.rules.spelling import Spelling, origins


@pytest.mark.parametrize(
    ("written", "given", "spelling"),
    [
        ("3735928559", "deadbeef", Spelling.DECIMAL),
        ("3735928559", "DEADBEEF", Spelling.DECIMAL),
        ("48879", "0000BEEF", Spelling.DECIMAL),
        ("48879", "000000000000beef", Spelling.DECIMAL),
        ("deadbeef", "3735928559", Spelling.HEXADECIMAL),
        ("DEADBEEF", "3735928559", Spelling.HEXADECIMAL),
        ("10", "16", Spelling.HEXADECIMAL),
        ("ABC-def", "abc-def", Spelling.CASE),
        ("5f1d6c1e", "5F1D6C1E", Spelling.CASE),
        ("123", "0000000123", Spelling.ZEROS),
        ("0000000123", "123", Spelling.ZEROS),
        ("00ab", "ab", Spelling.ZEROS),
        ("-1294967296", "3000000000", Spelling.WORD),
        ("-1", "ffffffff", Spelling.WORD),
    ],
)
def test_an_id_may_stand_for_one_spelt_otherwise(written: str, given: str, spelling: Spelling) -> None:
    assert origins(written)[given] is spelling


@pytest.mark.parametrize("written", ["", "7.8.9", "a+b/c==", "Grüße", "-", "--5", "-x", "0x", "１２３", "9" * 500, "²"])
def test_what_is_no_number_stands_for_few(written: str) -> None:
    found = origins(written)
    assert len(found) <= 2
    assert written not in found
    assert "" not in found


@pytest.mark.parametrize(
    "written", ["1", "123456789", "0", "00000000000000000000", "-2147483648", "cafe", "ffffffffffffffff"]
)
def test_they_are_few_enough_to_look_for(written: str) -> None:
    assert 1 <= len(origins(written)) <= 20
