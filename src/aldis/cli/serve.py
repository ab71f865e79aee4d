"""`aldis serve`."""

from pathlib import Path

import click

from aldis.cli.shared import config_option, read_settings, run_loop, set_up_logging
from aldis.service.node import Node
from aldis.service.settings import Settings


@click.command()
@config_option
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory of the ledger, in place of the configured one.",
)
def serve(config: Path | None, data_dir: Path | None) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    It logs JSON lines to standard error. /health/ready tells whether it takes work, /metrics is for Prometheus.
    """
    settings = read_settings(config, data_dir)
    set_up_logging(settings.log_level)
    run_loop(lambda: _serve(settings))


async def _serve(settings: Settings) -> None:
    node = Node(settings)
    node.stop_on_signals()
    await node.run()
