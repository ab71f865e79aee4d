"""The `aldis` command."""

import sys

import apsw
import click

from aldis import __version__
from aldis.cli.accounts import accounts
from aldis.cli.cancel import cancel
from aldis.cli.connectors import connectors
from aldis.cli.demo import demo
from aldis.cli.doctor import doctor
from aldis.cli.inbound import inbound
from aldis.cli.ledger import ledger
from aldis.cli.receipts import receipts
from aldis.cli.report import report
from aldis.cli.serve import serve
from aldis.model.errors import AldisError


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog="Documentation: the docs folder.")
@click.version_option(__version__, prog_name="aldis")
def group() -> None:
    """Send SMS over SMPP, and answer for every message with a status report.

    \b
    Try it:            aldis demo
    Run it:            aldis serve --config aldis.toml
    Give out access:   aldis accounts add NAME --credits 1000
    Look at a batch:   aldis report BATCH_ID
    Back it up:        aldis ledger backup FILE
    Something wrong?   aldis doctor
    """  # noqa: D301 - click wants the backspace


for command in (serve, demo, accounts, report, cancel, receipts, inbound, connectors, ledger, doctor):
    group.add_command(command)


def main() -> None:
    """Run the command; an expected error is one line, and exit status 1."""
    try:
        group()
    except Exception as error:
        cause = _cause(error)
        if not isinstance(cause, AldisError | OSError | ValueError | apsw.Error):
            raise
        click.echo(f"aldis: {cause}", err=True)
        sys.exit(1)


def _cause(error: BaseException) -> BaseException:
    """Return what is inside task groups' wrappings."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
