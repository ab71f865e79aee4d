"""`aldis report`."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aldis.cli.shared import call, config_option, read_settings
from aldis.lifecycle import TABLE
from aldis.model.status import Phase, Status

COLOURS = {Phase.MOVING: "yellow", Phase.DELIVERED: "green", Phase.FAILED: "red"}


def show_time(at_ms: int | None) -> str:
    """Return a time for people: month, day, UTC."""
    if at_ms is None:
        return ""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%m-%d %H:%M:%S")


def show_words(words: str) -> str:
    """Return somebody else's words for a terminal: what would steer it is shown as a dot, and markup as it stands."""
    return escape("".join(char if char.isprintable() else "\N{MIDDLE DOT}" for char in words))


def show_status(code: int) -> str:
    """Return a status with its meaning, in its phase's colour."""
    row = TABLE[Status(code)]
    return f"[{COLOURS[row.phase]}]{code} {row.meaning}[/]"


def show_parts(parts: Mapping[str, int]) -> str:
    """Return how many of a message's parts are delivered, and where the others stand."""
    others = [f"part {number}: {show_status(code)}" for number, code in parts.items() if code != Status.DELIVERED]
    return ", ".join([f"; {len(parts) - len(others)} of {len(parts)} parts delivered", *others]) if parts else ""


@click.command()
@click.argument("batch_id", type=click.IntRange(0, 2**63 - 1))
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1), help="Most messages to show.")
@config_option
def report(batch_id: int, limit: int, config: Path | None) -> None:
    """Show a batch: every message's status, and all that was ever heard of it."""
    batch = call(read_settings(config), "report", batch_id=batch_id, limit=limit)
    if batch is None:
        click.echo(f"aldis: no batch {batch_id} in this ledger", err=True)
        sys.exit(1)
    console = Console()
    console.print(f"batch {batch['batch_id']} of {batch['account']}, accepted {show_time(batch['created_at'])} UTC")
    for message in batch["messages"]:
        title = f"{message['msisdn']}: {show_status(message['status'])}{show_parts(message['parts'])}"
        table = Table(title=title, title_justify="left")
        for heading in ("UTC", "what", "status", "part", "connector"):
            table.add_column(heading, no_wrap=True)
        table.add_column("in the upstream's words", overflow="fold")
        table.add_row(show_time(batch["created_at"]), "accepted", "0", "", "", f"{message['credits']} credits")
        for event in message["events"]:
            part = str(event["part_no"] or "")
            detail = show_words(event["detail"])
            table.add_row(show_time(event["at"]), event["kind"], str(event["status"]), part, event["connector"], detail)
        console.print(table)
    if batch["recipients"] > len(batch["messages"]):
        console.print(f"{batch['recipients'] - len(batch['messages'])} more recipients: see --limit")
