"""`aldis serve`."""

from pathlib import Path

import click
import structlog

from aldis.cli.shared import config_option, read_settings, run_loop, set_up_logging
from aldis.model.errors import LeaseLost
from aldis.service.node import Node
from aldis.service.settings import Settings

log = structlog.get_logger()


@click.command()
@config_option
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory of the ledger, in place of the configured one.",
)
@click.option("--roles", metavar="LIST", help="What this node does, of web,dispatch,push; default all (PostgreSQL).")
def serve(config: Path | None, data_dir: Path | None, roles: str | None) -> None:
    """Run the server until SIGTERM or Ctrl-C.

    It logs JSON lines to standard error. /health/ready tells whether it takes work, /metrics is for Prometheus.
    """
    settings = read_settings(config, data_dir, roles)
    set_up_logging(settings.log_level)
    run_loop(lambda: _serve(settings))


async def _serve(settings: Settings) -> None:
    """Run a node; one that others have found dead, such as after a long standstill, begins a new life."""
    while True:
        node = Node(settings)
        node.stop_on_signals()
        try:
            return await node.run()
        except* LeaseLost:
            log.warning("other nodes found this one dead: it starts again")
