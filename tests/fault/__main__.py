"""Break things around a running server, and check what was promised.

python -m tests.fault [--rounds N] [--seed N] [--only NAME ...] [--mutate NAME]
"""

import argparse
import sys
import time
from collections.abc import Callable

from tests.fault import clients, disk, kill, mutants, stop
from tests.fault.rig import SERVER, RigError
from tests.fault.tables import Result, Table

SCENARIOS: dict[str, Callable[[argparse.Namespace], Result]] = {
    "kill": lambda options: kill.run(options.rounds, options.seed, command=_command(options.mutate)),
    "stop": lambda options: stop.run(options.seed),
    "disk": lambda options: disk.run(options.seed),
    "clients": lambda options: clients.run(options.seed),
    "mutants": lambda options: mutants.run(options.seed),
}
ON_DEMAND = ("mutants",)


def main() -> int:
    options = _parse()
    chosen = options.only or [name for name in SCENARIOS if name not in ON_DEMAND]
    began = time.monotonic()
    results = [_run(name, options) for name in chosen]
    summary = Table("summary", ("scenario", "seconds", ""))
    for result in results:
        summary.add(result.name, f"{result.seconds:.0f}", _word(result))
    say(f"\n{summary}\ntotal {time.monotonic() - began:.0f} s, seed {options.seed}")
    return 0 if all(result.ok for result in results) else 1


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="kills in the scenario of that name")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", choices=tuple(SCENARIOS))
    parser.add_argument("--mutate", choices=tuple(mutants.MUTANTS), help="kill a server that is wrong on purpose")
    return parser.parse_args()


def _command(mutant: str | None) -> tuple[str, ...]:
    return mutants.command_of(mutant) if mutant else SERVER


def _run(name: str, options: argparse.Namespace) -> Result:
    say(f"\n=== {name}")
    try:
        result = SCENARIOS[name](options)
    except RigError as error:
        result = Result(name, False, f"the stage could not be set: {error}")
    say(result.text + (f"\nthe evidence is in {result.kept}" if result.kept else ""))
    return result


def _word(result: Result) -> str:
    if result.skipped:
        return f"SKIPPED: {result.skipped}"
    return "ok" if result.ok else "BROKEN"


if __name__ == "__main__":
    sys.exit(main())
