"""`aldis connectors`."""

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aldis.cli.shared import call, config_option, read_settings
from aldis.rules.profile import ENOUGH
from aldis.service.settings import Settings


@click.group()
def connectors() -> None:
    """Look at what receipts have taught about the links to networks."""


@connectors.command()
@click.argument("name")
@click.option("--lock", metavar="TOPIC=VALUE", help="Settle a topic by hand, such as spelling=same.")
@click.option("--unlock", metavar="TOPIC", help="Leave a topic to what receipts say.")
@click.option("--forget", is_flag=True, help="Forget what receipts have said, such as when the network has changed.")
@config_option
def profile(name: str, lock: str | None, unlock: str | None, forget: bool, config: Path | None) -> None:
    """Show a connector's profile: what its receipts always do alike, and what follows from it."""
    settings = read_settings(config)
    _refuse_unknown(settings, name)
    if forget:
        call(settings, "connectors.forget", connector=name)
    if lock or unlock:
        topic, _, value = (lock or f"{unlock}=").partition("=")
        found = call(settings, "connectors.lock", connector=name, topic=topic, value=value)
        click.echo(
            f"{topic} is {f'locked on {value}' if value else 'left to receipts'}; {found} receipts found their message"
        )
    table = Table("topic", "what", "counted", "settled on")
    for row in call(settings, "connectors.profile", connector=name):
        counted = ", ".join(f"{value or 'none'}: {times}" for value, times in row["counts"].items())
        settled = row["settled"] + (" (locked)" if row["locked"] else "")
        table.add_row(row["topic"], row["meaning"], escape(counted), settled)
    console = Console()
    console.print(table)
    for doubt in call(settings, "connectors.doubts", connector=name):
        console.print(f"Doubtful: {doubt}.")
    hours = call(settings, "connectors.horizon", connector=name)
    console.print(f"Suggested: receipt_horizon_h = {hours:g}, which is used where the connector has none.")
    console.print(
        f"A topic is settled once {ENOUGH} receipts or more speak for one value; what is not changes nothing."
    )


def _refuse_unknown(settings: Settings, name: str) -> None:
    names = [connector.name for connector in settings.connectors]
    if name not in names:
        raise ValueError(f"no connector is named {name!r}: configured are {', '.join(names) or 'none'}")
