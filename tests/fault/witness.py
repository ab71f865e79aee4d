"""A witness's memory: a line of JSON for each thing seen, on the disk before anything else happens."""

import json
import os
import time
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Log:
    """Appends lines; each is on the disk when `write` returns, and none is torn by another writer."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_DSYNC, 0o644)

    def write(self, what: str, **fields: Any) -> None:
        """Write that something was seen; `at` is the machine's monotonic clock, one for all processes."""
        line = {"e": what, "at": round(time.monotonic(), 6), **fields}
        os.write(self._file, json.dumps(line, separators=(",", ":")).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def read(path: Path) -> list[Line]:
    """Return a log's lines; a last one that was cut off by the witness's own end is left out."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
