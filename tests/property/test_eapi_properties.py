"""No text that a customer can send forges a line or a field, and no bytes break the reading of them."""

from hypothesis import given
from hypothesis import strategies as st

from aldis.model.errors import InvalidField
from aldis.model.status import Status
from aldis.model.types import BatchReport, Dca, Report
from aldis.wire import eapi

NASTY = st.text(
    alphabet=st.one_of(
        st.sampled_from("|\n\r\0\\%\t\x0b\x0c\x1b\x1c\x85\u2028{}0¦"), st.characters(exclude_categories=["Cs"])
    ),
    max_size=60,
) | st.sampled_from(["0|Returns to follow\n\n", "\n44123123456|11\n", "|11|", "%s%d%%", "0|IN_PROGRESS|1\n"])
FIELDS = st.lists(st.sampled_from(sorted(eapi.OPTIONAL_FIELDS)), max_size=8)
STATUSES = st.lists(st.sampled_from(list(Status)), min_size=1, max_size=5)
NAMES = [*sorted(eapi._READERS), "username", "msisdn", "batch_id", "optional_fields", "dca", "message"]
VALUES = st.binary(max_size=30) | st.sampled_from([b"1", b"0", b" 44123123456", b"2023-11-14 22:13:20", b"9" * 40])


# EAPI-9 EAPI-51
@given(statuses=STATUSES, fields=FIELDS, body=NASTY, source_id=NASTY, originator=NASTY, calm=st.booleans())
def test_a_report_has_one_record_a_message_whatever_the_customer_wrote(
    statuses, fields, body, source_id, originator, calm
):
    reports = [Report(n, 44123123456 + n, status, None, n, 1) for n, status in enumerate(statuses)]
    batch = BatchReport(1, 1, 0, originator, source_id, Dca.GSM7, body.encode(), reports)
    answer = eapi.format_report(batch, fields, show_transient=not calm, body=body)
    header, blank, *rows, last = answer.split(b"\n")
    assert (header, blank, last) == (b"0|Returns to follow", b"", b"")
    assert len(rows) == len(answer.decode("latin-1").splitlines()) - 2 == len(statuses)
    for report, row in zip(reports, rows, strict=True):
        msisdn, status, *values = row.split(b"|")
        assert int(msisdn) == report.msisdn
        assert calm or int(status) == report.status
        assert len(values) == len(fields)


# EAPI-8 EAPI-9
@given(text=NASTY, status=st.sampled_from(list(Status)))
def test_an_error_is_one_line_of_three_fields(text, status):
    answer = eapi.format_error(status, text)
    assert answer.endswith(b"|\n")
    assert answer.count(b"|") == 2
    assert len(answer.decode("latin-1").splitlines()) == 1


@given(query=st.binary(max_size=200), body=st.binary(max_size=200))
def test_any_bytes_are_parameters(query, body):
    for value in eapi.parse_params(query, body).values():
        assert isinstance(eapi.decode_text(value), str)


@given(params=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8), now_ms=st.integers(0, 4_000_000_000_000))
def test_reading_parameters_succeeds_or_names_a_field(params, now_ms):
    for read in (
        lambda: eapi.parse_submission(params, Dca.GSM7, b"", now_ms),
        lambda: eapi.parse_report_query(params),
        lambda: eapi.parse_dca(params),
    ):
        try:
            read()
        except InvalidField as error:
            assert any(f"invalid {name}: " in str(error) for name in NAMES)


@given(pairs=st.dictionaries(st.text("abcxyz_", min_size=1, max_size=8), st.binary(max_size=20), max_size=6))
def test_what_is_encoded_byte_by_byte_is_read_back(pairs):
    query = "&".join(f"{name}={''.join(f'%{byte:02x}' for byte in value)}" for name, value in pairs.items())
    assert eapi.parse_params(query.encode(), b"") == pairs
    assert eapi.parse_params(b"", query.encode()) == pairs
