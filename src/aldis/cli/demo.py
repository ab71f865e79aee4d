"""`aldis demo`: the whole platform on one machine, with a simulated network and a receiver for pushes."""

import asyncio
import itertools
import os
import secrets
import sys
import tempfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from aldis.cli.demo_nodes import OtherNode, network, write_config
from aldis.cli.receiver import Receiver
from aldis.cli.report import show_status
from aldis.cli.shared import run_loop, set_up_logging
from aldis.connectors.outcomes import DELIVERED, OUTCOMES
from aldis.lifecycle import is_announced
from aldis.model.status import Status
from aldis.service.admin import Admin
from aldis.service.node import Node
from aldis.service.settings import Settings, load

SEND = "/eapi/submission/send_sms/2/2.0"
REPORT = "/eapi/status_reports/get_report/2/2.0"
CREDITS = 1_000_000
RECEIVER_PORT = 5568
ONCE_BUDGET_S = 60.0
ENDINGS = (
    *("1000", "0011", "2000", "0050", "0104", "3000", "0053"),
    *("0103", "0107", "0057", "0105", "0108", "0055", "0051"),
)
"""What `--once` writes to: endings of numbers, each with its outcome in the simulator's table."""

CONFIG = """\
# Made by `aldis demo`. docs/reference/configuration.md tells all settings.
data_dir = "."

[http]
listen = "127.0.0.1:5567"

[push]
allow_private_networks = ["127.0.0.0/8"]   # the demo's receiver is on this machine

[[connector]]
name = "simulator"
kind = "simulator"

[[route]]
prefix = ""          # every number
connector = "simulator"
price = "1"
"""


@click.command()
@click.option("--once", is_flag=True, help="Send, watch every message to its end; exit 0 only if all went as meant.")
@click.option("--messages", default=len(ENDINGS), show_default=True, type=click.IntRange(1, 10_000), metavar="N")
@click.option(
    "--config", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Default: DIR/aldis.toml."
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-data"),
    show_default=True,
    metavar="DIR",
    help="Where the demo keeps its ledger and configuration. --once uses a folder that it throws away.",
)
@click.option("--ledger", metavar="URL", help="A PostgreSQL database for the ledger, in place of a file.")
@click.option("--nodes", default=1, show_default=True, type=click.IntRange(1, 8), help="Nodes that share it.")
def demo(once: bool, messages: int, config: Path | None, data_dir: Path, ledger: str | None, nodes: int) -> None:
    """Run the platform with a simulated network, and show what it does.

    Without --once it serves until Ctrl-C, prints curl lines to paste, and shows pushes as they arrive.
    """
    if nodes > 1 and (not ledger or config):
        raise click.UsageError("--nodes shares a PostgreSQL ledger: give its --ledger URL, and no --config")
    set_up_logging("error")
    with ExitStack() as stack:
        environ = dict(os.environ)
        if once:
            data_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aldis-demo-")))
            config, environ = None, {"ALDIS_HTTP_LISTEN": "127.0.0.1:0"}
        if ledger:
            environ["ALDIS_LEDGER_URL"] = ledger
        play = Play(data_dir, config, environ, nodes)
        sys.exit(run_loop(lambda: play.run(partial(_watch, messages=messages) if once else _show, once=once)))


class Play(NamedTuple):
    """What is to be run."""

    folder: Path
    config: Path | None
    environ: dict[str, str]
    nodes: int

    async def run(self, act: "Callable[[Stage], Coroutine[Any, Any, int]]", *, once: bool) -> int:
        """Set the stage, and act on it; returns the exit status."""
        async with AsyncExitStack() as stack:
            config = self.config or self.folder / "aldis.toml"
            if self.nodes > 1:
                smsc_port = await stack.enter_async_context(network())
                config = write_config(self.folder, 5567, smsc_port, self.nodes)
            elif self.config is None and not config.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                config.write_text(CONFIG, encoding="utf-8")
            settings = load(config, self.environ)
            return await _run(settings, config, 0 if once else RECEIVER_PORT, self.nodes - 1, act)


class Stage:
    """A running node, perhaps others beside it, a receiver, and an account whose password is known."""

    def __init__(
        self, node: Node, others: Sequence[OtherNode], receiver: Receiver, password: str, config: Path
    ) -> None:
        """Take what runs."""
        self.node = node
        self.others = others
        self.receiver = receiver
        self.password = password
        self.config = config
        self._turn = itertools.cycle([self.base, *(one.base for one in others)])

    @property
    def base(self) -> str:
        """The address of the API."""
        host, port = self.node.address
        return f"http://{host}:{port}"

    async def ask(self, path: str, **parameters: str) -> str:
        """Make a legacy API call over HTTP as any customer would, of each node in turn."""
        parameters |= {"username": "demo", "password": self.password}
        data = urllib.parse.urlencode(parameters).encode("ascii")
        return await asyncio.to_thread(_post, f"{next(self._turn)}{path}", data)


def _post(url: str, data: bytes) -> str:
    with urllib.request.urlopen(url, data, timeout=30) as answer:  # noqa: S310 - our own server
        return str(answer.read().decode("latin-1"))


async def _run(
    settings: Settings, config: Path, port: int, others: int, act: Callable[[Stage], Coroutine[Any, Any, int]]
) -> int:
    node = Node(settings)
    async with Receiver(port) as receiver, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(node.run())
        waiting = tasks.create_task(node.started.wait())
        await asyncio.wait((running, waiting), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            waiting.cancel()
            await running
        password = await _open_account(node, receiver.url)
        try:
            async with AsyncExitStack() as stack:
                beside = [OtherNode(config, settings.ledger_url) for _ in range(others)]
                for one in beside:
                    await stack.enter_async_context(one)
                return await act(Stage(node, beside, receiver, password, config))
        finally:
            node.stop()
            await running


async def _open_account(node: Node, push_url: str) -> str:
    admin = Admin(node.store, node.ledger)
    password = secrets.token_urlsafe(12)
    if await node.store.find_account("demo") is None:
        await admin.add_account("demo", password, CREDITS, push_url)
    else:
        await admin.set_account("demo", {"password": password, "push_url": push_url})
    return password


async def _show(stage: Stage) -> int:
    stage.node.stop_on_signals()
    stage.receiver.on_push = _print_push
    click.echo(_welcome(stage))
    await stage.node.stopping.wait()
    return 0


def _print_push(parameters: dict[str, str]) -> None:
    shown = " ".join(f"{key}={value}" for key, value in parameters.items() if key not in ("unique_id", "msg_id"))
    click.echo(f"push arrived: {shown}")


def _welcome(stage: Stage) -> str:
    poll_at = stage.others[0].base if stage.others else stage.base
    variable = "ALDIS_LEDGER_URL=$LEDGER " if stage.node.settings.is_shared else ""
    login = f"-d username=demo --data-urlencode 'password={stage.password}'"
    return f"""
Aldis runs on {stage.base} with a simulated network. Stop it with Ctrl-C.
Account demo, password {stage.password} (made for this run, shown only now).

Paste these into another terminal. Submit a message:

  curl -s {stage.base}{SEND} {login} -d msisdn=447700900123 --data-urlencode 'message=Hello from Aldis'

It answers 0|IN_PROGRESS|batch_id. Poll its report (10: delivered upstream, 11: delivered to the phone):

  curl -s {poll_at}{REPORT} {login} -d batch_id=BATCH_ID

The report is also pushed to {stage.receiver.url}: the push shows up below this text.
Other endings of the number have other outcomes: 447700900053 expires, 447700900057 finds a full SIM
(docs/reference/simulator.md has them all). The whole story of a batch:

  {variable}{sys.argv[0]} report --config {stage.config} BATCH_ID
{_about_others(stage)}"""


def _about_others(stage: Stage) -> str:
    if not stage.others:
        return ""
    others = "\n".join(f"  {one.base}   process {one.pid}" for one in stage.others)
    return f"""
Beside it, on the same ledger:

{others}

The binds to the network are shared out among the nodes. Kill one (kill -9 {stage.others[0].pid}) and go on
submitting: within ten seconds the others have taken over its binds. $LEDGER stands for the URL that you gave.
"""


async def _watch(stage: Stage, *, messages: int) -> int:
    msisdns = [447_700_900_000_000 + 10_000 * n + int(ENDINGS[n % len(ENDINGS)]) for n in range(messages)]
    meant = {n: OUTCOMES.get(ENDINGS[i % len(ENDINGS)], DELIVERED).shows for i, n in enumerate(msisdns)}
    answer = await stage.ask(SEND, msisdn=",".join(map(str, msisdns)), message="Hello from Aldis")
    code, _, rest = answer.partition("|")
    if code != "0":
        click.echo(f"aldis demo: the submission was refused: {answer.strip()}", err=True)
        return 1
    batch_id = rest.rpartition("|")[2].strip()
    pushes_meant = {n for n, status in meant.items() if is_announced(status)}
    console = Console()
    statuses: dict[int, int] = {}
    good = False
    with Live(console=console, auto_refresh=False) as live:
        deadline = asyncio.get_running_loop().time() + ONCE_BUDGET_S
        while not good and asyncio.get_running_loop().time() < deadline:
            statuses = _parse(await stage.ask(REPORT, batch_id=batch_id))
            pushed = {n: code for n, code in stage.receiver.latest.items() if n in pushes_meant}
            good = statuses == meant and pushed == {n: meant[n] for n in pushes_meant}
            live.update(_table(meant, statuses, pushed), refresh=True)
            await asyncio.sleep(0.1)
    done = sum(statuses.get(n) == status for n, status in meant.items())
    console.print(
        f"batch {batch_id}: {done} of {len(meant)} messages as meant, "
        f"{len(set(stage.receiver.latest) & pushes_meant)} of {len(pushes_meant)} reports pushed"
    )
    return 0 if good else 1


def _parse(report: str) -> dict[int, int]:
    rows = [line.split("|") for line in report.splitlines()[2:] if line]
    return {int(msisdn): int(code) for msisdn, code in rows}


def _table(meant: Mapping[int, Status], statuses: Mapping[int, int], pushed: Mapping[int, int]) -> Table:
    table = Table("outcome meant", "messages", "there", "pushed")
    for status in sorted(set(meant.values())):
        members = [n for n, one in meant.items() if one == status]
        there = sum(statuses.get(n) == status for n in members)
        arrived = sum(n in pushed for n in members) if is_announced(status) else "-"
        table.add_row(show_status(status), str(len(members)), str(there), str(arrived))
    return table
