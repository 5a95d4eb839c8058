"""Ending a service that has only just begun: what it has is closed in order, without what nobody needs."""

import time
from pathlib import Path

import pytest

from tests.support.reports import METRICS, original, post
from tests.support.running import RunningService, clean_environment, wait_until

pytestmark = pytest.mark.server

SLOW = """
import os, sys, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name.startswith("service.dashboard"):
            open(os.environ["MARK"], "w").close()
            time.sleep(1.0)

sys.meta_path.insert(0, Slow())
"""
"""Each module of the dashboard takes a second to be found, as on a host that is busy."""


@pytest.fixture
def slow(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "sitecustomize.py").write_text(SLOW)
    return clean_environment(PYTHONPATH=str(tmp_path), MARK=str(tmp_path / "importing"))


def test_a_service_that_imports_what_answers_questions_ends_without_it(tmp_path: Path, slow: dict[str, str]) -> None:
    with RunningService(tmp_path / "data", environment=slow) as service:
        with service.client() as client:
            assert post(client, original("a")).status_code == 202
        wait_until((tmp_path / "importing").exists, "the imports")
        began = time.monotonic()
        assert service.stop() == 0
        # A worker that has not ended after seven seconds is killed, and leaves no checksums.
        assert time.monotonic() - began < 6.0
        assert "the service has ended" in service.log
        assert "Traceback" not in service.log
        assert (tmp_path / "data" / "control.db.sha256").exists()
    with RunningService(tmp_path / "data") as again, again.client() as client:
        assert client.get(f"{METRICS}/cpuLoadAvg/byUser/a").status_code == 200


def test_who_waits_for_an_answer_gets_it_before_the_end(tmp_path: Path) -> None:
    with RunningService(tmp_path / "data") as service, service.client() as client:
        assert post(client, original("a")).status_code == 202
        assert client.get(f"{METRICS}/cpuLoadAvg/byUser/a").status_code == 200
        assert service.stop() == 0
        assert "the service has ended" in service.log
