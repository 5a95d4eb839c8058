"""The notebooks: kept without outputs, and running from top to bottom against a service with demo data."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.support.running import ROOT, RunningService, clean_environment

pytestmark = pytest.mark.server

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SAMPLE = ROOT / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"
MACHINES = "12"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service with some machines of the demo."""
    with RunningService(tmp_path_factory.mktemp("notebooks") / "data") as service:
        command = [sys.executable, "-m", "service", "demo", "--url", service.url, "--data", str(SAMPLE)]
        subprocess.run([*command, "--users", MACHINES], cwd=ROOT, env=clean_environment(), check=True, timeout=60)
        yield service.url


def test_there_are_four() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_takes_parameters(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in cells if cell.outputs or cell.execution_count is not None] == []
    assert [cell.metadata.get("tags") for cell in cells[:1]] == [["parameters"]]
    assert "source" in cells[0].source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_and_says_something(path: Path, url: str, tmp_path: Path) -> None:
    done = tmp_path / path.name
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--log-level", "ERROR", str(path), str(done)]
    finished = subprocess.run(
        [*command, "-p", "source", url], cwd=tmp_path, env=clean_environment(TMPDIR=str(tmp_path)) | _python(),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    outputs = [output for cell in nbformat.read(done, as_version=4).cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    figures = [output for output in outputs if "application/vnd.plotly.v1+json" in output.get("data", {})]
    assert len(figures) >= 2


def _python() -> dict[str, str]:
    """The kernel is this Python, whatever kernels are installed for the user."""
    return {"JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"), "HOME": os.environ.get("HOME", "/")}
