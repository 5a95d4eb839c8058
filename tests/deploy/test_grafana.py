"""The dashboards: what is committed is what the code makes, and every query of them finds data in a real InfluxDB."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from contract import times
from contract.metrics import QUANTITIES, Disk, Load, Memory, Network, Swap
from contract.report import encode
from contract.times import HOUR_MS, MINUTE_MS
from deploy.grafana.__main__ import DASHBOARDS, FOLDER, as_json
from service.commands.demo import main as demo
from tests.deploy.test_compose import SERVICES
from tests.support.influxd import RunningInflux, need
from tests.support.recordings import Host, Recording
from tests.support.running import RunningService

pytestmark = pytest.mark.server

PROVISIONING = FOLDER.parent / "provisioning"
# A name that means something to a regular expression, to InfluxQL and to JSON.
HOSTILE = "build/7 'quoted' (x|y)"


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel, with the name of its dashboard."""
    for name in DASHBOARDS:
        for panel in json.loads((FOLDER / f"{name}.json").read_text())["panels"]:
            yield name, panel


def queries() -> list[Any]:
    """Every query of every panel."""
    return [
        pytest.param(target, id=f"{name}-{panel['title']}-{target['refId']}")
        for name, panel in panels()
        for target in panel["targets"]
    ]


def variables() -> list[Any]:
    """Every variable that asks InfluxDB."""
    return [
        pytest.param(variable, id=f"{name}-{variable['name']}")
        for name in DASHBOARDS
        for variable in json.loads((FOLDER / f"{name}.json").read_text())["templating"]["list"]
        if variable["type"] == "query"
    ]


@pytest.mark.parametrize("name", DASHBOARDS)
def test_what_is_committed_is_what_the_code_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == as_json(DASHBOARDS[name]()), "run python -m deploy.grafana"


def test_the_original_dashboard_has_its_two_panels() -> None:
    found = [(panel["title"], panel["type"]) for name, panel in panels() if name == "hive"]
    assert found == [("CPU Loads", "timeseries"), ("95 Percentile Load per User", "table")]


def test_where_no_host_is_counted_it_says_0_and_not_no_data() -> None:
    counting = {
        panel["title"]: panel["fieldConfig"]["defaults"].get("noValue")
        for _, panel in panels()
        if panel["type"] in ("stat", "timeseries") and 'AS "hosts"' in panel["targets"][0]["query"]
    }
    assert counting == dict.fromkeys(("Hosts", "Saturated at some time", "Saturation"), "0")


def test_everything_asks_the_data_source_that_is_provisioned() -> None:
    [source] = yaml.safe_load((PROVISIONING / "datasources" / "influxdb.yml").read_text())["datasources"]
    wanted = {"type": source["type"], "uid": source["uid"]}
    asked = [variable.values[0]["datasource"] for variable in variables()]
    asked += [query.values[0]["datasource"] for query in queries()] + [panel["datasource"] for _, panel in panels()]
    assert [found for found in asked if found != wanted] == []
    environment, secrets = SERVICES["grafana"]["environment"], SERVICES["grafana"]["secrets"]
    assert source["url"].removeprefix("$") in environment
    assert re.findall(r"\$__file\{/run/secrets/(\w+)\}", json.dumps(source))[0] in secrets


def test_grafana_finds_the_dashboards_where_compose_puts_them() -> None:
    [provider] = yaml.safe_load((PROVISIONING / "dashboards" / "loadlens.yml").read_text())["providers"]
    mounts = dict(volume.split(":")[:2] for volume in SERVICES["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    home = Path(SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.parent == Path(provider["options"]["path"])
    assert (FOLDER / home.name).exists()
    boards = [json.loads((FOLDER / f"{name}.json").read_text()) for name in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len(boards)


class Filled:
    """An InfluxDB with demo data and hosts with cores, and what is looked at."""

    def __init__(self, influx: RunningInflux, now_ms: int) -> None:
        self._influx = influx
        self.now_ms = now_ms

    def ask(self, text: str, **chosen: list[str]) -> list[dict[str, Any]]:
        """The series of a statement, with Grafana's macros filled in: the last 24 hours, buckets of 5 minutes."""
        filled = text.replace("$timeFilter", f"time >= {self.now_ms - 24 * HOUR_MS}ms and time <= {self.now_ms}ms")
        filled = filled.replace("$__to", str(self.now_ms)).replace("$tier", "5m")
        for name, values in chosen.items():
            escaped = [re.sub(r"[\\^$*+?.()|\[\]{}/]", r"\\\g<0>", value) for value in values]
            filled = filled.replace(f"${{{name}:regex}}", f"({'|'.join(escaped)})" if len(escaped) > 1 else escaped[0])
        assert "$" not in filled.replace("$/", ""), f"not filled in: {filled}"
        with httpx.Client(trust_env=False, timeout=30) as client:
            answer = client.post(
                f"{self._influx.url}/query", data={"db": "METRICS", "epoch": "ms", "q": filled}
            ).raise_for_status()
        [result] = answer.json()["results"]
        assert "error" not in result, f"{filled}: {result}"
        series: list[dict[str, Any]] = result.get("series", [])
        return series

    def users(self) -> list[str]:
        """What the variable `user` offers."""
        return [row[1] for series in self.ask(USERS, os=["Linux", "Windows"]) for row in series["values"]]


[USERS] = {variable.values[0]["query"] for variable in variables() if variable.values[0]["name"] == "user"}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    """Demo data and hosts with cores, through the real service."""
    need()
    folder = tmp_path_factory.mktemp("grafana")
    now_ms = times.now_ms()
    recording = record(now_ms)
    with RunningInflux(folder / "influx") as influx:
        with RunningService(folder / "data", "--store", influx.address(), "--flush-interval", "0.3") as service:
            with service.client() as client:
                body = b"[" + b",".join(encode(report) for report in recording.reports) + b"]"
                assert client.post("/api/v1/metrics", content=body).status_code == 202
            assert demo(["--url", service.url, "--users", "5"]) == 0
            assert service.stop() == 0
        yield Filled(influx, now_ms)


def record(now_ms: int) -> Recording:
    """Two hosts with cores over three hours, one of them saturated, one silent since an hour."""
    random = np.random.default_rng(7)
    recording = Recording()
    for end in range(now_ms - 3 * HOUR_MS, now_ms, MINUTE_MS):
        for host, low in ((Host(HOSTILE), 0.2), (Host("saturated", "Windows", "11"), 0.93)):
            if host.user_id == HOSTILE and end > now_ms - HOUR_MS:
                continue
            recording.cpu(host, end, random.uniform(low, 1, 20), [random.uniform(low, 1, 20) for _ in range(2)])
        for kind in (Memory, Swap, Disk, Network, Load):
            samples = {one.attribute: random.uniform(0.1, 0.9, 5) for one in kind.quantities}
            recording.other(Host("saturated", "Windows", "11"), end, kind, samples)
    return recording


@pytest.mark.parametrize("target", queries())
def test_every_query_finds_data(filled: Filled, target: dict[str, Any]) -> None:
    users = filled.users()
    series = filled.ask(target["query"], user=users, os=["Linux", "Windows"])
    assert series, target["query"]
    values = [value for one in series for row in one["values"] for value in row[1:]]
    assert any(value not in (None, 0) for value in values), target["query"]
    assert set(re.findall(r"\$tag_(\w+)", target["alias"])) <= set(series[0].get("tags", {}))


@pytest.mark.parametrize("variable", variables())
def test_every_variable_finds_values(filled: Filled, variable: dict[str, Any]) -> None:
    values = [row[1] for series in filled.ask(variable["query"], os=["Linux", "Windows"]) for row in series["values"]]
    assert values
    if variable["name"] == "user":
        assert {HOSTILE, "saturated"} < set(values)
        of_windows = filled.ask(variable["query"], os=["Windows"])
        assert [row[1] for series in of_windows for row in series["values"]] == ["saturated"]


def query_of(title: str) -> str:
    [found] = [panel["targets"][0]["query"] for _, panel in panels() if panel["title"] == title]
    return str(found)


def test_one_host_can_be_chosen_whatever_its_name(filled: Filled) -> None:
    windows = record(filled.now_ms).windows
    samples = sum(len(one.samples) for one in windows if one.host.user_id == HOSTILE and one.core is None)
    [series] = filled.ask(query_of("Samples"), user=[HOSTILE])
    assert series["values"][0][1] == samples


def test_the_numbers_are_those_of_the_samples(filled: Filled) -> None:
    recording = record(filled.now_ms)
    # The dashboards show buckets that are over.
    [last] = filled.ask('SELECT LAST("cpuLoadCount") FROM "measurements_5m" WHERE "userId" = \'saturated\'')
    over_ms = last["values"][0][0] + 5 * MINUTE_MS
    whole = [
        one
        for one in recording.windows
        if one.core is None and one.host.user_id == "saturated" and one.quantity == QUANTITIES["cpu.utilization"]
    ]
    samples = np.concatenate([one.samples for one in whole if one.end_ms < over_ms])
    assert len(samples) > 170 * 20
    [mean] = filled.ask(
        next(
            panel["targets"][0]["query"]
            for name, panel in panels()
            if name == "user" and panel["title"] == "Utilization"
        ),
        user=["saturated"],
    )
    [deviation] = filled.ask(query_of("Standard deviation"), user=["saturated"])
    np.testing.assert_allclose([mean["values"][0][1], deviation["values"][0][1]], [samples.mean(), samples.std()])


@pytest.mark.parametrize("samples", [[0.1] * 7, [0.3] * 100, [0.7] * 3])
def test_hosts_that_never_change_have_no_deviation_and_no_error(
    filled: Filled, steady: RunningInflux, samples: list[float]
) -> None:
    """The mean of the squares less the square of the mean is a little below 0 then."""
    count, total, squares = len(samples), sum(samples), sum(one * one for one in samples)
    fields = f"cpuLoadCount={count}i,cpuLoadSum={total!r},cpuLoadSquares={squares!r}"
    steady.query("DROP SERIES FROM /.*/")
    steady.write(f"measurements_5m,userId=steady,part=0 {fields} {filled.now_ms - HOUR_MS}")
    looked_at = Filled(steady, filled.now_ms)
    for title in ("Standard deviation", "Variance"):
        [series] = looked_at.ask(query_of(title), user=["steady"])
        values = [value for _, value in series["values"] if value is not None]
        assert len(values) == 1
        assert 0 <= values[0] < 1e-7


@pytest.fixture(scope="module")
def steady(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningInflux]:
    """A database of its own."""
    need()
    with RunningInflux(tmp_path_factory.mktemp("steady")) as influx:
        influx.query('CREATE DATABASE "METRICS"')
        yield influx


def test_every_number_has_a_unit_that_is_its_own() -> None:
    units = {panel["title"]: panel["fieldConfig"]["defaults"]["unit"] for name, panel in panels() if name == "resources"
             and "unit" in panel["fieldConfig"]["defaults"]}  # fmt: skip
    assert units == {
        "Memory in use": "percentunit", "Most memory in use": "percentunit", "Swap in use": "percentunit",
        "Most load": "short", "Memory": "percentunit", "Load average": "short", "Disk traffic": "Bps",
        "Disk operations": "ops", "Network traffic": "Bps",
    }  # fmt: skip


def test_when_each_host_reported_last_is_shown_whoever_is_silent_first(filled: Filled) -> None:
    series = filled.ask(query_of("Last reports"), user=filled.users())
    last = {one["tags"]["userId"]: one["values"][0][0] for one in series}
    assert filled.now_ms - last[HOSTILE] >= HOUR_MS > filled.now_ms - last["saturated"]
    assert min(last, key=lambda user: last[user]) == HOSTILE


def test_the_tenths_of_the_heat_map_hold_every_host_once(filled: Filled) -> None:
    [tenths] = [panel["targets"] for _, panel in panels() if panel["title"] == "Hosts by utilization"]
    users = filled.users()
    hosts: dict[int, int] = {}
    for target in tenths:
        for series in filled.ask(target["query"], user=users):
            for moment, count in series["values"]:
                hosts[moment] = hosts.get(moment, 0) + count
    [counted] = filled.ask(query_of("Saturation").replace('"mean" >= 0.9', '"mean" >= 0'), user=users)
    assert hosts == dict(counted["values"])
    assert max(hosts.values()) > 1
