"""`python -m tests.bench`: how fast the program is on this machine, each figure beside a floor of the same run.

It needs Linux. Nothing here fails for being slow; it fails if anything answers wrongly.
"""

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from rich.console import Console
from tests.bench import claims, flow, halfopen, http, nodes, notify, receipts, rows, smpp, snapshot
from tests.bench.bench import Bench, folder_for
from tests.bench.children import Failed
from tests.bench.database import Database
from tests.bench.table import machine, show
from tests.postgres import PostgresFailed

from aldis.store.sqlite.files import filesystem_of

TABLE_WIDTH = 150
ON_POSTGRES = {"claims": claims.run, "snapshot": snapshot.run, "notify": notify.run, "nodes": nodes.run}
RECEIPTS = {"receipts": receipts.run, "backlog": receipts.run_backlog}
SECTIONS = {"smpp": smpp.run, "halfopen": halfopen.run, "flow": flow.run, **RECEIPTS, **ON_POSTGRES, "rows": rows.run}
NAMES = ("submit", "poll", *SECTIONS)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--ledger", choices=("sqlite", "postgres"), default="sqlite", help="what it is measured on")
    parser.add_argument("--quick", action="store_true", help="short measurements and small ledgers")
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help=f"some of {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=float, help="length of a measurement; default 3, or 1 with --quick")
    parser.add_argument("--messages", type=int, help="messages of the whole flow; default 20000, or 4000 with --quick")
    parser.add_argument("--dir", type=Path, help="where to put the data, in place of the temporary directory")
    parser.add_argument("--keep", action="store_true", help="leave configurations, ledgers and logs where they are")
    parser.add_argument("--profile", action="store_true", help="show where the server's time goes in the whole flow")
    return parser.parse_args()


def _sections(bench: Bench, wanted: list[str]) -> list[Callable[[], None]]:
    sections: list[Callable[[], None]] = []
    if "submit" in wanted or "poll" in wanted:
        sections.append(lambda: http.run(bench, submissions="submit" in wanted, polls="poll" in wanted))
    return sections + [lambda run=run: run(bench) for name, run in SECTIONS.items() if name in wanted]  # type: ignore[misc]


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _run(options: argparse.Namespace, console: Console, folder: Path) -> int:
    quick = options.quick
    bench = Bench(
        seconds=options.seconds or (1.0 if quick else 3.0),
        flow_messages=options.messages or (4_000 if quick else 20_000),
        rows=(10_000, 100_000) if quick else (100_000, 1_000_000),
        is_profiled=options.profile,
        folder=folder,
        console=Console(stderr=True),
        is_quick=quick,
    )
    disk = filesystem_of(folder, Path("/proc/self/mountinfo").read_text())
    bench.about.append(f"{machine()}, data on {disk}. All processes shared the machine.")
    if disk == "tmpfs":
        bench.about.append("The data is in memory: nothing here was durable. Choose a disk with --dir.")
    status = 0
    try:
        _measure(bench, options)
    except (Failed, PostgresFailed, subprocess.CalledProcessError) as error:
        bench.console.print(f"[red]failed:[/red] {error}", highlight=False)
        status = 1
    except KeyboardInterrupt:
        bench.console.print("stopped")
        status = 130
    if any(section.figures for section in bench.sections):
        show(console, bench.sections, bench.about)
    for line in bench.profile:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return status


def _measure(bench: Bench, options: argparse.Namespace) -> None:
    """Run the sections that were asked for, of those that the ledger has."""
    is_shared = options.ledger == "postgres"
    wanted = options.only or [name for name in NAMES if is_shared or name not in ON_POSTGRES]
    with ExitStack() as stack:
        if is_shared:
            database = Database(bench.folder, is_profiled=options.profile)
            bench.database = stack.enter_context(database)
            bench.about.append(f"{database.about}. CPU is of the server, and of all of PostgreSQL's processes.")
        for section in _sections(bench, wanted):
            section()


def main() -> int:
    options = _parse()
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    if sys.platform != "linux":
        console.print("The bench reads /proc and needs Linux.")
        return 1
    if options.ledger == "sqlite" and (wrong := set(options.only or ()) & set(ON_POSTGRES)):
        console.print(f"{min(wrong)} wants --ledger postgres.")
        return 2
    with folder_for(options.dir, keep=options.keep) as folder:
        status = _run(options, console, folder)
        if options.keep:
            console.print(f"kept: {folder}", highlight=False)
    return status


if __name__ == "__main__":
    sys.exit(main())
