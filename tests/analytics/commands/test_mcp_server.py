"""`loadlens-analytics mcp`, asked by the protocol's own client over stdin and stdout, beside a running service."""

import asyncio
import json
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from analytics.cli import main
from analytics.commands.mcp_server import page
from contract import times
from tests.support.devices import START_MS, disks, report
from tests.support.reports import post
from tests.support.running import RunningService
from tests.support.serving import running
from tests.support.small_fleet import HOUR, SAMPLES, USERS
from tests.support.terminals import ROOT, environment

pytestmark = pytest.mark.server
USER = next(iter(USERS))
RANGE = {"last": "1h", "end": HOUR["end"]}


async def _ask(url: str, questions: Sequence[tuple[str, dict[str, Any]]]) -> list[Any]:
    from mcp import Client, StdioServerParameters  # half a second, of each process that collects tests

    command = StdioServerParameters(
        command=sys.executable, args=["-m", "analytics", "mcp", "--url", url], env=environment(PYTHONPATH=str(ROOT)),
        cwd=ROOT,
    )  # fmt: skip
    async with Client(command) as client:
        if not questions:
            return [await client.list_tools()]
        return [await client.call_tool(tool, arguments) for tool, arguments in questions]


def asked(url: str, *questions: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents that tools answer, one after the other by one server."""
    documents = []
    for result in asyncio.run(_ask(url, questions)):
        assert not result.is_error, result.content
        document: dict[str, Any] = result.structured_content
        assert {"what", "query", "approximation", "rows", "rows_left_out"} <= document.keys()
        assert len(document["rows"]) <= 100
        documents.append(document)
    return documents


def test_every_tool_only_asks(service_url: str) -> None:
    [listed] = asyncio.run(_ask(service_url, []))
    assert {tool.name for tool in listed.tools} == {
        "machines", "metrics", "fleet", "devices", "history", "who", "anomalies", "forecast", "sizes",
    }  # fmt: skip
    assert all(tool.annotations.read_only_hint and tool.description for tool in listed.tools)


def test_the_fleet_is_answered_with_the_hottest_first(service_url: str) -> None:
    [document] = asked(service_url, ("fleet", {"stat": "mean", **RANGE}))
    means = {user: sum(part.sum() for part in SAMPLES[user]) / sum(map(len, SAMPLES[user])) for user in USERS}
    assert [row["machine"] for row in document["rows"]] == sorted(means, key=means.__getitem__, reverse=True)
    assert {row["machine"]: row["mean"] for row in document["rows"]} == pytest.approx(means)
    method, path = document["query"].split()
    again = httpx.get(service_url + path).raise_for_status().json()
    assert method == "GET"
    assert str(document["rows"][0]["mean"]) in json.dumps(again)


def test_an_answer_names_the_command_that_gives_the_same(service_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    [document] = asked(service_url, ("history", {"machine": USER, "stat": "p95", "rate": "15m", **RANGE}))
    program, *arguments = shlex.split(document["query"])
    assert program == "loadlens-analytics"
    assert main([*arguments, "--url", service_url, "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split(",") for line in lines] == [[row["time"], str(row["value"])] for row in document["rows"]]
    assert document["unit"] == "1"


def test_a_page_is_never_exceeded_and_the_rate_fits_it(service_url: str) -> None:
    day = {"machine": USER, "last": "1d", "end": "2018-07-13T00:00:00Z"}
    fine, fitting, cores = asked(
        service_url, ("history", {**day, "rate": "1m"}), ("history", day), ("history", {"machine": USER, **RANGE})
    )
    assert (len(fine["rows"]), fine["rows_left_out"]) == (60, 0)
    assert "--rate 15m" in fitting["query"] and len(fitting["rows"]) == 4
    assert "--rate 1m" in cores["query"]


def test_long_answers_are_cut_and_say_so() -> None:
    frame = pd.DataFrame({"value": range(250)}, index=pd.RangeIndex(250, name="place"))
    document = page(frame, "many", "none")
    assert (len(document["rows"]), document["rows_left_out"]) == (100, 150)


def test_hosts_anomalies_who_forecast_and_sizes(service_url: str) -> None:
    hosts, metrics, anomalies, who = asked(
        service_url, ("machines", {"pattern": "6a:*"}), ("metrics", {}), ("anomalies", {"machine": USER, **RANGE}),
        ("who", {"machine": USER, **RANGE}),
    )  # fmt: skip
    assert [row["user"] for row in hosts["rows"]] == [USER]
    assert {row["metric"] for row in metrics["rows"]} >= {"cpuLoadAvg", "memoryUtilization"}
    assert "anomalies" in anomalies["query"]
    assert who["query"].startswith("GET /api/v1/who?host=")


def test_forecasts_and_sizes_are_those_of_the_commands(tmp_path: Path) -> None:
    now_ms = times.now_ms() // 3_600_000 * 3_600_000
    reports = [
        {
            "user_id": "web-1", "start_timestamp": end - 3_600_000, "end_timestamp": end, "observations_per_metric": 60,
            "os_type": "Linux", "os_version": "12", "metrics": [
                {"type": "CPU", "avg_utilization": 0.25 + 0.2 * math.sin(end / 3_600_000 * math.pi / 12),
                 "var_utilization": 0.001, "avg_utilization_by_core": [0.1] * 8}
            ],
        } for end in range(now_ms - 14 * 24 * 3_600_000, now_ms, 3_600_000)
    ]  # fmt: skip
    with running(tmp_path) as url:
        httpx.post(f"{url}/api/v1/metrics", json=reports, timeout=60).raise_for_status()
        forecast, sizes = asked(url, ("forecast", {"machine": "web-1", "horizon": "1d"}), ("sizes", {}))
    assert len(forecast["rows"]) == 24
    assert {"mean", "lower_80", "upper_95"} <= forecast["rows"][0].keys()
    [row] = sizes["rows"]
    assert (row["user"], row["now"]) == ("web-1", 8)
    assert "right-size --metric" in sizes["query"]


def test_what_cannot_be_answered_is_told(service_url: str) -> None:
    wrong = [("history", {"machine": "nobody", **RANGE}), ("history", {"machine": USER, "last": "long"}),
             ("fleet", {"metric": "speed"})]  # fmt: skip
    results = asyncio.run(_ask(service_url, wrong))
    assert [result.is_error for result in results] == [True] * 3
    said = [result.content[0].text for result in results]
    assert all(word in text for word, text in zip(("nobody", "duration", "speed"), said, strict=True))


def test_devices_are_answered_with_the_busiest_first_and_one_over_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunningService(tmp_path / "data") as service, service.client() as client:
        sent = [report(1, disks(sda=0.25, sdb=0.5), user="one 1"), report(1, disks(**{"nvme 0": 0.75}), user="two")]
        assert post(client, *sent).json()["accepted"] == 2
        span = {"last": "1m", "end": str(START_MS + 30_000)}
        of_two = {"machine": "two", "metric": "disksBusy", "device": "nvme 0", "stat": "mean", "rate": "1m"}
        every, one, over_time = asked(
            service.url,
            ("devices", span),
            ("devices", {"machine": "one 1", "metric": "disksReadBytes", **span}),
            ("history", of_two | span),
        )
        assert [tuple(row.values()) for row in every["rows"]] == [
            ("two", "nvme 0", 0.75), ("one 1", "sdb", 0.5), ("one 1", "sda", 0.25),
        ]  # fmt: skip
        assert [(row["device"], row["mean"]) for row in one["rows"]] == [("sdb", 5.0), ("sda", 2.5)]
        again = client.get(one["query"].split()[1]).raise_for_status().json()
        assert [series["values"] for series in again["series"]] == [[5.0], [2.5]]
        assert [row["value"] for row in over_time["rows"]] == [0.75]
        assert main([*shlex.split(over_time["query"])[1:], "--url", service.url, "--format", "csv"]) == 0
        assert capsys.readouterr().out.splitlines()[1].endswith(",0.75")
