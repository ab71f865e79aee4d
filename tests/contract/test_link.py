"""A link that goes down, with a word or without: what is noticed, when, and what the log says of it."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import pytest
from relay import relay_to
from smsc_site import DELIVERED, QUICK, SILENT, Witness, now_ms, smpp_settings
from structlog.testing import capture_logs

from aldis.connectors.base import Accepted, NotSent, Unknown
from aldis.connectors.link_log import LinkLog
from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector
from aldis.connectors.testing import RecordingSink, make_parts

EVERY_S = 0.3


@asynccontextmanager
async def running(settings, sink):
    """Yield a connector that runs, and what the log says meanwhile, but of bad things only."""
    connector = SmppConnector(settings, sink, now_ms, rng=lambda: 0.0)
    with capture_logs() as lines:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(connector.run())
            yield connector, lines
            task.cancel()


def told(lines, *events):
    return [line for line in lines if line["event"] in events]


class TestDown:
    # SMPP-31
    @pytest.mark.parametrize("bind", ["transceiver", "pair"])
    async def test_a_message_centre_that_is_closed_for_a_while_is_two_lines_in_the_log(self, bind):
        sink = RecordingSink()
        smsc = Smsc(SmscSettings(**QUICK), now_ms)
        await smsc.start()
        settings = smpp_settings(smsc, bind=bind)
        links = 2 if bind == "pair" else 1
        async with running(settings, sink) as (connector, lines):
            await sink.eventually(lambda: smsc.bound == links)
            await smsc.close()
            tries = connector.counters.reconnects
            await sink.eventually(lambda: connector.counters.reconnects >= tries + 4 * links)
            assert not connector.is_bound
            assert connector.capacity() == 0
            again = Smsc(SmscSettings(**QUICK, port=smsc.port), now_ms)
            async with again:
                await sink.eventually(lambda: again.bound == links)
                await sink.eventually(lambda: len(told(lines, "bound again")) == links)
                said = list(lines)
        down = [line for line in said if line["log_level"] in ("warning", "error")]
        assert [(line["event"], line["connector"], line["bind"]) for line in down] == [("link down", "s", 0)] * links
        assert all(line["reason"] for line in down)
        kinds = ["receiver", "transmitter"] if bind == "pair" else ["transceiver"]
        assert sorted(line["link"] for line in down) == kinds
        assert len(told(said, "bound")) == len(told(said, "bound again")) == links
        assert all(0 < line["down_s"] < 30 for line in told(said, "bound again"))

    # SMPP-31
    async def test_a_refused_bind_is_told_though_the_link_was_down_before(self, unused_tcp_port):
        sink = RecordingSink()
        smsc = Smsc(SmscSettings(port=unused_tcp_port, passwords={"id": "right"}), now_ms)
        smsc.port = unused_tcp_port
        async with running(smpp_settings(smsc, password="wrong"), sink) as (connector, lines):
            await sink.eventually(lambda: connector.counters.reconnects >= 2)
            async with smsc:
                await sink.eventually(lambda: smsc.connects >= 4)
        warnings = [(line["event"], line["reason"]) for line in lines if line["log_level"] == "warning"]
        assert [event for event, _ in warnings] == ["link down", "link still down"]
        assert warnings[1][1] == "bind refused: ESME_RINVPASWD"

    # SMPP-31
    async def test_a_bind_that_is_let_go_is_no_link_that_is_down(self):
        sink = RecordingSink()
        async with (
            Smsc(SmscSettings(**QUICK), now_ms) as smsc,
            running(smpp_settings(smsc), sink) as (connector, lines),
        ):
            for binds in (1, 2):
                connector.hold({0})
                await sink.eventually(lambda binds=binds: connector.counters.binds == binds)
                connector.hold(())
                await sink.eventually(lambda: not connector.held)
        assert [line["event"] for line in told(lines, "bound", "bound again", "link down")] == ["bound", "bound"]

    def test_the_time_is_from_the_first_sign(self):
        line = LinkLog("s", 0, "transceiver")
        with capture_logs() as lines:
            line.bound(10.0)
            for at in range(20, 30):
                line.down("reset", float(at))
            line.bound(32.5)
            line.down("reset", 40.0)
        assert [(one["event"], one.get("down_s")) for one in lines if one["log_level"] != "debug"] == [
            ("bound", None),
            ("link down", None),
            ("bound again", 12.5),
            ("link down", None),
        ]


class TestSeveralAddresses:
    # SMPP-36
    @pytest.mark.parametrize("bind", ["transceiver", "pair"])
    async def test_binds_are_spread_and_go_on_to_the_next_address_when_theirs_fails(self, bind):
        sink = RecordingSink()
        links = 2 if bind == "pair" else 1
        async with Smsc(SmscSettings(**QUICK), now_ms) as north, Smsc(SmscSettings(**QUICK), now_ms) as south:
            hosts = f"127.0.0.1:{north.port}, 127.0.0.1"
            settings = smpp_settings(south, host=hosts, bind=bind, binds=2)
            async with running(settings, sink) as (connector, lines):
                await sink.eventually(lambda: north.bound == south.bound == links)
                await north.close()
                await sink.eventually(lambda: south.bound == 2 * links)
                connector.submit(make_parts(DELIVERED, 4))
                await sink.until(lambda: len(sink.deliveries) == 4)
        assert {delivery.connector for delivery in sink.deliveries} == {"s"}
        assert {line["at"] for line in told(lines, "link down")} == {f"127.0.0.1:{north.port}"}
        assert {line["at"] for line in told(lines, "bound again")} == {f"127.0.0.1:{south.port}"}

    # SMPP-36
    async def test_a_refused_bind_is_tried_at_the_next_address(self):
        sink = RecordingSink()
        async with (
            Smsc(SmscSettings(passwords={"id": "other"}), now_ms) as wrong,
            Smsc(SmscSettings(**QUICK), now_ms) as right,
        ):
            settings = smpp_settings(right, host=f"127.0.0.1:{wrong.port}, 127.0.0.1")
            async with running(settings, sink) as (connector, _):
                await sink.eventually(lambda: connector.is_bound)
                assert (wrong.bound, right.bound) == (0, 1)


class TestHalfOpen:
    # SMPP-9
    async def test_it_is_noticed_within_twice_the_interval_and_nothing_is_lost_or_sent_twice(self):
        loop = asyncio.get_running_loop()
        sink, witness = RecordingSink(), Witness()
        async with Smsc(SmscSettings(**QUICK), now_ms, witness) as smsc, relay_to(smsc.port) as relay:
            settings = smpp_settings(relay, window=20, enquire_link_s=EVERY_S)
            async with running(settings, sink) as (connector, lines):
                await sink.until(lambda: sink.readies > 0)
                reached = make_parts(SILENT, 5)
                connector.submit(reached)
                await sink.eventually(lambda: len(witness.submits) == 5)
                relay.freeze()
                silent_since = loop.time()
                lost = make_parts(DELIVERED, 5, first_id=6)
                connector.submit(lost)
                await sink.until(lambda: len(sink.outcomes) == 10)
                took = loop.time() - silent_since
                assert took < 2 * EVERY_S + 1.0
                assert {type(outcome) for _, outcome in sink.outcomes} == {Unknown}
                await sink.until(lambda: connector.counters.binds == 2)
                after = make_parts(DELIVERED, 5, first_id=11)
                connector.submit(after)
                await sink.until(lambda: len(sink.outcomes) == 15)
        heard = Counter(part.message_id for part, _ in sink.outcomes)
        assert heard == Counter(range(1, 16))
        assert all(isinstance(sink.outcome_of(part), Accepted) for part in after)
        assert len(witness.submits) == len(reached) + len(after)
        [down] = told(lines, "link down")
        assert down["reason"] == "no answer to enquire_link"

    # SMPP-9
    async def test_with_more_than_the_socket_takes_the_rest_stays_with_us_and_goes_once(self):
        loop = asyncio.get_running_loop()
        parts = [msgspec.structs.replace(p, octets=p.octets.ljust(140)) for p in make_parts(DELIVERED, 80_000)]
        sink, witness = RecordingSink(), Witness()
        async with Smsc(SmscSettings(**QUICK), now_ms, witness) as smsc, relay_to(smsc.port) as relay:
            settings = smpp_settings(relay, window=100_000, enquire_link_s=EVERY_S)
            async with running(settings, sink) as (connector, _):
                await sink.until(lambda: sink.readies > 0)
                relay.freeze()
                taken = 0
                while connector.capacity() and taken < len(parts):
                    taken += connector.submit(parts[taken : taken + 2_000])
                    await asyncio.sleep(0)
                assert 0 < taken < len(parts), "the socket took everything"
                await sink.until(lambda: len(sink.outcomes) == taken)
                noticed_at = loop.time()
                assert all(isinstance(outcome, Unknown | NotSent) for _, outcome in sink.outcomes)
                await sink.until(lambda: connector.counters.binds == 2)
                assert loop.time() - noticed_at < 4.0, "the dead connection was waited for"
                rest = parts[taken : taken + 3_000]
                while rest:
                    await sink.until(lambda: connector.capacity() > 0)
                    rest = rest[connector.submit(rest) :]
                await sink.until(lambda: len(sink.outcomes) == taken + 3_000)
        arrived = Counter(pdu.short_message for pdu, _ in witness.submits)
        assert arrived == Counter(part.octets for part in parts[taken : taken + 3_000])
