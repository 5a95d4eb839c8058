"""Answers that are known already, smaller answers, HEAD, pages of other origins, and what is going to go."""

import gzip
import io
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pyarrow as pa
import pytest
import zstandard

from contract.times import DAY_MS, HOUR_MS
from service.http.encoding import preferred
from tests.service.conftest import StartService
from tests.support.reports import METRICS, post, small

pytestmark = pytest.mark.server
T0 = 1_531_396_800_000 // DAY_MS * DAY_MS
RANGE: dict[str, Any] = {"start": T0, "end": T0 + DAY_MS, "resample_rate": "1h"}
URLS = [f"{METRICS}/cpuLoadAvg/byUser/one", f"{METRICS}/cpuLoadAvg/fleet", "/api/v1/query"]


def ask(client: httpx.Client, url: str, **headers: str) -> httpx.Response:
    return client.get(url, params=RANGE, headers={name.replace("_", "-"): value for name, value in headers.items()})


@pytest.mark.parametrize("url", URLS)
def test_a_closed_range_is_asked_for_once_until_a_late_report_comes(start: StartService, url: str) -> None:
    with start().client() as client:
        assert post(client, small("one", T0 + 5000)).status_code == 202
        first = ask(client, url)
        tag = first.headers["ETag"]
        assert first.headers["Cache-Control"] == "private, no-cache"
        again = ask(client, url, If_None_Match=tag)
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)

        post(client, small("one", T0 + 2 * DAY_MS), small("one", T0 - HOUR_MS - 1))
        assert ask(client, url, If_None_Match=tag).status_code == 304

        post(client, small("one", T0 + 7000, mean=1.0))
        later = ask(client, url, If_None_Match=tag)
        assert later.status_code == 200
        assert later.headers["ETag"] != tag
        assert later.content != first.content


def test_versions_are_of_one_form_and_of_one_run(start: StartService) -> None:
    service = start()
    with service.client() as client:
        post(client, small("one", T0 + 5000))
        tag = ask(client, URLS[0]).headers["ETag"]
        assert "Accept" in ask(client, URLS[0]).headers["Vary"]
        assert ask(client, URLS[0], If_None_Match=tag, Accept="text/csv").status_code == 200
    assert service.stop() == 0
    with start().client() as client:
        assert ask(client, URLS[0], If_None_Match=tag).status_code == 200


def test_a_question_without_an_end_is_not_kept(client: httpx.Client) -> None:
    for answer in (client.get("/api/v1/query"), client.request("GET", "/api/v1/query", json={"end": "2018-07-12"})):
        assert answer.headers["Cache-Control"] == "no-store"
        assert "ETag" not in answer.headers


def test_groups_by_system_are_asked_again_after_any_report_and_stay_those_of_their_time(start: StartService) -> None:
    with start().client() as client:
        post(client, small("one", T0 + 5000))
        query = RANGE | {"by": "os_version"}
        tag = client.get("/api/v1/query", params=query).headers["ETag"]
        post(client, small("one", T0 + 2 * DAY_MS, os_version="new"))
        again = client.get("/api/v1/query", params=query, headers={"If-None-Match": tag})
        assert again.status_code == 200
        assert [one["group"] for one in again.json()["series"]] == ["18.04 LTS"]


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip", "gzip"), ("gzip, zstd", "zstd"), ("zstd;q=0.1, gzip", "gzip"), ("*", "zstd"), ("gzip;q=0", None),
        ("identity", None), ("", None), ("br", None), ("*;q=0.5, zstd;q=0", "gzip"), ("gzip;q=x", None),
    ],
)  # fmt: skip
def test_the_coding_is_the_clients_choice(accepted: str, coding: str | None) -> None:
    assert preferred(accepted) == coding


@pytest.mark.parametrize("form", ["application/json", "text/csv", "application/vnd.apache.arrow.stream"])
@pytest.mark.parametrize("path", ["/api/v1/query", "/api/v1/windows/fleet"])
def test_answers_are_smaller_where_the_client_accepts_it(start: StartService, path: str, form: str) -> None:
    with start().client() as client:
        post(client, *(small("one", T0 + minute * 60_000, mean=minute / 1440) for minute in range(1440)))
        query = {"start": T0, "end": T0 + DAY_MS, "resample_rate": "1m"}
        plain = _raw(client, path, query, form, "identity")
        assert "Content-Encoding" not in plain[0]
        for coding, unpack in (("gzip", gzip.decompress), ("zstd", _unzstd)):
            headers, content = _raw(client, path, query, form, coding)
            assert headers["Content-Encoding"] == coding
            assert "Accept-Encoding" in headers["Vary"]
            assert len(content) < len(plain[1]) / 2
            assert unpack(content) == plain[1]
    if form.startswith("application/vnd"):
        assert len(pa.ipc.open_stream(plain[1]).read_all()) == 1440


def _raw(client: httpx.Client, path: str, query: Any, form: str, coding: str) -> tuple[httpx.Headers, bytes]:
    headers = {"Accept": form, "Accept-Encoding": coding}
    with client.stream("GET", path, params=query, headers=headers) as answer:
        assert answer.status_code == 200
        return answer.headers, b"".join(answer.iter_raw())


def _unzstd(content: bytes) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content)).read()


@pytest.mark.parametrize(
    "path",
    ["/api/v1/metrics", "/api/v1/users", "/api/v1/query", "/api/v1/annotations", "/healthz", "/openapi.json", "/docs"],
)
def test_head_says_what_get_would_without_its_body(client: httpx.Client, path: str) -> None:
    plain = {"Accept-Encoding": "identity"}
    got, head = client.get(path, headers=plain), client.head(path, headers=plain)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Type", "Content-Length", "Cache-Control", "Vary"):
        assert head.headers.get(name) == got.headers.get(name), name


def test_head_of_the_stream_ends(client: httpx.Client) -> None:
    assert client.head("/api/v1/stream").headers["Content-Type"].startswith("text/event-stream")


def test_pages_of_other_origins_are_not_let_in_unless_the_settings_say_so(client: httpx.Client) -> None:
    answer = client.get("/api/v1/metrics", headers={"Origin": "https://page.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_pages_of_origins_that_are_named_may_use_the_interface(start: StartService) -> None:
    named, other = {"Origin": "https://page.example"}, {"Origin": "https://other.example"}
    asks = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    service = start("--cors-origins", "https://page.example", "--token", "secret")
    with service.client() as client:
        preflight = client.options("/api/v1/annotations", headers=named | asks)
        assert preflight.status_code == 204
        assert preflight.headers["Access-Control-Allow-Origin"] == "https://page.example"
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in preflight.headers["Access-Control-Allow-Headers"]
        token = {"Authorization": "Bearer secret"}
        made = client.post("/api/v1/annotations", json={"text": "x"}, headers=named | token)
        assert made.status_code == 201
        assert "Origin" in made.headers["Vary"]
        assert client.post("/api/v1/annotations", json={"text": "x"}, headers=other | token).status_code == 403
        assert client.get("/api/v1/metrics", headers=named).status_code == 401
        assert "Access-Control-Allow-Origin" not in client.get("/healthz", headers=other).headers


def test_any_origin_may_read_and_not_change(start: StartService) -> None:
    page = {"Origin": "https://page.example"}
    with start("--cors-origins", "*").client() as client:
        read = client.get("/api/v1/metrics", headers=page)
        assert read.headers["Access-Control-Allow-Origin"] == "https://page.example"
        preflight = client.options("/api/v1/metrics", headers=page | {"Access-Control-Request-Method": "POST"})
        assert "POST" not in preflight.headers["Access-Control-Allow-Methods"]
        assert client.post("/api/v1/annotations", json={"text": "x"}, headers=page).status_code == 403


def test_what_is_going_to_go_says_since_when_and_until_when(client: httpx.Client) -> None:
    assert "Deprecation" not in client.get("/api/v1/audit", params={"after": 9}).headers
    answer = client.get("/api/v1/audit", params={"before": 9})
    since = datetime.fromtimestamp(int(answer.headers["Deprecation"].removeprefix("@")), UTC)
    assert (parsedate_to_datetime(answer.headers["Sunset"]) - since).days >= 365
