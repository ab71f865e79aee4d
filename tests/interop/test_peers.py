"""Where a peer is missing, a run says so and what to install; where it is required, the run fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.interop.peers import HERE, NOT_FOUND, NPM, PERL, REQUIRED

ONE_TEST = [str(HERE / "test_peer_esme.py"), "-k", "wrong_password"]


def run_without_programs(empty: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a test that needs npm's and Perl's peers where PATH leads to no program."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-n0", "-p", "no:cacheprovider", *ONE_TEST],
        env=given | {REQUIRED: "", "PATH": str(empty)} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=HERE.parents[1],
    )


def test_a_missing_peer_is_told_with_what_to_install(tmp_path: Path) -> None:
    run = run_without_programs(tmp_path)
    assert run.returncode == 0, run.stdout
    assert "2 skipped" in run.stdout
    for peer in (NPM, PERL):
        assert f"{NOT_FOUND}: {peer} ({peer.install}): 1 tests skipped" in run.stdout


def test_a_missing_peer_that_is_required_fails_the_run(tmp_path: Path) -> None:
    run = run_without_programs(tmp_path, **{REQUIRED: f"tshark,{PERL}"})
    assert run.returncode == 1, run.stdout
    assert re.search("1 skipped, .*1 error", run.stdout)
    assert f"{NOT_FOUND}: {PERL}" in run.stdout


def test_all_can_be_required(tmp_path: Path) -> None:
    run = run_without_programs(tmp_path, **{REQUIRED: "1"})
    assert run.returncode == 1, run.stdout
    assert "2 errors" in run.stdout
