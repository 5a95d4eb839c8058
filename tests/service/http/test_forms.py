"""Answers in the form that the client accepts."""

import csv
import io
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.reports import METRICS, original, post, small

pytestmark = pytest.mark.server

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
T0 = 1_531_396_800_000
USER = "forms"
PATHS = {
    "history": f"{METRICS}/cpuLoadAvg/byUser/{USER}",
    "fleet": f"{METRICS}/cpuLoadAvg/fleet",
    "groups": f"{METRICS}/cpuLoadAvg/fleet?by=user",
}
QUERY: dict[str, Any] = {"start": T0, "end": T0 + 60_000, "resample_rate": "10s", "stat": "p95"}
SYSTEM = "only of this file"


@pytest.fixture(scope="module", autouse=True)
def _posted(client: httpx.Client) -> None:
    reports = [
        small(user, T0 + second * 1000, 0.1, os_version=SYSTEM)
        for user in (USER, 'forms, "two"')
        for second in (5, 15, 45)
    ]
    reports.append(original(USER, start_timestamp=T0, end_timestamp=T0 + 50_000))
    assert post(client, *reports).status_code == 202


def get(client: httpx.Client, path: str, accept: str, **query: Any) -> httpx.Response:
    url = httpx.URL(PATHS[path])
    return client.get(url.copy_merge_params(QUERY | query), headers={"Accept": accept})


def rows(client: httpx.Client, path: str, **query: Any) -> list[tuple[Any, ...]]:
    """What JSON answers, as rows."""
    return [tuple(entry.values()) for entry in get(client, path, "application/json", **query).json()["entries"]]


@pytest.mark.parametrize(
    "accept", ["application/json", "*/*", "application/*", "text/html, */*;q=0.1", "text/csv;q=0.5, */*"]
)
def test_json_is_what_is_answered_to_a_client_that_takes_anything(client: httpx.Client, accept: str) -> None:
    answer = get(client, "history", accept)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert [*answer.json()["entries"][0]] == ["date", "value"]


def test_json_is_answered_without_an_accept_header(client: httpx.Client) -> None:
    request = client.build_request("GET", httpx.URL(PATHS["history"]).copy_merge_params(QUERY))
    del request.headers["Accept"]
    assert client.send(request).headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize("path", PATHS)
def test_csv_has_a_row_for_each_entry(client: httpx.Client, path: str) -> None:
    answer = get(client, path, "text/csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    header, *lines = csv.reader(io.StringIO(answer.text))
    assert header == ["date", "value", "group"][: 3 if path == "groups" else 2]
    assert [(line[0], float(line[1]), *line[2:]) for line in lines] == rows(client, path)
    assert len(lines) >= 4


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("form", [ARROW, PARQUET])
def test_arrow_and_parquet_have_a_row_for_each_entry(client: httpx.Client, path: str, form: str) -> None:
    answer = get(client, path, form)
    assert answer.headers["Content-Type"] == form
    source = io.BytesIO(answer.content)
    table = pq.read_table(source) if form == PARQUET else pa.ipc.open_stream(source).read_all()
    assert table.schema.field("date").type == pa.timestamp("ms", "UTC")
    assert table.schema.field("value").type == pa.float64()
    found = [
        (row["date"].strftime("%Y-%m-%dT%H:%M:%SZ"), row["value"], *([row["group"]] if "group" in row else []))
        for row in table.to_pylist()
    ]
    assert found == rows(client, path)
    assert b"mean and variance" in table.schema.metadata[b"approximation"]


@pytest.mark.parametrize("form", ["text/csv", ARROW, PARQUET])
def test_approximation_is_said_in_a_header_where_the_form_has_no_place_for_it(client: httpx.Client, form: str) -> None:
    assert "mean and variance" in get(client, "history", form).headers["Approximation"]
    assert "Approximation" not in get(client, "history", form, stat="mean").headers


@pytest.mark.parametrize("form", ["application/json", "text/csv", ARROW, PARQUET])
def test_an_empty_answer_has_the_same_form(client: httpx.Client, form: str) -> None:
    answer = get(client, "history", form, start=T0 + 60_000, end=T0 + 120_000)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith(form)
    match form:
        case "application/json":
            assert answer.json() == {"entries": []}
        case "text/csv":
            assert answer.text.split() == ["date,value"]
        case _:
            source = io.BytesIO(answer.content)
            table = pq.read_table(source) if form == PARQUET else pa.ipc.open_stream(source).read_all()
            assert (table.num_rows, table.column_names) == (0, ["date", "value"])


@pytest.mark.parametrize(
    "accept", ["image/png", "text/html", "application/xml, text/plain;q=0.5", "application/json;q=0"]
)
@pytest.mark.parametrize("path", PATHS)
def test_other_forms_are_not_acceptable_and_those_there_are_are_named(
    client: httpx.Client, path: str, accept: str
) -> None:
    answer = get(client, path, accept)
    assert answer.status_code == 406
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert all(form in answer.json()["detail"] for form in ("application/json", "text/csv", ARROW, PARQUET))


def test_the_preferred_form_of_several_is_answered(client: httpx.Client) -> None:
    for accept, form in (
        ("text/csv, application/json;q=0.9", "text/csv"),
        (f"application/json;q=0.2, {PARQUET};q=0.3", PARQUET),
        (f"{ARROW}, text/csv;q=0.1", ARROW),
    ):
        assert get(client, "history", accept).headers["Content-Type"].startswith(form)


@pytest.mark.parametrize(
    "accept", ["", "nonsense", "a/b/c", ";;;", "application/json;q=x", "\u00e4/\u00fc", "*/*;q=" + "9" * 5000]
)
def test_an_accept_header_of_nonsense_is_no_failure(client: httpx.Client, accept: str) -> None:
    url = httpx.URL(PATHS["history"]).copy_merge_params(QUERY)
    answer = client.get(url, headers={b"Accept": accept.encode()})
    assert answer.status_code in (200, 400, 406)


def test_floats_are_answered_to_the_last_bit(client: httpx.Client, user: str) -> None:
    mean = 0.1 + 0.2
    post(client, small(user, T0, mean))
    for form in ("application/json", "text/csv"):
        answer = client.get(
            f"{METRICS}/cpuLoadAvg/byUser/{user}", params=QUERY | {"stat": "mean"}, headers={"Accept": form}
        )
        assert "0.30000000000000004" in answer.text


def test_csv_quotes_names_of_groups(client: httpx.Client) -> None:
    assert '"forms, ""two"""' in get(client, "groups", "text/csv").text
