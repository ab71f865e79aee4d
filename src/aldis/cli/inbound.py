"""`aldis inbound`."""

import json
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from aldis.cli.report import show_time, show_words
from aldis.cli.shared import call, config_option, read_settings


@click.group()
def inbound() -> None:
    """Look at messages that subscribers have sent."""


@inbound.command("list")
@click.option("--connector", default="", metavar="NAME", help="Only those that came over this connector.")
@click.option("--number", default="", metavar="DIGITS", help="Only those from a number that ends so.")
@click.option("--to", "destination", default="", metavar="DIGITS", help="Only those to a number that ends so.")
@click.option("--keyword", default="", type=click.Choice(("", "stop", "start")), help="Only those that ask for this.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Most messages to show.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each, with its octets.")
@config_option
def list_(
    connector: str, number: str, destination: str, keyword: str, limit: int, as_json: bool, config: Path | None
) -> None:  # fmt: skip
    """List messages of subscribers, the newest first."""
    wanted = {"connector": connector, "number": number, "destination": destination, "keyword": keyword, "limit": limit}
    found = call(read_settings(config), "inbound.list", **wanted)
    if as_json:
        for one in found:
            click.echo(json.dumps(one, ensure_ascii=False))
        return
    table = Table("UTC", "connector", "from", "to", "parts", "keyword", "answers", "text")
    for one in found:
        parts = str(one["parts"]) if one["parts"] == one["parts_got"] else f"{one['parts_got']} of {one['parts']}"
        words = [parts, one["keyword"], str(one["message_id"] or ""), one["text"]]
        shown = [one["connector"], one["source"], one["destination"], *words]
        table.add_row(show_time(one["received_at"]), *map(show_words, shown))
    Console().print(table)
