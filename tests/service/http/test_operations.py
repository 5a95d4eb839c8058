"""Health checks, the catalogue and the service's own numbers."""

import duckdb
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from contract.metrics import NAMES, STATISTICS, TYPES, type_name
from tests.service.conftest import StartService
from tests.support.reports import END_MS, METRICS, original, post, small

pytestmark = pytest.mark.server


def numbers(client: httpx.Client) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if not sample.labels
    }


def test_health_and_readiness_are_told(client: httpx.Client) -> None:
    assert (client.get("/healthz").status_code, client.get("/healthz").json()) == (200, {"status": "ok"})
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.json() == {"status": "ready", "store": f"embedded, DuckDB {duckdb.__version__}"}


def test_the_catalogue_names_all_that_can_be_asked_for(client: httpx.Client) -> None:
    catalogue = client.get(METRICS).json()
    assert catalogue["statistics"] == [*STATISTICS]
    assert [metric["name"] for metric in catalogue["metrics"]] == [*NAMES]
    for metric in catalogue["metrics"]:
        assert metric["title"]
        assert metric["unit"]
        assert metric["statistic"] in STATISTICS
        assert metric["type"] in [type_name(kind) for kind in TYPES]


def test_the_exposition_counts_what_became_of_reports(start: StartService) -> None:
    service = start()
    with service.client() as client:
        before = numbers(client)
        assert before["loadlens_reports_accepted_total"] == before["loadlens_reports_duplicate_total"] == 0
        post(client, *(small("one", END_MS + number) for number in range(5)))
        post(client, small("one", END_MS), small("one", END_MS + 1), small("two", END_MS))
        post(client, small("one", END_MS, mean=7.0))
        post(client, small("one", END_MS + 9), small("one", END_MS, mean=7.0))
        after = numbers(client)
    assert after["loadlens_reports_accepted_total"] == 7
    assert after["loadlens_reports_duplicate_total"] == 2
    assert after["loadlens_reports_rejected_total"] == 2
    assert after["loadlens_reports_waiting"] == 0
    assert after["loadlens_journal_behind"] == 7
    assert 0 < after["loadlens_journal_bytes"] < after["loadlens_journal_limit_bytes"]
    assert 1 <= after["loadlens_journal_commits_total"] <= 3
    assert after["loadlens_store_users"] == after["loadlens_store_series"] == 2
    assert after["process_resident_memory_bytes"] > 1e6


@pytest.mark.parametrize("path", ["/healthz", "/readyz", METRICS, "/api/v1/users", "/metrics"])
def test_every_page_answers_head_or_says_that_it_does_not(client: httpx.Client, path: str) -> None:
    answer = client.head(path)
    assert answer.status_code in (200, 405)
    assert answer.content == b""


def test_a_report_is_seen_as_soon_as_it_is_acknowledged(client: httpx.Client, user: str) -> None:
    for number in range(1, 50):
        post(client, original(user, start_timestamp=END_MS, end_timestamp=END_MS + number))
        answer = client.get(
            f"{METRICS}/cpuLoadAvg/byUser/{user}",
            params={"start": END_MS, "end": END_MS + 1000, "stat": "count", "resample_rate": "1d"},
        )
        assert answer.json()["entries"][0]["value"] == 100 * number
