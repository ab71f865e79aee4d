"""`aldis doctor`."""

import asyncio
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import apsw
import click
from rich.console import Console

from aldis.cli.shared import call, config_option, config_path, read_settings
from aldis.model.errors import AldisError
from aldis.rules.failover import connectors_of
from aldis.service.admin import ask
from aldis.service.settings import Settings
from aldis.store.sqlite.files import check_filesystem, check_sqlite

_LOW_DISK_BYTES = 1 << 30


class Finding(NamedTuple):
    """One line of the doctor's."""

    good: bool | None
    """None: worth knowing, and not wrong."""
    text: str


@click.command()
@config_option
def doctor(config: Path | None) -> None:
    """Check the configuration, the ledger and the surroundings, and say what to do about what is wrong."""
    console = Console()
    failed = 0
    for finding in _examine(config):
        mark = {True: "[green]ok  [/]", False: "[red]FAIL[/]", None: "[yellow]note[/]"}[finding.good]
        console.print(f"{mark} {finding.text}", highlight=False)
        failed += finding.good is False
    sys.exit(1 if failed else 0)


def _examine(config: Path | None) -> Iterator[Finding]:
    try:
        settings = read_settings(config)
    except AldisError as error:
        yield Finding(False, str(error))
        return
    yield Finding(True, f"configuration {config_path(config)}")
    yield from _database(settings) if settings.is_shared else _file(settings)
    yield from _ways_out(settings)
    yield from _customers(settings)


def _file(settings: Settings) -> Iterator[Finding]:
    try:
        check_sqlite()
    except AldisError as error:
        yield Finding(False, str(error))
    else:
        yield Finding(True, f"SQLite {apsw.sqlite_lib_version()}")
    yield from _directory(settings)
    running = _is_running(settings)
    yield Finding(True if running else None, "the server runs" if running else "the server does not run")
    if not running:
        yield from _port(settings)


def _database(settings: Settings) -> Iterator[Finding]:
    from aldis.store.postgres.health import examine  # noqa: PLC0415 - its driver is an extra

    try:
        yield from (Finding(*remark) for remark in asyncio.run(examine(settings.ledger_url)))
    except AldisError as error:
        yield Finding(False, str(error))


def _directory(settings: Settings) -> Iterator[Finding]:
    directory = settings.data_dir
    if not directory.exists():
        yield Finding(None, f"{directory} does not exist yet; the server makes it")
        return
    try:
        check_filesystem(directory)
    except AldisError as error:
        yield Finding(False, str(error))
    free = shutil.disk_usage(directory).free
    good = free > _LOW_DISK_BYTES
    advice = "" if good else ": make room, a full disk stops all submissions"
    yield Finding(good, f"{directory} has {free / (1 << 30):.1f} GiB free{advice}")


def _is_running(settings: Settings) -> bool:
    try:
        asyncio.run(ask(settings.data_dir, "accounts.list", {}))
    except (ConnectionError, FileNotFoundError, ValueError):
        return False
    return True


def _port(settings: Settings) -> Iterator[Finding]:
    where = f"{settings.http_host}:{settings.http_port}"
    with socket.socket(socket.AF_INET6 if ":" in settings.http_host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.http_host, settings.http_port))
        except OSError as error:
            yield Finding(False, f"can't listen on {where} ({error.strerror}); set http.listen to another")
        else:
            yield Finding(True, f"{where} is free")


def _ways_out(settings: Settings) -> Iterator[Finding]:
    if not settings.connectors:
        yield Finding(False, "no [[connector]] is configured: nothing can be sent")
    for connector in settings.connectors:
        yield Finding(True, f"connector {connector.name} ({connector.kind})")
        if not any(connector.name in connectors_of(route.connector) for route in settings.routes):
            yield Finding(None, f"no [[route]] leads to connector {connector.name}: it sends nothing")
    if not settings.routes:
        yield Finding(False, "no [[route]] is configured: every message ends in 31, unroutable")
    elif all(route.prefix for route in settings.routes):
        yield Finding(None, "no route without a prefix: numbers outside the prefixes end in 31, unroutable")


def _customers(settings: Settings) -> Iterator[Finding]:
    if not settings.is_shared and not settings.data_dir.exists():
        return
    try:
        found = call(settings, "accounts.list")
    except (AldisError, ValueError, ConnectionError) as error:
        yield Finding(False, str(error))
        return
    if found:
        yield Finding(True, f"{len(found)} accounts")
    else:
        yield Finding(None, "no accounts yet: `aldis accounts add NAME --credits 1000`")
