"""The legacy API's calls, from a request to the answer's bytes."""

from urllib.parse import urlencode

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request as PageRequest

from aldis.model.errors import (
    AldisError,
    LedgerUnavailable,
    NoCredits,
    OurError,
    Overloaded,
    QuotaExceeded,
)
from aldis.model.status import Status
from aldis.model.types import Accepted, Account, AccountId, BatchId, BatchReport, Dca, Report, Submission, TestMode
from aldis.web.auth import Authenticator, hash_password
from aldis.web.eapi import Eapi, find_charset
from aldis.web.health import HealthPages
from aldis.web.metrics import Histogram, Metrics, Sample
from aldis.web.request import Request

NOW = 1_700_000_000_000
SECRET = hash_password("secret")
SEND = "/eapi/submission/send_sms/2/2.0"
REPORT = "/eapi/status_reports/get_report/2/2.0"
CREDITS = "/eapi/user/get_credits/1/1.1"


class World:
    """Accounts, intake and reports that keep what they are told."""

    def __init__(self) -> None:
        self.account = Account(account_id=AccountId(1), username="demo", password_hash=SECRET)
        self.submissions: list[Submission] = []
        self.fault: Exception | None = None
        self.asked: list[tuple[int, int, int | None]] = []
        self.batch = BatchReport(
            7, 1, NOW, "ACME", "ref", Dca.GSM7, b"hi|\n", [Report(1, 44123123456, Status(11), NOW, 1000, 3)]
        )
        self.authenticator = Authenticator(self, lambda: 0.0)
        self.eapi = Eapi(self, self.authenticator, self, self, lambda: NOW)

    def recall_account(self, username: str) -> Account | None:
        return self.account if username == self.account.username else None

    async def find_account(self, username: str) -> Account | None:
        return self.account if username == self.account.username else None

    async def credits_of(self, account_id: int) -> int:
        assert account_id == 1
        return 2_101_150

    async def submit(self, account: Account, submission: Submission) -> Accepted:
        if self.fault:
            raise self.fault
        self.submissions.append(submission)
        return Accepted(BatchId(2163000027), submission.send_at is not None)

    async def find_report(self, account_id: int, batch_id: int, msisdn: int | None) -> BatchReport | None:
        self.asked.append((account_id, batch_id, msisdn))
        return self.batch if (account_id, batch_id) == (1, self.batch.batch_id) else None

    async def call(self, path: str, *, content_type: str = "", **params: object) -> bytes:
        given = {"username": "demo", "password": "secret"} | params
        headers = [(b"content-type", content_type.encode())] if content_type else []
        body = urlencode({name: value for name, value in given.items() if value is not None}).encode()
        request = Request(b"POST", path, b"", headers, body, "192.0.2.1")
        answer = await self.eapi.routes()[path](request)
        assert answer.status == 200
        assert dict(answer.headers)[b"content-type"] == b"text/plain; charset=ISO-8859-1"
        return answer.body


@pytest.fixture
def world():
    made = World()
    yield made
    made.authenticator.close()


# EAPI-10
async def test_a_submission_is_handed_in_and_answered(world):
    answer = await world.call(SEND, msisdn="44123123456,44123123457", message="Hello", sender="ACME", source_id="r")
    assert answer == b"0|IN_PROGRESS|2163000027\n"
    assert world.submissions == [
        Submission(msisdns=(44123123456, 44123123457), body=b"Hello", originator="ACME", source_id="r")
    ]


# EAPI-13
async def test_a_scheduled_submission_has_code_1(world):
    answer = await world.call(SEND, msisdn="44123123456", message="Hello", send_time_seconds=60)
    assert answer == b"1|SCHEDULED|2163000027\n"
    assert world.submissions[0].send_at == NOW + 60_000


async def test_a_rehearsal_is_marked(world):
    await world.call(SEND, msisdn="44123123456", message="Hello", test_always_fail=1)
    assert world.submissions[0].test_mode is TestMode.FAIL


# EAPI-2
async def test_everything_may_stand_in_the_query(world):
    query = b"username=demo&password=secret&msisdn=+44123123456&message=Hello+World"
    answer = await world.eapi.send_sms(Request(b"POST", SEND, query))
    assert answer.body == b"0|IN_PROGRESS|2163000027\n"
    assert world.submissions[0].body == b"Hello World"


BODIES = {
    "Latin-1": ({"message": b"\xe9\xa3"}, "é£"),
    "an escape of the extension table": ({"message": b"\xbb\x3c\xbb\x65"}, "[€"),
    "UTF-8 is noticed": ({"message": "€é".encode()}, "€é"),
    "a declared charset wins": (
        {"message": "é".encode(), "content_type": "application/x-www-form-urlencoded; charset=iso-8859-2"},
        "é".encode().decode("iso-8859-2"),
    ),
    "16 bits": ({"message": "004200430044", "dca": "16bit"}, "BCD"),
    "16 bits in Arabic": ({"message": "0600060106020603060C", "dca": "16bit"}, "\u0600\u0601\u0602\u0603\u060c"),
}


# EAPI-30 EAPI-33
@pytest.mark.parametrize(("params", "text"), BODIES.values(), ids=BODIES)
async def test_a_message_is_decoded(world, params, text):
    assert await world.call(SEND, msisdn="44123123456", **params) == b"0|IN_PROGRESS|2163000027\n"
    assert world.submissions[0].body.decode() == text


# EAPI-30
async def test_an_account_may_insist_on_latin1(world):
    world.account = msgspec.structs.replace(world.account, strict_latin1=True)
    await world.call(SEND, msisdn="44123123456", message="é".encode())
    assert world.submissions[0].body.decode() != "é"


# EAPI-34
async def test_an_8_bit_message_keeps_its_octets(world):
    await world.call(SEND, msisdn="44123123456", message="06050423F40000AB", dca="8bit")
    assert world.submissions[0].body == bytes.fromhex("06050423F40000AB")
    assert world.submissions[0].dca is Dca.BINARY


REFUSED = {
    "a wrong password": ({"password": "Secret"}, b"23|invalid credentials|\n"),
    "an unknown name": ({"username": "nobody"}, b"23|invalid credentials|\n"),
    "no credentials": ({"username": None, "password": None}, b"23|invalid credentials|\n"),
    "a bad number": ({"msisdn": "44"}, b"24|invalid msisdn: 44|\n"),
    "no number": ({"msisdn": None}, b"24|invalid msisdn: missing|\n"),
    "no message": ({"message": ""}, b"24|invalid message: missing|\n"),
    "half a hex digit": (
        {"message": "004", "dca": "16bit"},
        b"24|invalid message: the message is not pairs of hex digits|\n",
    ),
    "too many octets": (
        {"message": "00" * 141, "dca": "8bit"},
        b"24|invalid message: more than 140 octets|\n",
    ),
    "an unknown coding": ({"dca": "9bit"}, b"24|invalid dca: 9bit|\n"),
    "a forged line": ({"sender": "a|b\n0|IN_PROGRESS|1"}, b"24|invalid sender: a\xa6b\\n0\xa6IN_PROGRESS\xa61|\n"),
}


# EAPI-4 EAPI-8
@pytest.mark.parametrize(("params", "expected"), REFUSED.values(), ids=REFUSED)
async def test_a_refusal_is_a_status_line(world, params, expected):
    given = {"msisdn": "44123123456", "message": "hi"} | params
    assert await world.call(SEND, **given) == expected
    assert world.submissions == []


async def test_wrong_credentials_are_told_before_wrong_fields(world):
    assert (await world.call(SEND, password="x", msisdn="44")).startswith(b"23|")


FAULTS = {
    "no credits": (NoCredits(), b"25|insufficient credits|\n"),
    "quota": (QuotaExceeded("daily quota of 5 exceeded"), b"27|daily quota of 5 exceeded|\n"),
    "too busy": (Overloaded(), b"40|temporarily unavailable|\n"),
    "our words stay ours": (LedgerUnavailable("canary /var/lib"), b"40|temporarily unavailable|\n"),
    "our faults have no words": (OurError("canary"), b"22|INTERNAL_FATAL_ERROR|\n"),
    "nor has the root of errors": (AldisError("canary"), b"22|INTERNAL_FATAL_ERROR|\n"),
    "what nobody foresaw": (RuntimeError("canary secret"), b"22|INTERNAL_FATAL_ERROR|\n"),
}


# EAPI-8
@pytest.mark.parametrize(("fault", "expected"), FAULTS.values(), ids=FAULTS)
async def test_a_fault_behind_the_call_is_a_status_line(world, fault, expected, capsys):
    world.fault = fault
    assert await world.call(SEND, msisdn="44123123456", message="hi") == expected
    printed = capsys.readouterr()
    assert "canary" not in printed.out + printed.err


async def test_a_report_is_found_and_written_out(world):
    answer = await world.call(REPORT, batch_id=" 7\n", msisdn="+44 123 123456", optional_fields="body,credits")
    assert answer == b"0|Returns to follow\n\n44123123456|11|hi\xa6\\n|1.00\n"
    assert world.asked == [(1, 7, 44123123456)]


# EAPI-52
async def test_an_unknown_batch_has_no_rows(world):
    assert await world.call(REPORT, batch_id=8) == b"0|Returns to follow\n\n\n"


# EAPI-50
async def test_the_older_header_is_chosen_by_server_or_account(world):
    older = Eapi(world, world.authenticator, world, world, lambda: NOW, header="results")
    request = Request(b"GET", REPORT, b"username=demo&password=secret&batch_id=7")
    assert (await older.get_report(request)).body.startswith(b"0|Results to follow\n\n")
    world.account = msgspec.structs.replace(world.account, report_header="returns")
    assert (await older.get_report(request)).body.startswith(b"0|Returns to follow\n\n")


# EAPI-56
async def test_transient_codes_are_hidden_from_those_who_asked(world):
    world.batch = msgspec.structs.replace(world.batch, reports=[Report(1, 44123123456, Status(63), None, 0, 1)])
    assert b"|63\n" in await world.call(REPORT, batch_id=7)
    world.account = msgspec.structs.replace(world.account, show_transient=False)
    assert b"|0\n" in await world.call(REPORT, batch_id=7)


# EAPI-40
async def test_credits_are_told_with_two_decimals(world):
    assert await world.call(CREDITS) == b"0|2101.15\n"


async def test_answers_are_counted_by_call_and_status(world):
    await world.call(SEND, msisdn="44123123456", message="hi")
    await world.call(SEND, msisdn="44", message="hi")
    await world.call(CREDITS, password="wrong")
    assert world.eapi.answers == {("send_sms", 0): 1, ("send_sms", 24): 1, ("get_credits", 23): 1}
    page = await Metrics([world.eapi.samples]).page(PageRequest({"type": "http"}))
    counts = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page.body.decode())
        for sample in family.samples
    }
    assert counts["aldis_submissions_total", "0"] == 1
    assert counts["aldis_submissions_total", "24"] == 1
    assert counts["aldis_credit_requests_total", "23"] == 1
    assert counts[("aldis_password_checks_total",)] == 2


async def test_histograms_add_up():
    source = [Histogram("wait_seconds", "How long.", (0.1, 1.0), (3, 2, 1), 4.5), Sample("up", "gauge", "Up.", {}, 1)]
    page = await Metrics([lambda: source]).page(PageRequest({"type": "http"}))
    lines = page.body.decode().splitlines()
    for line in (
        'wait_seconds_bucket{le="0.1"} 3.0',
        'wait_seconds_bucket{le="1.0"} 5.0',
        'wait_seconds_bucket{le="+Inf"} 6.0',
        "wait_seconds_count 6.0",
        "wait_seconds_sum 4.5",
        "up 1.0",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("problems", "status", "body"),
    [
        ([], 200, b'{"status":"ready","problems":[]}'),
        (["no upstream is bound"], 503, b'{"status":"not ready","problems":["no upstream is bound"]}'),
    ],
)
async def test_readiness_says_what_is_wrong(problems, status, body):
    class Watched:
        def problems(self) -> list[str]:
            return problems

    page = await HealthPages(Watched()).ready(PageRequest({"type": "http"}))
    assert (page.status_code, page.body) == (status, body)


# EAPI-2 EAPI-30
@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        (None, None),
        ("text/plain", None),
        ("text/plain; charset=UTF-8", "utf-8"),
        ('text/plain;boundary=x; Charset="ISO-8859-1"', "iso-8859-1"),
        ("text/plain; charset=", None),
    ],
)
def test_the_charset_is_read_from_the_content_type(content_type, charset):
    headers = [(b"content-type", content_type.encode())] if content_type else []
    assert find_charset(Request(b"POST", "/", b"", headers)) == charset
