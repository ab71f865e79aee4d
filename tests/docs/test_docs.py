"""The pages are true: links lead somewhere, tables are fresh, clauses have tests, nothing is left out."""

import ast
import re
import sqlite3
import threading
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from http.server import HTTPServer
from pathlib import Path

import apsw
import click
import generate
import msgspec
import pytest
from tests.docs.receipt_rules import RULES, SCENARIOS, marked

from aldis.cli import group
from aldis.connectors.habits import SimulatorHabits
from aldis.connectors.simulator import SimulatorRates, SimulatorSettings, SmscSettings
from aldis.connectors.smpp import SmppSettings
from aldis.model.status import Status
from aldis.service.settings import CONNECTOR_SETTINGS, ROUTE_SETTINGS, SETTINGS, load
from aldis.smpp.receipt import SPELLINGS
from aldis.store.sqlite.migrate import migrate
from aldis.wire.eapi import _READERS, OPTIONAL_FIELDS

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted([*(ROOT / "tests").rglob("*.py"), *(p for p in SOURCES if "testing" in p.as_posix())])
"""The contract suites are part of the package."""

_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_CLAUSE = re.compile(r"\b(?:EAPI|REC|INB|SMPP|PROMISE)-\d+\b")
_DEFINED = re.compile(r"^\*\*((?:EAPI|REC|INB|SMPP|PROMISE)-\d+)\*\*", re.MULTILINE)
_METRIC = re.compile(r'f?"(aldis_[a-z_]+(?:\{field\}[a-z_]*)?)"')


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def page(name: str) -> str:
    return read(DOCS / name)


# ---------------------------------------------------------------------------------------------------------- links


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings, as code hosts make them."""
    without_code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    words = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(without_code))
    return {heading.strip().replace(" ", "-") for heading in words}


def links(path: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the anchor of each relative link."""
    for target in _LINK.findall(_CODE.sub("", read(path))):
        if not re.match(r"[a-z]+:", target):
            name, _, anchor = target.partition("#")
            yield ((path.parent / name).resolve() if name else path), anchor


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for target, anchor in links(path):
        assert target.exists(), f"{named(path)} links to {target}"
        assert not anchor or anchor in anchors(read(target)), f"{named(path)} links to {target.name}#{anchor}"


def test_every_page_can_be_reached_from_the_index() -> None:
    reached, waiting = set(), [DOCS / "index.md"]
    while waiting:
        path = waiting.pop()
        if path not in reached and path.suffix == ".md":
            reached.add(path)
            waiting += [target for target, _ in links(path)]
    assert set(DOCS.rglob("*.md")) <= reached


# -------------------------------------------------------------------------------------------------------- clauses


@cache
def clauses() -> dict[str, Path]:
    """Return where each clause is defined."""
    found: dict[str, Path] = {}
    for path in sorted((DOCS / "spec").glob("*.md")):
        for clause in _DEFINED.findall(read(path)):
            assert clause not in found, f"{clause} is defined twice"
            found[clause] = path
    return found


def functions_of(text: str) -> Iterator[str]:
    """Yield the text of each test function with its decorators and the comments right above it."""
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
            while start and lines[start - 1].lstrip().startswith("#"):
                start -= 1
            yield "\n".join(lines[start : node.end_lineno])


def cited_in_tests() -> set[str]:
    return {clause for path in TESTS for text in functions_of(read(path)) for clause in _CLAUSE.findall(text)}


def test_every_clause_is_named_by_a_test() -> None:
    assert sorted(set(clauses()) - cited_in_tests()) == []


def test_every_clause_that_is_cited_exists() -> None:
    for path in [*SOURCES, *TESTS, *PAGES]:
        assert set(_CLAUSE.findall(read(path))) <= set(clauses()), named(path)


def test_a_clause_that_code_cites_is_in_the_file_that_it_names() -> None:
    for path in SOURCES:
        for spec, words in re.findall(r"Source:\s+docs/spec/(\w+\.md)([^\n]*)", read(path)):
            cited = _CLAUSE.findall(words)
            assert cited, f"{named(path)} cites {spec} and no clause"
            assert all(clauses()[clause].name == spec for clause in cited), named(path)


@pytest.mark.parametrize("path", sorted((DOCS / "spec").glob("*.md")), ids=named)
def test_a_clause_is_one_to_three_sentences(path: Path) -> None:
    for body in re.split(r"\n\n", read(path)):
        if match := _DEFINED.match(body):
            sentences = re.findall(r"[.!?](?:\s|$)", _CODE.sub("", body))
            assert 1 <= len(sentences) <= 4, f"{match[1]} has {len(sentences)} sentences"


# ------------------------------------------------------------------------------------------ scenarios and rules


def test_every_scenario_and_rule_of_receipts_has_a_test() -> None:
    known = {f"SCENARIO-{name}" for name in SCENARIOS} | {f"RULE-{name}" for name in RULES}
    assert set(marked()) == known
    assert len(SCENARIOS) == 20
    assert list(RULES) == [*"abcdefghijklmnopqrstuvwxyz", "aa", "bb", "cc", "dd"]


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_is_tested_with_the_simulator(name: str) -> None:
    assert any(path.name == "test_receipt_scenarios.py" for path, _ in marked()[f"SCENARIO-{name}"])


def test_every_word_of_a_receipt_is_documented_with_its_status() -> None:
    for word in SPELLINGS:
        assert f"`{word}`" in page("reference/status-codes.md")


# ---------------------------------------------------------------------------------------------- generated blocks


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_generated_blocks_are_fresh(path: Path) -> None:
    assert generate.fill(read(path)) == read(path), "run `python -m tests.docs.generate`"


def test_every_block_that_can_be_generated_stands_somewhere() -> None:
    assert sorted(name for path in PAGES for name in generate.blocks_in(read(path))) == sorted(generate.BLOCKS)


def test_a_stale_block_is_noticed() -> None:
    stale = "before\n<!-- generated: status-table -->\nold\n<!-- end -->\nafter\n"
    fresh = generate.fill(stale)
    assert "old" not in fresh
    assert fresh.startswith("before\n<!-- generated: status-table -->\n| code |")
    assert fresh.endswith("|\n<!-- end -->\nafter\n")
    assert generate.fill(fresh) == fresh


@pytest.mark.parametrize("a_class", [SmppSettings, SimulatorSettings, SmscSettings, SimulatorRates, SimulatorHabits])
def test_every_key_of_a_connector_is_explained(a_class: type[msgspec.Struct]) -> None:
    unexplained = [key for key, default, words in generate.struct_rows(a_class) if not words]
    # A bare number whose name says all it is, unit included, may stand alone.
    assert [key for key in unexplained if not key.strip("`").endswith(("_ms", "_s")) and key not in _PLAIN] == []


_PLAIN = {"`window`", "`rate`", "`throttle`"}


# ------------------------------------------------------------------------------------------------ nothing left out


@pytest.mark.parametrize("setting", [*SETTINGS, *CONNECTOR_SETTINGS, *ROUTE_SETTINGS], ids=lambda setting: setting.name)
def test_every_setting_is_documented(setting: generate.Setting) -> None:
    assert f"| `{setting.name}` |" in page("reference/configuration.md")
    assert setting.help.endswith(".")


@pytest.mark.parametrize(("path", "command"), list(generate.commands(group)), ids=lambda value: str(value)[:30])
def test_every_command_is_documented_and_says_what_it_does(path: str, command: click.Command) -> None:
    assert f"### `{path}" in page("reference/commands.md")
    assert command.help


def test_commands_that_the_pages_tell_to_run_exist() -> None:
    known = {path for path, _ in generate.commands(group)}
    for path in PAGES:
        for words in re.findall(r"^aldis ([a-z]+)(?: ([a-z]+))?", "\n".join(_blocks(read(path))), re.MULTILINE):
            assert f"aldis {words[0]}" in known or f"aldis {' '.join(words)}" in known, f"{named(path)}: {words}"


def test_make_targets_that_the_pages_tell_to_run_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", read(ROOT / "Makefile"), re.MULTILINE))
    for path in PAGES:
        text = read(path)
        told = re.findall(r"`make ([a-z]+)", text) + re.findall(
            r"^make ([a-z]+)", "\n".join(_blocks(text)), re.MULTILINE
        )
        assert set(told) <= targets, named(path)


def test_folders_of_tests_that_are_described_have_something_in_them() -> None:
    folders = re.findall(r"^\| `(tests/\w+)` \|", read(ROOT / "CONTRIBUTING.md"), re.MULTILINE)
    assert folders
    assert all(any((ROOT / folder).rglob("*.py")) for folder in folders)


def _blocks(text: str) -> list[str]:
    return re.findall(r"```\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("status", Status, ids=str)
def test_every_status_code_is_documented(status: Status) -> None:
    assert f"| **{status.value}** |" in page("reference/status-codes.md")


def metric_names() -> set[str]:
    """Return the names of metrics in the source, those made of a list of fields too."""
    names = set()
    for path in SOURCES:
        text = read(path)
        for name in _METRIC.findall(text):
            if "{field}" in name:
                block = text[: text.index(name)].rpartition("for field, what in (")[2]
                names |= {
                    name.replace("{field}", field) for field in re.findall(r'^\s+\("(\w+)", ', block, re.MULTILINE)
                }
            else:
                names.add(name)
    return names


def test_every_metric_is_documented_and_every_documented_one_exists() -> None:
    assert set(re.findall(r"^\| `(aldis_\w+)` \|", page("reference/metrics.md"), re.MULTILINE)) == metric_names()


@pytest.mark.parametrize("path", PAGES, ids=named)
def test_a_metric_that_a_page_names_exists(path: Path) -> None:
    assert set(re.findall(r"`(aldis_[a-z_]+)`", read(path))) <= metric_names()


@pytest.mark.parametrize("name", sorted({*_READERS, *OPTIONAL_FIELDS, "msisdn", "message", "dca", "batch_id"}))
def test_every_parameter_of_the_legacy_api_is_documented(name: str) -> None:
    assert re.search(rf"^\| .*`{name}`", page("reference/legacy-api.md"), re.MULTILINE)


def test_every_path_of_the_legacy_api_is_documented() -> None:
    for path in SOURCES:
        for url in re.findall(r'"(/eapi/[\w./]+)"', read(path)):
            call, version = url.split("/", 4)[3], "/".join(url.split("/")[-2:])
            assert call in page("reference/legacy-api.md")
            assert version in page("reference/legacy-api.md"), url


# -------------------------------------------------------------------------------------------------------- decisions


def test_every_run_time_dependency_has_its_reason() -> None:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]
    wanted = sorted(re.match(r"[\w-]+", line)[0] for line in project["dependencies"])  # type: ignore[index]
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", page("adr/0002-dependencies.md"), re.MULTILINE)) == wanted


@pytest.mark.parametrize("path", sorted((DOCS / "adr").glob("*.md")), ids=named)
def test_a_decision_says_why_what_instead_and_what_would_change_it(path: Path) -> None:
    text = read(path)
    assert re.match(rf"# {int(path.name[:4])}\. ", text)
    for word in ("**Context.**", "**Choice.**", "**Rejected.**", "**What would change our mind.**"):
        assert word in text


def test_decisions_are_numbered_without_a_gap() -> None:
    numbers = [int(path.name[:4]) for path in sorted((DOCS / "adr").glob("*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


# ----------------------------------------------------------------------------------------------------- cleanliness

_FOREIGN = re.compile(
    r"(?<![\w.:/])/(?:work|home|root|Users)/\w|/tmp/\w|--(?:extra-)?index-url|--trusted-host|--find-links|/simple\b"
)
_TEXT = {".md", ".py", ".toml", ".txt", ".sql", ".yml", ".yaml", ".ini", ".cfg", ".js", ".pl", ".json", ""}
_NOT_OURS = {".git", "__pycache__", "node_modules"}


def repository_files() -> list[Path]:
    folders = [ROOT / name for name in ("docs", "src", "tests", "requirements", ".ci", ".github")]
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    found += [path for path in ROOT.iterdir() if path.is_file()]
    return [p for p in found if p.suffix in _TEXT and not _NOT_OURS & {*p.parts} and p != Path(__file__).resolve()]


def test_no_file_names_a_machine_or_a_package_host() -> None:
    assert '"resolved"' not in read(ROOT / "tests/interop/npm/package-lock.json")
    for path in repository_files():
        lines = path.read_text(encoding="utf-8").splitlines()
        assert [line for line in lines if _FOREIGN.search(line) and "--no-emit-index-url" not in line] == [], named(
            path
        )


# -------------------------------------------------------------------------------------------- examples that must run


@pytest.fixture
def example_receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve the receiver of `receive-pushes.md` and yield its URL."""
    [code] = re.findall(r"```python\n(.*?)```", page("howto/receive-pushes.md"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    servers: list[HTTPServer] = []
    ready = threading.Event()

    def serve() -> None:
        names = {"__name__": "receiver"}
        exec(compile(code, "receive-pushes.md", "exec"), names)
        with HTTPServer(("127.0.0.1", 0), names["Receiver"]) as server:  # type: ignore[arg-type]
            servers.append(server)
            ready.set()
            server.serve_forever(poll_interval=0.01)
        names["db"].close()  # type: ignore[attr-defined]

    thread = threading.Thread(target=serve)
    thread.start()
    assert ready.wait(10)
    yield f"http://127.0.0.1:{servers[0].server_port}/report"
    servers[0].shutdown()
    thread.join()


def test_the_example_receiver_takes_a_push_once(example_receiver: str, tmp_path: Path) -> None:
    push = (
        "msisdn=447700900123&batch_id=17&status=11&completed_time=26-11-23+15%3A01%3A22&source_id=&unique_id=9&msg_id=9"
    )
    for _ in range(2):
        with urllib.request.urlopen(f"{example_receiver}?key=SECRET&{push}", timeout=10) as answer:
            assert (answer.status, answer.read()) == (200, b"1")
    with sqlite3.connect(tmp_path / "reports.sqlite") as db:
        rows = db.execute("SELECT unique_id, batch_id, msisdn, status FROM reports").fetchall()
    db.close()
    assert rows == [(9, "17", "447700900123", "11")]


def test_the_example_receiver_turns_strangers_away(example_receiver: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        urllib.request.urlopen(f"{example_receiver}?key=guess&unique_id=9", timeout=10)
    refused.value.close()


def test_the_statement_for_a_restored_ledger_marks_what_may_have_left() -> None:
    [statement] = re.findall(r"```sql\n(.*?)```", page("howto/back-up-and-move.md"), re.DOTALL)
    ledger = apsw.Connection(":memory:")
    migrate(ledger)
    insert = "INSERT INTO messages (message_id, batch_id, account_id, msisdn, status, price_milli, connector, due_at)"
    for message_id, due_at in ((1, 1_000), (2, 9_999_999_999_999), (3, None)):
        ledger.execute(f"{insert} VALUES (?, 1, 1, 447700900123, 0, 1, 'north', ?)", (message_id, due_at))
    ledger.execute(statement)
    rows = ledger.execute("SELECT message_id, status, sent, seq, due_at FROM messages ORDER BY message_id").fetchall()
    assert rows == [(1, 12, 1, 1, None), (2, 0, 0, 0, 9_999_999_999_999), (3, 0, 0, 0, None)]
    ledger.close()


def test_the_example_configuration_is_valid(tmp_path: Path) -> None:
    for name in ("reference/configuration.md", "howto/quickstart.md", "howto/connect-to-an-smsc.md"):
        [code, *_] = re.findall(r"```toml\n(.*?)```", page(name), re.DOTALL)
        file = tmp_path / "aldis.toml"
        file.write_text(code, encoding="utf-8")
        assert load(file, {}).connectors
