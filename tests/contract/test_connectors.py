"""The connectors against the contract, and the SMPP connector against a real message centre on loopback."""

import asyncio
import sys
from contextlib import asynccontextmanager

import msgspec
import pytest
from smsc_site import DELIVERED, QUICK, SILENT, bound, now_ms, rig_of, smpp_settings

from aldis.connectors.base import Accepted, NotSent, Refused, Unknown
from aldis.connectors.outcomes import OUTCOMES, Answer
from aldis.connectors.simulator import SimulatorConnector, SimulatorRates, SimulatorSettings, Smsc, SmscSettings
from aldis.connectors.simulator_main import _parse, read_settings
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.connectors.testing import ConnectorContract, RecordingSink, make_parts
from aldis.smpp.commands import DeliverSm


def make_long(msisdn, message_id, count):
    """Return the parts of one message."""
    [one] = make_parts(msisdn, 1, first_id=message_id)
    return [msgspec.structs.replace(one, part_no=no, parts=count, octets=b"part %d" % no) for no in range(1, count + 1)]


class TestSmpp(ConnectorContract):
    binds = 1
    bind = "transceiver"

    @asynccontextmanager
    async def rig(self, sink):
        async with Smsc(SmscSettings(**QUICK), now_ms) as smsc:
            settings = smpp_settings(smsc, binds=self.binds, bind=self.bind)
            connector = SmppConnector(settings, sink, now_ms, rng=lambda: 0.0)
            yield rig_of(connector, smsc, 2 if self.bind == "pair" else 1)


class TestSmppBinds(TestSmpp):
    binds = 3


class TestSmppPairs(TestSmpp):
    binds = 3
    bind = "pair"


class TestSimulator(ConnectorContract):
    @asynccontextmanager
    async def rig(self, sink):
        settings = SimulatorSettings(name="sim", binds=2, smsc=SmscSettings(**QUICK))
        connector = SimulatorConnector(settings, sink, now_ms)
        yield rig_of(connector, connector.smsc)


class TestWindowAndPace:
    # SMPP-4
    async def test_the_window_is_never_exceeded_on_the_wire(self):
        sink = RecordingSink()
        async with bound(sink, window=7) as (_, witness, connector):
            parts = make_parts(SILENT, 20)
            assert connector.submit(parts) == 7
            await sink.eventually(lambda: len(witness.submits) == 7)
            assert connector.in_flight == 7
            assert connector.submit(parts[7:]) == 0

    async def test_binds_share_the_parts(self):
        sink = RecordingSink()
        async with bound(sink, window=5, binds=3) as (smsc, witness, connector):
            await sink.until(lambda: connector.capacity() == 15)
            assert connector.submit(make_parts(SILENT, 9)) == 9
            await sink.eventually(lambda: len(witness.submits) == 9)
            assert [leg.in_flight for leg in connector._submitters] == [3, 3, 3]
            assert len(smsc.connections) == 3

    async def test_a_rate_limits_what_is_taken_and_ready_is_told_when_there_are_tokens(self):
        sink = RecordingSink()
        async with bound(sink, window=100, rate=50.0) as (_, _, connector):
            assert connector.submit(make_parts(DELIVERED, 100)) == 5
            readies = sink.readies
            await sink.until(lambda: len(sink.outcomes) == 5)
            await sink.until(lambda: sink.readies > readies and connector.capacity() > 0)
            assert connector.capacity() < 5

    # SMPP-32
    async def test_the_parts_of_a_message_go_together_on_one_grant_and_are_paid_off(self):
        loop = asyncio.get_running_loop()
        sink = RecordingSink()
        async with bound(sink, window=100, rate=50.0) as (_, witness, connector):
            started = loop.time()
            for message_id in range(1, 4):
                await sink.until(lambda: connector.capacity() > 0)
                parts = make_long(DELIVERED, message_id, 20)
                assert connector.submit(parts) == 20
                assert connector.submit(parts) == 0
            took = loop.time() - started
            await sink.eventually(lambda: len(witness.submits) == 60)
            assert 0.6 < took < 20.0  # 40 of them, less the five of the beginning, at 50 a second

    # SMPP-32
    async def test_a_message_waits_until_the_windows_have_room_for_all_of_it(self):
        sink = RecordingSink()
        async with bound(sink, window=5, binds=2) as (_, witness, connector):
            await sink.until(lambda: connector.capacity() == 10)
            assert connector.submit(make_parts(SILENT, 4)) == 4
            assert connector.submit(make_long(DELIVERED, 9, 7)) == 0
            assert connector.submit(make_long(DELIVERED, 10, 6)) == 6
            await sink.eventually(lambda: len(witness.submits) == 10)
            assert [leg.in_flight for leg in connector._submitters] != [0, 0]

    # SMPP-32
    async def test_the_parts_of_a_message_may_go_on_several_binds(self):
        sink = RecordingSink()
        async with bound(sink, window=2, binds=3) as (_, witness, connector):
            await sink.until(lambda: connector.capacity() == 6)
            assert connector.submit(make_long(SILENT, 1, 6)) == 6
            assert [leg.in_flight for leg in connector._submitters] == [2, 2, 2]
            await sink.eventually(lambda: len(witness.submits) == 6)

    # SMPP-32
    async def test_a_message_larger_than_the_windows_goes_piece_by_piece(self):
        sink = RecordingSink()
        async with bound(sink, window=3) as (_, witness, connector):
            parts = make_long(DELIVERED, 1, 8)
            waiting = parts
            while waiting:
                await sink.until(lambda: connector.capacity() > 0)
                waiting = waiting[connector.submit(waiting) :]
            await sink.until(lambda: len(sink.outcomes) == 8)
            assert [pdu.short_message for pdu, _ in witness.submits] == [part.octets for part in parts]

    # SMPP-26
    async def test_throttling_halves_the_rate_and_shrinks_the_capacity(self):
        sink = RecordingSink()
        rates = SimulatorRates(throttle=1.0)
        async with bound(sink, smsc={"rates": rates}, window=10, rate=200.0) as (smsc, _, connector):
            taken = connector.submit(make_parts(DELIVERED, 10))
            await sink.until(lambda: len(sink.outcomes) == taken)
            assert sink.outcomes[0][1] == Refused(0x58, retryable=True, throttled=True)
            assert connector.counters.throttles == taken
            assert 100 <= connector.rate < 110
            assert connector.capacity() <= 1
            smsc.rates = SimulatorRates()
            await sink.until(lambda: connector.capacity() > 0)
            assert connector.submit(make_parts(DELIVERED, 1)) == 1
            await sink.until(lambda: isinstance(sink.outcomes[-1][1], Accepted))

    async def test_a_part_that_fits_into_no_submit_sm_is_refused_for_good(self):
        sink = RecordingSink()
        async with bound(sink) as (_, witness, connector):
            [good] = make_parts(DELIVERED, 1)
            [bad] = make_parts(DELIVERED, 1)
            bad = type(bad)(**{name: getattr(bad, name) for name in bad.__struct_fields__} | {"octets": b"x" * 300})
            assert connector.submit([bad, good]) == 2
            await sink.until(lambda: len(sink.outcomes) == 2)
            assert sink.outcome_of(bad) == Refused(0xC2, retryable=False)
            assert isinstance(sink.outcome_of(good), Accepted)
            assert len(witness.submits) == 1


class TestLosses:
    async def test_no_response_in_time_is_unknown_and_the_late_one_is_told(self):
        sink = RecordingSink()
        async with bound(sink, response_timeout_s=0.1, smsc={"early_gap_ms": 200}) as (_, witness, connector):
            [part] = make_parts(27820000104, 1)
            connector.submit([part])
            await sink.until(lambda: sink.outcome_of(part) is not None)
            assert isinstance(sink.outcome_of(part), Unknown)
            await sink.until(lambda: bool(sink.late))
            assert sink.late == [(part, Accepted(witness.submits[0][1]))]
            assert len(sink.outcomes) == 1

    async def test_a_peer_that_says_nothing_more_is_found_out(self):
        sink = RecordingSink()
        async with bound(sink, enquire_link_s=0.05) as (smsc, _, connector):
            smsc.freeze()
            parts = make_parts(DELIVERED, 3)
            connector.submit(parts)
            await sink.until(lambda: len(sink.outcomes) == 3)
            assert {outcome.reason for _, outcome in sink.outcomes} == {"no answer to enquire_link"}
            await sink.until(lambda: connector.counters.binds == 2)

    async def test_a_peer_that_stops_reading_for_a_while_gets_every_byte(self):
        sink = RecordingSink()
        async with bound(sink, window=60_000) as (smsc, witness, connector):
            smsc.freeze()
            parts = make_parts(27820000101, 25_000)
            parts = [msgspec.structs.replace(part, octets=part.octets.ljust(140)) for part in parts]
            assert connector.submit(parts) == len(parts)
            await sink.eventually(lambda: connector.capacity() == 0)
            assert connector.submit(parts) == 0
            smsc.thaw()
            await sink.until(lambda: len(sink.outcomes) == len(parts))
            assert all(isinstance(outcome, Accepted) for _, outcome in sink.outcomes)
            assert [pdu.short_message for pdu, _ in witness.submits] == [part.octets for part in parts]

    async def test_what_no_byte_left_of_is_not_sent(self):
        sink = RecordingSink()
        async with bound(sink) as (_, _, connector):
            [part] = make_parts(DELIVERED, 1)
            connector.submit([part])
            connector._binds[0].abort("before the write")
            assert isinstance(sink.outcome_of(part), NotSent)

    # SMPP-1
    async def test_it_binds_again_after_each_loss_and_never_gives_up(self):
        sink = RecordingSink()
        async with bound(sink) as (smsc, _, connector):
            for binds in range(2, 6):
                smsc.cut()
                await sink.until(lambda binds=binds: connector.counters.binds == binds)
            assert connector.counters.reconnects == 4

    async def test_a_message_centre_that_is_not_there_yet_is_waited_for(self, unused_tcp_port):
        sink = RecordingSink()
        settings = SmscSettings(port=unused_tcp_port)
        async with asyncio.TaskGroup() as group:
            smsc = Smsc(settings, now_ms)
            smsc.port = unused_tcp_port
            connector = SmppConnector(smpp_settings(smsc), sink, now_ms, rng=lambda: 0.0)
            task = group.create_task(connector.run())
            await sink.eventually(lambda: connector.counters.reconnects >= 2)
            async with smsc:
                await sink.until(lambda: connector.is_bound)
                task.cancel()
                await asyncio.wait([task])

    async def test_a_wrong_password_is_tried_again_with_pauses(self):
        sink = RecordingSink()
        async with (
            Smsc(SmscSettings(passwords={"id": "right"}), now_ms) as smsc,
            asyncio.TaskGroup() as group,
        ):
            connector = SmppConnector(smpp_settings(smsc, password="wrong"), sink, now_ms, rng=lambda: 0.0)
            task = group.create_task(connector.run())
            await sink.eventually(lambda: connector.counters.reconnects >= 3)
            assert connector.counters.binds == 0
            assert not connector.is_bound
            task.cancel()

    # SMPP-1
    async def test_pauses_grow_with_failures_up_to_a_bound_and_have_jitter(self, monkeypatch):
        slept = []
        connector = SmppConnector(
            SmppSettings(name="s", host="127.0.0.1", system_id="id", reconnect_min_s=1, reconnect_max_s=10),
            RecordingSink(),
            now_ms,
            rng=iter([0.0, 0.5, 0.0, 0.0, 0.99] * 2).__next__,
        )

        async def sleep(delay):
            slept.append(delay)

        monkeypatch.setattr(asyncio, "sleep", sleep)
        for failures in (1, 1, 2, 3, 40):
            await connector._pause(failures)
        assert slept == pytest.approx([0.5, 0.75, 1.0, 2.0, 9.95])


class TestTheProgram:
    async def test_it_serves_and_logs_what_it_sees(self, tmp_path):
        log = tmp_path / "seen.jsonl"
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "aldis.connectors.simulator", "--port", "0", "--receipt-delay-ms", "1", "--log", log,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        first_line = await program.stdout.readline()
        host, _, port = first_line.decode().split()[-1].partition(":")
        sink = RecordingSink()
        settings = SmppSettings(name="s", host=host, port=int(port), system_id="id")
        async with asyncio.TaskGroup() as group:
            connector = SmppConnector(settings, sink, now_ms)
            task = group.create_task(connector.run())
            await sink.until(lambda: sink.readies > 0)
            connector.submit(make_parts(DELIVERED, 1))
            await sink.until(lambda: bool(sink.outcomes) and bool(sink.deliveries))
            await connector.drain(1.0)
            await task
        program.terminate()
        assert await program.wait() == 0
        submit, receipt = map(msgspec.json.decode, log.read_bytes().splitlines())
        upstream_id = sink.deliveries[0].upstream_id
        assert (submit["event"], submit["message_id"], submit["system_id"]) == ("submit", upstream_id, "id")
        assert (submit["destination"], bytes.fromhex(submit["octets"])) == (str(DELIVERED), b"part 0")
        assert (receipt["event"], receipt["message_id"], receipt["status"]) == ("receipt", upstream_id, 0)

    def test_its_options_are_the_settings(self):
        options = _parse(["--esme", "id:pw", "--fail", "0.5", "--window", "7", "--port", "1"])
        assert read_settings(options) == SmscSettings(
            port=1, window=7, passwords={"id": "pw"}, rates=SimulatorRates(fail=0.5)
        )


class TestDeliveries:
    # SMPP-16
    async def test_a_delivery_is_not_answered_before_answer_is_called(self):
        sink = RecordingSink(answer=None)
        async with bound(sink) as (_, witness, connector):
            connector.submit(make_parts(DELIVERED, 1))
            await sink.until(lambda: bool(sink.deliveries))
            connector.submit(make_parts(DELIVERED, 1))
            await sink.until(lambda: len(sink.deliveries) == 2)
            assert witness.answered == []
            assert connector.unanswered == 2
            for delivery in sink.deliveries:
                delivery.answer(True)
            await sink.eventually(lambda: len(witness.answered) == 2)
            assert witness.answered == [(delivery.upstream_id, 0) for delivery in sink.deliveries]
            assert connector.unanswered == 0

    # SMPP-16
    async def test_only_the_first_answer_counts(self):
        sink = RecordingSink(answer=None)
        async with bound(sink) as (_, witness, connector):
            connector.submit(make_parts(DELIVERED, 1))
            await sink.until(lambda: bool(sink.deliveries))
            sink.deliveries[0].answer(True)
            sink.deliveries[0].answer(False)
            await sink.eventually(lambda: bool(witness.answered))
            assert witness.answered == [(sink.deliveries[0].upstream_id, 0)]
            assert connector.unanswered == 0

    async def test_deliveries_of_one_wake_up_come_as_one_list(self):
        sink = RecordingSink()
        async with bound(sink) as (smsc, _, _):
            for at in range(50):
                smsc.deliver("id", DeliverSm(source_addr=b"27820001111", short_message=b"%d" % at))
            await sink.until(lambda: len(sink.deliveries) == 50)
            assert [delivery.text for delivery in sink.deliveries] == [str(at) for at in range(50)]
            assert len(sink.batches) < 10

    async def test_too_many_unanswered_stop_the_reading_until_they_are_answered(self):
        sink = RecordingSink(answer=None)
        # A time-out of the connector's own must not strike while it doesn't read.
        async with bound(sink, max_unanswered=10, enquire_link_s=0.05, smsc={"window": 5}) as (smsc, _, connector):
            for at in range(40):
                smsc.deliver("id", DeliverSm(source_addr=b"27820001111", short_message=b"%d" % at))
            answered = 0
            while answered < 40:
                await sink.until(lambda: len(sink.deliveries) > answered)  # noqa: B023
                assert connector.unanswered <= 15
                delivery = sink.deliveries[answered]
                delivery.answer(True)
                answered += 1
            assert connector.counters.binds == 1

    # SMPP-16
    async def test_reading_stops_above_the_bound(self):
        sink = RecordingSink(answer=None)
        async with bound(sink, max_unanswered=10, smsc={"window": 11}) as (smsc, _, connector):
            for at in range(30):
                smsc.deliver("id", DeliverSm(source_addr=b"1", short_message=b"%d" % at))
            await sink.until(lambda: len(sink.deliveries) == 11)
            [part] = make_parts(DELIVERED, 1)
            connector.submit([part])
            await sink.eventually(lambda: smsc.submits == 1)
            assert sink.outcomes == []
            for delivery in list(sink.deliveries):
                delivery.answer(True)
            await sink.until(lambda: sink.outcome_of(part) is not None)
            await sink.until(lambda: len(sink.deliveries) > 11)

    async def test_a_message_from_a_subscriber_is_read(self):
        sink = RecordingSink()
        async with bound(sink) as (smsc, _, _):
            text = "Grüße".encode("utf-16-be")
            smsc.deliver(
                "id",
                DeliverSm(source_addr=b"27820001111", destination_addr=b"40404", data_coding=8, short_message=text),
            )
            await sink.until(lambda: bool(sink.deliveries))
            [delivery] = sink.deliveries
            assert (delivery.is_receipt, delivery.state, delivery.is_final) == (False, "", False)
            assert (delivery.source, delivery.destination, delivery.text) == ("27820001111", "40404", "Grüße")
            assert abs(delivery.received_at - now_ms()) < 60_000


class TestTheScripts:
    """Each script of the simulator, as the sink sees it. The customer's status is the ledger's to make of it."""

    @pytest.mark.parametrize(
        ("ending", "script"),
        [(e, s) for e, s in OUTCOMES.items() if s.answer is Answer.ACCEPT and not s.refusal],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_receipts_come_as_the_table_says(self, ending, script):
        sink = RecordingSink()
        async with bound(sink, smsc={"late_delay_ms": 30, "slow_response_ms": 30}) as (smsc, _, connector):
            [part] = make_parts(int(f"2782000{ending}"), 1)
            connector.submit([part])
            told = [step for step in script.receipts for _ in range(script.copies)]
            await sink.until(lambda: bool(sink.outcomes) and len(sink.deliveries) == len(told) + len(script.reply))
            assert isinstance(sink.outcome_of(part), Accepted)
            heard = sorted((d.state, d.error, d.upstream_id) for d in sink.deliveries if d.is_receipt)
            upstream_id = sink.outcome_of(part).upstream_id
            assert heard == sorted((step.state, step.error, upstream_id) for step in told)
            assert smsc.receipts_dropped == 0

    async def test_a_number_may_be_swallowed(self):
        sink = RecordingSink()
        async with bound(sink, response_timeout_s=0.05) as (_, witness, connector):
            [part] = make_parts(SILENT, 1)
            connector.submit([part])
            await sink.until(lambda: bool(sink.outcomes))
            assert isinstance(sink.outcome_of(part), Unknown)
            assert [message_id != "" for _, message_id in witness.submits] == [True]

    @pytest.mark.parametrize(
        ("ending", "statuses"),
        [("0063", [0x64, 0x64, 0, 0x64]), ("0105", [0x58, 0]), ("0109", [0x0B, 0x0B, 0x0B])],
    )
    async def test_refusals_come_in_turns(self, ending, statuses):
        sink = RecordingSink()
        async with bound(sink) as (_, _, connector):
            for part in make_parts(int(f"2782000{ending}"), len(statuses)):
                await sink.until(lambda: connector.capacity() > 0)
                connector.submit([part])
                await sink.until(lambda part=part: sink.outcome_of(part) is not None)
            heard = [getattr(outcome, "command_status", 0) for _, outcome in sink.outcomes]
            assert heard == statuses

    async def test_a_receipt_overtakes_its_response(self):
        order = []
        sink = RecordingSink()
        async with bound(sink) as (_, _, connector):
            sink.on_outcomes = lambda _, outcomes: order.append("outcome")
            sink.on_deliveries = lambda _, deliveries: order.append("receipt")
            connector.submit(make_parts(27820000104, 1))
            await sink.eventually(lambda: len(order) == 2)
            assert order == ["receipt", "outcome"]

    async def test_a_cut_in_place_of_the_answer_leaves_the_message_taken(self):
        sink = RecordingSink()
        async with bound(sink) as (_, witness, connector):
            [part] = make_parts(27820000106, 1)
            connector.submit([part])
            await sink.until(lambda: bool(sink.outcomes) and bool(sink.deliveries))
            assert isinstance(sink.outcome_of(part), Unknown)
            assert sink.deliveries[0].upstream_id == witness.submits[0][1]
            assert connector.counters.binds == 2
            [again] = make_parts(27820000106, 1)
            connector.submit([again])
            await sink.until(lambda: sink.outcome_of(again) is not None)
            assert isinstance(sink.outcome_of(again), Accepted)

    async def test_a_slow_response_comes_after_the_quick_ones(self):
        sink = RecordingSink()
        async with bound(sink, smsc={"slow_response_ms": 30}) as (_, _, connector):
            [slow] = make_parts(27820000110, 1)
            [quick] = make_parts(DELIVERED, 1)
            connector.submit([slow, quick])
            await sink.until(lambda: len(sink.outcomes) == 2)
            assert [part for part, _ in sink.outcomes] == [quick, slow]
            assert isinstance(sink.outcome_of(slow), Accepted)

    async def test_receipts_are_kept_within_a_bound(self):
        sink = RecordingSink(answer=None)
        async with bound(sink, window=100, smsc={"max_receipts": 5}) as (smsc, _, connector):
            connector.submit(make_parts(DELIVERED, 20))
            await sink.until(lambda: len(sink.deliveries) == 5)
            await sink.eventually(lambda: smsc.receipts_dropped == 15)
            for delivery in sink.deliveries:
                delivery.answer(True)
            await sink.eventually(lambda: smsc.receipts_kept == 0)

    async def test_rates_are_repeated_by_their_seed(self):
        heard = []
        rates = SimulatorRates(seed=7, fail=0.3, no_receipt=0.2, throttle=0.1, duplicate=0.2)
        for _ in range(2):
            sink = RecordingSink()
            async with bound(sink, window=200, smsc={"rates": rates, "receipt_delay_ms": 0}) as (smsc, _, connector):
                connector.submit(make_parts(DELIVERED, 200))
                await sink.until(lambda: len(sink.outcomes) == 200)  # noqa: B023
                await sink.eventually(lambda: smsc.receipts_kept == 0)
                refused = sum(isinstance(outcome, Refused) for _, outcome in sink.outcomes)
                states = sorted(delivery.state for delivery in sink.deliveries)
                heard.append((refused, states.count("UNDELIV"), states.count("DELIVRD")))
        assert heard[0] == heard[1]
        assert all(0 < count < 200 for count in heard[0])
