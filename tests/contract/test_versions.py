"""Message centres of SMPP 3.3 and 5.0, on real sockets."""

import asyncio

import pytest
from smsc_site import DELIVERED, bound, smpp_settings
from structlog.testing import capture_logs

from aldis.connectors.base import Accepted
from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector, SmppSettings
from aldis.connectors.testing import RecordingSink, make_parts
from aldis.smpp.commands import Command, DeliverSm, Raw
from aldis.smpp.congestion import is_congested

BROADCAST_SM, QUERY_BROADCAST_SM, CANCEL_BROADCAST_SM = 0x111, 0x112, 0x113


class TestFirst:
    # SMPP-33
    async def test_pairs_bind_to_a_peer_of_3_3_and_messages_pass(self):
        sink = RecordingSink()
        async with bound(sink, version="3.3", bind="pair", smsc={"version": "3.3"}) as (smsc, witness, connector):
            await sink.eventually(lambda: smsc.bound == 2)
            assert {one.session.version for one in smsc.connections} == {0x33}
            parts = make_parts(DELIVERED, 5)
            connector.submit(parts)
            await sink.until(lambda: len(sink.outcomes) == len(sink.deliveries) == 5)
            assert [pdu.tlvs for pdu, _ in witness.submits] == [None] * 5

    # SMPP-33
    async def test_an_id_in_hexadecimal_is_kept_as_it_is_spelt(self):
        sink = RecordingSink()
        async with bound(sink, version="3.3", bind="pair", smsc={"version": "3.3"}) as (smsc, witness, connector):
            await sink.eventually(lambda: smsc.bound == 2)
            [part] = make_parts(DELIVERED, 1)
            connector.submit([part])
            await sink.until(lambda: bool(sink.outcomes) and bool(sink.deliveries))
            spelt = sink.outcome_of(part).upstream_id
            assert len(spelt) == 8
            assert int(spelt, 16) > 0
            assert sink.outcome_of(part) == Accepted(witness.submits[0][1])
            assert sink.deliveries[0].upstream_id == spelt

    # SMPP-33
    async def test_no_tlv_is_sent_to_a_bind_of_3_3(self):
        sink = RecordingSink()
        async with bound(sink, version="3.3", bind="pair") as (smsc, _, connector):
            await sink.eventually(lambda: smsc.bound == 2)
            connector.submit(make_parts(DELIVERED, 1))
            smsc.deliver("id", DeliverSm(short_message=b"hello", tlvs={0x1400: b"x"}))
            await sink.until(lambda: len(sink.deliveries) == 2)
            assert all(b"\x14\x00\x00\x01x" not in delivery.pdu for delivery in sink.deliveries)
            assert all(b"\x00\x1e\x00" not in delivery.pdu for delivery in sink.deliveries)
            assert sum(delivery.state == "DELIVRD" for delivery in sink.deliveries) == 1

    # SMPP-33
    async def test_a_transceiver_is_refused_by_a_peer_of_3_3_and_the_log_says_so(self):
        sink = RecordingSink()
        async with Smsc(SmscSettings(version="3.3"), lambda: 1) as smsc, asyncio.TaskGroup() as group:
            connector = SmppConnector(smpp_settings(smsc), sink, lambda: 1, rng=lambda: 0.0)
            with capture_logs() as lines:
                task = group.create_task(connector.run())
                await sink.eventually(lambda: connector.counters.reconnects >= 2)
                task.cancel()
        [warning] = [line for line in lines if line["log_level"] == "warning"]
        assert warning["reason"] == "bind refused: ESME_RINVCMDID"

    # SMPP-33
    def test_a_transceiver_of_3_3_is_refused_by_the_settings(self):
        with pytest.raises(ValueError, match='bind = "pair" is wanted'):
            SmppSettings(name="s", host="h", system_id="id", version="3.3")

    # SMPP-33
    @pytest.mark.parametrize(("version", "octet"), [("3.3", 0x33), ("3.4", 0x34), ("5.0", 0x50)])
    def test_the_bind_says_the_version(self, version, octet):
        settings = SmppSettings(name="s", host="h", system_id="id", version=version, bind="pair")
        assert {request.interface_version for request in settings.bind_requests()} == {octet}


class TestFifth:
    # SMPP-33
    async def test_a_congestion_state_is_accepted_and_heeded(self):
        sink = RecordingSink()
        five = {"version": "5.0", "congestion": 89}
        async with bound(sink, version="5.0", rate=200.0, smsc=five) as (smsc, _, connector):
            connector.submit(make_parts(DELIVERED, 3))
            await sink.until(lambda: len(sink.outcomes) == len(sink.deliveries) == 3)
            assert connector.rate == 200
            smsc.congestion = 90
            connector.submit(make_parts(DELIVERED, 3, first_id=4))
            await sink.until(lambda: len(sink.outcomes) == 6)
            assert all(isinstance(outcome, Accepted) for _, outcome in sink.outcomes)
            assert 100 <= connector.rate < 110
            assert connector.counters.throttles == 0

    # SMPP-33
    async def test_a_bind_of_3_4_is_told_no_congestion_state(self):
        sink = RecordingSink()
        async with bound(sink, rate=200.0, smsc={"version": "5.0", "congestion": 100}) as (_, _, connector):
            connector.submit(make_parts(DELIVERED, 3))
            await sink.until(lambda: len(sink.outcomes) == 3)
            assert connector.rate == 200

    # SMPP-13 SMPP-33
    @pytest.mark.parametrize("command", [BROADCAST_SM, QUERY_BROADCAST_SM, CANCEL_BROADCAST_SM, BROADCAST_SM | 1 << 31])
    async def test_a_pdu_of_5_0_that_we_do_not_know_is_nacked_and_the_bind_stays(self, command):
        sink = RecordingSink()
        async with bound(sink, version="5.0", smsc={"version": "5.0"}) as (smsc, _, connector):
            [connection] = smsc.connections
            said = []
            connection.session._response = lambda header, pdu, events: said.append(header)
            connection.session._control(Raw(command, b"\0" * 20))
            connection.link.wake()
            await sink.eventually(lambda: connector.counters.bad_pdus == 1)
            connector.submit(make_parts(DELIVERED, 1))
            await sink.until(lambda: bool(sink.outcomes))
            await sink.eventually(lambda: len(said) >= (not command >> 31))
            nacks = [header.command_status for header in said if header.command_id == Command.GENERIC_NACK]
            assert nacks == ([] if command >> 31 else [0x03])
            assert connector.counters.binds == 1


@pytest.mark.parametrize(
    ("tlvs", "says"),
    [
        ({}, False),
        ({0x0428: b""}, False),
        ({0x0428: b"\x59"}, False),
        ({0x0428: b"\x5a"}, True),
        ({0x0428: b"\x64"}, True),
    ],
    ids=["none", "empty", "89", "90", "100"],
)
def test_what_counts_as_congested(tlvs, says):
    assert is_congested(tlvs) is says
