"""Which process this is, so that a node that starts again can tell that its former life is over."""

import os
from pathlib import Path

_PROC = Path("/proc")


def identity(pid: int | None = None, proc: Path = _PROC) -> str:
    """Return what names a process of this machine: boot, process namespace, pid, start time; empty where unknown."""
    pid = os.getpid() if pid is None else pid
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink(proc / "self/ns/pid")  # noqa: PTH115 - the link leads to no file
        return f"{boot} {namespace} {pid} {_start_time(pid, proc)}"
    except (OSError, IndexError):
        return ""


def is_gone(other: str, proc: Path = _PROC) -> bool:
    """Tell whether a process is certain to have ended: it was of this machine's boot and namespace, and is not there.

    One of another machine or container is never said to be gone.
    """
    mine, theirs = identity(proc=proc).split(), other.split()
    if len(mine) != 4 or len(theirs) != 4 or mine[:2] != theirs[:2]:
        return False
    try:
        return _start_time(int(theirs[2]), proc) != theirs[3]
    except (FileNotFoundError, ProcessLookupError):
        return True
    except (OSError, ValueError, IndexError):
        return False


def _start_time(pid: int, proc: Path) -> str:
    return (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[19]
