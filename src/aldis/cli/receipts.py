"""`aldis receipts`."""

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from aldis.cli.report import show_time, show_words
from aldis.cli.shared import call, config_option, read_settings


@click.group()
def receipts() -> None:
    """Look at receipts that belong to no message so far; the others stand in `aldis report`."""


@receipts.command("list")
@click.option("--unmatched", is_flag=True, default=True, help="Those that belong to no message: no others are listed.")
@click.option("--connector", default="", metavar="NAME", help="Only those that came over this connector.")
@click.option("--number", default="", metavar="DIGITS", help="Only those about a number that ends so.")
@click.option("--id", "upstream_id", default="", metavar="ID", help="Only those with this id of the upstream's.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Most receipts to show.")
@config_option
def list_(
    unmatched: bool, connector: str, number: str, upstream_id: str, limit: int, config: Path | None
) -> None:  # fmt: skip
    """List receipts that belong to no message so far, the newest first."""
    del unmatched
    wanted = {"connector": connector, "number": number, "upstream_id": upstream_id, "limit": limit}
    answer = call(read_settings(config), "receipts.list", **wanted)
    table = Table("UTC", "connector", "id", "state", "err", "number", "originator", "text")
    for one in answer["receipts"]:
        words = [one[name] for name in ("connector", "upstream_id", "state", "error", "source", "destination", "text")]
        table.add_row(show_time(one["received_at"]), *map(show_words, words))
    console = Console()
    console.print(table)
    console.print(f"{answer['unmatched']} receipts belong to no message; `aldis receipts rematch` looks again")


@receipts.command()
@config_option
def rematch(config: Path | None) -> None:
    """Look again at every receipt that belongs to no message, such as after a change of settings."""
    found = call(read_settings(config), "receipts.rematch")
    click.echo(f"{found} receipts have found their message")
