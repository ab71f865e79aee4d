"""`aldis cancel`."""

import sys
from pathlib import Path

import click

from aldis.cli.shared import call, config_option, read_settings


@click.command()
@click.argument("batch_id", type=click.IntRange(0, 2**63 - 1))
@click.option("--number", "msisdn", type=click.IntRange(1, 2**63 - 1), help="Only the messages to this number.")
@config_option
def cancel(batch_id: int, msisdn: int | None, config: Path | None) -> None:
    """Cancel what is left of a batch: what waits to be sent at once, and what an upstream will give back.

    A cancelled message ends as 29, and costs nothing. `aldis report BATCH_ID` shows what became of each.
    """
    found = call(read_settings(config), "cancel", batch_id=batch_id, msisdn=msisdn)
    if found is None:
        click.echo(f"aldis: no batch {batch_id} in this ledger", err=True)
        sys.exit(1)
    click.echo(f"{found['cancelled']} cancelled")
    for count, words in (
        (found["asked"], "are upstream: it will be asked to take them back"),
        (found["out_of_reach"], "are being sent at this moment, or are known to no upstream"),
        (found["over"], "were over already"),
    ):
        if count:
            click.echo(f"{count} {words}")
