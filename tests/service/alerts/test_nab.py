"""Rules on real load: CPU of servers in Amazon's cloud, as the Numenta Anomaly Benchmark has it, replayed by HTTP."""

import json
from pathlib import Path

import httpx
import msgspec
import pandas as pd
import pytest

from tests.service.conftest import StartService
from tests.support.reports import METRICS, small
from tests.support.running import ROOT, wait_until

pytestmark = pytest.mark.server

NAB = ROOT / "tests" / "data" / "nab"
RULES = """
rules:
  - name: high
    kind: threshold
    metric: cpuLoadAvg
    above: 0.9
    clear: 0.8
    for: 30m
    users: [825cc2]
  - name: hour
    kind: threshold
    metric: cpuLoadAvg
    over: 1h
    stat: max
    above: 0.97
    users: [825cc2]
  - name: odd
    kind: anomaly
    metric: cpuLoadAvg
    users: [53ea38]
"""


def series(name: str) -> pd.Series:
    """The utilization of a server, in [0, 1], by time."""
    frame = pd.read_parquet(NAB / "aws-cpu.parquet")
    frame = frame[frame["file"] == f"ec2_cpu_utilization_{name}"]
    return (frame.set_index("time")["value"] / 100).clip(0, 1)


def expected_high(load: pd.Series) -> list[tuple[pd.Timestamp, pd.Timestamp | None]]:
    """When `high` fires and is resolved, by a plain loop over the load."""
    spans: list[tuple[pd.Timestamp, pd.Timestamp | None]] = []
    since = None
    for time, value in load.items():
        assert isinstance(time, pd.Timestamp)
        if spans and spans[-1][1] is None:
            if value <= 0.8:
                spans[-1] = (spans[-1][0], time)
                since = None
        elif value <= 0.9:
            since = None
        else:
            since = since or time
            if time - since >= pd.Timedelta("30min"):
                spans.append((time, None))
    return spans


def expected_hour(load: pd.Series) -> list[tuple[pd.Timestamp, pd.Timestamp | None]]:
    beyond = load.rolling("1h").max() > 0.97
    edges = beyond.astype(int).diff().fillna(beyond.iloc[0].astype(int))
    begins, ends = list(edges.index[edges > 0]), list(edges.index[edges < 0])
    return [(begin, next((end for end in ends if end > begin), None)) for begin in begins]


def spans_of(client: httpx.Client, rule: str) -> list[tuple[pd.Timestamp, pd.Timestamp | None]]:
    found = []
    for state in ("firing", "resolved"):
        found += client.get("/api/v1/alerts", params={"state": state, "rule": rule}).json()["alerts"]
    spans = [(pd.Timestamp(one["fired"]), one["resolved"] and pd.Timestamp(one["resolved"])) for one in found]
    return sorted(spans, key=lambda span: span[0])


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def test_rules_fire_and_are_resolved_at_the_right_windows_though_the_service_is_killed(
    start: StartService, rules: Path
) -> None:
    loads = {name: series(name) for name in ("825cc2", "53ea38")}
    bodies = [
        msgspec.json.encode(small(name, int(time.timestamp() * 1000), value, 100))
        for name, load in loads.items()
        for time, value in load.items()
    ]
    assert len(bodies) == 8064
    service = start("--rules", str(rules), "--flush-interval", "0.5")
    for place in range(0, len(bodies), 500):
        with service.client() as client:
            batch = b"\n".join(bodies[place : place + 500])
            answer = client.post(METRICS, content=batch, headers={"Content-Type": "application/x-ndjson"})
            assert answer.json()["accepted"] == len(bodies[place : place + 500])
        if place in (1500, 3500, 6000):
            service.kill()
            service = start("--rules", str(rules), "--flush-interval", "0.5")
    with service.client() as client:
        wait_until(lambda: "loadlens_rules_behind 0.0" in client.get("/metrics").text, "the rules to be done")
        high, hour = expected_high(loads["825cc2"]), expected_hour(loads["825cc2"])
        assert len(high) > 3
        assert len(hour) > 3
        # What the last reports have led to is written some seconds later.
        wait_until(lambda: len(spans_of(client, "hour")) == len(hour), "the alerts")
        assert spans_of(client, "high") == high
        assert spans_of(client, "hour") == hour
        labels = json.loads((NAB / "windows.json").read_text())["ec2_cpu_utilization_53ea38"]
        found = [span[0] for span in spans_of(client, "odd")]
        for begin, end in labels:
            assert any(pd.Timestamp(begin) <= time <= pd.Timestamp(end) for time in found), (begin, end, found)
        assert len(found) <= 6
