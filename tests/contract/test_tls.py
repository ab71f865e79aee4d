"""TLS to a message centre: real certificates, real handshakes."""

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from smsc_site import DELIVERED, QUICK, now_ms, smpp_settings
from structlog.testing import capture_logs
from tls_site import authority, issue, lock, server_context

from aldis.connectors.base import Accepted
from aldis.connectors.simulator import Smsc, SmscSettings
from aldis.connectors.smpp import SmppConnector
from aldis.connectors.testing import RecordingSink, make_parts
from aldis.model.errors import SettingsError
from aldis.service.settings import load


class Site:
    """What there is of authorities and certificates."""

    def __init__(self, folder):
        self.folder = folder
        self.ca = authority(folder, "ca")
        self.other = authority(folder, "other")
        self.here = issue(folder, self.ca, "here", "IP:127.0.0.1")
        self.elsewhere = issue(folder, self.ca, "elsewhere", "DNS:smsc.example")
        self.client = issue(folder, self.ca, "client", "DNS:client.example")
        self.stranger = issue(folder, self.other, "stranger", "DNS:client.example")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return Site(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def towards(context, make):
    """Run the connector that `make` makes for a message centre's port; yield it, its sink and the log."""
    sink = RecordingSink()
    async with Smsc(SmscSettings(**QUICK), now_ms, tls_context=context) as smsc, asyncio.TaskGroup() as group:
        with capture_logs() as lines:
            connector = make(smsc, sink)
            task = group.create_task(connector.run())
            yield connector, sink, lines
            task.cancel()
            await asyncio.wait([task])


def speaking_tls(**changes):
    return lambda smsc, sink: SmppConnector(smpp_settings(smsc, tls=True, **changes), sink, now_ms, rng=lambda: 0.0)


async def is_served(connector, sink):
    """Send messages, and see them accepted and reported."""
    await sink.until(lambda: sink.readies > 0)
    connector.submit(make_parts(DELIVERED, 5))
    await sink.until(lambda: len(sink.outcomes) == len(sink.deliveries) == 5)
    assert all(isinstance(outcome, Accepted) for _, outcome in sink.outcomes)
    await connector.drain(1.0)


async def is_never_bound(connector, sink, lines):
    """See it fail again and again; return what the log says, once."""
    await sink.eventually(lambda: connector.counters.reconnects >= 3)
    assert connector.counters.binds == 0
    [line] = [line for line in lines if line["log_level"] == "warning"]
    assert line["event"] == "link down"
    return line["reason"]


# SMPP-30
async def test_messages_and_receipts_pass_where_our_authority_vouches_for_the_address(site):
    make = speaking_tls(tls_ca=site.ca.certificate)
    async with towards(server_context(site.here), make) as (connector, sink, _):
        await is_served(connector, sink)


# SMPP-30
@pytest.mark.parametrize("trusted", ["system", "another"])
async def test_a_certificate_that_nobody_we_trust_vouches_for_is_refused(site, trusted):
    make = speaking_tls(tls_ca="" if trusted == "system" else site.other.certificate)
    async with towards(server_context(site.here), make) as (connector, sink, lines):
        assert "CERTIFICATE_VERIFY_FAILED" in await is_never_bound(connector, sink, lines)


# SMPP-30
async def test_a_certificate_for_another_host_is_refused(site):
    make = speaking_tls(tls_ca=site.ca.certificate)
    async with towards(server_context(site.elsewhere), make) as (connector, sink, lines):
        assert "127.0.0.1" in await is_never_bound(connector, sink, lines)


# SMPP-30
async def test_the_name_to_look_for_can_be_told(site):
    make = speaking_tls(tls_ca=site.ca.certificate, tls_server_name="smsc.example")
    async with towards(server_context(site.elsewhere), make) as (connector, sink, _):
        await is_served(connector, sink)
    async with towards(server_context(site.here), make) as (connector, sink, lines):
        assert "smsc.example" in await is_never_bound(connector, sink, lines)


# SMPP-30
async def test_a_client_certificate_that_is_asked_for_is_shown(site):
    shown = {"tls_certificate": site.client.certificate, "tls_key": site.client.key}
    make = speaking_tls(tls_ca=site.ca.certificate, **shown)
    async with towards(server_context(site.here, clients=site.ca), make) as (connector, sink, _):
        await is_served(connector, sink)


async def test_certificate_and_key_may_be_one_file(site):
    both = site.folder / "both.pem"
    both.write_text("".join(Path(path).read_text() for path in site.client))
    make = speaking_tls(tls_ca=site.ca.certificate, tls_certificate=str(both))
    async with towards(server_context(site.here, clients=site.ca), make) as (connector, sink, _):
        await is_served(connector, sink)


@pytest.mark.parametrize("shown", ["none", "a stranger's"])
async def test_without_the_client_certificate_that_is_asked_for_it_is_not_bound(site, shown):
    keys = {} if shown == "none" else {"tls_certificate": site.stranger.certificate, "tls_key": site.stranger.key}
    make = speaking_tls(tls_ca=site.ca.certificate, **keys)
    async with towards(server_context(site.here, clients=site.ca), make) as (connector, sink, lines):
        await is_never_bound(connector, sink, lines)


# SMPP-30
async def test_verification_can_be_turned_off_and_the_log_warns(site):
    make = speaking_tls(tls_verify=False)
    async with towards(server_context(site.elsewhere), make) as (connector, sink, lines):
        await is_served(connector, sink)
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == [
        "TLS without verification: anyone may answer for the message centre"
    ]


async def test_no_password_is_told_to_a_peer_without_tls(site):
    make = speaking_tls(tls_ca=site.ca.certificate, password="secret", connect_timeout_s=0.5)
    async with towards(None, make) as (connector, sink, lines):
        assert "no connection" in await is_never_bound(connector, sink, lines)


TOML = """
[[connector]]
name = "s"
kind = "smpp"
host = "127.0.0.1"
port = {port}
system_id = "id"
{keys}
"""


def configured(folder, port=2775, **keys):
    """Return the connector of a configuration file."""
    file = folder / "aldis.toml"
    file.write_text(TOML.format(port=port, keys="\n".join(f"{key} = {value}" for key, value in keys.items())))
    [config] = load(file, {}).connectors
    return config


def quoted(pem):
    return {"tls_certificate": f'"{pem.certificate}"', "tls_key": f'"{pem.key}"'}


async def test_the_configuration_file_can_ask_for_all_of_it(site, tmp_path):
    keys = {"tls": "true", "tls_ca": f'"{site.ca.certificate}"', "tls_server_name": '"smsc.example"'}

    def make(smsc, sink):
        config = configured(tmp_path, smsc.port, **keys, **quoted(site.client))
        return config.factory(config.options, sink, now_ms)

    async with towards(server_context(site.elsewhere, clients=site.ca), make) as (connector, sink, _):
        await is_served(connector, sink)


def test_the_environment_can_turn_verification_off(tmp_path):
    file = tmp_path / "aldis.toml"
    file.write_text(TOML.format(port=2775, keys="tls = true"))
    [config] = load(file, {"ALDIS_CONNECTOR_S_TLS_VERIFY": "false"}).connectors
    assert not config.options.tls_verify


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"tls": "true", "tls_ca": '"nowhere.pem"'}, "tls_ca = 'nowhere.pem': there is no such file"),
        ({"tls_ca": '"ca.pem"'}, "tls_ca is of no use without tls = true"),
        ({"tls_verify": "false"}, "tls_verify is of no use without tls = true"),
        ({"tls": "true", "tls_key": '"client.key"'}, "tls_key needs its tls_certificate"),
        ({"tls": "true", "tls_verify": "false", "tls_server_name": '"x"'}, "tls_verify = false asks for nothing"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_what_makes_no_sense_is_refused_with_the_name_of_the_setting(tmp_path, keys, said):
    with pytest.raises(SettingsError, match="connector 's'") as refused:
        configured(tmp_path, **keys)
    assert said in str(refused.value)


def test_what_is_no_certificate_is_refused(site, tmp_path):
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"tls_ca = .*not usable PEM"):
        configured(tmp_path, tls="true", tls_ca=f'"{tmp_path}/no.pem"')
    mixed = {"tls_certificate": f'"{site.client.certificate}"', "tls_key": f'"{site.stranger.key}"'}
    with pytest.raises(SettingsError, match=r"tls_certificate = .*not usable PEM"):
        configured(tmp_path, tls="true", **mixed)


def test_a_key_with_a_password_is_refused_and_nobody_is_asked_for_it(site, tmp_path):
    with pytest.raises(SettingsError, match="a key with a password can't be used"):
        configured(tmp_path, tls="true", **quoted(lock(tmp_path, site.client, "secret")))
