"""What the commands share: the --config option, logging, the loop, and the way to a ledger that may be in use."""

import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import structlog
from structlog.tracebacks import ExceptionDictTransformer

from aldis.ledger import Ledger
from aldis.model.ids import IdMaker
from aldis.service.admin import Admin, ask
from aldis.service.node import wall_clock_ms
from aldis.service.settings import Settings, load
from aldis.store.base import Store
from aldis.store.sqlite import SqliteStore

T = TypeVar("T")
DEFAULT_CONFIG = Path("aldis.toml")

config_option = click.option(
    "--config",
    "config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Configuration file. Default: aldis.toml in this folder, then $ALDIS_CONFIG.",
)


def config_path(given: Path | None) -> Path:
    """Return the configuration file to read: the one given, aldis.toml here, or ALDIS_CONFIG's."""
    if given is not None:
        return given
    if DEFAULT_CONFIG.exists() or "ALDIS_CONFIG" not in os.environ:
        return DEFAULT_CONFIG
    return Path(os.environ["ALDIS_CONFIG"])


def read_settings(config: Path | None, data_dir: Path | None = None, roles: str | None = None) -> Settings:
    """Return the configuration that a command works with."""
    return load(config_path(config), os.environ, data_dir, roles)


class _StandardError:
    """Writes log lines to standard error; where that fails, such as on a full disk, the work goes on without."""

    def msg(self, message: str) -> None:
        """Write a line."""
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(message + "\n")
            sys.stderr.flush()

    log = debug = info = warning = error = critical = exception = fatal = msg


def set_up_logging(level: str) -> None:
    """Log JSON lines to standard error, from a level on."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),  # locals hold bodies
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=True,
    )


def run_loop(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine on the fastest loop that is here."""
    try:
        import uvloop  # noqa: PLC0415 - there is none on some platforms
    except ImportError:
        return asyncio.run(main())
    return uvloop.run(main())


async def open_store(settings: Settings) -> Store:
    """Open the configured ledger for a command."""
    if not settings.is_shared:
        return SqliteStore(settings.data_dir, lambda pushes: None)
    from aldis.store.postgres import PostgresStore  # noqa: PLC0415 - its driver is an extra

    return await PostgresStore.open(settings.ledger_url, lambda pushes: None, wall_clock_ms)


def call(settings: Settings, name: str, **arguments: Any) -> Any:
    """Make an operator's call: through the running server, or on the ledger itself if there is none."""
    set_up_logging("error")
    return asyncio.run(_call(settings, name, arguments))


async def _call(settings: Settings, name: str, arguments: dict[str, Any]) -> Any:
    if not settings.is_shared:
        with contextlib.suppress(ConnectionError, FileNotFoundError):
            return await ask(settings.data_dir, name, arguments)
    store = await open_store(settings)
    try:
        ledger = Ledger(store, IdMaker(settings.node_number, await store.largest_id()), wall_clock_ms)
        return await Admin(store, ledger).call(name, arguments)
    finally:
        await store.close()
