"""The legacy HTTP API's bytes: parameters in, lines of pipe-separated fields out.

Text that a customer wrote never forges a line or a field: see `escape`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from aldis.model import money
from aldis.model.errors import InvalidField
from aldis.model.status import Status
from aldis.model.types import BatchReport, Dca, Report, Submission, TestMode
from aldis.wire.msisdn import parse_msisdn, parse_msisdns

MAX_PARAMS: Final = 10_000
MAX_RECIPIENTS: Final = 50_000
MAX_SOURCE_ID: Final = 255
MAX_FIELDS: Final = 16
MAX_AHEAD_MS: Final = 2 * 366 * 86_400_000
"""How far ahead a submission may be scheduled; a later time is taken for a mistake."""

_MAX_INTEGER: Final = 2**63 - 1
_MAX_EPOCH_S: Final = 253_402_300_799
_MAX_SHOWN: Final = 40

# ---------------------------------------------------------------------------------------------------- parameters


def parse_params(query: bytes, body: bytes) -> dict[str, bytes]:
    """Read a query string and a form body into one table; the content type does not matter.

    Where a name comes twice the later value wins, and the body counts as later than the query. A malformed `%XX` stands
    for itself.

    Raises:
        InvalidField: More than 10,000 pairs.
    """
    source = b"%b&%b" % (query, body) if query and body else query or body
    pairs = source.replace(b"+", b" ").split(b"&")
    if len(pairs) > MAX_PARAMS:
        raise InvalidField("too many parameters")
    is_escaped = b"%" in source
    params: dict[str, bytes] = {}
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        if is_escaped and b"%" in pair:
            name, value = unquote_to_bytes(name), unquote_to_bytes(value)
        if name:
            params[name.decode("latin-1")] = value
    return params


def decode_text(raw: bytes) -> str:
    """Return a parameter other than `message` as text: UTF-8 if it is that, else ISO-8859-1; never fails."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def invalid(name: str, raw: bytes) -> InvalidField:
    """Return the error that names a parameter and shows the beginning of its value."""
    shown = decode_text(raw.strip()[: 4 * _MAX_SHOWN])
    return InvalidField(f"invalid {name}: {shown if len(shown) <= _MAX_SHOWN else shown[:_MAX_SHOWN] + '...'}")


def _one_of(choices: Mapping[bytes, Any]) -> Callable[[str, bytes], Any]:
    """Return a reader for a parameter with few values."""

    def read(name: str, raw: bytes) -> object:
        try:
            return choices[raw.strip()]
        except KeyError:
            raise invalid(name, raw) from None

    return read


def _integer(low: int, high: int) -> Callable[[str, bytes], int]:
    """Return a reader for a decimal number within bounds."""

    def read(name: str, raw: bytes) -> int:
        digits = raw.strip()
        if not digits.isdigit() or len(digits) > 19 or not low <= (number := int(digits)) <= high:
            raise invalid(name, raw)
        return number

    return read


_ORIGINATOR_CHARS = frozenset(" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")


def _read_originator(name: str, raw: bytes) -> str:
    """Read a number of up to 15 digits, or up to 11 characters that are the same in every alphabet."""
    text = decode_text(raw).strip()
    digits = text.removeprefix("+")
    if digits.isascii() and digits.isdigit() and len(digits) <= 15:
        return digits
    if len(text) > 11 or not _ORIGINATOR_CHARS.issuperset(text):
        raise invalid(name, raw)
    return text


def _read_source_id(name: str, raw: bytes) -> str:
    """Read the customer's own reference: any text that a store can keep."""
    text = decode_text(raw).strip()
    if len(text) > MAX_SOURCE_ID or "\0" in text:
        raise invalid(name, raw)
    return text


_TIME = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def _read_time(name: str, raw: bytes) -> int:
    """Read `yyyy-MM-dd HH:mm:ss` UTC as seconds of the epoch."""
    text = raw.strip()
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return int(datetime.fromisoformat(text.decode("ascii")).replace(tzinfo=UTC).timestamp())
    except ValueError:
        raise invalid(name, raw) from None


def _refuse_group(name: str, raw: bytes) -> None:
    """Refuse a group: leaving out its members in silence would be worse."""
    raise InvalidField(f"invalid {name}: groups are not supported")


_FLAG = _one_of({b"0": False, b"1": True})
_ROUTING = _one_of({b"1": 1, b"2": 2, b"3": 3})
_READERS: Final[dict[str, Callable[[str, bytes], Any]]] = {
    "sender": _read_originator,
    "msg_class": _one_of({b"0": 0, b"1": 1, b"2": 2, b"3": 3}),
    "want_report": _FLAG,
    "routing_group": _ROUTING,
    "cost_route": _ROUTING,
    "source_id": _read_source_id,
    "repliable": _FLAG,
    "strip_dup_recipients": _FLAG,
    "stop_dup_id": _integer(0, _MAX_INTEGER),
    "send_time": _read_time,
    "send_time_unixtime": _integer(0, _MAX_EPOCH_S),
    "send_time_seconds": _integer(0, _MAX_EPOCH_S),
    "allow_concat_text_sms": _FLAG,
    "concat_text_sms_max_parts": _integer(1, 255),
    "test_always_succeed": _FLAG,
    "test_always_fail": _FLAG,
    "dest_group_id": _refuse_group,
}
"""How each optional parameter of send_sms is read. Names that are not here are ignored."""

_DCA = _one_of({b"": Dca.GSM7, b"7bit": Dca.GSM7, b"8bit": Dca.BINARY, b"16bit": Dca.UCS2})


def parse_dca(params: Mapping[str, bytes]) -> Dca:
    """Return the coding that the `dca` parameter names; 7bit where there is none."""
    raw = params.get("dca")
    dca: Dca = Dca.GSM7 if raw is None else _DCA("dca", raw)
    return dca


def require(params: Mapping[str, bytes], name: str) -> bytes:
    """Return a parameter that must be there and not empty.

    Raises:
        InvalidField: It is missing.
    """
    raw = params.get(name)
    if not raw:
        raise InvalidField(f"invalid {name}: missing")
    return raw


def parse_submission(params: Mapping[str, bytes], dca: Dca, body: bytes, now_ms: int) -> Submission:
    """Read everything of send_sms but the message, whose decoding needs the text floor.

    An empty optional parameter counts as absent. A time that has passed means now. Of several times the first in the
    order send_time_unixtime, send_time, send_time_seconds counts.

    Args:
        params: As `parse_params` returns them.
        dca: The coding of the body.
        body: As in `Submission.body`.
        now_ms: The time, for schedules.

    Raises:
        InvalidField: A parameter has no meaning; the text names it.
    """
    options: dict[str, Any] = {}
    for name, raw in params.items():
        if (reader := _READERS.get(name)) is not None and raw and not raw.isspace():
            options[name] = reader(name, raw)
    msisdns = parse_recipients(params)
    option = options.get
    originator = option("sender", "")
    if len(options) == bool(originator):  # nothing but perhaps a sender: most submissions
        return Submission(msisdns=msisdns, body=body, dca=dca, originator=originator)
    if originator and option("repliable"):
        raise InvalidField("invalid repliable: not together with sender")
    return Submission(
        msisdns=msisdns,
        body=body,
        dca=dca,
        originator=originator,
        msg_class=option("msg_class", 2),
        want_report=option("want_report", True),
        source_id=option("source_id", ""),
        stop_dup_id=option("stop_dup_id", 0),
        max_parts=option("concat_text_sms_max_parts", 2) if option("allow_concat_text_sms") else 1,
        routing_group=option("routing_group") or option("cost_route", 2),
        strip_duplicates=option("strip_dup_recipients", False),
        send_at=_send_at(options, now_ms),
        test_mode=_test_mode(options),
    )


def parse_recipients(params: Mapping[str, bytes]) -> tuple[int, ...]:
    """Return the numbers of the `msisdn` parameter, at least one.

    Raises:
        InvalidField: None, a bad one, or more than 50,000.
    """
    raw = require(params, "msisdn")
    if raw.count(b",") >= MAX_RECIPIENTS:
        raise InvalidField(f"invalid msisdn: more than {MAX_RECIPIENTS} recipients")
    numbers, bad = parse_msisdns(raw.decode("latin-1"))
    if bad is not None or not numbers:
        raise invalid("msisdn", raw if bad is None else bad.encode("latin-1"))
    return tuple(numbers)


def _send_at(options: Mapping[str, Any], now_ms: int) -> int | None:
    """Return when to send, or None for now."""
    for name in ("send_time_unixtime", "send_time", "send_time_seconds"):
        seconds = options.get(name)
        if seconds is not None:
            at = seconds * 1000 + (now_ms if name == "send_time_seconds" else 0)
            if at > now_ms + MAX_AHEAD_MS:
                raise InvalidField(f"invalid {name}: too far ahead")
            return at if at > now_ms else None
    return None


def _test_mode(options: Mapping[str, Any]) -> TestMode:
    """Return what kind of rehearsal was asked for."""
    succeed, fail = options.get("test_always_succeed"), options.get("test_always_fail")
    if succeed and fail:
        raise InvalidField("invalid test_always_fail: not together with test_always_succeed")
    return TestMode.SUCCEED if succeed else TestMode.FAIL if fail else TestMode.OFF


class ReportQuery(NamedTuple):
    """What get_report asks for."""

    batch_id: int
    msisdn: int | None
    fields: tuple[str, ...]


_READ_BATCH_ID = _integer(0, _MAX_INTEGER)


def parse_report_query(params: Mapping[str, bytes]) -> ReportQuery:
    """Read the parameters of get_report.

    Raises:
        InvalidField: batch_id is missing or no number, msisdn is none, or a field has no such name.
    """
    batch_id = _READ_BATCH_ID("batch_id", require(params, "batch_id"))
    msisdn: int | None = None
    raw = params.get("msisdn")
    if raw and not raw.isspace() and (msisdn := parse_msisdn(raw.decode("latin-1"))) is None:
        raise invalid("msisdn", raw)
    wanted = params.get("optional_fields")
    return ReportQuery(batch_id, msisdn, parse_fields(wanted) if wanted else ())


def parse_fields(raw: bytes) -> tuple[str, ...]:
    """Return the names in an optional_fields list, in the order asked for.

    Raises:
        InvalidField: An unknown name, or more than 16 of them.
    """
    names = tuple(name for part in raw.split(b",") if (name := decode_text(part).strip()))
    if len(names) > MAX_FIELDS:
        raise InvalidField("invalid optional_fields: too many")
    for name in names:
        if name not in OPTIONAL_FIELDS:
            raise invalid("optional_fields", name.encode())
    return names


# ------------------------------------------------------------------------------------------------------- answers

HEADERS: Final = {"returns": b"0|Returns to follow\n\n", "results": b"0|Results to follow\n\n"}
"""The beginning of every report, by the setting's value. Both are 21 bytes long: some clients cut off that many."""

_ESCAPES: Final = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), "?") | {10: "\\n", 13: "\\r", 0x7C: "¦"}


def escape(text: str) -> str:
    """Return text that keeps to one field of one line: LF and CR become backslash and letter, a pipe a broken bar.

    Other control characters become a question mark. A backslash stays as it is.
    """
    return text if text.isprintable() and "|" not in text else text.translate(_ESCAPES)


def _to_bytes(text: str) -> bytes:
    """Encode as ISO-8859-1 with a question mark for what it lacks."""
    return text.encode("latin-1", "replace")


def format_error(status: int, text: str) -> bytes:
    """Return an error's line: three fields, the last of them empty."""
    return _to_bytes(f"{status:d}|{escape(text)}|\n")


def format_accepted(batch_id: int, scheduled: bool) -> bytes:
    """Return the line of an accepted submission."""
    return b"1|SCHEDULED|%d\n" % batch_id if scheduled else b"0|IN_PROGRESS|%d\n" % batch_id


def format_credits(milli: int) -> bytes:
    """Return the answer of get_credits: two fields, two decimals."""
    return _to_bytes(f"0|{money.format_credits(milli)}\n")


@lru_cache(maxsize=4096)
def _format_second(second: int) -> str:
    """Return a second of the epoch as `yyyy-MM-dd HH:mm:ss` UTC."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%d %H:%M:%S")


def format_time(at_ms: int | None) -> str:
    """Return a time as `yyyy-MM-dd HH:mm:ss` UTC, or nothing where there is none."""
    return "" if at_ms is None else _format_second(at_ms // 1000)


_price = lru_cache(maxsize=1024)(money.format_credits)

_EXACT: Final = tuple(map(str, range(max(Status) + 1)))
_CALM_STATUS: Final[dict[int, int]] = {
    Status.TEMPORARILY_UNAVAILABLE: Status.IN_PROGRESS,
    Status.UPSTREAM_TRANSIENT: Status.IN_PROGRESS,
    Status.UPSTREAM_UPDATE: Status.DELIVERED_UPSTREAM,
    Status.UPSTREAM_CANCEL_FAILED: Status.DELIVERED_UPSTREAM,
    Status.RETRY_QUEUED: Status.IN_PROGRESS,
    Status.RETRY_QUEUED_HANDSET: Status.DELIVERED_UPSTREAM,
}
"""What a client that takes transient codes for failures sees in their place: 10 where an upstream has the message."""
_CALM: Final = tuple(str(int(_CALM_STATUS.get(status, status))) for status in range(max(Status) + 1))

_PER_BATCH: Final[dict[str, Callable[[BatchReport, str], str]]] = {
    "body": lambda batch, body: body,
    "created_time": lambda batch, body: format_time(batch.created_at),
    "origin_address": lambda batch, body: batch.originator,
    "source_id": lambda batch, body: batch.source_id,
}
_PER_MESSAGE: Final[dict[str, Callable[[Report], str]]] = {
    "completed_time": lambda report: format_time(report.completed_at),
    "credits": lambda report: _price(report.price_milli),
}
OPTIONAL_FIELDS: Final = frozenset((*_PER_BATCH, *_PER_MESSAGE))


def format_report(
    batch: BatchReport | None,
    fields: Sequence[str] = (),
    *,
    header: str = "returns",
    show_transient: bool = True,
    body: str = "",
) -> bytes:
    """Return the answer of get_report: a header, an empty line, a line a message in the batch's order.

    An unknown batch and one without messages look alike: no rows, and one LF more.

    Args:
        batch: The batch with the messages to show, or None.
        fields: Names out of `OPTIONAL_FIELDS`.
        header: `returns` or `results`.
        show_transient: False shows 0 or 10 in place of 40 and 60 to 64.
        body: The message as text; needed where `fields` has it.
    """
    head = HEADERS[header]
    if batch is None or not batch.reports:
        return head + b"\n"
    shown = _EXACT if show_transient else _CALM
    if fields:
        return head + _to_bytes(_format_rows(batch, fields, shown, body))
    if len(batch.reports) == 1:
        (report,) = batch.reports
        return b"%s%d|%s\n" % (head, report.msisdn, shown[report.status].encode())
    return head + "".join([f"{report.msisdn}|{shown[report.status]}\n" for report in batch.reports]).encode()


def _format_rows(batch: BatchReport, fields: Sequence[str], shown: Sequence[str], body: str) -> str:
    """Return rows with optional fields, from one template that holds all that the rows have in common."""
    template, varying = "%d|%s", []
    for name in fields:
        if per_message := _PER_MESSAGE.get(name):
            template += "|%s"
            varying.append(per_message)
        else:
            template += "|" + escape(_PER_BATCH[name](batch, body)).replace("%", "%%")
    template += "\n"
    return "".join(
        [template % (row.msisdn, shown[row.status], *[value(row) for value in varying]) for row in batch.reports]
    )
