"""A service is ready, and shows its first page, without what only others need."""

import subprocess
import sys
from pathlib import Path

import pytest

from contract import times
from tests.support.reports import as_json, original, post
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

pytestmark = pytest.mark.server

ANSWERS = ("numpy", "pandas", "pyarrow", "google.protobuf", "prometheus_client", "jinja2", "httpx", "service.answering")
"""What questions and pages stand on."""
HEAVY = ("plotly", "choreographer", "sklearn", "ruptures", "scipy")
"""What only reports need."""
# A report and its acknowledgement, health, and a second life that finds the report in the journal.
READY = """
import asyncio, sys
import falcon.testing
import service.server
from service.app import begin_app
from service.settings import ServiceSettings
app = begin_app(ServiceSettings(data_dir=sys.argv[1]))

async def ask():
    async with falcon.testing.ASGIConductor(app) as client:
        assert (await client.get("/healthz")).status_code == 200
        ready = await client.get("/readyz")
        assert ready.json["status"] == "ready", ready.json
        report = open(sys.argv[2], "rb").read()
        taken = await client.post("/api/v1/metrics", body=report, headers={"Content-Type": "application/json"})
        assert taken.status_code == 202, taken.text
        loaded = [name for name in sys.argv[3].split() if name in sys.modules]
        assert not loaded, loaded

asyncio.run(ask())
"""


def test_a_service_takes_reports_and_tells_its_health_without_what_answers_questions(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    words = " ".join((*ANSWERS, *HEAVY))
    now_ms = times.now_ms()
    for end_ms in (now_ms - 10_000, now_ms - 5_000):
        report.write_bytes(as_json(original("one", start_timestamp=end_ms - 5000, end_timestamp=end_ms)))
        subprocess.run(
            [sys.executable, "-c", READY, str(tmp_path / "data"), str(report), words], check=True, timeout=60, cwd=ROOT
        )


def test_neither_start_nor_first_page_loads_what_only_reports_need(tmp_path: Path) -> None:
    # Python tells each import on stderr, of the process that listens and of the one that answers.
    with RunningService(tmp_path / "data", environment=clean_environment(PYTHONPROFILEIMPORTTIME="1")) as service:
        with service.client() as client:
            assert client.get("/", headers={"Accept": "text/html"}).status_code == 200
        imported = {
            line.rpartition("|")[2].strip() for line in service.log.splitlines() if line.startswith("import time")
        }
    assert {"falcon", "pandas", "jinja2"} <= imported
    assert not imported & set(HEAVY)


def test_what_answers_questions_is_imported_before_anybody_asks(tmp_path: Path) -> None:
    with RunningService(tmp_path / "data", "--log-level", "debug") as service:
        wait_until(lambda: "questions are answered" in service.log, "the import of what answers questions")


def test_reports_are_taken_while_it_is_imported_and_questions_wait_for_it(tmp_path: Path) -> None:
    # With this variable it is no fork of a process that has imported everything.
    with RunningService(tmp_path / "data", environment=clean_environment(PYTHONPROFILEIMPORTTIME="1")) as service:
        with service.client() as client:
            assert post(client, original("one")).status_code == 202
            assert [user["user_id"] for user in client.get("/api/v1/users").json()["users"]] == ["one"]
            assert client.get("/nowhere").status_code == 404
