"""Write the parts of `docs/` that are the program's own tables: `python -m tests.docs.generate`.

A block stands between `<!-- generated: name -->` and `<!-- end -->`; a test fails while one is stale.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import click
import msgspec
from tests.docs.receipt_rules import RULES, SCENARIOS, rows

from aldis import lifecycle
from aldis.cli import group
from aldis.connectors.habits import DIALECTS, SimulatorHabits
from aldis.connectors.outcomes import DELIVERED, OUTCOMES
from aldis.connectors.simulator import SimulatorRates, SimulatorSettings, SmscSettings
from aldis.connectors.smpp import SmppSettings
from aldis.model.status import Status
from aldis.service.settings import CONNECTOR_SETTINGS, ENV_PREFIX, ROUTE_SETTINGS, SETTINGS, Setting
from aldis.smpp.receipt import FINAL_STATES, MESSAGE_STATES, SPELLINGS

DOCS = Path(__file__).resolve().parents[2] / "docs"
_BLOCK = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_WORDS: Mapping[str, str] = {
    "name": "What routes, logs and metrics call it.",
    "host": "Where the simulator listens.",
    "port": "Its port.",
    "system_id": "Whom to bind as.",
    "password": "At most 8 characters, as SMPP 3.4 has it.",
    "system_type": "What some message centres want in the bind.",
    "enquire_link_s": "Silence after which the other side is asked whether it is there; 0: never.",
    "response_timeout_s": "How long an answer may take; then the part's end is unknown (12).",
    "connect_timeout_s": "How long a connection may take to come up.",
    "reconnect_min_s": "The first pause before binding again; it doubles.",
    "reconnect_max_s": "The longest pause.",
    "service_type": "service_type of each submit_sm, at most 5 characters.",
    "addressing": "TON and NPI of each kind of address; see below.",
    "receipt_delay_ms": "Pause before a receipt.",
    "late_delay_ms": "The same where the script says late.",
    "slow_response_ms": "How long the slow submit_sm_resp of 0110 takes.",
    "seed": "Where the draws begin.",
    "no_receipt": "No receipt ever comes.",
    "rates": "Shares of trouble.",
    "habits": "What the network always does otherwise than one would wish.",
    "smsc": "The message centre's own settings.",
}
"""Words for keys whose class has none."""


def _table(head: str, rows: Iterable[Iterable[object]]) -> str:
    titles = head.split("|")
    lines = [f"| {head.replace('|', ' | ')} |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _status_table() -> str:
    rows = (
        (
            f"**{status.value}**",
            row.meaning,
            row.phase.value,
            "yes" if row.final else "",
            {"no": "", "yes": "yes"}.get(row.refund.value, "if unsent"),
            "yes" if row.announced else "",
            row.rank,
            row.led_by,
        )
        for status, row in sorted(lifecycle.TABLE.items())
    )
    return _table("code|meaning|phase|final|refund|push|rank|what leads to it", rows)


def _status_diagram() -> str:
    return f"```mermaid\n{lifecycle.diagram()}\n```"


def _simulator_outcomes() -> str:
    rows = [(f"`{digits}`", f"{script.shows.value}", script.what) for digits, script in sorted(OUTCOMES.items())]
    return _table(
        "last digits|status in the end|what happens", [*rows, ("others", DELIVERED.shows.value, DELIVERED.what)]
    )


def _simulator_dialects() -> str:
    return _table("dialect|the text", ((f"`{name}`", dialect.what) for name, dialect in DIALECTS.items()))


def _receipt_words() -> str:
    words = {state: [word for word in SPELLINGS if SPELLINGS[word] == state] for state in MESSAGE_STATES}
    found = [
        (
            ", ".join(f"`{word}`" for word in words[state]),
            f"`{MESSAGE_STATES.index(state)}`",
            lifecycle.RECEIPT_STATES[state].value,
            "yes" if state in FINAL_STATES else "",
        )
        for state in MESSAGE_STATES
    ]
    return _table(
        "the receipt's word|number|status|ends a part", [*found, ("any other", "", Status.UNKNOWN_UPSTREAM.value, "")]
    )


def _tested(kind: str, table: Mapping[str, tuple[str, str]], head: str) -> Callable[[], str]:
    return lambda: _table(head, rows(kind, table))


def words_of(a_class: type) -> dict[str, str]:
    """Return the docstrings below the fields of a class."""
    [body] = [
        node.body
        for node in ast.parse(textwrap.dedent(inspect.getsource(a_class))).body
        if isinstance(node, ast.ClassDef)
    ]
    found = {}
    for field, text in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            assert isinstance(field.target, ast.Name)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _show(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if value is None or value == "" or value == () or isinstance(value, msgspec.Struct):
        return ""
    return f"`{value}`"


def struct_rows(a_class: type[msgspec.Struct]) -> Iterator[tuple[str, str, str]]:
    """Yield key, default and words of each field of a connector's settings."""
    words = words_of(a_class)
    for field in msgspec.structs.fields(a_class):
        default = "required" if field.required else _show(field.default)
        yield f"`{field.name}`", default, words.get(field.name) or _WORDS.get(field.name, "")


def _struct(a_class: type[msgspec.Struct], leave_out: tuple[str, ...] = ()) -> Callable[[], str]:
    def write() -> str:
        rows = (row for row in struct_rows(a_class) if row[0].strip("`") not in leave_out)
        return _table("key|default|what", rows)

    return write


def variable_of(setting: Setting) -> str:
    """Return the environment variable that overrides a setting."""
    return ENV_PREFIX + setting.name.replace(".", "_").upper()


def _settings() -> str:
    rows = ((f"`{s.name}`", _show(s.default), s.unit, s.help, f"`{variable_of(s)}`") for s in SETTINGS)
    return _table("setting|default|unit|what|environment", rows)


def _keys(settings: Iterable[Setting]) -> Callable[[], str]:
    def write() -> str:
        rows = (
            (f"`{s.name}`", "required" if s.default is None else _show(s.default), s.unit, s.help) for s in settings
        )
        return _table("key|default|unit|what", rows)

    return write


def commands(command: click.Command, path: str = "aldis") -> Iterator[tuple[str, click.Command]]:
    """Yield each command that does something, with its full name."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, command


def _commands() -> str:
    return "\n\n".join("\n".join(_describe(path, command)) for path, command in commands(group))


def _describe(path: str, command: click.Command) -> Iterator[str]:
    arguments = "".join(
        f" {p.make_metavar(click.Context(command))}" for p in command.params if isinstance(p, click.Argument)
    )
    yield f"### `{path}{arguments}`\n"
    yield inspect.cleandoc(command.help or "").split("\f")[0].strip()
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    if options:
        yield ""
        yield _table("option|what", (_option(option) for option in options))


def _option(option: click.Option) -> tuple[str, str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" {option.make_metavar(click.Context(group))}"
    shown = f" Default: {option.default}." if option.show_default else ""
    return names + value, f"{option.help or ''}{shown}".strip()


BLOCKS: Mapping[str, Callable[[], str]] = {
    "status-table": _status_table,
    "status-diagram": _status_diagram,
    "simulator-outcomes": _simulator_outcomes,
    "simulator-rates": _struct(SimulatorRates),
    "simulator-settings": _struct(SmscSettings, leave_out=("rates", "habits")),
    "receipt-words": _receipt_words,
    "receipt-scenarios": _tested("SCENARIO", SCENARIOS, "#|what happens|what comes of it|tests"),
    "receipt-rules": _tested("RULE", RULES, "rule|what networks do|what Aldis does|tests"),
    "simulator-habits": _struct(SimulatorHabits),
    "simulator-dialects": _simulator_dialects,
    "settings": _settings,
    "connector-settings": _keys(CONNECTOR_SETTINGS),
    "smpp-settings": _struct(SmppSettings, leave_out=("name",)),
    "simulator-connector-settings": _struct(SimulatorSettings, leave_out=("name",)),
    "route-settings": _keys(ROUTE_SETTINGS),
    "commands": _commands,
}


def fill(page: str) -> str:
    """Return a page with its generated blocks written anew."""

    def write(match: re.Match[str]) -> str:
        return f"{match[1]}{BLOCKS[match[2]]()}\n{match[3]}"

    return _BLOCK.sub(write, page)


def blocks_in(page: str) -> list[str]:
    """Return the names of the blocks of a page."""
    return [match[2] for match in _BLOCK.finditer(page)]


def write_all() -> list[Path]:
    """Bring all pages up to date; returns those that were stale."""
    stale = []
    for path in sorted(DOCS.rglob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (fresh := fill(page)) != page:
            path.write_text(fresh, encoding="utf-8")
            stale.append(path)
    return stale


if __name__ == "__main__":
    for changed in write_all():
        sys.stdout.write(f"written: {changed.relative_to(DOCS.parent)}\n")
