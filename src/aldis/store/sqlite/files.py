"""The data directory: what must be true of it before the ledger is opened."""

import fcntl
import os
from pathlib import Path

import apsw

from aldis.model.errors import SettingsError

OLDEST_SQLITE = (3, 51, 3)
"""Older ones can corrupt a WAL that one connection writes while another checkpoints it."""

_NETWORK_FILESYSTEMS = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.glusterfs"}
)


def check_sqlite(version: str | None = None) -> None:
    """Refuse an SQLite with the WAL-reset bug.

    Raises:
        SettingsError: it is older than 3.51.3.
    """
    found = version or apsw.sqlite_lib_version()
    if tuple(int(number) for number in found.split(".")[:3]) < OLDEST_SQLITE:
        raise SettingsError(
            f"SQLite {found} can corrupt the ledger (WAL-reset bug); 3.51.3 or newer is needed: "
            "install apsw from its wheel, which brings one"
        )


def filesystem_of(path: Path, mountinfo: str) -> str:
    """Return the filesystem type that holds a path, by the text of /proc/self/mountinfo; empty if unknown."""
    target = os.path.realpath(path)
    best, kind = "", ""
    for line in mountinfo.splitlines():
        fields, _, tail = line.partition(" - ")
        mount = fields.split()[4].replace("\\040", " ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, tail.split()[0]
    return kind


def check_filesystem(path: Path) -> None:
    """Refuse a network filesystem: its locks and fsync can't be trusted.

    Raises:
        SettingsError: the directory is on one.
    """
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    except OSError:
        return
    kind = filesystem_of(path, mountinfo)
    if kind in _NETWORK_FILESYSTEMS:
        raise SettingsError(f"{path} is on a network filesystem ({kind}); the ledger needs a local disk")


class DirectoryLock:
    """Keeps a second process out of a data directory for as long as this one lives."""

    def __init__(self, directory: Path) -> None:
        """Take the lock.

        Raises:
            SettingsError: another process has it.
        """
        self._file = (directory / "lock").open("a+", encoding="ascii")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.seek(0)
            owner = self._file.read().strip() or "unknown"
            self._file.close()
            raise SettingsError(f"{directory} is in use by another aldis process (pid {owner})") from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()))
        self._file.flush()

    def release(self) -> None:
        """Let the directory go."""
        self._file.close()
