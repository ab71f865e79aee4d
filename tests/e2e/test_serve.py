"""The server as an operator runs it, driven with curl as a customer drives it."""

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from tests.postgres import Binaries, Cluster, fresh_database

from conftest import ALDIS, Program, aldis, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")]

CONFIG = """
[http]
listen = "127.0.0.1:0"
[push]
allow_private_networks = ["127.0.0.0/8"]
[admission]
blocklist = [447700900666]
censor = ["forbidden"]
[[connector]]
name = "sim"
kind = "simulator"
[[route]]
prefix = "44"
connector = "sim"
price = "1.5"
[[route]]
prefix = "1"
connector = "sim"
price = "2"
"""
SEND = "/eapi/submission/send_sms/2/2.0"
REPORT = "/eapi/status_reports/get_report/2/2.0"
CREDITS = "/eapi/user/get_credits/1/1.1"


class Farm(ThreadingHTTPServer):
    """A customer's web server that remembers every push."""

    def __init__(self) -> None:
        self.pushes: list[dict[str, str]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/in?pass=s3cret-canary"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a server that is stopped cuts its kept connections."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Farm

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, encoding="latin-1", keep_blank_values=True)
        self.server.pushes.append({key: values[0] for key, values in query.items()})
        self.send_response(200)
        self.send_header("content-length", "1")
        self.end_headers()
        self.wfile.write(b"1")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def farm() -> Iterator[Farm]:
    server = Farm()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


class Service:
    """A running server with one account, called as customers call it."""

    def __init__(
        self,
        folder: Path,
        start: Callable[..., Program],
        push_url: str = "",
        ledger_url: str = "sqlite",
        roles: str = "web,dispatch,push",
    ) -> None:
        self.folder = folder
        self.roles = roles
        self._start = start
        text = f'[ledger]\nurl = "{ledger_url}"\n{CONFIG}'
        (folder / "aldis.toml").write_text(text, encoding="utf-8")
        added = aldis(folder, "accounts", "add", "acme", "--credits", "100", "--push-url", push_url)
        assert added.returncode == 0, added.stderr
        found = re.search(r"password: (\S+)", added.stdout)
        assert found
        self.password = found[1]
        self.start()

    def start(self) -> None:
        self.program = self._start([*ALDIS, "serve", "--roles", self.roles])
        self.program.wait_for_text('"event": "serving"')
        line = next(line for line in self.program.text.splitlines() if '"serving"' in line)
        self.base = f"http://127.0.0.1:{json.loads(line)['port']}"
        wait_for(lambda: '"ready"' in self.curl("/health/ready"), "a bound connector")

    def curl(self, path: str, *arguments: str) -> str:
        done = subprocess.run(
            ["curl", "-s", "--max-time", "20", *arguments, f"{self.base}{path}"],
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done
        return done.stdout.decode("latin-1")

    def call(self, path: str, **parameters: str) -> str:
        login = {"username": "acme", "password": self.password} | parameters
        return self.curl(
            path, *(word for key, value in login.items() for word in ("--data-urlencode", f"{key}={value}"))
        )

    def send(self, **parameters: str) -> str:
        answer = self.call(SEND, **({"message": "Hello"} | parameters))
        assert re.fullmatch(r"0\|IN_PROGRESS\|\d+\n", answer), answer
        return answer.strip().rpartition("|")[2]

    def wait_for_report(self, batch_id: str, rows: str) -> None:
        wait_for(
            lambda: self.call(REPORT, batch_id=batch_id) == f"0|Returns to follow\n\n{rows}",
            f"the report {rows!r}, not {self.call(REPORT, batch_id=batch_id)!r}",
        )


@pytest.fixture(scope="module")
def durable_cluster(postgres_binaries: Binaries) -> Iterator[Cluster]:
    """A server that flushes: the program refuses another."""
    with Cluster(postgres_binaries, durable=True) as cluster:
        yield cluster


@pytest.fixture(params=["sqlite", "postgres"])
def service(
    request: pytest.FixtureRequest, tmp_path: Path, start: Callable[..., Program], farm: Farm
) -> Iterator[Service]:
    if request.param == "sqlite":
        yield Service(tmp_path, start, farm.url)
        return
    with fresh_database(request.getfixturevalue("durable_cluster")) as url:
        yield Service(tmp_path, start, farm.url, url)


@pytest.fixture
def on_file(tmp_path: Path, start: Callable[..., Program]) -> Service:
    """A server on an embedded ledger."""
    return Service(tmp_path, start)


def test_a_message_is_submitted_delivered_polled_and_pushed(service: Service, farm: Farm) -> None:
    batch_id = service.send(msisdn="447700900123", source_id="inv|42", sender="Acme")
    service.wait_for_report(batch_id, "447700900123|11\n")
    wait_for(lambda: farm.pushes, "the push")
    [push] = farm.pushes
    assert push["pass"] == "s3cret-canary"
    assert (push["msisdn"], push["batch_id"], push["status"]) == ("447700900123", batch_id, "11")
    assert push["source_id"] == "inv|42"
    assert push["unique_id"] == push["msg_id"]
    assert re.fullmatch(r"\d\d-\d\d-\d\d \d\d:\d\d:\d\d", push["completed_time"])
    detail = service.call(REPORT, batch_id=batch_id, optional_fields="credits,origin_address,body,source_id")
    assert detail == "0|Returns to follow\n\n447700900123|11|1.50|Acme|Hello|inv¦42\n"
    assert service.call(CREDITS) == "0|98.50\n"


# EAPI-1 EAPI-2
def test_get_and_post_with_everything_in_the_query_work_too(service: Service) -> None:
    query = f"?username=acme&password={service.password}&msisdn=447700900124&message=Hi"
    assert service.curl(SEND + query).startswith("0|IN_PROGRESS|")
    assert service.curl(SEND + query, "-X", "POST").startswith("0|IN_PROGRESS|")


def test_every_status_code_can_be_produced_by_a_numbers_ending(service: Service) -> None:
    final = (22, 23, 24, 25, 26, 27, 28, 29, 31, 32, 33, 50, 51, 52, 53, 54, 55, 56, 57, 11)
    moving = (10, 40, 60, 61, 62, 64, 70)
    numbers = [f"44770090{code:04d}" for code in (*final, *moving)]
    batch_id = service.send(msisdn=",".join(numbers))
    rows = "".join(f"{number}|{int(number[-4:])}\n" for number in numbers)
    service.wait_for_report(batch_id, rows)


# EAPI-23
def test_a_batch_of_mixed_recipients_has_each_its_own_verdict_and_refused_ones_cost_nothing(service: Service) -> None:
    batch_id = service.send(msisdn="447700900125,33612345678,447700900666")
    service.wait_for_report(batch_id, "447700900125|11\n33612345678|31\n447700900666|32\n")
    assert service.call(CREDITS) == "0|98.50\n"
    censored = service.send(msisdn="447700900125", message="a FORBIDDEN word")
    service.wait_for_report(censored, "447700900125|33\n")
    assert service.call(CREDITS) == "0|98.50\n"


def test_what_subscribers_answer_is_listed_with_the_message_that_it_answers(service: Service) -> None:
    service.send(msisdn="447700900120,447700900121,447700900123", sender="447700900000")

    def listed(*more: str) -> list[dict[str, object]]:
        done = aldis(service.folder, "inbound", "list", "--json", *more)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    wait_for(lambda: len(listed()) == 2, "two answers")
    [stop] = listed("--keyword", "stop", "--number", "0120")
    assert (stop["text"], stop["destination"], stop["parts"]) == ("STOP", "447700900000", 1)
    [long] = listed("--number", "0121", "--to", "0000", "--connector", "sim")
    assert (long["text"], long["parts"]) == ("Thank you very much indeed", 3)
    assert long["message_id"] == int(str(stop["message_id"])) + 1
    assert "STOP" in aldis(service.folder, "inbound", "list", COLUMNS="200").stdout
    assert 'aldis_inbound_messages_total{connector="sim",keyword="stop"} 1' in service.curl("/metrics")


def test_a_long_message_goes_out_in_parts_and_is_delivered_when_all_are(service: Service) -> None:
    assert service.call(SEND, msisdn="447700900126", message="x" * 161) == "24|message too long|\n"
    batch_id = service.send(
        msisdn="447700900126", message="x" * 400, allow_concat_text_sms="1", concat_text_sms_max_parts="3"
    )
    service.wait_for_report(batch_id, "447700900126|11\n")
    assert service.call(REPORT, batch_id=batch_id, optional_fields="credits") == (
        "0|Returns to follow\n\n447700900126|11|4.50\n"
    )


# EAPI-15 PROMISE-2
def test_a_repeated_stop_dup_id_sends_nothing_and_answers_with_the_first_batch(service: Service) -> None:
    first = service.send(msisdn="447700900127", stop_dup_id="987")
    assert service.send(msisdn="447700900128", stop_dup_id="987", message="another text") == first
    service.wait_for_report(first, "447700900127|11\n")
    assert service.call(CREDITS) == "0|98.50\n"


# EAPI-4 EAPI-8
def test_errors_are_lines_with_http_200_and_say_what_is_wrong(service: Service) -> None:
    assert service.call(SEND, msisdn="447700900123", message="x", password="wrong").startswith("23|invalid credentials")
    assert service.call(SEND, msisdn="0123", message="x") == "24|invalid msisdn: 0123|\n"
    assert service.call(SEND, msisdn="447700900123").startswith("24|")
    assert service.call(SEND, msisdn=",".join(["447700900123"] * 67), message="x") == "25|insufficient credits|\n"
    aldis(service.folder, "accounts", "set", "acme", "--daily-quota", "1")
    assert service.call(SEND, msisdn="447700900123,447700900124", message="x") == "27|daily quota exceeded|\n"
    assert service.call(SEND, msisdn="447700900123", message="x", test_always_fail="1").startswith("22|")


# EAPI-52 PROMISE-10
def test_anothers_batch_and_an_unknown_one_can_not_be_told_apart(service: Service) -> None:
    batch_id = service.send(msisdn="447700900129")
    added = aldis(service.folder, "accounts", "add", "other", "--password-stdin", given="pw-other\n")
    assert added.returncode == 0, added.stderr
    theirs = service.call(REPORT, batch_id=batch_id, username="other", password="pw-other")
    unknown = service.call(REPORT, batch_id="12345", username="other", password="pw-other")
    assert theirs == unknown == "0|Returns to follow\n\n\n"


# PROMISE-1
def test_a_stop_is_graceful_and_a_restart_keeps_everything(service: Service) -> None:
    batch_id = service.send(msisdn="447700900130")
    assert service.program.stop() == 0
    service.start()
    service.wait_for_report(batch_id, "447700900130|11\n")


def test_account_commands_work_while_the_server_runs_and_while_it_does_not(service: Service) -> None:
    assert "has 150.00 credits" in aldis(service.folder, "accounts", "topup", "acme", "50").stdout
    assert service.call(CREDITS) == "0|150.00\n"
    assert service.program.stop() == 0
    assert "has 149.00 credits" in aldis(service.folder, "accounts", "topup", "--", "acme", "-1").stdout
    shown = aldis(service.folder, "accounts", "list").stdout
    assert "149.00" in shown
    assert "s3cret-canary" not in shown
    missing = aldis(service.folder, "accounts", "topup", "nobody", "1")
    assert missing.returncode == 1
    assert missing.stderr == "aldis: no account is named 'nobody'; `aldis accounts list` shows all\n"


def test_a_second_server_on_the_same_data_is_refused_and_the_first_unharmed(
    on_file: Service, start: Callable[..., Program]
) -> None:
    second = start([*ALDIS, "serve"])
    assert second.process.wait(20) == 1
    assert "is in use by another aldis process" in second.text
    on_file.send(msisdn="447700900131")


# PROMISE-12
def test_no_password_number_or_body_reaches_the_log(service: Service) -> None:
    query = f"?username=acme&password={service.password}&msisdn=447700900132&message=body-canary"
    batch_id = service.curl(SEND + query).strip().rpartition("|")[2]
    service.wait_for_report(batch_id, "447700900132|11\n")
    service.curl(SEND + "?username=acme&password=wrong-canary&msisdn=447700900132&message=body-canary")
    service.curl("/nowhere?password=" + service.password)
    assert service.program.stop() == 0
    for canary in (service.password, "body-canary", "wrong-canary", "447700900132", "s3cret-canary"):
        assert canary not in service.program.text
    assert all(json.loads(line) for line in service.program.text.splitlines())


def test_the_doctor_finds_nothing_wrong_here_and_says_what_is_wrong_elsewhere(service: Service, tmp_path: Path) -> None:
    well = aldis(service.folder, "doctor")
    assert well.returncode == 0, well.stdout
    assert "the server runs" in well.stdout or "nodes: 0 on " in well.stdout
    (tmp_path / "bad.toml").write_text("[http]\nlissten = 1\n", encoding="utf-8")
    ill = aldis(service.folder, "doctor", "--config", "bad.toml")
    assert ill.returncode == 1
    assert "unknown setting 'http.lissten': did you mean 'http.listen'?" in ill.stdout


# REC-26
def test_the_batchs_story_shows_the_upstreams_own_words(service: Service) -> None:
    batch_id = service.send(msisdn="447700900053")
    service.wait_for_report(batch_id, "447700900053|53\n")
    story = aldis(service.folder, "report", batch_id, COLUMNS="200").stdout
    assert "stat:EXPIRED err:053" in story
    unknown = aldis(service.folder, "report", "1")
    assert unknown.returncode == 1
    assert "no batch 1" in unknown.stderr


# REC-24
def test_the_batchs_story_tells_where_the_parts_stand(service: Service) -> None:
    batch_id = service.send(msisdn="447700900053", message="long " * 50, allow_concat_text_sms="1")
    service.wait_for_report(batch_id, "447700900053|53\n")
    story = aldis(service.folder, "report", batch_id, COLUMNS="200").stdout
    assert "447700900053: 53" in story
    assert "; 0 of 2 parts delivered, part 1: 53" in story


def test_a_node_does_what_its_roles_say(
    tmp_path: Path, start: Callable[..., Program], farm: Farm, durable_cluster: Cluster
) -> None:
    """What one takes in, another sends, and a third pushes; each answers for its health, and only one for the API."""
    with fresh_database(durable_cluster) as url:
        web = Service(tmp_path, start, farm.url, url, "web")
        others = [start([*ALDIS, "serve", "--roles", role]) for role in ("dispatch", "push")]
        for other in others:
            other.wait_for_text('"event": "serving"')
        batch_id = web.send(msisdn="447700900140")
        web.wait_for_report(batch_id, "447700900140|11\n")
        wait_for(lambda: [one["status"] for one in farm.pushes] == ["11"], "the push")
        port = json.loads(next(line for line in others[0].text.splitlines() if '"serving"' in line))["port"]
        web.base = f"http://127.0.0.1:{port}"
        assert "no such page" in web.call(SEND, msisdn="447700900140", message="x")


def test_another_node_takes_over_what_a_killed_one_owned(
    tmp_path: Path, start: Callable[..., Program], farm: Farm, durable_cluster: Cluster
) -> None:
    """Within 15 s, its messages in hand are not sent again, and new ones go on."""
    with fresh_database(durable_cluster) as url:
        survivor = Service(tmp_path, start, farm.url, url, "web,push")
        worker = start([*ALDIS, "serve", "--roles", "dispatch"])
        worker.wait_for_text('"event": "bound"')
        second = start([*ALDIS, "serve", "--roles", "dispatch"])
        second.wait_for_text('"event": "serving"')
        survivor.wait_for_report(survivor.send(msisdn="447700900141"), "447700900141|11\n")
        assert '"event": "bound"' not in second.text
        worker.process.kill()
        batch_id = survivor.send(msisdn="447700900142")
        second.wait_for_text('"event": "bound"', 15)
        survivor.wait_for_report(batch_id, "447700900142|11\n")


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ALDIS_LEDGER_URL": "postgresql://x:geheim@127.0.0.1:1/nowhere"}, "nothing listens there"),
        ({"ALDIS_LEDGER_URL": "mysql://x:geheim@127.0.0.1/nowhere"}, "sqlite, or postgresql://"),
        ({"ALDIS_NODE_ROLES": "web"}, "an sqlite ledger has one process"),
        ({"ALDIS_NODE_ROLES": "web,cook"}, "unknown role 'cook': known are dispatch, push, web"),
    ],
    ids=["unreachable", "unknown engine", "roles without a shared ledger", "unknown role"],
)
def test_a_ledger_that_can_not_be_used_is_told_in_one_line(
    tmp_path: Path, changes: dict[str, str], complaint: str
) -> None:
    (tmp_path / "aldis.toml").write_text(CONFIG, encoding="utf-8")
    done = aldis(tmp_path, "serve", **changes)
    assert done.returncode == 1
    assert complaint in done.stderr and done.stderr.count("\n") == 1
    assert "geheim" not in done.stderr
