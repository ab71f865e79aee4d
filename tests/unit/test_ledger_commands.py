"""What `aldis ledger` tells where the ledger is in PostgreSQL."""

import importlib
import shlex
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from aldis.model.errors import SettingsError
from aldis.service.settings import Settings, load

cli = importlib.import_module("aldis.cli.ledger")  # the package has a command of this name


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    settings = msgspec.structs.replace(load(None, {}), ledger_url="postgresql://aldis:secret@db.example:5433/ledger")
    monkeypatch.setattr(cli, "read_settings", lambda config: settings)
    return settings


@pytest.mark.parametrize(
    ("command", "tools"),
    [
        ("backup", [["pg_dump", "--format=custom", "--file=my backup", "--dbname=postgresql://aldis@db.example:5433/ledger"],
                    ["pg_basebackup", "--dbname=postgresql://aldis@db.example:5433", "--pgdata=my backup.base",
                     "--wal-method=stream", "--checkpoint=fast", "--progress"]]),
        ("restore", [["pg_restore", "--clean", "--if-exists", "--single-transaction",
                      "--dbname=postgresql://aldis@db.example:5433/ledger", "my backup"]]),
    ],
)  # fmt: skip
def test_the_tools_of_postgresql_are_named_with_all_they_need(
    settings: Settings, command: str, tools: list[list[str]]
) -> None:
    ended = CliRunner().invoke(cli.ledger, [command, "my backup"])
    assert isinstance(ended.exception, SettingsError)
    text = str(ended.exception)
    assert "secret" not in text
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("  ")]
    assert lines == tools
    assert not Path("my backup").exists()
