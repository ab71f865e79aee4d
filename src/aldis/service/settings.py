"""Every setting: one table that feeds the TOML file, the environment, the documentation and the tests."""

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from aldis.model.errors import SettingsError
from aldis.model.money import parse_credits
from aldis.model.status import Status
from aldis.rules.failover import QUEUE_SEPARATOR, queue_of
from aldis.rules.routing import Route

Network = IPv4Network | IPv6Network
ENV_PREFIX = "ALDIS_"
SQLITE = "sqlite"
NO_DRIVER = "PostgreSQL needs its driver, asyncpg: pip install 'aldis[postgres]', or in a checkout make setup-postgres"
ROLES = frozenset({"web", "dispatch", "push"})
MOST_WRITERS = 32
LONGEST_HORIZON_H = 240
_LARGEST = 1 << 53
_NOT_SETTINGS = ("ALDIS_CONFIG", "ALDIS_TEST_")


class Setting(NamedTuple):
    """One line of the table."""

    name: str
    kind: str
    """`text`, `path`, `int`, `float`, `networks` (true, false or a list), `texts` (a list), `numbers` (a list)."""
    default: Any
    unit: str
    help: str


SETTINGS: Sequence[Setting] = (
    Setting("data_dir", "path", "aldis-data", "", "Directory of the ledger, relative to the configuration file."),
    Setting("http.listen", "text", "127.0.0.1:5567", "host:port", "Where the HTTP API listens; port 0: a free one."),
    Setting("http.max_body", "int", 4 * 1024 * 1024, "bytes", "Largest request body; a larger one gets 413."),
    Setting("http.max_connections", "int", 10_000, "connections", "Connections at a time; more are turned away."),
    Setting("http.tls_certificate", "text", "", "file", "PEM certificate chain; with http.tls_key it turns on HTTPS."),
    Setting("http.tls_key", "text", "", "file", "PEM key of the certificate."),
    Setting(
        "ledger.url", "text", "sqlite", "",
        "Where the ledger lives: `sqlite` is a file in data_dir; postgresql://user:password@host:port/database is "
        "shared by as many nodes as you like.",
    ),
    Setting("ledger.writers", "int", 1, "connections", "PostgreSQL: how many write submissions; each its accounts."),
    Setting(
        "ledger.retention_days", "int", 0, "days",
        "PostgreSQL: messages and their history are dropped, a week at a time, once they are so old; 0 keeps all.",
    ),
    Setting(
        "push.allow_private_networks", "networks", False, "",
        "Whether pushes may go to private and loopback addresses: true, false, or a list of networks.",
    ),
    Setting("push.timeout_s", "float", 20.0, "s", "How long a customer's server may take to answer a push."),
    Setting("push.connections_per_host", "int", 64, "connections", "Most connections to one customer's server."),
    Setting("eapi.report_header", "text", "returns", "", "Second word of get_report's first line: returns or results."),
    Setting("eapi.max_recipients", "int", 50_000, "numbers", "Most recipients of one submission."),
    Setting("messages.validity_h", "float", 72.0, "h", "How long a message may wait to be sent and delivered."),
    Setting(
        "receipts.keep_unmatched_days", "int", 14, "days",
        "How long a receipt is kept that belongs to no message so far.",
    ),
    Setting("inbound.keep_days", "int", 90, "days", "How long messages of subscribers are kept."),
    Setting("failover.after_s", "float", 5.0, "s", "How long a connector may be down before a route uses the next."),
    Setting("admission.blocklist", "numbers", (), "MSISDNs", "Numbers that may not be written to: status 32."),
    Setting("admission.censor", "texts", (), "words", "Words that no body may hold: status 33."),
    Setting("node.number", "int", 0, "0..1023", "This node's number in its ids; on PostgreSQL it is leased instead."),
    Setting("node.roles", "texts", ("web", "dispatch", "push"), "", "What this node does; less than all: PostgreSQL."),
    Setting("log.level", "text", "info", "", "debug, info, warning or error."),
    Setting("stop.budget_s", "float", 20.0, "s", "How long a stop may take to finish what is under way."),
)  # fmt: skip

CONNECTOR_SETTINGS: Sequence[Setting] = (
    Setting("name", "text", None, "", "What routes, logs and metrics call it."),
    Setting("kind", "text", None, "", "`smpp`, `simulator`, or what a plug-in offers."),
    Setting(
        "receipt_horizon_h",
        "float",
        "",
        "h",
        "How long after a message's validity its receipt may still come; then it ends as 53, assumed. Not given: as "
        "the connector's profile suggests, a day at first.",
    ),
    Setting(
        "query_after_h",
        "float",
        1.0,
        "h",
        "How old a message without a final receipt is when its upstream is first asked, where `query` is on.",
    ),
    Setting(
        "match_by_number",
        "bool",
        False,
        "",
        "Whether receipts that name no known id are matched by number, originator, time and text, where they fit one "
        "message alone.",
    ),
    Setting("errors", "table", {}, "", "A receipt's `err` -> the status code that it means, such as 027 = 56."),
)
"""Keys of every [[connector]]; its kind adds its own."""

ROUTE_SETTINGS: Sequence[Setting] = (
    Setting("prefix", "text", "", "digits", "Leading digits of the numbers that it takes; empty takes all."),
    Setting("connector", "text", "", "", "Name of the connector; this or `connectors` is required."),
    Setting("connectors", "texts", (), "", "Names of several connectors: the first is preferred, the next stand in."),
    Setting("price", "text", "1", "credits", "Price of one part."),
)


class ConnectorConfig(msgspec.Struct, frozen=True):
    """One configured connector: its kind's class, and that class's settings."""

    name: str
    kind: str
    factory: Any
    options: Any
    errors: dict[str, Status]
    horizon_ms: int | None
    """How long after a message's validity its receipt may still come; None: as the profile suggests."""
    by_number: bool
    """Whether receipts that name no known id are matched by number."""
    query_after_ms: int
    """How old a message without a final receipt is when its upstream is first asked."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration, checked."""

    data_dir: Path
    http_host: str
    http_port: int
    http_max_body: int
    http_max_connections: int
    http_certificate: tuple[Path, Path] | None
    ledger_url: str
    """`sqlite` or postgresql://…"""
    ledger_writers: int
    retention_ms: int
    push_allow_private_networks: bool | list[Network]
    push_timeout_s: float
    push_connections_per_host: int
    eapi_report_header: str
    eapi_max_recipients: int
    validity_ms: int
    unmatched_ms: int
    inbound_ms: int
    """How long a receipt is kept that belongs to no message."""
    failover_after_s: float
    blocklist: list[int]
    censor: list[str]
    node_number: int
    roles: frozenset[str]
    log_level: str
    stop_budget_s: float
    connectors: list[ConnectorConfig]
    routes: list[Route]

    @property
    def is_shared(self) -> bool:
        """Whether the ledger is on PostgreSQL, and other nodes may work on it."""
        return self.ledger_url != SQLITE


def load(
    path: Path | None, environ: Mapping[str, str], data_dir: Path | None = None, roles: str | None = None
) -> Settings:
    """Read the configuration.

    Args:
        path: The TOML file, or None for defaults and environment alone.
        environ: The environment; ALDIS_HTTP_LISTEN overrides http.listen, ALDIS_CONNECTOR_<NAME>_<KEY> a key of a
            connector, ALDIS_ROUTE_<INDEX>_<KEY> a key of a route (the first is 0).
        data_dir: Overrides the setting.
        roles: Overrides node.roles.

    Raises:
        SettingsError: it can't be read, or says something unknown or wrong; the text says what to do.
    """
    document = _read(path) if path else {}
    connectors = _tables(document, "connector")
    routes = _tables(document, "route")
    values = _flatten(document)
    _refuse_unknown(values, [setting.name for setting in SETTINGS], "setting")
    _override(values, connectors, routes, environ)
    raw = {s.name: _coerce(s, values.get(s.name, s.default)) for s in SETTINGS}
    if data_dir is not None:
        raw["data_dir"] = data_dir
    if roles is not None:
        raw["node.roles"] = _list(roles)
    if data_dir is None and path is not None and ENV_PREFIX + "DATA_DIR" not in environ:
        raw["data_dir"] = path.parent / raw["data_dir"]
    parsed = [_connector(table) for table in connectors]
    return _settings(raw, parsed, _routes(routes, parsed))


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        raise SettingsError(
            f"no configuration at {path.absolute()}: name one with --config or in ALDIS_CONFIG; "
            "`aldis demo` makes one to start from, demo-data/aldis.toml"
        ) from None
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from None


def _tables(document: dict[str, Any], name: str) -> list[dict[str, Any]]:
    tables = document.pop(name, [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise SettingsError(f"write [[{name}]] with two brackets: there may be several")
    return tables


def _flatten(document: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in document.items():
        if isinstance(value, Mapping):
            values |= {f"{key}.{inner}": one for inner, one in value.items()}
        else:
            values[key] = value
    return values


def _refuse_unknown(found: Mapping[str, Any], known: Sequence[str], what: str) -> None:
    for key in found:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
            raise SettingsError(f"unknown {what} {key!r}: {hint}")


def _override(
    values: dict[str, Any],
    connectors: list[dict[str, Any]],
    routes: list[dict[str, Any]],
    environ: Mapping[str, str],
) -> None:
    names = {ENV_PREFIX + s.name.replace(".", "_").upper(): s.name for s in SETTINGS}
    for variable, value in sorted(environ.items()):
        if not variable.startswith(ENV_PREFIX) or variable.startswith(_NOT_SETTINGS):
            continue
        if variable in names:
            values[names[variable]] = value
        elif not _override_table(variable, value, connectors, routes):
            close = difflib.get_close_matches(variable, names, n=1)
            raise SettingsError(f"unknown variable {variable}" + (f": did you mean {close[0]}?" if close else ""))


def _override_table(variable: str, value: str, connectors: list[dict[str, Any]], routes: list[dict[str, Any]]) -> bool:
    for table in sorted(connectors, key=lambda table: -len(str(table.get("name", "")))):
        prefix = f"{ENV_PREFIX}CONNECTOR_{str(table.get('name', '')).upper().replace('-', '_')}_"
        if variable.startswith(prefix):
            table[variable.removeprefix(prefix).lower()] = value
            return True
    for index, table in enumerate(routes):
        prefix = f"{ENV_PREFIX}ROUTE_{index}_"
        if variable.startswith(prefix):
            table[variable.removeprefix(prefix).lower()] = value
            return True
    return False


def _coerce(setting: Setting, value: Any) -> Any:
    try:
        match setting.kind:
            case "path":
                return Path(str(value))
            case "int":
                return _number(int, value)
            case "float":
                return _number(float, value)
            case "networks":
                return _networks(value)
            case "texts":
                return [str(one) for one in _list(value)]
            case "numbers":
                return [int(one) for one in _list(value)]
            case _:
                return str(value)
    except (TypeError, ValueError) as error:
        raise SettingsError(f"{setting.name} = {value!r}: {error}") from None


def _number(kind: type, value: Any) -> Any:
    if isinstance(value, bool):
        raise TypeError("a number is wanted")
    number = kind(value)
    if not 0 <= number < _LARGEST:  # false of nan too
        raise ValueError("a number that is not negative is wanted")
    return number


def _list(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [one.strip() for one in value.split(",") if one.strip()]
    return list(value)


def _networks(value: Any) -> bool | list[Network]:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "false", "1", "0"):
        return value.lower() in ("true", "1")
    return [ip_network(str(one)) for one in _list(value)]


def connector_kinds() -> dict[str, EntryPoint]:
    """Return what can stand in a connector's `kind`: the built-in ones and those of installed plug-ins."""
    return {point.name: point for point in entry_points(group="aldis.connectors")}


def _connector(table: dict[str, Any]) -> ConnectorConfig:
    table = dict(table)
    name, kind = str(table.get("name", "")), str(table.pop("kind", ""))
    if not name:
        raise SettingsError("a [[connector]] has no name")
    if QUEUE_SEPARATOR in name:
        raise SettingsError(f"connector {name!r}: a name has no {QUEUE_SEPARATOR} in it")
    point = connector_kinds().get(kind)
    if point is None:
        raise SettingsError(f"connector {name!r}: unknown kind {kind!r}: known are {', '.join(connector_kinds())}")
    factory = point.load()
    errors = _errors(name, kind, table.pop("errors", {}))
    horizon_ms = _hours(name, table, "receipt_horizon_h") if "receipt_horizon_h" in table else None
    by_number = table.pop("match_by_number", False)
    if not isinstance(by_number, bool):
        raise SettingsError(f"connector {name!r}: match_by_number is true or false")
    query_after_ms = _hours(name, table, "query_after_h")
    known = [field.name for field in msgspec.structs.fields(factory.settings_type)]
    _refuse_unknown(table, known, f"key of connector {name!r}:")
    try:
        options = msgspec.convert(table, factory.settings_type, strict=False)
    except (msgspec.ValidationError, ValueError) as error:
        raise SettingsError(f"connector {name!r}: {error}") from None
    return ConnectorConfig(name, kind, factory, options, errors, horizon_ms, by_number, query_after_ms)


def _hours(name: str, table: dict[str, Any], key: str) -> int:
    """Take a time in hours out of a connector's table; returns ms."""
    hours = table.pop(key, 1.0)
    if not isinstance(hours, int | float) or isinstance(hours, bool) or not 0 < hours <= LONGEST_HORIZON_H:
        raise SettingsError(
            f"connector {name!r}: {key} is above 0 and at most {LONGEST_HORIZON_H}, as long as ids are kept"
        )
    return round(hours * 3_600_000)


def _errors(name: str, kind: str, table: Mapping[str, Any]) -> dict[str, Status]:
    builtin = {f"{status:03d}": status for status in Status} if kind == "simulator" else {}
    try:
        return builtin | {str(error): Status(int(code)) for error, code in table.items()}
    except ValueError as error:
        raise SettingsError(f"connector {name!r}, errors: {error}") from None


def _routes(tables: list[dict[str, Any]], connectors: list[ConnectorConfig]) -> list[Route]:
    names = [connector.name for connector in connectors]
    if len(set(names)) < len(names):
        raise SettingsError("two connectors have the same name")
    routes = []
    for table in tables:
        _refuse_unknown(table, [setting.name for setting in ROUTE_SETTINGS], "key of a route:")
        queue = _queue(table, names)
        prefix = str(table.get("prefix", ""))
        if prefix and not (prefix.isascii() and prefix.isdigit()):
            raise SettingsError(f"route prefix {prefix!r}: digits are wanted")
        try:
            price = parse_credits(str(table.get("price", "1")))
        except ValueError as error:
            raise SettingsError(f"route {prefix!r}: {error}") from None
        if price < 0:
            raise SettingsError(f"route {prefix!r}: a price can't be negative")
        routes.append(Route(prefix, queue, price))
    return routes


def _queue(table: Mapping[str, Any], names: Sequence[str]) -> str:
    """Return the queue of a route's connectors."""
    several = [str(name) for name in _list(table.get("connectors", ()))]
    if several and table.get("connector"):
        raise SettingsError("a route has either connector or connectors, not both")
    found = several or [str(table.get("connector", ""))]
    for name in found:
        if name not in names:
            raise SettingsError(f"a route leads to connector {name!r}: configured are {', '.join(names) or 'none'}")
    if len(set(found)) < len(found):
        raise SettingsError(f"connectors = {found}: one is named twice")
    return queue_of(found)


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of `host:port`.

    Raises:
        SettingsError: it is neither `host:port` nor `[v6]:port`.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise SettingsError(f"http.listen = {text!r}: host:port is wanted, such as 127.0.0.1:5567")
    return host.strip("[]"), int(port)


def _check_ledger(url: str, roles: Sequence[str]) -> None:
    """Refuse a ledger that there is not, and roles that it can't be divided into; no URL is shown."""
    if unknown := sorted(set(roles) - ROLES):
        raise SettingsError(f"node.roles: unknown role {unknown[0]!r}: known are {', '.join(sorted(ROLES))}")
    if not roles:
        raise SettingsError("node.roles: a node without a role does nothing")
    if url == SQLITE:
        if set(roles) != ROLES:
            raise SettingsError("node.roles: an sqlite ledger has one process, which does all; PostgreSQL shares it")
    elif not url.startswith(("postgresql://", "postgres://")):
        raise SettingsError("ledger.url: sqlite, or postgresql://user:password@host:port/database is wanted")
    elif find_spec("asyncpg") is None:
        raise SettingsError(f"ledger.url: {NO_DRIVER}")


def _settings(raw: dict[str, Any], connectors: list[ConnectorConfig], routes: list[Route]) -> Settings:
    host, port = parse_listen(raw["http.listen"])
    if raw["eapi.report_header"] not in ("returns", "results"):
        raise SettingsError(f"eapi.report_header = {raw['eapi.report_header']!r}: returns or results is wanted")
    _check_ledger(raw["ledger.url"], raw["node.roles"])
    if not 1 <= raw["ledger.writers"] <= MOST_WRITERS:
        raise SettingsError(f"ledger.writers = {raw['ledger.writers']}: 1 to {MOST_WRITERS} is wanted")
    if raw["log.level"] not in ("debug", "info", "warning", "error"):
        raise SettingsError(f"log.level = {raw['log.level']!r}: debug, info, warning or error is wanted")
    certificate, key = raw["http.tls_certificate"], raw["http.tls_key"]
    if bool(certificate) != bool(key):
        raise SettingsError("http.tls_certificate and http.tls_key go together")
    for name, file in (("http.tls_certificate", certificate), ("http.tls_key", key)):
        if file and not Path(file).is_file():
            raise SettingsError(f"{name} = {file!r}: there is no such file")
    return Settings(
        data_dir=raw["data_dir"],
        http_host=host,
        http_port=port,
        http_max_body=raw["http.max_body"],
        http_max_connections=raw["http.max_connections"],
        http_certificate=(Path(certificate), Path(key)) if certificate else None,
        ledger_url=raw["ledger.url"],
        ledger_writers=raw["ledger.writers"],
        retention_ms=raw["ledger.retention_days"] * 86_400_000,
        push_allow_private_networks=raw["push.allow_private_networks"],
        push_timeout_s=raw["push.timeout_s"],
        push_connections_per_host=raw["push.connections_per_host"],
        eapi_report_header=raw["eapi.report_header"],
        eapi_max_recipients=raw["eapi.max_recipients"],
        validity_ms=int(raw["messages.validity_h"] * 3_600_000),
        unmatched_ms=raw["receipts.keep_unmatched_days"] * 86_400_000,
        inbound_ms=raw["inbound.keep_days"] * 86_400_000,
        failover_after_s=raw["failover.after_s"],
        blocklist=raw["admission.blocklist"],
        censor=raw["admission.censor"],
        node_number=raw["node.number"],
        roles=frozenset(raw["node.roles"]),
        log_level=raw["log.level"],
        stop_budget_s=raw["stop.budget_s"],
        connectors=connectors,
        routes=routes,
    )
