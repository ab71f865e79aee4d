"""Break things around a running server, and check what was promised.

python -m tests.fault [--ledger postgres] [--rounds N] [--rate N] [--seed N] [--only NAME ...] [--mutate NAME]
"""

import argparse
import sys
import time
from collections.abc import Callable, Mapping

from tests.fault import clients, disk, kill, listen, mutants, outage, stop, takeover
from tests.fault.server import SERVER, RigError
from tests.fault.tables import Result, Table, say

Scenario = Callable[[argparse.Namespace], Result]

EMBEDDED: Mapping[str, Scenario] = {
    "kill": lambda options: kill.run(options.rounds, options.seed, command=_command(options.mutate)),
    "stop": lambda options: stop.run(options.seed),
    "disk": lambda options: disk.run(options.seed),
    "clients": lambda options: clients.run(options.seed),
    "mutants": lambda options: mutants.run(options.seed),
}
SHARED: Mapping[str, Scenario] = {
    "node-kill": lambda options: takeover.run_kill(*_shared(options, takeover.RATE)),
    "pg-restart": lambda options: outage.run_restart(*_shared(options, outage.RATE)),
    "zombie": lambda options: takeover.run_zombie(*_shared(options, takeover.RATE)),
    "listen-cut": lambda options: listen.run(options.rounds, options.seed, options.rate or listen.RATE),
    "backend-stop": lambda options: outage.run_stop(*_shared(options, outage.RATE)),
    "mutants": lambda options: mutants.run_shared(options.seed),
}
SCENARIOS = {"sqlite": EMBEDDED, "postgres": SHARED}
ON_DEMAND = ("mutants",)


def main() -> int:
    options = _parse()
    scenarios = SCENARIOS[options.ledger]
    chosen = options.only or [name for name in scenarios if name not in ON_DEMAND]
    began = time.monotonic()
    results = [_run(name, scenarios[name], options) for name in chosen]
    summary = Table("summary", ("scenario", "seconds", ""))
    for result in results:
        summary.add(result.name, f"{result.seconds:.0f}", _word(result))
    say(f"\n{summary}\ntotal {time.monotonic() - began:.0f} s, seed {options.seed}")
    return 0 if all(result.ok for result in results) else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fault", description=__doc__)
    parser.add_argument("--ledger", choices=tuple(SCENARIOS), default="sqlite", help="one server, or two nodes")
    parser.add_argument("--rounds", type=int, default=50, help="kills in the scenario of that name; postgres: in each")
    parser.add_argument("--rate", type=float, help="postgres: calls a second, in place of the scenario's own")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="of the ledger's scenarios")
    parser.add_argument("--mutate", choices=tuple(mutants.ALL), help="break a server that is wrong on purpose")
    options = parser.parse_args()
    if unknown := set(options.only or ()) - set(SCENARIOS[options.ledger]):
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS[options.ledger])}")
    return options


def _command(mutant: str | None) -> tuple[str, ...]:
    return mutants.command_of(mutant) if mutant else SERVER


def _shared(options: argparse.Namespace, rate: float) -> tuple[int, int, float, tuple[str, ...]]:
    """Return rounds, seed, rate and what to run in place of aldis."""
    return options.rounds, options.seed, options.rate or rate, _command(options.mutate)


def _run(name: str, scenario: Scenario, options: argparse.Namespace) -> Result:
    say(f"\n=== {name}")
    try:
        result = scenario(options)
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
