"""Answers are written the same, however they are put together."""

from typing import Literal

import msgspec
import numpy as np
import pandas as pd
import pytest
from falcon.asgi import Response
from hypothesis import given
from hypothesis import strategies as st

from analytics.frames.frame import frame_of_columns
from contract.times import DAY_MS, format_instant
from service.http.answers import JSON, instants, send
from service.http.queries import over_cores

_FIRST_MS, _LAST_MS = -719_162 * DAY_MS, 2_932_896 * DAY_MS
"""The first day of the year 1, and the last of 9999."""
TIMES = st.lists(
    st.integers(_FIRST_MS, _LAST_MS) | st.integers(_FIRST_MS // 1000, _LAST_MS // 1000).map(lambda s: 1000 * s)
)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def answered(time_ms: list[int], numbers: list[float], **attrs: str) -> bytes:
    """The body of an answer."""
    values = frame_of_columns({"value": np.array(numbers, np.float64)}, np.array(time_ms, np.int64))
    values.attrs = attrs
    response = Response()
    send(response, JSON, values)
    return bytes(response.data)


@given(TIMES)
def test_moments_are_written_as_in_the_original(time_ms: list[int]) -> None:
    assert instants(np.array(time_ms, np.int64)) == [format_instant(ms) for ms in time_ms]


@given(st.lists(st.tuples(st.integers(-(10**6), 10**7), NUMBERS)), st.sampled_from([1000, 60_000, 900_000, 1]))
def test_entries_are_those_that_an_encoder_writes(buckets: list[tuple[int, float]], rate_ms: int) -> None:
    time_ms = [1_700_000_000_000 + bucket * rate_ms for bucket, _ in buckets]
    numbers = [value for _, value in buckets]
    entries = [{"date": format_instant(ms), "value": value} for ms, value in zip(time_ms, numbers, strict=True)]
    assert answered(time_ms, numbers) == msgspec.json.encode({"entries": entries})


@pytest.mark.parametrize("time_ms", [[], [0], [1]])
def test_what_is_said_beside_stands_behind_the_entries(time_ms: list[int]) -> None:
    content = answered(time_ms, [0.5] * len(time_ms), caveat="some is gone", approximation="of some")
    assert [*msgspec.json.decode(content)] == ["entries", "approximation", "caveat"]


@pytest.mark.parametrize("over", ["max", "min"])
@given(st.lists(st.lists(st.integers(0, 4), unique=True), min_size=1, max_size=4), st.data())
def test_the_highest_core_of_a_bucket_is_of_the_cores_that_have_it(
    over: Literal["max", "min"], buckets: list[list[int]], data: st.DataObject
) -> None:
    time_ms = [bucket * 60_000 for core in buckets for bucket in sorted(core)]
    numbers = data.draw(st.lists(st.floats(0, 1), min_size=len(time_ms), max_size=len(time_ms)))
    extreme = over_cores(frame_of_columns({"value": np.array(numbers, np.float64)}, np.array(time_ms, np.int64)), over)
    by_bucket: dict[int, list[float]] = {}
    for ms, value in zip(time_ms, numbers, strict=True):
        by_bucket.setdefault(ms, []).append(value)
    pick = max if over == "max" else min
    assert pd.DatetimeIndex(extreme.index).asi8.tolist() == sorted(by_bucket)
    assert extreme["value"].tolist() == [pick(by_bucket[ms]) for ms in sorted(by_bucket)]


def test_a_group_stands_in_each_entry() -> None:
    values = pd.DataFrame({"value": [0.5], "group": ["web"]}, index=pd.DatetimeIndex([0], tz="UTC", name="time"))
    response = Response()
    send(response, JSON, values.set_axis(pd.DatetimeIndex(values.index).as_unit("ms")))
    assert msgspec.json.decode(response.data) == {
        "entries": [{"date": "1970-01-01T00:00:00Z", "value": 0.5, "group": "web"}]
    }
