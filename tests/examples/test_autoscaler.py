"""The example of an autoscaler adds a host when the fleet is busy, and takes one away when it is idle."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from contract import times
from tests.support.reports import post, small
from tests.support.running import ROOT, RunningService, clean_environment, wait_until

pytestmark = pytest.mark.server

EXAMPLE = ROOT / "examples" / "autoscaler.py"


def test_it_reacts_to_what_hosts_report_within_a_second(tmp_path: Path) -> None:
    assert len(EXAMPLE.read_text().splitlines()) < 50
    now_ms = times.now_ms()
    said = tmp_path / "said"
    with RunningService(tmp_path / "data") as service, service.client() as client, said.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, str(EXAMPLE), service.url, "web-*"],
            cwd=tmp_path,
            env=clean_environment(PYTHONPATH=str(ROOT)),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            wait_until(lambda: "loadlens_stream_consumers 1.0" in client.get("/metrics").text, "the autoscaler")
            post(client, small("db-1", now_ms, 1.0), small("web-1", now_ms, 0.5))
            post(client, small("web-1", now_ms + 1000, 1.0), small("web-2", now_ms, 1.0), small("web-3", now_ms, 1.0))
            wait_until(lambda: "+1 host" in said.read_text(), "a decision")
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
    assert "Traceback" not in said.read_text()
    assert os.path.getsize(said) < 1000
