"""What is learnt of links: counted, settled when nearly all agree, locked by hand, kept in the ledger."""

import asyncio
from pathlib import Path

import pytest

from aldis.ledger import Ledger
from aldis.model.errors import LedgerUnavailable
from aldis.model.ids import IdMaker
from aldis.rules.profile import (
    AT_ONCE,
    ENOUGH,
    LAST_WORD,
    MANY,
    Fact,
    Profiles,
    Topic,
    delay_of,
    offset_of,
    part_of,
    refuse_bad_lock,
)
from aldis.rules.spelling import Spelling
from aldis.service.admin import Admin
from aldis.service.profiles import ProfileKeeper
from aldis.store.sqlite import SqliteStore

CAME = 1_780_000_000_000  # 2026-05-28 20:26:40 UTC


def noted(**values: int) -> Profiles:
    profiles = Profiles()
    for value, times in values.items():
        for _ in range(times):
            profiles.note("north", Topic.SPELLING, value)
    return profiles


def test_a_topic_is_settled_when_nearly_all_of_enough_receipts_agree() -> None:
    assert noted().settled("north", Topic.SPELLING) == ""
    assert noted(same=ENOUGH - 1).settled("north", Topic.SPELLING) == ""
    assert noted(same=ENOUGH).settled("north", Topic.SPELLING) == "same"
    assert noted(same=95, zeros=5).settled("north", Topic.SPELLING) == "same"
    assert noted(same=94, zeros=6).settled("north", Topic.SPELLING) == ""
    assert noted(same=ENOUGH).settled("south", Topic.SPELLING) == ""
    assert noted(same=ENOUGH).settled("north", Topic.PART) == ""


def test_what_is_settled_by_hand_stands_whatever_receipts_say() -> None:
    profiles = noted(same=ENOUGH)
    profiles.learn([Fact("north", Topic.SPELLING, "same", 500)], [("north", Topic.SPELLING, "decimal of hexadecimal")])
    assert profiles.spelling("north") is Spelling.DECIMAL
    assert profiles.locked("north", Topic.SPELLING) == "decimal of hexadecimal"


@pytest.mark.parametrize(("topic", "value"), [(Topic.SPELLING, "odd"), (Topic.PART, "middle"), (Topic.CLOCK, "60")])
def test_nonsense_is_not_settled(topic: Topic, value: str) -> None:
    with pytest.raises(ValueError, match=topic.value):
        refuse_bad_lock(topic, value)


def test_a_last_word_is_locked_by_hand_and_never_learnt() -> None:
    profiles = Profiles()
    for _ in range(ENOUGH):
        profiles.note("north", Topic.STATE, LAST_WORD)
    assert profiles.meant("north", LAST_WORD) == LAST_WORD
    refuse_bad_lock(Topic.STATE, LAST_WORD)
    profiles.learn([], [("north", Topic.STATE, LAST_WORD)])
    assert [profiles.meant("north", word) for word in (LAST_WORD, "UNDELIV")] == ["DELIVRD", "UNDELIV"]
    assert profiles.meant("south", LAST_WORD) == LAST_WORD
    with pytest.raises(ValueError, match="ACCEPTD"):
        refuse_bad_lock(Topic.STATE, "ENROUTE")


# RULE-w
@pytest.mark.parametrize(
    ("delays", "words", "doubts"),
    [
        ({}, {}, 0),
        ({AT_ONCE: ENOUGH - 1}, {"DELIVRD": MANY - 1}, 0),
        ({AT_ONCE: ENOUGH}, {"DELIVRD": MANY - 1}, 1),
        ({AT_ONCE: 94, "1 min": 6}, {"DELIVRD": MANY}, 1),
        ({"1 min": 500}, {"DELIVRD": MANY, "ENROUTE": 7, "UNDELIV": 1}, 0),
        ({AT_ONCE: MANY}, {"DELIVRD": MANY, "ACCEPTD": MANY}, 2),
    ],
)
def test_receipts_that_are_too_good_are_doubted(delays: dict[str, int], words: dict[str, int], doubts: int) -> None:
    profiles = Profiles()
    facts = [Fact("north", Topic.DELAY, value, times) for value, times in delays.items()]
    facts += [Fact("north", Topic.STATE, value, times) for value, times in words.items()]
    profiles.learn(facts, [])
    assert len(profiles.doubts("north")) == doubts
    assert profiles.doubts("south") == []


def test_parts_and_delays_have_words() -> None:
    assert [part_of(n, 3) for n in (1, 2, 3)] == ["first", "middle", "last"]
    assert [delay_of(CAME, CAME + s * 1000) for s in (-5, 1, 2, 60, 61, 3_600, 86_400, 10**6)] == [
        "1 s", "1 s", "1 min", "1 min", "10 min", "1 h", "1 day", "more",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "offset"),
    [
        ("2605282027", "0"),
        ("260528202640", "0"),
        ("20260528222640", "120"),
        ("2605290156", "330"),
        ("2605281327", "-420"),
        ("0000000000", ""),
        ("2613282026", ""),
        ("2705282026", ""),
        ("26-05-28", ""),
        ("", ""),
        ("２６０５２８２０２６", ""),
    ],
)
def test_a_receipt_s_date_tells_how_its_clock_differs(written: str, offset: str) -> None:
    assert offset_of(written, CAME) == offset


async def test_what_is_learnt_is_added_up_over_nodes_and_lives(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, lambda pushes: None)
    for _ in range(2):
        profiles = noted(same=15)
        await ProfileKeeper(store, profiles).keep()
    assert profiles.counts("north")[Topic.SPELLING] == {"same": 30}
    profiles.note("north", Topic.SPELLING, "zeros")
    await ProfileKeeper(store, profiles).keep()
    await ProfileKeeper(store, profiles).keep()
    assert profiles.counts("north")[Topic.SPELLING] == {"same": 30, "zeros": 1}
    await store.close()
    store = SqliteStore(tmp_path, lambda pushes: None)
    again = Profiles()
    await ProfileKeeper(store, again).keep()
    assert again.settled("north", Topic.SPELLING) == "same"
    await store.close()


async def test_what_can_t_be_stored_now_is_stored_later(tmp_path: Path) -> None:
    class Refusing(SqliteStore):
        is_full = True

        async def add_facts(self, numbers: object) -> None:
            if self.is_full:
                raise LedgerUnavailable
            await super().add_facts(numbers)  # type: ignore[arg-type]

    store, profiles = Refusing(tmp_path, lambda pushes: None), noted(same=3)
    keeper = ProfileKeeper(store, profiles)
    with pytest.raises(LedgerUnavailable):
        await keeper.keep()
    profiles.note("north", Topic.SPELLING, "same")
    store.is_full = False
    await keeper.keep()
    assert list((await store.facts("profile")).values()) == [4]
    await store.close()


async def test_an_operator_looks_locks_and_forgets(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path, lambda pushes: None)
    ledger = Ledger(store, IdMaker(0), lambda: CAME)
    for _ in range(ENOUGH):
        ledger.profiles.note("north", Topic.SPELLING, "same")
    admin = Admin(store, ledger)

    async def shown() -> dict[str, object]:
        [row] = [
            row for row in await admin.call("connectors.profile", {"connector": "north"}) if row["topic"] == "spelling"
        ]
        return {name: row[name] for name in ("counts", "settled", "locked")}

    assert await shown() == {"counts": {"same": ENOUGH}, "settled": "same", "locked": False}
    ledger.profiles.learn([], [])
    for _ in range(ENOUGH):
        ledger.profiles.note("north", Topic.DELAY, AT_ONCE)
    [doubt] = await admin.call("connectors.doubts", {"connector": "north"})
    assert "within 1 s" in doubt
    for value in ("letter case", "leading zeros"):
        await admin.call("connectors.lock", {"connector": "north", "topic": "spelling", "value": value})
    assert await shown() == {"counts": {"same": ENOUGH}, "settled": "leading zeros", "locked": True}
    await admin.call("connectors.lock", {"connector": "north", "topic": "spelling", "value": ""})
    assert (await shown())["settled"] == "same"
    await admin.call("connectors.forget", {"connector": "north"})
    assert await shown() == {"counts": {}, "settled": "", "locked": False}
    with pytest.raises(ValueError, match="no topic"):
        await admin.call("connectors.lock", {"connector": "north", "topic": "colour", "value": "red"})
    await store.close()
    await asyncio.sleep(0)


# REC-27
@pytest.mark.parametrize(
    ("delays", "hours"),
    [
        ({}, 24),
        ({AT_ONCE: MANY - 1}, 24),
        ({AT_ONCE: MANY}, 1),
        ({"1 min": MANY, "6 h": 1}, 1),
        ({"1 min": MANY, "6 h": 5}, 6),
        ({"1 min": MANY, "3 days": 50}, 72),
        ({"1 min": MANY, "more": 50}, 24),
    ],
)
def test_receipts_are_waited_for_as_long_as_nearly_all_of_them_took(delays: dict[str, int], hours: int) -> None:
    profiles = Profiles()
    profiles.learn([Fact("north", Topic.DELAY, value, times) for value, times in delays.items()], [])
    assert profiles.horizon_ms("north") == hours * 3_600_000
    assert profiles.horizon_ms("south") == 24 * 3_600_000
