"""The implementations of SMPP that ours is tried against: where each is found, and what to install where it is not."""

import json
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

REQUIRED = "ALDIS_TEST_PEERS_REQUIRED"
"""The variable that names, with commas, the peers without which tests fail; 1: all."""
NOT_FOUND = "SMPP peer not found"
HERE = Path(__file__).parent
_SEARCH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
"""Debian has Kannel where the PATH of plain users does not lead."""


@dataclass(frozen=True)
class Peer:
    """One implementation."""

    name: str
    install: str
    """What to do to have it."""
    probe: Callable[[], str | None]
    """-> its version; None if it is not here."""

    def __str__(self) -> str:
        return self.name


def program(name: str) -> str | None:
    """Return the path of a program, or None."""
    return shutil.which(name, path=_SEARCH)


def _told(name: str, *arguments: str) -> str | None:
    """Return what a program prints, or None if it is not here or fails."""
    path = program(name)
    if path is None:
        return None
    run = subprocess.run([path, *arguments], capture_output=True, text=True, check=False)
    return run.stdout if run.returncode == 0 else None


def _npm() -> str | None:
    node = _told("node", "--version")
    package = HERE / "npm" / "node_modules" / "smpp" / "package.json"
    if node is None or not package.exists():
        return None
    return f"{json.loads(package.read_text(encoding='utf-8'))['version']}, node {node.strip()}"


def _perl() -> str | None:
    return _told("perl", "-MNet::SMPP", "-MJSON::PP", "-e", "print $Net::SMPP::VERSION")


def _tshark() -> str | None:
    told = _told("tshark", "--version")
    found = re.search(r"\d+\.\d+\.\d+", told or "")
    return found[0] if found else None


def _kannel() -> str | None:
    if not program("smsbox") or (told := _told("bearerbox", "--version")) is None:
        return None
    found = re.search(r"version `([^']+)'", told)
    return found[1] if found else None


NPM = Peer("npm smpp", "install Node.js and npm, then `make interop`", _npm)
PERL = Peer("Net::SMPP", "Debian: apt install libnet-smpp-perl", _perl)
TSHARK = Peer("tshark", "Debian: apt install tshark", _tshark)
KANNEL = Peer("Kannel", "Debian: apt install kannel", _kannel)
PEERS = (NPM, PERL, TSHARK, KANNEL)


@cache
def version_of(peer: Peer) -> str | None:
    """Return a peer's version, or None if it is not on this machine."""
    return peer.probe()


def need(peer: Peer) -> None:
    """Skip the test, or fail it where peers are required, if this one is missing."""
    if version_of(peer) is None:
        (pytest.fail if is_required(peer) else pytest.skip)(f"{NOT_FOUND}: {peer} ({peer.install})")


def is_required(peer: Peer) -> bool:
    """Return whether a test without this peer fails, and is not skipped."""
    names = os.environ.get(REQUIRED, "")
    return names == "1" or peer.name in names.split(",")


def lacking(reasons: Iterable[str]) -> list[str]:
    """Return, from what skipped tests said, a line for each peer that was missing."""
    found = Counter(match[0] for reason in reasons if (match := _SAID.search(reason)))
    return [f"{said}: {count} tests skipped" for said, count in sorted(found.items())]


_SAID = re.compile(rf"{NOT_FOUND}: .*?\)")


def described() -> str:
    """Return which peers are here, in one line."""
    return "SMPP peers: " + ", ".join(f"{peer} {version_of(peer) or 'missing'}" for peer in PEERS)
