"""What a service of a cluster says when the store is behind for long, and when NATS is away."""

import contextlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, expect

from service.cluster.partitions import partition_of
from tests.support.influxd import RunningInflux
from tests.support.nats_cluster import RunningNats, need_nats
from tests.support.reports import END_MS, METRICS, as_json, entries, history, original, post
from tests.support.running import RunningService, wait_until

pytestmark = [pytest.mark.server, pytest.mark.timeout(600)]
_BATCH = 1000


def _batch(number: int) -> bytes:
    """Reports of a host, one a line."""
    first = END_MS + number * _BATCH * 5000
    ends = range(first, first + _BATCH * 5000, 5000)
    return b"\n".join(as_json(original("web-1", start_timestamp=end - 5000, end_timestamp=end)) for end in ends)


def _send(client: httpx.Client, number: int) -> httpx.Response:
    return client.post(METRICS, content=_batch(number), headers={"Content-Type": "application/x-ndjson"})


def _settled_lag(client: httpx.Client) -> dict[str, Any] | None:
    """What /readyz says of the lag, where it says the same before and after /metrics, and /metrics says it too."""
    before = client.get("/readyz").json()["lag"]
    metric = f'loadlens_cluster_partition_behind{{partition="{partition_of("web-1")}"}} {float(before["reports"])}'
    shown = metric in client.get("/metrics").text
    after = client.get("/readyz").json()["lag"]
    same = (before["reports"], before["partitions"]) == (after["reports"], after["partitions"])
    return after if shown and same else None


def test_at_the_streams_limit_reports_get_503_until_the_store_is_back(
    tmp_path: Path, name: str, browser: Browser
) -> None:
    """And what was acknowledged before is kept, once. What waits is said, by partition."""
    need_nats()
    with RunningNats(tmp_path / "nats", 1) as nats, RunningInflux(tmp_path / "influx") as influx:
        arguments = ("--journal", nats.address(name), "--store", influx.address(), "--flush-interval", "0.5")
        limits = ("--journal-bytes", str(16 * 1024 * 1024), "--stream-keep", "0")
        with RunningService(tmp_path / "service", *arguments, *limits) as service, service.client() as client:
            assert _send(client, 0).status_code == 202
            influx.kill()
            number = 1
            while (answer := _send(client, number)).status_code == 202:
                number += 1
                assert number < 100
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            assert "the store is behind" in answer.json()["detail"]
            # What the log took of the refused batch is read from it, and counted, a moment later.
            lag = wait_until(lambda: _settled_lag(client), "the same lag at both doors", 60)
            assert lag["partitions"] == {str(partition_of("web-1")): lag["reports"]}
            assert lag["reports"] >= number * _BATCH
            with contextlib.closing(browser.new_page()) as page:
                page.goto(service.url)
                said = f"{lag['reports']:,} reports wait for the store"
                expect(page.locator("footer .problems")).to_contain_text(said, timeout=60_000)
            influx.start()
            wait_until(lambda: _send(client, number).status_code == 202, "room", 240)
            # An acknowledgement waits a second at most until its process has seen the reports.
            all_of_them = (number + 1) * _BATCH * 100
            wait_until(
                lambda: sum(value for _, value in entries(history(client, "web-1", stat="count"))) == all_of_them, "all"
            )


def test_while_nats_is_away_reports_get_503_and_it_is_said(tmp_path: Path, name: str) -> None:
    """When it is back, all goes on by itself."""
    need_nats()
    with RunningNats(tmp_path / "nats", 1) as nats, RunningInflux(tmp_path / "influx") as influx:
        arguments = ("--journal", nats.address(name), "--store", influx.address(), "--flush-interval", "0.5")
        with RunningService(tmp_path / "service", *arguments) as service, service.client() as client:
            assert post(client, original("web-1")).status_code == 202
            nats.nodes[0].kill()
            answer = post(client, original("web-1", end_timestamp=END_MS + 5000))
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            wait_until(lambda: "can be reached" in client.get("/readyz").text, "the word of it")
            nats.nodes[0].start()
            wait_until(
                lambda: post(client, original("web-1", end_timestamp=END_MS + 5000)).status_code == 202, "NATS", 240
            )
            wait_until(lambda: "problems" not in client.get("/readyz").json(), "all well", 240)
            assert sum(value for _, value in entries(history(client, "web-1", stat="count"))) == 200
