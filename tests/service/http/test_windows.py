"""Windows themselves, over HTTP: every summary column equals numpy's on the raw samples, in every form."""

import asyncio
import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import quote

import falcon.asgi
import httpx
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.frames.exchange import frame_of
from analytics.frames.frame import from_frame
from analytics.frames.resampling import RAW_MS
from contract.histogram import LINEAR
from contract.metrics import NAMES
from contract.summary import Summary
from contract.times import DAY_MS
from service.dashboard.matrix import FleetCache
from service.http.resources.query import FleetWindows, Sending
from service.http.window_queries import Plan, WindowsQuery
from service.stores.base import Question
from service.stores.embedded.store import EmbeddedStore
from tests.support.recordings import CPU, Host, Recording, Samples
from tests.support.reports import post

pytestmark = pytest.mark.server

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
T0 = 1_609_718_400_000  # 2021-01-04, days that no other test uses
RANGE = {"start": T0, "end": T0 + 3_600_000}
USERS = ("windows a", "windows/b")


@pytest.fixture(scope="module")
def recording(client: httpx.Client) -> Recording:
    """An hour of two hosts with two cores, windows of different sizes."""
    recording = Recording()
    random = np.random.default_rng(3)
    for user in USERS:
        for minute in range(60):
            size = int(random.integers(5, 60))
            cores = [random.beta(0.5, 2, size), random.beta(2, 2, size)]
            recording.cpu(Host(user), T0 + minute * 60_000 + 17, (cores[0] + cores[1]) / 2, cores)
    assert post(client, *recording.reports).json()["accepted"] == 120
    return recording


def ask(client: httpx.Client, user: str | None, accept: str = ARROW, **query: Any) -> httpx.Response:
    path = "fleet" if user is None else f"byUser/{quote(user, safe='')}"
    answer = client.get(f"/api/v1/windows/{path}", params=RANGE | query, headers={"Accept": accept})
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith(accept)
    return answer


def frame(client: httpx.Client, user: str | None, **query: Any) -> pd.DataFrame:
    return frame_of(pa.ipc.open_stream(ask(client, user, **query).content).read_all())


def assert_summaries(frame: pd.DataFrame, samples: list[Samples]) -> None:
    """Row i summarises `samples[i]`."""
    summaries = [Summary.of(part.tolist(), LINEAR) for part in samples]
    assert frame["count"].tolist() == [one.count for one in summaries]
    np.testing.assert_allclose(frame["mean"], [one.mean for one in summaries], rtol=1e-12)
    np.testing.assert_allclose(frame["var"], [one.variance for one in summaries], rtol=1e-12)
    assert frame["min"].tolist() == [one.minimum for one in summaries]
    assert frame["max"].tolist() == [one.maximum for one in summaries]
    assert not frame["approximated"].any()
    if "histogram" in frame:
        found = from_frame(frame.reset_index().set_index("time").drop(columns=["user", "core"], errors="ignore"))[0]
        assert found.histograms is not None
        expected = [(row, *entry) for row, one in enumerate(summaries) for entry in sorted(one.histogram.items())]
        columns = found.histograms.row, found.histograms.bin, found.histograms.count
        assert [*zip(*(column.tolist() for column in columns), strict=True)] == expected


@pytest.mark.parametrize("rate", ["15m", "1m", "7s"])
def test_a_users_buckets_are_those_of_the_raw_samples(client: httpx.Client, recording: Recording, rate: str) -> None:
    rate_ms = {"15m": 900_000, "1m": 60_000, "7s": 7_000}[rate]
    expected = recording.buckets(
        CPU, T0, T0 + 3_600_000, rate_ms,
        lambda one: "" if one.host.user_id == USERS[1] and one.core is None else None,
    )  # fmt: skip
    answered = frame(client, USERS[1], resample_rate=rate, histograms="true")
    assert list(answered) == ["count", "mean", "var", "min", "max", "approximated", "histogram"]
    assert answered.index.as_unit("ms").asi8.tolist() == [time for _, time in expected]
    assert_summaries(answered, list(expected.values()))


def test_raw_windows_come_as_they_were_reported(client: httpx.Client, recording: Recording) -> None:
    answered = frame(client, USERS[0], resample_rate="raw", histograms="1")
    windows = [one for one in recording.windows if one.host.user_id == USERS[0] and one.core is None]
    assert answered.index.asi8.tolist() == [one.end_ms for one in windows]
    assert_summaries(answered, [one.samples for one in windows])
    assert "histogram" not in frame(client, USERS[0], resample_rate="raw")


def test_the_host_and_each_core_come_in_one_answer(client: httpx.Client, recording: Recording) -> None:
    answered = frame(client, USERS[0], resample_rate="1h", core="each")
    assert answered["core"].tolist() == [pd.NA, 0, 1]
    parts = [
        np.concatenate([w.samples for w in recording.windows if w.host.user_id == USERS[0] and w.core == core])
        for core in (None, 0, 1)
    ]
    assert_summaries(answered, parts)
    one = frame(client, USERS[0], resample_rate="1h", core=1)
    assert one["core"].tolist() == [1]
    assert_summaries(one, parts[2:])


def test_the_fleet_comes_by_user_or_as_one(client: httpx.Client, recording: Recording) -> None:
    parts = [
        np.concatenate([w.samples for w in recording.windows if w.host.user_id == user and w.core is None])
        for user in USERS
    ]
    by_user = frame(client, None, resample_rate="1h", by="user", histograms="true")
    assert by_user["user"].tolist() == list(USERS)
    assert_summaries(by_user, parts)
    assert_summaries(frame(client, None, resample_rate="1h", histograms="true"), [np.concatenate(parts)])


@pytest.mark.parametrize("start", [T0, T0 + 3_600_000])
def test_every_form_holds_the_same_windows(client: httpx.Client, recording: Recording, start: int) -> None:
    query = {"start": start, "by": "user", "resample_rate": "15m", "histograms": "true"}
    table = pa.ipc.open_stream(ask(client, None, **query).content).read_all()
    stored = pq.read_table(io.BytesIO(ask(client, None, PARQUET, **query).content))
    # A flush between two questions may change the last bits of a mean, as it is merged in another order.
    pd.testing.assert_frame_equal(frame_of(stored), frame_of(table), rtol=1e-12)
    assert stored.schema.metadata[b"metric"] == b"cpuUtilization"
    rows = ask(client, None, "application/json", **query).json()["windows"]
    lines = list(csv.DictReader(io.StringIO(ask(client, None, "text/csv", **query).text)))
    assert len(rows) == len(lines) == len(table)
    for row, line, one in zip(rows, lines, table.to_pylist(), strict=True):
        assert pd.Timestamp(row["time"]) == pd.Timestamp(line["time"]) == one["time"]
        assert row["mean"] == pytest.approx(one["mean"], rel=1e-12)
        assert float(line["mean"]) == pytest.approx(one["mean"], rel=1e-12)
        assert row["user"] == line["user"] == one["user"]
        pairs = [int(number) for pair in line["histogram"].split() for number in pair.split(":")]
        assert row["histogram"] == pairs
        assert sum(pairs[1::2]) == row["count"]


def test_csv_without_windows_has_its_header_all_the_same(client: httpx.Client, recording: Recording) -> None:
    for query in ({"by": "user", "histograms": "true"}, {}):
        some, none = (
            ask(client, None, "text/csv", resample_rate="15m", start=start, end=start + 3_600_000, **query).text
            for start in (T0, T0 - DAY_MS)
        )
        assert none.splitlines() == some.splitlines()[:1] != []


@pytest.mark.parametrize(
    ("user", "query", "status", "said"),
    [
        ("nobody", {}, 404, "nobody"),
        (USERS[0], {"core": 7}, 404, "its cores are 0, 1"),
        (USERS[0], {"metric": "cpuLoad"}, 404, "(did you mean"),
        (USERS[0], {"metric": "cpuCoreLoadAvgMax"}, 422, "core=each"),
        (USERS[0], {"metric": "load1m", "core": "each"}, 422, "cpuLoadAvg"),
        (USERS[0], {"by": "user"}, 422, ", got "),
        (USERS[0], {"histograms": "maybe"}, 422, "neither true nor false"),
        (USERS[0], {"start": T0, "end": T0 - 1}, 422, "not before start, "),
        (USERS[0], {"resample_rate": "1s", "start": 20_000_000_000, "end": T0}, 422, "would do"),
        (USERS[0], {"resample_rate": "raw", "start": 20_000_000_000, "end": T0}, 422, "at most 20000000"),
        (None, {"by": "os_type"}, 422, "expected user"),
        (None, {"core": 1}, 422, ", got "),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_answered_is_refused(
    client: httpx.Client, recording: Recording, user: str | None, query: dict[str, Any], status: int, said: str
) -> None:
    path = "fleet" if user is None else f"byUser/{quote(user, safe='')}"
    answer = client.get(f"/api/v1/windows/{path}", params=RANGE | query)
    assert answer.status_code == status, answer.text
    assert said in answer.text


@pytest.mark.parametrize("rate_ms", [RAW_MS, 7_000, 3_600_000])
@pytest.mark.parametrize("series", [1, 3, 10_000])
def test_pieces_cover_the_range_and_cut_no_bucket(rate_ms: int, series: int) -> None:
    query = WindowsQuery(
        metric=NAMES["cpuUtilization"], start_ms=T0 + 1234, end_ms=T0 + 5_000_000_007, rate_ms=rate_ms,
        core=None, by_user=False, histograms=False,
    )  # fmt: skip
    ranges = Plan(query, "a", series).ranges()
    assert ranges[0][0] == query.start_ms
    assert ranges[-1][1] == query.end_ms
    assert all(first[1] == second[0] for first, second in pairwise(ranges))
    assert all(end % rate_ms == 0 for _, end in ranges[:-1])
    assert max(end - start for start, end in ranges) * series <= 2 * (1 << 17) * query.window_ms


@pytest.mark.parametrize("apart", [7_000_000, 400_000_000, 900_000_000, 4_000_000_000])
def test_windows_as_they_came_are_cut_where_files_are(apart: int) -> None:
    query = WindowsQuery(
        metric=NAMES["cpuUtilization"], start_ms=T0 + 1234, end_ms=T0 + 5_000_000_007, rate_ms=RAW_MS,
        core=None, by_user=False, histograms=False,
    )  # fmt: skip
    seams = [*range(T0 - apart // 3, T0 + 6_000_000_000, apart)]
    ranges = Plan(query, "a", 1, seams=seams).ranges()
    assert (ranges[0][0], ranges[-1][1]) == (query.start_ms, query.end_ms)
    assert all(first[1] == second[0] and first[0] < first[1] for first, second in pairwise(ranges))
    longest = (1 << 17) * query.window_ms
    assert max(end - start for start, end in ranges) <= 2 * longest
    if apart <= longest:
        assert {end for _, end in ranges[:-1]} <= {*seams}
        assert len(ranges) <= 1 + 2 * (query.end_ms - query.start_ms) // longest


class Counting(EmbeddedStore):
    """Counts how often it is asked."""

    asked = 0

    def answer(self, question: Question) -> pd.DataFrame:
        self.asked += 1
        return super().answer(question)


def test_nothing_more_is_read_for_a_client_that_has_gone(tmp_path: Path) -> None:
    store = Counting(tmp_path)
    app = falcon.asgi.App()
    app.add_route("/windows", FleetWindows(store, Sending(store), FleetCache(store), frozenset))
    query = f"start={T0 - 100 * DAY_MS}&end={T0}&resample_rate=1s".encode()

    async def ask(*, leaves: bool) -> int:
        """How often the store was asked, by a client that leaves when it sees the answer begin, or stays."""
        left = asyncio.Event()
        events = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if events:
                return events.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(event: dict[str, Any]) -> None:
            if leaves and event["type"] == "http.response.start":
                left.set()

        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/windows", "query_string": query, "headers": [(b"accept", ARROW.encode())],
        }  # fmt: skip
        before = store.asked
        await app(scope, receive, send)
        return store.asked - before

    assert asyncio.run(ask(leaves=False)) > 50
    assert asyncio.run(ask(leaves=True)) < 5
    store.close()


def test_an_answer_of_many_pieces_is_the_same_as_one(client: httpx.Client, recording: Recording) -> None:
    # At 1 s a hundred days are some sixty pieces, nearly all of them empty.
    query = {"start": T0 - 50 * DAY_MS, "end": T0 + 50 * DAY_MS, "resample_rate": "1s", "histograms": "true"}
    whole = frame(client, USERS[0], **query)
    pd.testing.assert_frame_equal(whole, frame(client, USERS[0], resample_rate="1s", histograms="true"))
