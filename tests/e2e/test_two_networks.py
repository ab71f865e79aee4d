"""The server between two networks: one over TLS with client certificates, and what happens when the other is away."""

import asyncio
import json
import re
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contract.tls_site import authority, issue, server_context

from aldis.connectors.simulator import Smsc, SmscSettings
from conftest import ALDIS, Program, aldis, wait_for

pytestmark = pytest.mark.e2e

CONFIG = """
[http]
listen = "127.0.0.1:0"
[failover]
after_s = 0.3
[[connector]]
name = "near"
kind = "smpp"
host = "127.0.0.1"
port = {near}
system_id = "us"
reconnect_max_s = 0.5
[[connector]]
name = "far"
kind = "smpp"
host = "127.0.0.1"
port = {far}
system_id = "us"
tls = true
tls_ca = "{ca.certificate}"
tls_server_name = "smsc.example"
tls_certificate = "{ours.certificate}"
tls_key = "{ours.key}"
[[route]]
connectors = ["near", "far"]
price = "1"
"""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


class Customer:
    """An account on a running server."""

    def __init__(self, folder: Path, program: Program) -> None:
        found = re.search(r"password: (\S+)", aldis(folder, "accounts", "add", "acme", "--credits", "9").stdout)
        assert found
        self._login = {"username": "acme", "password": found[1]}
        line = next(line for line in program.text.splitlines() if '"serving"' in line)
        self._base = f"http://127.0.0.1:{json.loads(line)['port']}/eapi"

    def _call(self, path: str, **parameters: str) -> str:
        data = urllib.parse.urlencode(self._login | parameters).encode()
        with urllib.request.urlopen(f"{self._base}/{path}", data, timeout=20) as answer:
            return str(answer.read().decode())

    def is_delivered(self, msisdn: str) -> None:
        """Submit a message, and wait until its report says that it arrived."""
        answer = self._call("submission/send_sms/2/2.0", msisdn=msisdn, message="hello")
        assert answer.startswith("0|IN_PROGRESS|"), answer
        batch_id = answer.strip().rpartition("|")[2]
        path = "status_reports/get_report/2/2.0"
        wait_for(lambda: f"{msisdn}|11" in self._call(path, batch_id=batch_id), self._call(path, batch_id=batch_id))


async def test_what_one_network_can_not_take_the_other_delivers_over_tls(
    tmp_path: Path, start: Callable[..., Program]
) -> None:
    ca = authority(tmp_path, "ca")
    theirs, ours = issue(tmp_path, ca, "theirs", "DNS:smsc.example"), issue(tmp_path, ca, "ours", "DNS:us.example")
    near = Smsc(SmscSettings(), now_ms)
    await near.start()
    async with Smsc(SmscSettings(), now_ms, tls_context=server_context(theirs, clients=ca)) as far:
        text = CONFIG.format(near=near.port, far=far.port, ca=ca, ours=ours)
        (tmp_path / "aldis.toml").write_text(text, encoding="utf-8")
        program = start([*ALDIS, "serve"])
        await asyncio.to_thread(program.wait_for_text, '"event": "serving"')
        customer = await asyncio.to_thread(Customer, tmp_path, program)
        async with asyncio.timeout(20):
            while not near.bound or not far.bound:
                await asyncio.sleep(0.02)
        await asyncio.to_thread(customer.is_delivered, "447700900123")
        assert (near.submits, far.submits) == (1, 0)
        near.refuse = 0x45
        await asyncio.to_thread(customer.is_delivered, "447700900123")
        assert (near.submits, far.submits) == (2, 1)
        await near.close()
        await asyncio.to_thread(customer.is_delivered, "447700900123")
        assert (near.submits, far.submits) == (2, 2)
        assert program.text.count('"event": "link down"') == 1
        assert await asyncio.to_thread(program.stop) == 0
