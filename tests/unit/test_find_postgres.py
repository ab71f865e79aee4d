"""Which server the tests get: PATH's, else pg_config's, else an installed one, else that of a package."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import Binaries, Cluster, Missing, PostgresFailed, configuration, find_binaries, places


@pytest.fixture
def root() -> Iterator[Path]:
    """A directory that the server's account can reach, which tmp_path is not."""
    root = Path(tempfile.mkdtemp(prefix="aldis-find-"))
    root.chmod(0o755)
    yield root
    shutil.rmtree(root)


def program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)


def install(directory: Path, version: str) -> Path:
    program(directory / "postgres", f"echo 'postgres (PostgreSQL) {version} (Some System {version}-1)'")
    program(directory / "initdb", "echo this disk is a teapot; exit 3")
    return directory


@pytest.fixture
def everywhere(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A machine with a server in every place."""
    install(root / "path", "12.1")
    program(root / "path" / "pg_config", f"echo {install(root / 'configured', '13.1')}")
    for version in ("9.6", "14", "15"):
        install(root / "usr/lib/postgresql" / version / "bin", f"{version}.1")
    program(root / "packages" / "some_pgserver" / "__init__.py", "raise AssertionError('its code is not run')")
    for name, version in (("pginstall", "16.1"), ("pginstall18", "18.1")):
        install(root / "packages" / "some_pgserver" / name / "bin", version)
    monkeypatch.syspath_prepend(str(root / "packages"))
    return places(str(root / "path"), root, ("no_such_package", "some_pgserver"))


def test_the_order_of_places(everywhere: Iterator[tuple[str, Path]], root: Path) -> None:
    found = list(everywhere)
    installed = [(str(path), path) for path in (root / "usr/lib/postgresql" / v / "bin" for v in ("15", "14", "9.6"))]
    bundled = [
        ("some-pgserver", root / "packages/some_pgserver" / name / "bin") for name in ("pginstall18", "pginstall")
    ]
    assert found == [("PATH", root / "path"), ("pg_config", root / "configured"), *installed, *bundled]


def test_the_first_that_runs_is_taken(everywhere: Iterator[tuple[str, Path]], root: Path) -> None:
    (root / "path" / "initdb").unlink()
    program(root / "configured" / "postgres", "exit 127")
    found = find_binaries(everywhere)
    directory = root / "usr/lib/postgresql/15/bin"
    assert found == Binaries(directory, "15.1", str(directory))


def test_a_link_on_the_path_is_followed_to_its_companions(root: Path) -> None:
    real = install(root / "real", "17beta1")
    (root / "path").mkdir()
    (root / "path" / "postgres").symlink_to(real / "postgres")
    assert find_binaries(places(str(root / "path"), root, ())) == Binaries(real, "17beta1", "PATH")


def test_a_client_alone_is_no_server(root: Path) -> None:
    program(root / "path" / "pg_config", f"echo {root / 'path'}")
    found = find_binaries(places(str(root / "path"), root, ()))
    assert found == Missing()
    assert "apt install postgresql" in str(found) and "ALDIS_TEST_POSTGRES" in str(found)


def test_programs_that_cannot_run_are_named(root: Path) -> None:
    directory = install(root / "usr/lib/postgresql/15/bin", "15.1")
    (directory / "postgres").chmod(0o600)
    assert f"{directory} can't be run" in str(find_binaries(places("", root, ())))


def test_a_server_that_cannot_be_made_says_why_and_leaves_nothing(root: Path) -> None:
    binaries = Binaries(install(root / "bin", "15.1"), "15.1", "here")
    (root / "home").mkdir()
    with pytest.raises(PostgresFailed, match=r"initdb failed[^\n]*\nthis disk is a teapot"):
        Cluster(binaries, parent=root / "home")
    assert list((root / "home").iterdir()) == []


def test_settings_are_written_as_the_server_reads_them() -> None:
    written = configuration({"fsync": True, "autovacuum": False, "max_connections": 9, "log_line_prefix": "it's "})
    assert written == "fsync = 'on'\nautovacuum = 'off'\nmax_connections = '9'\nlog_line_prefix = 'it''s '\n"
