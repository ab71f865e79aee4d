"""What a push says, where it goes, and what counts as success."""

from typing import Any
from urllib.parse import parse_qsl

import msgspec
import pytest

from aldis.model.types import Push
from aldis.push.request import InvalidUrl, is_success, parse_url, query_of, stem, target

PUSH = Push(
    push_id=9007199254740993,
    message_id=5,
    batch_id=123456789,
    account_id=1,
    url="http://example.com/",
    msisdn=44123123456,
    status=11,
    completed_at=1_173_052_799_999,
    source_id="ref-1",
    accept_empty=False,
    attempts=0,
    due_at=0,
)


def query(**changes: Any) -> str:
    return query_of(msgspec.structs.replace(PUSH, **changes))


# EAPI-61 RULE-cc
def test_a_report_has_exactly_the_documented_parameters() -> None:
    assert query_of(PUSH) == (
        "msisdn=44123123456&batch_id=123456789&status=11&completed_time=07-03-04+23%3A59%3A59&source_id=ref-1"
        "&unique_id=9007199254740993&msg_id=9007199254740993"
    )


# EAPI-61
def test_an_unknown_completion_time_is_left_out_entirely() -> None:
    assert "completed_time" not in query(completed_at=None)


@pytest.mark.parametrize(
    ("at_ms", "shown"),
    [
        (0, "70-01-01 00:00:00"),
        (1_704_067_199_999, "23-12-31 23:59:59"),
        (1_704_067_200_000, "24-01-01 00:00:00"),
        (4_102_444_800_000, "00-01-01 00:00:00"),
    ],
    ids=["epoch", "last ms of a year", "new year", "year 2100"],
)
def test_completion_times_are_utc_with_a_year_of_two_digits(at_ms: int, shown: str) -> None:
    assert dict(parse_qsl(query(completed_at=at_ms)))["completed_time"] == shown


@pytest.mark.parametrize(
    ("source_id", "encoded"),
    [
        ("", ""),
        ("a b", "a+b"),
        ("a&b=c", "a%26b%3Dc"),
        ("é", "%E9"),
        ("€", "%3F"),
        ("\r\nX: y", "%0D%0AX%3A+y"),
        ("\ud800", "%3F"),
        ("100%", "100%25"),
    ],
    ids=["empty", "space", "reserved", "Latin-1", "outside Latin-1", "CR LF", "lone surrogate", "percent"],
)
def test_the_source_id_is_form_encoded_in_latin_1(source_id: str, encoded: str) -> None:
    assert f"&source_id={encoded}&" in query(source_id=source_id)


# EAPI-62
@pytest.mark.parametrize(
    ("status", "body_len", "accept_empty", "success"),
    [
        (200, 1, False, True),
        (200, 65536, False, True),
        (200, 0, False, False),
        (200, 0, True, True),
        (200, 1, True, True),
        (201, 1, False, False),
        (204, 0, True, False),
        (202, 5, True, False),
        (302, 5, True, False),
        (500, 5, True, False),
        (0, 5, True, False),
    ],
)
def test_only_a_200_with_a_byte_is_a_success(status: int, body_len: int, accept_empty: bool, success: bool) -> None:
    assert is_success(status, body_len, accept_empty) is success


# EAPI-61
@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://h/p", "http://h/p?q=1"),
        ("http://h/p?", "http://h/p?q=1"),
        ("http://h/p?pass=x", "http://h/p?pass=x&q=1"),
        ("http://h/p?pass=x&", "http://h/p?pass=x&q=1"),
        ("http://h/p#top", "http://h/p?q=1"),
        ("http://h/p?pass=x#a?b", "http://h/p?pass=x&q=1"),
    ],
    ids=["no query", "empty query", "a query", "trailing ampersand", "fragment", "query and fragment"],
)
def test_the_query_is_appended_to_whatever_is_there(url: str, whole: str) -> None:
    assert target(url, "q=1") == whole
    assert stem(url) + "q=1" == whole


def test_an_empty_query_leaves_the_url_alone_but_for_its_fragment() -> None:
    assert target("http://h/p?a=1#x", "") == "http://h/p?a=1"


@pytest.mark.parametrize(
    ("url", "host", "port", "authority", "resource"),
    [
        ("http://Example.COM", "example.com", 80, "example.com", "/"),
        ("https://example.com/x", "example.com", 443, "example.com", "/x"),
        ("http://example.com:80/", "example.com", 80, "example.com", "/"),
        ("https://example.com:80/", "example.com", 80, "example.com:80", "/"),
        ("http://example.com:8080?a=1", "example.com", 8080, "example.com:8080", "/?a=1"),
        ("http://example.com./x", "example.com.", 80, "example.com", "/x"),
        ("http://[2001:DB8::1]:81/", "2001:db8::1", 81, "[2001:db8::1]:81", "/"),
        (
            "http://bücher.example/ä?ö=ü#é",
            "xn--bcher-kva.example",
            80,
            "xn--bcher-kva.example",
            "/%C3%A4?%C3%B6=%C3%BC",
        ),
        ("http://h_1/a%20b?c=%2F&d=[]", "h_1", 80, "h_1", "/a%20b?c=%2F&d=[]"),
        ("HTTP://h//x", "h", 80, "h", "//x"),
    ],
)
def test_urls_are_taken_apart(url: str, host: str, port: int, authority: str, resource: str) -> None:
    parsed = parse_url(url)
    assert (parsed.host, parsed.port, parsed.authority, parsed.resource) == (host, port, authority, resource)
    assert parsed.tls is url.startswith("https")


def test_userinfo_becomes_basic_authentication_and_never_part_of_the_host() -> None:
    parsed = parse_url("http://us%3Aer:p%40ss@example.com/")
    assert (parsed.host, parsed.authorization) == ("example.com", "Basic dXM6ZXI6cEBzcw==")
    assert parse_url("http://example.com/").authorization == ""


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "/path",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "http:///path",
        "http://",
        "http://:80/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:x/",
        "http://example.com/\r\nHost: evil",
        "http://example.com/\n",
        "http://exa\tmple.com/",
        "http://example.com/\x00",
        "http://example.com/\x7f",
        "http://example.com/\x85",
        "http://example.com/\u2028",
        "http://example.com/\ud800",
        "http://example.com/a b",
        "http://example.com\\@evil.example/",
        "http://exa%6dple.com/",
        "http://[::1%25eth0]/",
        "http://[fe80::1%eth0]/",
        "http://[::1/",
        "http://::1/",
        "http://[127.0.0.1]/",
        "http://[v1.x]/",
        "http://a..b/",
        "http://.a/",
        "http://" + "a" * 64 + ".example/",
        "http://exam!ple.com/",
        "http://exam,ple.com/",
        "http://\u2100.example/",
        "http://example.com/" + "a" * 4096,
        " http://example.com/",
    ],
)
def test_urls_that_two_readers_could_read_differently_are_refused(url: str) -> None:
    with pytest.raises(InvalidUrl):
        parse_url(url)


def test_a_refusal_does_not_quote_the_url() -> None:
    with pytest.raises(InvalidUrl) as refused:
        parse_url("http://example.com:x/?pass=canary")
    assert "canary" not in str(refused.value)
    assert refused.value.__suppress_context__
