"""A service starts and shows its first page without what only reports need."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import ROOT, RunningService, clean_environment

pytestmark = pytest.mark.server

HEAVY = ("plotly", "choreographer", "sklearn", "ruptures", "scipy")


def test_the_application_loads_nothing_that_only_reports_need() -> None:
    code = f"import sys, service.app; loaded = set({HEAVY}) & set(sys.modules); assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=ROOT)


def test_neither_start_nor_first_page_loads_them(tmp_path: Path) -> None:
    # Python tells each import on stderr, of the process that listens and of the one that answers.
    with RunningService(tmp_path / "data", environment=clean_environment(PYTHONPROFILEIMPORTTIME="1")) as service:
        with service.client() as client:
            assert client.get("/", headers={"Accept": "text/html"}).status_code == 200
        imported = {
            line.rpartition("|")[2].strip() for line in service.log.splitlines() if line.startswith("import time")
        }
    assert {"falcon", "pandas", "jinja2"} <= imported
    assert not imported & set(HEAVY)
