"""The first minutes of a newcomer."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.postgres import Binaries, Cluster

from conftest import ALDIS, ROOT, Program, aldis, environment, wait_for

pytestmark = pytest.mark.e2e


def test_the_demo_sends_watches_and_exits_0_only_when_every_message_went_as_meant(tmp_path: Path) -> None:
    done = aldis(tmp_path, "demo", "--once", "--messages", "30")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "30 of 30 messages as meant, 30 of 30 reports pushed" in done.stdout


def test_the_demo_exits_1_when_messages_do_not_go_as_meant(tmp_path: Path) -> None:
    """A table that means something else than the network does must not pass."""
    code = (
        "import sys, aldis.cli; d = sys.modules['aldis.cli.demo']; d.ONCE_BUDGET_S = 3;"
        "from aldis.connectors.outcomes import OUTCOMES;"
        "d.OUTCOMES = {**OUTCOMES, '0053': OUTCOMES['0011']}; d.demo(['--once'])"
    )
    done = subprocess.run(
        [*ALDIS[:1], "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "13 of 14 messages as meant" in done.stdout


def test_the_demo_runs_on_postgresql_with_two_nodes(tmp_path: Path, postgres_binaries: Binaries) -> None:
    """Submissions and polls go to both in turn; each sends a share, and each outcome is as meant."""
    with Cluster(postgres_binaries, durable=True) as cluster:
        url = cluster.url("postgres")
        done = aldis(tmp_path, "demo", "--once", "--messages", "30", "--nodes", "2", "--ledger", url)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "30 of 30 messages as meant, 30 of 30 reports pushed" in done.stdout
        rows = cluster.fetch("SELECT count(*) FROM nodes WHERE epoch <> 0")
        assert [tuple(row) for row in rows] == [(0,)], "both have said goodbye"


def test_several_nodes_need_a_shared_ledger(tmp_path: Path) -> None:
    done = aldis(tmp_path, "demo", "--once", "--nodes", "2")
    assert done.returncode == 2
    assert "--nodes shares a PostgreSQL ledger" in done.stderr


def readme_first_run() -> list[str]:
    """Return the commands of README's first console block."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"```console\n(.*?)```", text, re.DOTALL)
    assert block
    return block[1].strip().splitlines()


@pytest.mark.skipif(not shutil.which("make") or not shutil.which("curl"), reason="needs make and curl")
def test_the_readmes_first_run_and_the_curl_lines_it_prints_take_a_message_from_0_to_11(
    start: Callable[..., Program], tmp_path: Path
) -> None:
    run, test = readme_first_run()
    assert test == "make test"  # what runs this
    demo = start(shlex.split(run), ROOT, ALDIS_HTTP_LISTEN="127.0.0.1:0", ALDIS_DATA_DIR=str(tmp_path / "data"))
    text = demo.wait_for_text("The whole story of a batch", 120)
    submit, poll = (line.strip() for line in text.splitlines() if line.strip().startswith("curl"))

    answer = bash(submit)
    assert re.fullmatch(r"0\|IN_PROGRESS\|\d+\n", answer)
    batch_id = answer.strip().rpartition("|")[2]
    poll = poll.replace("BATCH_ID", batch_id)
    seen: list[str] = []

    def delivered() -> bool:
        report = bash(poll)
        assert report.startswith("0|Returns to follow\n\n447700900123|")
        seen.append(report.strip().rpartition("|")[2])
        return seen[-1] == "11"

    wait_for(delivered, "status 11 by poll")
    assert set(seen) <= {"0", "10", "11"}
    wait_for(lambda: f"push arrived: msisdn=447700900123 batch_id={batch_id} status=11" in demo.text, "the push")

    story = next(line.strip() for line in text.splitlines() if " report --config " in line)
    shown = bash(story.replace("BATCH_ID", batch_id), ALDIS_DATA_DIR=str(tmp_path / "data"), COLUMNS="200")
    assert "accepted" in shown
    assert "DELIVRD" in shown


def bash(line: str, **changes: str) -> str:
    done = subprocess.run(
        ["bash", "-c", line], cwd=ROOT, env=environment(**changes), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
