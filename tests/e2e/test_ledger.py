"""`aldis ledger` as an operator runs it, beside the server and without it."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from aldis.service.settings import NO_DRIVER
from conftest import ALDIS, Program, aldis

pytestmark = pytest.mark.e2e

CONFIG = """
[http]
listen = "127.0.0.1:0"
[[connector]]
name = "sim"
kind = "simulator"
[[route]]
connector = "sim"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "aldis.toml").write_text(CONFIG, encoding="utf-8")
    return tmp_path


def told(folder: Path, *arguments: str, code: int = 0) -> str:
    ended = aldis(folder, "ledger", *arguments)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout + ended.stderr


def test_a_ledger_is_made_checked_backed_up_and_restored(folder: Path, start: Callable[..., Program]) -> None:
    count = len(list((Path(__file__).parents[2] / "src/aldis/store/migrations/sqlite").glob("*.sql")))
    assert f"aldis-data: {count} migrations ran" in told(folder, "migrate")
    assert "is up to date" in told(folder, "migrate")
    assert aldis(folder, "accounts", "add", "acme", "--credits", "12.345").returncode == 0

    server = start([*ALDIS, "serve"], folder)
    server.wait_for_text('"recovered"')
    assert "in use by another aldis process" in told(folder, "migrate", code=1)
    output = told(folder, "check")
    assert re.search(r"accounts +│ +1 ", output)
    assert "the ledger is sound, and every account's books balance to the milli-credit" in output
    assert "checked and on disk" in told(folder, "backup", "backup.sqlite")
    assert "say --force" in told(folder, "backup", "backup.sqlite", code=1)
    assert "checked and on disk" in told(folder, "backup", "--force", "backup.sqlite")
    assert "in use by another aldis process" in told(folder, "restore", "--force", "backup.sqlite", code=1)
    assert "in use by another aldis process" in told(
        folder, "copy", "--from", "sqlite:aldis-data", "--to", "sqlite:other", code=1
    )
    assert server.stop() == 0

    assert aldis(folder, "accounts", "topup", "acme", "1").returncode == 0
    assert "it is kept beside" in told(folder, "restore", "backup.sqlite", code=1)
    assert "the one before is kept: aldis-data/ledger.sqlite.replaced-" in told(
        folder, "restore", "--force", "backup.sqlite"
    )
    assert "12.35" in aldis(folder, "accounts", "list").stdout or "12.34" in aldis(folder, "accounts", "list").stdout
    shutil.rmtree(folder / "aldis-data")
    assert "backup.sqlite is the ledger of aldis-data now" in told(folder, "restore", "backup.sqlite")
    assert told(folder, "check", "--quick")


def test_damage_is_told_in_red_and_by_the_exit_status(folder: Path) -> None:
    import apsw

    assert "there is no ledger" in told(folder, "check", code=1)
    aldis(folder, "accounts", "add", "acme", "--credits", "5")
    connection = apsw.Connection(str(folder / "aldis-data" / "ledger.sqlite"))
    connection.execute("UPDATE accounts SET credits_milli = 6001")
    connection.close()
    output = told(folder, "check", code=1)
    assert "FAIL account acme has 6.001 credits, and its books say 5.000: top-ups 5.000, charges 0.000" in output


def test_a_ledger_moves_to_postgresql(folder: Path, postgres_url: str) -> None:
    aldis(folder, "accounts", "add", "acme", "--credits", "5")
    url = postgres_url.replace("//postgres@", "//postgres:secret@")
    output = told(folder, "copy", "--from", "sqlite:aldis-data", "--to", url)
    assert re.search(
        r"holds all 2 rows of sqlite:/\S+/aldis-data, compared one by one\n2 rows copied in .* rows/s\)", output
    )
    assert "secret" not in output
    assert "the target holds a ledger already" in told(
        folder, "copy", "--from", "sqlite:aldis-data", "--to", url, code=1
    )
    assert "is up to date" in told(folder, "migrate", "--at", url)
    output = told(folder, "check", "--at", url)
    assert "the ledger is sound" in output and "secret" not in output
    assert "is no ledger: sqlite:DIRECTORY" in told(folder, "copy", "--from", "aldis-data", "--to", url, code=1)


def test_a_database_that_is_not_there_is_one_line(folder: Path) -> None:
    output = told(folder, "check", "--at", "postgresql://u:secret@127.0.0.1:1/none", code=1)
    assert output.startswith("aldis: the ledger's database can't be used: ")
    assert len(output.splitlines()) == 1 and "secret" not in output


def test_without_the_driver_it_is_said_how_to_get_it(folder: Path) -> None:
    (folder / "asyncpg").mkdir()
    (folder / "asyncpg" / "__init__.py").write_text("raise ModuleNotFoundError('no asyncpg', name='asyncpg')")
    ended = aldis(folder, "ledger", "check", "--at", "postgresql://u@127.0.0.1:1/none", PYTHONPATH=str(folder))
    assert (ended.returncode, ended.stderr) == (1, f"aldis: {NO_DRIVER}\n")
    assert aldis(folder, "ledger", "migrate", PYTHONPATH=str(folder)).returncode == 0
