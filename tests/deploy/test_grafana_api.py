"""The dashboards that ask the service itself: their files are current, the embedded store answers each query."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import yaml

from contract import times
from contract.metrics import Disk, Memory
from deploy.grafana_api.__main__ import DASHBOARDS, FOLDER, SOURCE, as_json
from tests.support.recordings import Host, Recording
from tests.support.reports import post
from tests.support.running import RunningService

USER = "rack 1/a"
QUERIES = [
    (f"{name}: {panel['title']} {target['refId']}", target)
    for name, make in DASHBOARDS.items()
    for panel in make()["panels"]
    for target in panel["targets"]
] + [
    (f"{name}: variable {variable['name']}", variable["query"]["infinityQuery"])
    for name, make in DASHBOARDS.items()
    for variable in make()["templating"]["list"]
    if variable["type"] == "query"
]


@pytest.fixture(scope="module")
def now_ms() -> int:
    """When the first of these tests began, for all of them."""
    return times.now_ms()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, now_ms: int) -> Iterator[httpx.Client]:
    """A service with two hosts."""
    import numpy as np

    recording = Recording()
    random = np.random.default_rng(3)
    disk = ("read_bytes", "written_bytes", "reads", "writes")
    for host in (Host(USER), Host("b", "Windows", "11")):
        for minute in range(30):
            end_ms = now_ms - minute * 60_000 - 1000
            recording.cpu(host, end_ms, random.random(10), [random.random(10), random.random(10)])
            recording.other(host, end_ms, Memory, {"utilization": random.random(10)})
            recording.other(host, end_ms, Disk, {name: random.random(10) * 1e6 for name in disk})
    with RunningService(tmp_path_factory.mktemp("grafana") / "data") as service, service.client() as client:
        assert post(client, *recording.reports).status_code == 202
        yield client


@pytest.mark.parametrize("name", DASHBOARDS)
def test_the_files_are_what_the_program_writes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == as_json(DASHBOARDS[name]()), "run python -m deploy.grafana_api"


def test_the_data_source_is_provisioned_under_the_name_that_dashboards_use() -> None:
    [source] = yaml.safe_load((FOLDER.parent / "provisioning/datasources/loadlens.yml").read_text())["datasources"]
    assert (source["type"], source["uid"]) == (SOURCE["type"], SOURCE["uid"])


@pytest.mark.server
@pytest.mark.parametrize(("name", "target"), QUERIES, ids=[name for name, _ in QUERIES])
def test_the_query_is_answered_with_the_columns_that_the_panel_takes(
    client: httpx.Client, name: str, target: dict[str, Any], now_ms: int
) -> None:
    options = target["url_options"]
    params = {one["key"]: _filled(one["value"], now_ms) for one in options["params"]}
    headers = {one["key"]: one["value"] for one in options["headers"]}
    answer = client.get(_filled(target["url"], now_ms), params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    rows = answer.json()[target["root_selector"]] if target["type"] == "json" else _rows(answer.text)
    assert rows
    for column in target["columns"]:
        for row in rows:
            value = _selected(row, column["selector"])
            if column["type"] == "number":
                assert float(value) >= 0
            else:
                assert value


def _filled(text: str, now_ms: int) -> str:
    values = {
        "${__from}": str(now_ms - 3_600_000), "${__to}": str(now_ms), "${rate}": "5m",
        "${user:percentencode}": quote(USER, safe=""),
    }  # fmt: skip
    for name, value in values.items():
        text = text.replace(name, value)
    assert "$" not in text
    return text


def _rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def _selected(row: Any, selector: str) -> Any:
    for part in selector.split("."):
        row = row[int(part)] if isinstance(row, list) else row[part]
    return row


def test_the_dashboards_are_json_that_grafana_reads() -> None:
    for name in DASHBOARDS:
        board = json.loads((FOLDER / f"{name}.json").read_text())
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        assert all(panel["targets"] for panel in board["panels"])
