"""Break things around a running server, and check what was promised.

python -m tests.fault [--rounds N] [--seed N] [--only NAME ...] [--mutate NAME]
"""

import argparse
import sys
import time
from collections.abc import Callable

from tests.fault import clients, disk, kill, mutants, stop
from tests.fault.rig import RigError
from tests.fault.tables import Result, Table


def main() -> int:
    options = _parse()
    scenarios: dict[str, Callable[[], Result]] = {
        "kill": lambda: kill.run(options.rounds, options.seed, command=_command(options.mutate)),
        "stop": lambda: stop.run(options.seed),
        "disk": lambda: disk.run(options.seed),
        "clients": lambda: clients.run(options.seed),
        "mutants": lambda: mutants.run(options.seed),
    }
    chosen = options.only or [name for name in scenarios if name != "mutants"]
    began = time.monotonic()
    results = [_run(name, scenarios[name]) for name in chosen]
    summary = Table("summary", ("scenario", "seconds", ""))
    for result in results:
        summary.add(result.name, f"{result.seconds:.0f}", _word(result))
    print(f"\n{summary}\ntotal {time.monotonic() - began:.0f} s, seed {options.seed}")
    return 0 if all(result.ok for result in results) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="kills in the scenario of that name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", choices=tuple(SCENARIOS))
    parser.add_argument("--mutate", choices=tuple(mutants.MUTANTS), help="kill a server that is wrong on purpose")
    return parser.parse_args()


def _command(mutant: str | None) -> tuple[str, ...]:
    return mutants.command_of(mutant) if mutant else kill.SERVER


def _run(name: str, scenario: Callable[[], Result]) -> Result:
    print(f"\n=== {name}", flush=True)
    try:
        result = scenario()
    except RigError as error:
        result = Result(name, False, f"the stage could not be set: {error}")
    print(result.text + (f"\nthe evidence is in {result.kept}" if result.kept else ""), flush=True)
    return result


def _word(result: Result) -> str:
    if result.skipped:
        return f"SKIPPED: {result.skipped}"
    return "ok" if result.ok else "BROKEN"


if __name__ == "__main__":
    sys.exit(main())
