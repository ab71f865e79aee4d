"""The simulator as a program of its own: `python -m aldis.connectors.simulator --port 2775 --log seen.jsonl`."""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from aldis.connectors.habits import SimulatorHabits
from aldis.connectors.simulator import SimulatorRates, Smsc, SmscSettings
from aldis.smpp.commands import SubmitSm

_encode = msgspec.json.Encoder().encode


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class JsonLog:
    """An `Observer` that appends one line of JSON for each thing seen, on its way to the disk before it is answered.

    A submit: `at` (epoch ms), `event` "submit", `system_id`, `message_id` (empty: refused), `source`, `destination`,
    `esm_class`, `data_coding`, `octets` (hexadecimal). An answered receipt: `at`, `event` "receipt", `message_id`,
    `status`.
    """

    def __init__(self, path: Path) -> None:
        """Open the file for appending."""
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def on_submit(self, system_id: str, pdu: SubmitSm, message_id: str) -> None:
        """Write a submit."""
        self._write(
            {
                "at": _now_ms(),
                "event": "submit",
                "system_id": system_id,
                "message_id": message_id,
                "source": pdu.source_addr.decode("latin-1"),
                "destination": pdu.destination_addr.decode("latin-1"),
                "esm_class": pdu.esm_class,
                "data_coding": pdu.data_coding,
                "octets": pdu.short_message.hex(),
            }
        )

    def on_receipt_answered(self, message_id: str, status: int) -> None:
        """Write an answer to a receipt."""
        self._write({"at": _now_ms(), "event": "receipt", "message_id": message_id, "status": status})

    def _write(self, line: dict[str, str | int]) -> None:
        os.write(self._file, _encode(line) + b"\n")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="aldis.connectors.simulator", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2775, help="0: any free port; it is printed")
    parser.add_argument("--log", type=Path, help="file that gets a line for each submit and each answered receipt")
    parser.add_argument("--esme", action="append", metavar="ID:PASSWORD", help="who may bind; not given: everyone")
    parser.add_argument("--version", choices=("3.3", "3.4", "5.0"), default="3.4", help="SMPP version to speak")
    parser.add_argument("--habit", action="append", default=[], metavar="KEY=VALUE", help="a habit; repeatable")
    for field in msgspec.structs.fields(SmscSettings):
        if field.type in (int, float) and field.name != "port":
            parser.add_argument(_option(field.name), type=field.type, default=field.default)
    for field in msgspec.structs.fields(SimulatorRates):
        parser.add_argument(_option(field.name), type=field.type, default=field.default)
    return parser.parse_args(arguments)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def read_settings(options: argparse.Namespace) -> SmscSettings:
    """Return the message centre's settings from the command line's."""
    given = vars(options)
    rates = SimulatorRates(**{name: given[name] for name in SimulatorRates.__struct_fields__})
    passwords = dict(pair.partition(":")[::2] for pair in options.esme) if options.esme else None
    plain = {name: given[name] for name in SmscSettings.__struct_fields__ if name in given}
    return SmscSettings(**plain, passwords=passwords, rates=rates, habits=read_habits(options.habit))


def read_habits(pairs: Sequence[str]) -> SimulatorHabits:
    """Return the habits in KEY=VALUE pairs; the values of a list stand behind commas.

    Raises:
        ValueError: an unknown habit, or a value that it can't have.
    """
    given = dict(pair.partition("=")[::2] for pair in pairs)
    lists = {f.name for f in msgspec.structs.fields(SimulatorHabits) if isinstance(f.default, tuple)}
    values = {key: value.split(",") if key in lists else value for key, value in given.items()}
    return msgspec.convert(values, SimulatorHabits, strict=False)


async def serve(settings: SmscSettings, log: Path | None) -> None:
    """Serve until SIGTERM or SIGINT; the first line of output says where."""
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, done.set)
    async with Smsc(settings, _now_ms, JsonLog(log) if log else None) as smsc:
        sys.stdout.write(f"listening on {settings.host}:{smsc.port}\n")
        sys.stdout.flush()
        await done.wait()


def run(arguments: Sequence[str] | None = None) -> None:
    """Run the simulator."""
    options = _parse(arguments)
    try:
        settings = read_settings(options)
    except ValueError as error:
        raise SystemExit(f"simulator: {error}") from None
    main = serve(settings, options.log)
    try:
        import uvloop  # noqa: PLC0415 (optional)
    except ImportError:
        asyncio.run(main)
    else:
        uvloop.run(main)
