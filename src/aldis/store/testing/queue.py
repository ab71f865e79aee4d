"""Accounts, admission and claims: what goes in, and who gets it."""

import asyncio

import msgspec

from aldis.connectors.base import Accepted, NotSent, Refused
from aldis.ledger import Lapsed
from aldis.model.errors import LedgerUnavailable, NoCredits, QuotaExceeded
from aldis.model.status import Status
from aldis.model.types import AccountId, Dca
from aldis.store.base import NewBatch
from aldis.store.testing.bench import DAY_MS, LEASE_MS, NOON, Bench

THROTTLED = Refused(0x58, retryable=True, throttled=True)


class AccountContract:
    """Customers and their credits."""

    async def test_an_account_is_found_by_its_name_alone(self, bench: Bench) -> None:
        """What was put is what is found; a change takes effect at once."""
        ada = await bench.account("ada", 5_000, quota=7)
        assert await bench.store.find_account("ada") == msgspec.structs.replace(ada, credits_milli=5_000)
        assert await bench.store.find_account("Ada") is None
        await bench.store.put_account(msgspec.structs.replace(ada, disabled=True, report_header="results"))
        found = await bench.store.find_account("ada")
        assert found is not None and found.disabled and found.report_header == "results"

    async def test_a_name_is_taken_once(self, bench: Bench) -> None:
        """A second account of the name is refused, also by renaming; the first stays as it is."""
        ada, bob = await bench.account("ada"), await bench.account("bob")
        for thief in (msgspec.structs.replace(bob, username="ada"), msgspec.structs.replace(ada, account_id=_NEW)):
            try:
                await bench.store.put_account(thief)
            except ValueError:
                continue
            raise AssertionError("the name was taken twice")
        assert [one.username for one in await bench.store.list_accounts()] == ["ada", "bob"]

    async def test_changing_an_account_leaves_its_credits(self, bench: Bench) -> None:
        """I5: only charges, refunds and top-ups move credits."""
        ada = await bench.account("ada", 5_000)
        await bench.store.put_account(msgspec.structs.replace(ada, credits_milli=9_999_999, push_url=""))
        assert await bench.credits(ada) == 5_000

    # PROMISE-5
    async def test_a_new_account_may_begin_with_credits(self, bench: Bench) -> None:
        """I5: they come with it or not at all, and once: a later change gives none."""
        ada = await bench.account("ada", 5_000)
        new = msgspec.structs.replace(ada, account_id=_NEW, username="eve")
        eve = await bench.store.put_account(new, opening_milli=3_000, at=NOON)
        await bench.store.put_account(eve)
        assert (await bench.credits(ada), await bench.credits(eve)) == (5_000, 3_000)
        assert [one.username for one in await bench.store.list_accounts()] == ["ada", "eve"]

    async def test_a_batch_has_an_owner(self, bench: Bench) -> None:
        """The account that submitted it; none for an id that no batch has."""
        ada, bob = await bench.account("ada"), await bench.account("bob")
        for account in (ada, bob):
            [message_id] = await bench.submit(account)
            owner = await bench.store.owner_of(bench.batch_of(message_id))
            assert owner is not None and owner.account_id == account.account_id
        assert await bench.store.owner_of(message_id) is None

    async def test_credits_never_go_below_zero(self, bench: Bench) -> None:
        """I5: what would take more than there is takes nothing."""
        ada = await bench.account("ada", 5_000)
        assert await bench.store.top_up(ada.account_id, -5_000, NOON, "back") == 0
        try:
            await bench.store.top_up(ada.account_id, -1, NOON, "more")
        except ValueError:
            assert await bench.credits(ada) == 0
        else:
            raise AssertionError("credits went below zero")


class AdmitContract:
    """T1: batches in."""

    # EAPI-51
    async def test_a_batch_is_charged_and_reported_in_order(self, bench: Bench) -> None:
        """I1: what was acknowledged is there, every recipient in the order given, the same one twice included."""
        ada = await bench.account("ada", 10_000)
        batch = bench.batch(ada, [4915100000003, 4915100000001, 4915100000003])
        assert await bench.ledger.admit(batch) == batch.batch_id
        assert await bench.credits(ada) == 7_000
        report = await bench.report(ada, batch.batch_id)
        assert [one.msisdn for one in report.reports] == [4915100000003, 4915100000001, 4915100000003]
        assert {(one.status, one.price_milli, one.seq) for one in report.reports} == {(Status.IN_PROGRESS, 1_000, 0)}
        assert (report.body, report.originator, report.source_id) == (b"hello", "Aldis", "mine")
        assert (report.created_at, report.dca) == (NOON, Dca.GSM7)
        one = await bench.ledger.find_report(ada.account_id, batch.batch_id, 4915100000001)
        assert one is not None and [two.msisdn for two in one.reports] == [4915100000001]

    async def test_a_large_batch_is_whole_and_touches_no_other(self, bench: Bench) -> None:
        """I2: the messages of a batch are those in its range, whatever lies around it."""
        ada = await bench.account("ada", 10_000_000)
        batches = [bench.batch(ada, range(4915100000000, 4915100000000 + size)) for size in (3, 4_500, 2)]
        await asyncio.gather(*(bench.ledger.admit(batch) for batch in batches))
        for batch in batches:
            reports = (await bench.report(ada, batch.batch_id)).reports
            assert [one.message_id for one in reports] == [row[0] for row in batch.messages]
            assert all(batch.batch_id < one.message_id <= batch.last_message_id for one in reports)

    # EAPI-11 PROMISE-2
    async def test_a_batch_beyond_the_credits_writes_nothing(self, bench: Bench) -> None:
        """I2: refused is absent, uncharged and never sent."""
        ada = await bench.account("ada", 1_999)
        batch = bench.batch(ada, [4915100000001, 4915100000002])
        await _is_refused(bench, batch, NoCredits)
        assert await bench.credits(ada) == 1_999
        assert await bench.ledger.find_report(ada.account_id, batch.batch_id, None) is None
        assert not await bench.claim()

    async def test_the_last_credits_are_spent_once(self, bench: Bench) -> None:
        """I5: 64 at once race for ten credits; ten get one."""
        ada = await bench.account("ada", 10_000)
        batches = [bench.batch(ada, [4915100000001]) for _ in range(64)]
        ends = await asyncio.gather(*(bench.ledger.admit(batch) for batch in batches), return_exceptions=True)
        assert sum(isinstance(end, int) for end in ends) == 10
        assert sum(isinstance(end, NoCredits) for end in ends) == 54
        assert await bench.credits(ada) == 0

    # EAPI-19
    async def test_a_quota_is_counted_by_the_day_of_utc(self, bench: Bench) -> None:
        """The day turns at midnight UTC; what was refused does not count."""
        ada = await bench.account("ada", quota=3)
        bench.now = NOON + DAY_MS // 2 - 1
        await bench.submit(ada, [4915100000001, 4915100000002])
        await _is_refused(bench, bench.batch(ada, [4915100000003, 4915100000004]), QuotaExceeded)
        await bench.ledger.admit(bench.batch(ada, range(4915100000000, 4915100000009), refused=Status.BLOCKED))
        await bench.submit(ada, [4915100000005])
        await _is_refused(bench, bench.batch(ada, [4915100000006]), QuotaExceeded)
        bench.now += 1
        await bench.submit(ada, [4915100000006, 4915100000007, 4915100000008])
        await _is_refused(bench, bench.batch(ada, [4915100000009]), QuotaExceeded)
        assert await bench.credits(ada) == 100_000 - 6_000

    # EAPI-15 PROMISE-2
    async def test_a_number_names_one_batch_among_those_that_come_together(self, bench: Bench) -> None:
        """B10: fifty at once with one stop_dup_id make one batch, and all learn its id."""
        ada = await bench.account()
        batches = [bench.batch(ada, [4915100000001], number=77) for _ in range(50)]
        answers = await asyncio.gather(*(bench.ledger.admit(batch) for batch in batches))
        assert set(answers) == {batches[0].batch_id}
        assert await bench.credits(ada) == 99_000
        assert len(await bench.claim()) == 1

    # EAPI-15
    async def test_a_number_is_remembered_across_a_restart(self, bench: Bench) -> None:
        """I2: a repeat after a crash gets the first batch's id, and costs nothing."""
        ada = await bench.account()
        first = bench.batch(ada, [4915100000001], number=77)
        await bench.ledger.admit(first)
        await bench.reopen()
        assert await bench.ledger.admit(bench.batch(ada, [4915100000001], number=77)) == first.batch_id
        assert await bench.credits(ada) == 99_000

    async def test_a_number_is_its_account_s_own(self, bench: Bench) -> None:
        """I10: another account's equal number is another submission."""
        ada, bob = await bench.account("ada"), await bench.account("bob")
        batches = [bench.batch(one, [4915100000001], number=77) for one in (ada, bob)]
        assert await asyncio.gather(*(map(bench.ledger.admit, batches))) == [one.batch_id for one in batches]

    async def test_a_refused_batch_leaves_its_number_free(self, bench: Bench) -> None:
        """Once there are credits, the same submission works."""
        ada = await bench.account("ada", 0)
        await _is_refused(bench, bench.batch(ada, [4915100000001], number=77), NoCredits)
        await bench.store.top_up(ada.account_id, 1_000, NOON, "more")
        again = bench.batch(ada, [4915100000001], number=77)
        assert await bench.ledger.admit(again) == again.batch_id

    # EAPI-23
    async def test_refused_recipients_are_final_at_once(self, bench: Bench) -> None:
        """31, 32 and 33 are stored with the batch, cost nothing and are never sent."""
        ada = await bench.account()
        batch = bench.batch(ada, [4915100000001], refused=Status.UNROUTABLE)
        await bench.ledger.admit(batch)
        [one] = (await bench.report(ada, batch.batch_id)).reports
        assert (one.status, one.completed_at, one.price_milli) == (Status.UNROUTABLE, NOON, 0)
        assert not await bench.claim()
        assert await bench.credits(ada) == 100_000

    async def test_a_batch_of_no_account_is_refused(self, bench: Bench) -> None:
        """An account that is gone pays for nothing."""
        ada = await bench.account()
        ghost = msgspec.structs.replace(ada, account_id=AccountId(ada.account_id + 99))
        await _is_refused(bench, bench.batch(ghost, [4915100000001]), LedgerUnavailable)

    async def test_a_poisoned_batch_fails_alone(self, bench: Bench) -> None:
        """Those that come together with one that the tables refuse are admitted, and it leaves no trace."""
        ada = await bench.account()
        good = [bench.batch(ada, [4915100000001]) for _ in range(20)]
        poisoned = bench.batch(ada, [4915100000002, 4915100000003])
        poisoned.messages[1] = (*poisoned.messages[1][:8], bench.now)  # completed and due at once
        ends = await asyncio.gather(
            *map(bench.ledger.admit, (*good[:10], poisoned, *good[10:])), return_exceptions=True
        )
        assert isinstance(ends[10], Exception)
        assert ends[:10] + ends[11:] == [batch.batch_id for batch in good]
        assert await bench.ledger.find_report(ada.account_id, poisoned.batch_id, None) is None
        assert await bench.credits(ada) == 100_000 - 20_000

    # EAPI-52 PROMISE-10
    async def test_a_report_is_its_account_s_own(self, bench: Bench) -> None:
        """I10: another's batch is answered like an unknown one."""
        ada, bob = await bench.account("ada"), await bench.account("bob")
        batch = bench.batch(ada, [4915100000001])
        await bench.ledger.admit(batch)
        assert await bench.ledger.find_report(bob.account_id, batch.batch_id, None) is None
        assert await bench.ledger.find_report(bob.account_id, batch.batch_id, 4915100000001) is None
        assert await bench.ledger.find_report(ada.account_id, batch.batch_id + 1, None) is None

    async def test_ids_continue_behind_the_largest(self, bench: Bench) -> None:
        """After a restart no batch or message gets an id that exists, though the clock stands still or went back."""
        ada = await bench.account()
        assert await bench.store.largest_id() == 0
        [last] = await bench.submit(ada)
        assert await bench.store.largest_id() == last
        bench.now -= 3_600_000
        await bench.reopen()
        [later] = await bench.submit(ada)
        assert later > last
        noted = bench.ledger.next_id()
        for known in (noted, 0):
            await bench.store.remember_last_id(known)
            assert await bench.store.largest_id() == noted


class ClaimContract:
    """T2: who sends what, and when."""

    async def test_the_oldest_go_first(self, bench: Bench) -> None:
        """The time at which they became due decides, not the order of arrival."""
        ada = await bench.account()
        for age in (2_000, 5_000, 1_000):
            await bench.ledger.admit(bench.batch(ada, [4915100000000 + age], due_at=NOON - age))
        assert [due.msisdn - 4915100000000 for due in await bench.claim(2)] == [5_000, 2_000]
        assert [due.msisdn - 4915100000000 for due in await bench.claim(2)] == [1_000]

    async def test_a_connector_gets_its_own(self, bench: Bench) -> None:
        """One connector's queue is not another's, and is named while something waits in it."""
        ada = await bench.account()
        for connector in ("north", "south"):
            await bench.ledger.admit(bench.batch(ada, [4915100000001], connector=connector))
        assert sorted(await bench.store.queued_connectors()) == ["north", "south"]
        assert len(await bench.claim(connector="south")) == 1
        assert not await bench.claim(connector="south")
        assert not await bench.claim(connector="east")
        assert await bench.store.queued_connectors() == ["north"]

    async def test_nothing_is_claimed_before_it_is_due(self, bench: Bench) -> None:
        """A scheduled batch waits for its time, to the millisecond."""
        ada = await bench.account()
        await bench.ledger.admit(bench.batch(ada, [4915100000001], due_at=NOON + 500))
        bench.now += 499
        assert not await bench.claim()
        assert (await bench.store.queue_state(bench.now)).due == 0
        bench.now += 1
        state = await bench.store.queue_state(bench.now)
        assert (state.due, state.oldest_due_at, state.leased) == (1, NOON + 500, 0)
        assert len(await bench.claim()) == 1
        assert (await bench.store.queue_state(bench.now)).leased == 1

    async def test_parts_are_what_is_counted(self, bench: Bench) -> None:
        """Room for seven parts takes two messages of three; one longer than the room still goes, alone."""
        ada = await bench.account()
        await bench.submit(ada, range(4915100000001, 4915100000005), parts=3)
        assert len(await bench.claim(7)) == 2
        assert len(await bench.claim(1)) == 1
        [last] = await bench.claim(3)
        assert last.pending == (1, 2, 3)

    # PROMISE-3
    async def test_no_message_is_claimed_twice(self, bench: Bench) -> None:
        """B07: ten at once share fifty messages out."""
        ada = await bench.account()
        messages = await bench.submit(ada, range(4915100000000, 4915100000050))
        claims = await asyncio.gather(*(bench.claim(10) for _ in range(10)))
        assert sorted(due.message_id for dues in claims for due in dues) == messages

    async def test_a_claim_says_all_that_sending_takes(self, bench: Bench) -> None:
        """Body, originator, class, coding and validity come with it; batch data is not looked up again."""
        ada = await bench.account()
        batch = bench.batch(ada, [4915100000001])
        await bench.ledger.admit(batch)
        [due] = await bench.claim()
        assert (due.batch_id, due.message_id, due.msisdn) == (batch.batch_id, batch.last_message_id, 4915100000001)
        assert (due.body, due.originator, due.dca, due.msg_class) == (b"hello", "Aldis", Dca.GSM7, 2)
        assert (due.attempt, due.parts, due.pending, due.valid_until) == (1, 1, (1,), batch.valid_until)

    async def test_a_retry_claims_the_parts_that_are_left(self, bench: Bench) -> None:
        """What was taken upstream is not sent again."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada, parts=3)
        await bench.claim()
        await bench.outcome(message_id, (1, THROTTLED), (2, Accepted("b")), (3, NotSent("cut")), retry_at=NOON)
        [due] = await bench.claim()
        assert (due.attempt, due.pending) == (2, (1, 3))

    # PROMISE-3 PROMISE-13
    async def test_a_lapsed_lease_leaves_a_message_unacknowledged(self, bench: Bench) -> None:
        """I3: it may have been sent, so it shows 12 and is never claimed again; a lease that runs is left alone."""
        ada = await bench.account()
        [lost] = await bench.submit(ada)
        await bench.claim()
        bench.now += 1
        [held] = await bench.submit(ada)
        await bench.claim()
        bench.now = NOON + LEASE_MS
        assert await bench.ledger.recover(bench.now) == 1
        assert await bench.status(ada, lost) is Status.UPSTREAM_UNACKNOWLEDGED
        assert await bench.status(ada, held) is Status.IN_PROGRESS
        assert not await bench.claim()
        assert [event.kind for event in await bench.history(lost)] == ["lapsed"]
        assert await bench.credits(ada) == 98_000

    # PROMISE-13
    async def test_leases_outlive_a_restart_and_can_all_be_called_off(self, bench: Bench) -> None:
        """After a crash every lease is a dead worker's, however long it runs."""
        ada = await bench.account()
        messages = await bench.submit(ada, range(4915100000001, 4915100000006))
        await bench.claim()
        await bench.reopen()
        assert not await bench.claim()
        assert await bench.ledger.recover(1 << 62) == 5
        assert await bench.ledger.recover(1 << 62) == 0
        statuses = {one.status for one in (await bench.report(ada, bench.batch_of(messages[0]))).reports}
        assert statuses == {Status.UPSTREAM_UNACKNOWLEDGED}
        [event] = await bench.history(messages[0])
        assert event.at == NOON

    async def test_a_lease_taken_since_is_not_called_off(self, bench: Bench) -> None:
        """Between the look for lapsed leases and the writing of it, the message may have got another worker."""
        ada = await bench.account()
        [message_id] = await bench.submit(ada)
        await bench.claim()
        bench.now += LEASE_MS
        assert await bench.store.lapsed(bench.now, 10) == [(*bench.key_of(message_id), 1, "north")]
        lapsed = Lapsed(*bench.key_of(message_id), bench.ledger.next_id(), bench.now, 1, "north")
        await bench.outcome(message_id, (1, NotSent("cut")))
        assert len(await bench.claim()) == 1
        await bench.ledger.record([lapsed])
        assert await bench.status(ada, message_id) is Status.IN_PROGRESS
        assert (await bench.store.queue_state(bench.now)).leased == 1
        assert [event.kind for event in await bench.history(message_id)] == ["submit"]

    async def test_what_expired_in_the_queue_is_found(self, bench: Bench) -> None:
        """Only queued messages of the connector whose validity is over; not those being sent."""
        ada = await bench.account()
        messages = await bench.submit(ada, [4915100000001, 4915100000002])
        await bench.claim(1)
        valid_until = bench.batch(ada, [1]).valid_until
        assert await bench.store.expired("north", valid_until - 1, 10) == []
        assert await bench.store.expired("north", valid_until, 10) == [bench.key_of(messages[1])]
        assert await bench.store.expired("south", valid_until, 10) == []


_NEW = AccountId(0)


async def _is_refused(bench: Bench, batch: NewBatch, error: type[Exception]) -> None:
    try:
        await bench.ledger.admit(batch)
    except error:
        return
    raise AssertionError(f"admitted; {error.__name__} was due")
