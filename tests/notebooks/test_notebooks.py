"""The notebooks: kept without outputs, and running from top to bottom against a service with demo data."""

import itertools
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from contract import times
from tests.support import nightly_backup
from tests.support.reports import post
from tests.support.running import ROOT, RunningService, clean_environment

if TYPE_CHECKING:
    import nbformat

pytestmark = pytest.mark.server

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
*OF_WINDOWS, WHO = NOTEBOOKS
"""Those that windows are enough for, and the one that a service with processes is needed for."""
SAMPLE = ROOT / "service" / "commands" / "demo" / "data" / "planetlab-sample.parquet"
HOSTS = "12"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service with some hosts of the demo."""
    with RunningService(tmp_path_factory.mktemp("notebooks") / "data") as service:
        command = [sys.executable, "-m", "service", "demo", "--url", service.url, "--data", str(SAMPLE)]
        subprocess.run([*command, "--users", HOSTS], cwd=ROOT, env=clean_environment(), check=True, timeout=60)
        yield service.url


@pytest.fixture(scope="module")
def of_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service with a host that says which processes use its CPU: backups at 14:00, mostly."""
    with RunningService(tmp_path_factory.mktemp("processes") / "data") as service, service.client() as client:
        # Until midnight, whenever this runs: an hour of a backup that is cut off shows another share.
        for reports in _hundreds(nightly_backup.reports("db-1", times.now_ms() // times.DAY_MS * times.DAY_MS)):
            assert post(client, *reports).status_code == 202
        yield service.url


def test_there_are_five() -> None:
    assert [path.stem[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


def test_the_notebook_on_processes_names_who_did_it(of_processes: str, tmp_path: Path) -> None:
    notebook = run(WHO, of_processes, tmp_path)
    over_time, compared = figures_of(notebook.cells)
    assert [trace["name"] for trace in over_time["data"]] == ["backup.service", "postgresql.service", "others"]
    assert "backup.service did 77% of the busiest 1h" in compared["layout"]["title"]["text"]
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert "backup.service did most of" in said


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs_and_takes_parameters(path: Path) -> None:
    import nbformat  # which takes over a second, and each process that collects tests imports this module

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.id for cell in cells if cell.outputs or cell.execution_count is not None] == []
    assert [cell.metadata.get("tags") for cell in cells[:1]] == [["parameters"]]
    assert "source" in cells[0].source


@pytest.fixture(scope="module")
def shown(url: str, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, list[Any]]:
    """The figures of each notebook on a fleet."""
    figures = figures_on([(path, url) for path in OF_WINDOWS], tmp_path_factory.mktemp("shown"))
    return dict(zip(OF_WINDOWS, figures, strict=True))


@pytest.mark.parametrize("path", OF_WINDOWS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom_and_says_something(path: Path, shown: dict[Path, list[Any]]) -> None:
    assert len(shown[path]) >= 2


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files with little in them: ten days of one host, and an hour of four."""
    folder = tmp_path_factory.mktemp("small")
    random = np.random.default_rng(1)
    ten_days = pd.date_range("2026-03-02", periods=10 * 288, freq="5min")
    load = 0.3 + 0.2 * np.sin(np.arange(len(ten_days)) / 288 * 2 * np.pi) + random.normal(0, 0.02, len(ten_days))
    one = pd.DataFrame({"time": ten_days, "user": "alone", "value": load.clip(0, 1)})
    hour = pd.date_range("2026-03-02", periods=144, freq="25s")
    four = [pd.DataFrame({"time": hour, "user": f"machine-{n}", "value": random.uniform(size=144)}) for n in range(4)]
    files = {"one host": folder / "one.parquet", "one hour": folder / "hour.parquet"}
    one.to_parquet(files["one host"])
    pd.concat(four).to_parquet(files["one hour"])
    return files


@pytest.fixture(scope="module")
def drawn(small: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[Path, str], list[Any]]:
    """The figures of each notebook on little data."""
    parts = [*itertools.product(OF_WINDOWS[1:], small)]
    figures = figures_on([(path, str(small[data])) for path, data in parts], tmp_path_factory.mktemp("drawn"))
    return dict(zip(parts, figures, strict=True))


@pytest.mark.parametrize("data", ["one host", "one hour"])
@pytest.mark.parametrize("path", OF_WINDOWS[1:], ids=lambda path: path.stem)
def test_a_notebook_runs_on_little_data(path: Path, data: str, drawn: dict[tuple[Path, str], list[Any]]) -> None:
    assert drawn[path, data]


def test_the_notebook_on_anomalies_shows_one(drawn: dict[tuple[Path, str], list[Any]]) -> None:
    """Also where nothing unusual happened: a fault is put in."""
    [path] = [path for path in NOTEBOOKS if path.stem.startswith("03")]
    traces = [trace for figure in drawn[path, "one host"] for trace in figure["data"]]
    assert any(trace.get("name") == "anomaly" and trace["x"] for trace in traces)


def _hundreds(reports: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    rest = iter(reports)
    while some := tuple(itertools.islice(rest, 100)):
        yield some


def run(path: Path, source: str, folder: Path) -> "nbformat.NotebookNode":
    """The notebook with its outputs, none of which is a complaint."""
    import nbformat

    done = folder / path.name
    # Papermill and the kernel would take a second of CPU each for a grammar of addresses that no notebook has.
    (folder / "rfc3987_syntax.py").write_text("raise ImportError")
    quickly = ("--no-progress-bar", "--no-request-save-on-cell-execute", "--autosave-cell-every", "0")
    command = [sys.executable, "-m", "papermill", *quickly, "--log-level", "ERROR", str(path), str(done)]
    finished = subprocess.run(
        [*command, "-p", "source", source], cwd=folder, env=clean_environment(TMPDIR=str(folder)) | _python(),
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    notebook = nbformat.read(done, as_version=4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    return notebook


def figures_on(notebooks: Sequence[tuple[Path, str]], folder: Path) -> list[list[Any]]:
    """The figures that each notebook shows on a source.

    They run in one kernel, which forgets everything in between: one of its own would take each three seconds of CPU to
    import the same.
    """
    import nbformat

    parts = [_cells(path, source) for path, source in notebooks]
    together = nbformat.read(notebooks[0][0], as_version=4)
    together.cells = [cell for cells in parts for cell in cells]
    path = folder / "together.ipynb"
    nbformat.write(together, path)
    (folder / "done").mkdir()
    # What papermill puts in front is no notebook's.
    done = iter(run(path, "", folder / "done").cells[-len(together.cells) :])
    return [figures_of(itertools.islice(done, len(cells))) for cells in parts]


def _cells(path: Path, source: str) -> list[Any]:
    """The code of a notebook with its parameter, as if nothing had been run before it."""
    import nbformat

    code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    texts = ["%reset -f", code[0], f"source = {source!r}", *code[1:]]
    return [nbformat.v4.new_code_cell(text) for text in texts]


def figures_of(cells: Iterable[Any]) -> list[Any]:
    """The figures that cells of a notebook show."""
    kind = "application/vnd.plotly.v1+json"
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output["data"][kind] for output in outputs if kind in output.get("data", {})]


def _python() -> dict[str, str]:
    """The kernel is this Python, whatever kernels are installed for the user."""
    return {"JUPYTER_PATH": str(Path(sys.prefix) / "share" / "jupyter"), "HOME": os.environ.get("HOME", "/")}
