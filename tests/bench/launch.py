"""`aldis` under cProfile: `python -m tests.bench.launch FOLDER serve ...` leaves *.prof files in the folder."""

import cProfile
import sys
from pathlib import Path

from tests.bench.profiling import LOOP, WRITER

from aldis.cli import main
from aldis.store.sqlite.writer import Writer


def _profile_writer() -> cProfile.Profile:
    profile, run = cProfile.Profile(), Writer._run
    Writer._run = lambda self: profile.runcall(run, self)  # type: ignore[method-assign]
    return profile


def _main() -> None:
    folder = Path(sys.argv.pop(1))
    profiles = {LOOP: cProfile.Profile()}
    if sys.version_info < (3, 12):  # from then on, a process can have but one
        profiles[WRITER] = _profile_writer()
    try:
        profiles[LOOP].runcall(main)
    finally:
        for name, profile in profiles.items():
            if profile.getstats():  # a ledger on PostgreSQL has no writer's thread
                profile.dump_stats(folder / f"{name}.prof")


if __name__ == "__main__":
    _main()
