"""aldis on the loop of the standard library, which reads from sockets before it looks at timers; uvloop does not.

A node that was stopped and goes on hears first what came meanwhile, or first that its lease has run out.
"""

import sys

from tests.fault.server import PYTHON

from aldis.cli import main as aldis

PLAIN = (*PYTHON, "-m", "tests.fault.plain")


def use_plain_loop() -> None:
    sys.modules["uvloop"] = None  # type: ignore[assignment]


if __name__ == "__main__":
    use_plain_loop()
    aldis()
