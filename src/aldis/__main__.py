"""Run the command: `python -m aldis`."""

from aldis.cli import main

main()
