"""A service is ready, and shows its first page, without what only others need."""

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import falcon.testing
import pytest

from contract import times
from service import app
from service.app import begin_app
from service.settings import ServiceSettings
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
        taken = await client.post("/api/v1/metrics", body=report, host="localhost")
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
            assert client.get("/api/v1/fleet/picture").status_code == 200
        imported = {
            line.rpartition("|")[2].strip() for line in service.log.splitlines() if line.startswith("import time")
        }
    assert {"falcon", "pandas", "jinja2"} <= imported
    assert not imported & set(HEAVY)


def test_the_page_is_there_before_what_it_asks_for_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported, stages = threading.Event(), []

    def waiting(modules: Sequence[str], _: object) -> None:
        stages.append(modules)
        assert imported.wait(30)

    monkeypatch.setattr(app, "_preload", waiting)

    async def ask() -> None:
        async with falcon.testing.ASGIConductor(begin_app(ServiceSettings(data_dir=str(tmp_path)))) as client:
            page = await client.get("/")
            assert page.status_code == 200 and stages
            [script] = re.findall(r'src="(/static/[^"]*/app.js)"', page.text)
            assert (await client.get(script)).status_code == 200
            picture = asyncio.create_task(client.get("/api/v1/fleet/picture"))
            assert (await client.get("/healthz")).status_code == 200
            assert not picture.done()
            imported.set()
            assert (await picture).status_code == 200

    asyncio.run(ask())
    # What the first picture is read with comes first, so that it is read while the rest is imported.
    assert "service.answers" in stages[0] and "service.answering" in stages[1]


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
