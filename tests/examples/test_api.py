"""The examples of the interface run as the documentation shows them, in each language."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.reports import original, post
from tests.support.running import ROOT, RunningService, clean_environment

EXAMPLES = ROOT / "examples" / "api"
DOCUMENTED = (ROOT / "docs" / "api.md").read_text()
RUN = {"api.sh": "sh", "api.py": sys.executable, "api.mjs": "node"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with RunningService(tmp_path_factory.mktemp("examples") / "data") as service:
        now_ms = time.time_ns() // 1_000_000
        with service.client() as client:
            assert post(client, original("web-1", start_timestamp=now_ms - 6000, end_timestamp=now_ms)).is_success
        yield service


@pytest.mark.parametrize("name", RUN)
def test_the_documentation_shows_the_example(name: str) -> None:
    code = (EXAMPLES / name).read_text()
    shown = "".join(f"    {line}\n" if line else "\n" for line in code.splitlines())
    assert shown.strip("\n") in DOCUMENTED


@pytest.mark.server
@pytest.mark.parametrize("name", RUN)
def test_the_example_runs(service: RunningService, name: str) -> None:
    if shutil.which(RUN[name]) is None:
        pytest.fail(f"{RUN[name]} is needed to run this example")
    environment = clean_environment(LOADLENS_URL=service.url, PYTHONPATH=str(ROOT))
    run = subprocess.run(
        [RUN[name], str(Path(EXAMPLES / name))], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert "deploy 1.4" in run.stdout
    assert "web-1" in run.stdout
    assert "0.21" in run.stdout
