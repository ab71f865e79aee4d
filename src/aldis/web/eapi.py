"""The legacy HTTP API: its calls as plain handlers, served by the lane and by ASGI alike."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, Protocol

import structlog

from aldis.model.errors import AldisError, CustomerError, InvalidField
from aldis.model.status import Status
from aldis.model.types import Accepted, Account, BatchReport, Dca, Submission
from aldis.text import legacy
from aldis.web.auth import Accounts, Authenticator
from aldis.web.metrics import Sample
from aldis.web.request import Answer, Handler, Headers, Request, where
from aldis.wire import eapi

_log = structlog.get_logger(__name__)

TEXT: Final[Headers] = (
    (b"content-type", b"text/plain; charset=ISO-8859-1"),
    (b"x-content-type-options", b"nosniff"),
)
MAX_OCTETS: Final = 140
"""What an 8-bit message may hold, its user data header included."""
_FAILED: Final = eapi.format_error(Status.INTERNAL_ERROR, "INTERNAL_FATAL_ERROR")


class Intake(Protocol):
    """Where submissions are priced, checked and stored."""

    def submit(self, account: Account, submission: Submission) -> Awaitable[Accepted]:
        """Return once the submission is on disk.

        Raises:
            AldisError: It was refused, with what the customer is to see.
        """
        ...


class Reports(Protocol):
    """Where reports are read."""

    async def find_report(self, account_id: int, batch_id: int, msisdn: int | None) -> BatchReport | None:
        """Return an account's batch with all its messages or those to one number; None if it has no such batch."""
        ...


class Eapi:
    """Answers the calls of the legacy API."""

    def __init__(
        self,
        accounts: Accounts,
        authenticator: Authenticator,
        intake: Intake,
        reports: Reports,
        now_ms: Callable[[], int],
        header: str = "returns",
    ) -> None:
        """Take what the calls need.

        Args:
            accounts: The customers.
            authenticator: Checks them.
            intake: Takes submissions.
            reports: Finds reports.
            now_ms: The time, for schedules.
            header: `returns` or `results`: the words in get_report's first line for accounts that do not choose.
        """
        self._accounts = accounts
        self._authenticator = authenticator
        self._intake = intake
        self._reports = reports
        self._now_ms = now_ms
        self._header = header
        self.answers: Counter[tuple[str, int]] = Counter()
        """Answers given, by call and status code."""

    def routes(self) -> dict[str, Handler]:
        """Return the handlers by path."""
        return {
            "/eapi/submission/send_sms/2/2.0": self.send_sms,
            "/eapi/status_reports/get_report/2/2.0": self.get_report,
            "/eapi/user/get_credits/1/1.1": self.get_credits,
            "/eapi/user/get_credits/1/current": self.get_credits,
        }

    async def send_sms(self, request: Request) -> Answer:
        """Answer a submission."""
        return await self._answer("send_sms", self._submit, request)

    async def get_report(self, request: Request) -> Answer:
        """Answer a poll for reports."""
        return await self._answer("get_report", self._report, request)

    async def get_credits(self, request: Request) -> Answer:
        """Answer how many credits are left."""
        return await self._answer("get_credits", self._count_credits, request)

    def samples(self) -> Iterator[Sample]:
        """Yield the counts of answers, for metrics."""
        for (call, status), count in list(self.answers.items()):
            name, words = _METRICS[call]
            yield Sample(name, "counter", words, {"status": str(status)}, count)
        yield Sample("aldis_password_checks_total", "counter", "Passwords hashed.", {}, self._authenticator.hashed)
        yield Sample(
            "aldis_password_checks_refused_total",
            "counter",
            "Logins turned away by the limits on tries.",
            {},
            self._authenticator.limited,
        )

    async def _answer(self, call: str, work: "_Work", request: Request) -> Answer:
        """Do a call's work for whom the credentials name, and turn what goes wrong into a status line."""
        status = 0
        try:
            params = eapi.parse_params(request.query, request.body)
            username = eapi.decode_text(params.get("username", b""))
            password = params.get("password", b"")
            account = self._authenticator.recall(username, password)
            if account is None:
                account = await self._authenticator.authenticate(username, password, request.client)
            body = await work(account, params, request)
        except AldisError as error:
            status = int(error.status)
            body = eapi.format_error(status, _words(error))
        except Exception as error:  # noqa: BLE001 - a customer gets a status line whatever happens
            _log.error("eapi.failed", call=call, error=where(error))
            status, body = int(Status.INTERNAL_ERROR), _FAILED
        self.answers[call, status] += 1
        return Answer(body, TEXT)

    async def _submit(self, account: Account, params: Mapping[str, bytes], request: Request) -> bytes:
        """Decode a submission and hand it in."""
        dca = eapi.parse_dca(params)
        body = _decode_message(eapi.require(params, "message"), dca, account, request)
        submission = eapi.parse_submission(params, dca, body, self._now_ms())
        accepted = await self._intake.submit(account, submission)
        return eapi.format_accepted(accepted.batch_id, accepted.scheduled)

    async def _report(self, account: Account, params: Mapping[str, bytes], request: Request) -> bytes:
        """Find a batch and write it out; another account's looks like none."""
        query = eapi.parse_report_query(params)
        batch = await self._reports.find_report(account.account_id, query.batch_id, query.msisdn)
        return eapi.format_report(
            batch,
            query.fields,
            header=account.report_header or self._header,
            show_transient=account.show_transient,
            body=legacy.show_body(batch.body, batch.dca) if batch and "body" in query.fields else "",
        )

    async def _count_credits(self, account: Account, params: Mapping[str, bytes], request: Request) -> bytes:
        """Write out an account's credits."""
        return eapi.format_credits(await self._accounts.credits_of(account.account_id))


_Work = Callable[[Account, Mapping[str, bytes], Request], Awaitable[bytes]]
_METRICS: Final = {
    "send_sms": ("aldis_submissions_total", "Answers to send_sms, by status code."),
    "get_report": ("aldis_report_requests_total", "Answers to get_report, by status code."),
    "get_credits": ("aldis_credit_requests_total", "Answers to get_credits, by status code."),
}


def _words(error: AldisError) -> str:
    """Return what a customer may read of an error: the words of their own faults, only the kind of ours."""
    if isinstance(error, CustomerError):
        return str(error)
    return "INTERNAL_FATAL_ERROR" if error.status is Status.INTERNAL_ERROR else str(type(error)())


def _decode_message(raw: bytes, dca: Dca, account: Account, request: Request) -> bytes:
    """Return the message parameter as `Submission.body` wants it.

    Raises:
        InvalidField: It is no hex, or too long for 8 bits.
    """
    if dca is Dca.GSM7:
        if raw.isascii():
            return raw
        return legacy.decode_body(raw, charset=find_charset(request), strict_latin1=account.strict_latin1).encode()
    digits = raw.strip().decode("latin-1")
    try:
        octets = legacy.decode_ucs2_hex(digits).encode() if dca is Dca.UCS2 else legacy.decode_binary_hex(digits)
    except ValueError as error:
        raise InvalidField(f"invalid message: {error}") from None
    if dca is Dca.BINARY and len(octets) > MAX_OCTETS:
        raise InvalidField(f"invalid message: more than {MAX_OCTETS} octets")
    return octets


def find_charset(request: Request) -> str | None:
    """Return the charset in the request's content type, or None."""
    content_type = request.find_header(b"content-type")
    if content_type is None:
        return None
    for parameter in content_type.decode("latin-1").lower().split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset":
            return value.strip().strip("\"'") or None
    return None
