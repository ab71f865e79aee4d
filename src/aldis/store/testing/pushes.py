"""Pushes owed to customers (T5), and what a restart leaves."""

import msgspec

from aldis.connectors.base import Accepted, Refused
from aldis.model.status import Status
from aldis.model.types import Push, PushResult
from aldis.store.testing.bench import NOON, URL, Bench

WRONG = Refused(0x0B, retryable=False)


class PushContract:
    """What customers are told, and that nothing of it is lost."""

    # EAPI-60
    async def test_a_final_status_owes_one_push(self, bench: Bench) -> None:
        """I8: it is on disk and told of, with all that its request needs; transient news owes none."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1"))
        await bench.receipt("a1", "ENROUTE")
        assert not bench.pushes
        await bench.receipt("a1", "DELIVRD")
        await bench.receipt("a1", "DELIVRD")
        [push] = bench.pushes
        assert (push.message_id, push.batch_id, push.account_id) == (
            message_id, bench.batch_of(message_id), ada.account_id,
        )  # fmt: skip
        assert (push.url, push.msisdn, push.status, push.completed_at) == (URL, 4915112345678, 11, NOON)
        assert (push.source_id, push.attempts, push.due_at) == ("mine", 0, NOON)
        assert await bench.ledger.due_pushes(NOON, 10) == [push]
        assert await bench.ledger.due_pushes(NOON - 1, 10) == []

    # EAPI-60
    async def test_who_wants_no_push_is_owed_none(self, bench: Bench) -> None:
        """Neither without a URL, nor where the submission asked for no report."""
        quiet = await bench.account("quiet", push_url="")
        await bench.send(quiet, WRONG)
        ada = await bench.account("ada")
        batch = bench.batch(ada, [4915100000001], want_report=False)
        await bench.ledger.admit(batch)
        await bench.claim()
        await bench.outcome(batch.last_message_id, (1, WRONG))
        assert await bench.status(ada, batch.last_message_id) is Status.UNROUTABLE
        assert not bench.pushes
        assert not await bench.ledger.due_pushes(NOON, 10)

    # EAPI-65
    async def test_a_newer_push_takes_the_place_of_an_older(self, bench: Bench) -> None:
        """I8: one a message; the end of the older one changes nothing but the history."""
        ada = await bench.account()
        await bench.send(ada, Accepted("a1"))
        await bench.receipt("a1", "UNDELIV")
        await bench.receipt("a1", "DELIVRD")
        old, new = bench.pushes
        assert (old.status, new.status) == (51, 11)
        assert old.push_id != new.push_id
        await bench.ledger.record_push_results([_result(old, delivered=True)])
        assert await bench.ledger.due_pushes(NOON, 10) == [new]
        await bench.ledger.record_push_results([_result(old, attempts=3, next_at=NOON + 9)])
        assert await bench.ledger.due_pushes(NOON, 10) == [new]
        await bench.ledger.record_push_results([_result(new, delivered=True)])
        assert not await bench.ledger.due_pushes(NOON + 10**9, 10)

    # EAPI-63
    async def test_a_failed_push_is_due_again_at_its_time(self, bench: Bench) -> None:
        """Under the same id; each try is in the history with the receiver's words."""
        ada = await bench.account()
        message_id = await bench.send(ada, WRONG)
        [push] = bench.pushes
        result = _result(push, attempts=1, next_at=NOON + 60, detail="500 oops")
        await bench.ledger.record_push_results([result])
        assert not await bench.ledger.due_pushes(NOON + 59, 10)
        [again] = await bench.ledger.due_pushes(NOON + 60, 10)
        assert again == msgspec.structs.replace(push, attempts=1, due_at=NOON + 60)
        state = await bench.store.queue_state(NOON + 60)
        assert (state.pushes, state.oldest_push_at) == (1, NOON + 60)
        await bench.ledger.record_push_results([_result(push, delivered=True, detail="200 OK")])
        kinds = [(event.kind, event.detail) for event in await bench.history(message_id)]
        assert kinds[1:] == [("push failed", "500 oops"), ("pushed", "200 OK")]

    # EAPI-63 PROMISE-8
    async def test_an_exhausted_push_is_not_tried_again_and_stays_told(self, bench: Bench) -> None:
        """I8: after the last try it is in the history for good; a newer status owes a new one."""
        ada = await bench.account()
        message_id = await bench.send(ada, Accepted("a1"))
        await bench.receipt("a1", "UNDELIV")
        await bench.ledger.record_push_results([_result(bench.pushes[0], attempts=4)])
        await bench.reopen()
        assert not await bench.ledger.due_pushes(NOON + 10**9, 10)
        assert (await bench.history(message_id))[-1].kind == "push failed"
        await bench.receipt("a1", "DELIVRD")
        assert await bench.ledger.due_pushes(NOON, 10) == bench.pushes[1:]

    async def test_pushes_come_oldest_first_and_as_many_as_asked_for(self, bench: Bench) -> None:
        """What waited longest goes first."""
        ada = await bench.account()
        for _ in range(5):
            await bench.send(ada, WRONG)
            bench.now += 10
        assert await bench.ledger.due_pushes(bench.now, 3) == bench.pushes[:3]

    # PROMISE-1
    async def test_a_restart_changes_nothing(self, bench: Bench) -> None:
        """I1, I8: reports, history, credits, queue and pushes are those of before."""
        ada = await bench.account()
        delivered, failed = await bench.send(ada, Accepted("a1")), await bench.send(ada, WRONG)
        long = await bench.send(ada, Accepted("b1"), Accepted("b2"))
        await bench.submit(ada)
        await bench.receipt("a1")
        await bench.receipt("b2")
        await bench.receipt("nobody's")

        async def everything() -> list[object]:
            found: list[object] = [await bench.credits(ada), await bench.store.queue_state(NOON)]
            found.append(await bench.ledger.due_pushes(NOON, 10))
            for message_id in (delivered, failed, long):
                found += [await bench.report(ada, bench.batch_of(message_id)), await bench.history(message_id)]
            return found

        before = await everything()
        await bench.reopen()
        assert await everything() == before
        await bench.receipt("b1")
        assert await bench.status(ada, long) is Status.DELIVERED
        assert len(await bench.claim()) == 1

    # PROMISE-5
    async def test_credits_are_conserved(self, bench: Bench) -> None:
        """I5: opening and top-ups, less charges, plus refunds, is what is there, whatever became of the messages."""
        ada = await bench.account(credits_milli=10_000)
        await bench.store.top_up(ada.account_id, 2_345, NOON, "more")
        await bench.send(ada, Accepted("a1"))
        await bench.receipt("a1", "UNDELIV")
        refused = [await bench.send(ada, WRONG) for _ in range(3)]
        await bench.submit(ada, [4915100000001, 4915100000002])
        await bench.outcome(refused[0], (1, WRONG))
        await bench.reopen()
        assert await bench.credits(ada) == 10_000 + 2_345 - 6_000 + 3_000


def _result(
    push: Push,
    *,
    delivered: bool = False,
    attempts: int = 1,
    next_at: int | None = None,
    detail: str = "",
) -> PushResult:
    key = push.push_id, push.account_id, push.message_id
    return PushResult(*key, delivered, attempts, next_at, detail, NOON)
