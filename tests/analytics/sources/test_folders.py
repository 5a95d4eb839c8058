"""A folder of many files, merged file by file while it is read, answers what all of it merged at once does."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from analytics.frames.exchange import schema_of, table_of
from analytics.frames.frame import in_order
from analytics.reports import making
from analytics.reports.data import ReportQuestion
from analytics.reports.export import encoded
from analytics.sources import parquet
from analytics.sources.parquet import Files
from tests.support.sampled_fleets import sampled

FLEET = sampled(users=6, windows=9 * 24, every="1h").frame
"""Nine days of six hosts, from Thursday on."""


def whole(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame with a core that is always missing, as files have it that also have cores."""
    return frame.assign(core=pd.array([pd.NA] * len(frame), "Int64"))


def write(folder: Path, parts: dict[str, pd.DataFrame]) -> Path:
    """Files of these windows, by name."""
    for name, part in parts.items():
        schema = schema_of(users=True, cores="core" in part, histograms="histogram" in part)
        named = part.assign(user=in_order(part["user"].astype("category").array.remove_unused_categories()))
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table_of(named, schema), folder / name)
    return folder


def by_day(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """As `loadlens-service export` cuts them: by day, and hosts by a number."""
    day = pd.DatetimeIndex(frame.index).strftime("%Y-%m-%d")
    part = frame["user"].cat.codes % 2
    return {
        f"day={date}/part-{number:03}.parquet": frame[(day == date) & (part == number)]
        for date in sorted(set(day)) for number in (0, 1)
    }  # fmt: skip


def by_rows(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """So that each bucket has rows in several files."""
    return {f"{first}.parquet": frame.iloc[first::5] for first in range(5)}


def partly_without_histograms(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Some files without the column."""
    return {
        name: part.drop(columns="histogram") if number % 3 == 1 else part
        for number, (name, part) in enumerate((by_rows(frame) | by_day(frame)).items())
    }


def with_cores(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Some files with single cores beside their hosts."""
    cores = pd.concat([whole(frame), frame.assign(core=pd.array([0] * len(frame), "Int64")),
                       frame.assign(core=pd.array([1] * len(frame), "Int64"))])  # fmt: skip
    return by_day(frame.iloc[:500]) | {"cores.parquet": cores.iloc[500:]}


LAYOUTS = [by_day, by_rows, partly_without_histograms, with_cores]


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda layout: layout.__name__)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fleet in each layout, which nobody changes."""
    return write(tmp_path_factory.mktemp("written"), request.param(FLEET))


def both(folder: Path, monkeypatch: pytest.MonkeyPatch, ask: Any) -> tuple[Any, Any]:
    """What is answered of all at once, and file by file."""
    monkeypatch.setattr(parquet, "_MANY_ROWS", 1 << 62)
    with Files(folder) as files:
        at_once = ask(files)
    monkeypatch.setattr(parquet, "_MANY_ROWS", 0)
    with Files(folder) as files:
        return at_once, ask(files)


@pytest.mark.parametrize(
    "question",
    [
        {"by": "user", "rate": "12h"},
        {"by": "user", "rate": "1h", "histograms": False},
        {"by": "user", "rate": "1d", "weight": "hosts"},
        {"rate": "5h"},
        {"rate": "1h", "histograms": False},
        {"rate": "1d", "weight": "hosts"},
        {"rate": "12h", "stat": "p95"},
        {"by": "user", "rate": "12h", "stat": "p95", "top": 2},
        {"by": "user", "rate": "12h", "start": "2024-03-30", "end": "2024-04-02T05:00Z"},
    ],
    ids=str,
)
def test_windows_are_the_same_file_by_file(
    written: Path, question: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, merged = both(written, monkeypatch, lambda files: files.fleet(**question))
    assert len(merged)
    pd.testing.assert_frame_equal(merged, at_once, rtol=1e-12, check_categorical=False)
    assert merged.attrs == at_once.attrs


def test_hosts_and_their_cores_are_the_same_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, {"all.parquet": pd.concat(with_cores(FLEET).values())})
    for core in (None, 1, "each"):
        at_once, merged = both(
            folder, monkeypatch, lambda files, core=core: files.history("user 1", rate="12h", core=core)
        )
        pd.testing.assert_frame_equal(merged, at_once, rtol=1e-12)
    at_once, merged = both(folder, monkeypatch, lambda files: files.fleet(rate="6h", by="user", weight="cores"))
    pd.testing.assert_frame_equal(merged, at_once, rtol=1e-12, check_categorical=False)
    assert merged["cores"].dropna().eq(2).all()


@pytest.mark.parametrize("layout", [by_day, by_rows])
def test_a_report_says_the_same_file_by_file(layout: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path, layout(FLEET))

    def ask(files: Files) -> Any:
        report = making.fleet(files, ReportQuestion(), made_ms=1_712_000_000_000, named="files")
        return json.loads(encoded(report, "json"))

    at_once, merged = both(folder, monkeypatch, ask)
    assert close(merged, at_once)


def close(one: Any, other: Any) -> bool:
    """Whether documents say the same, numbers to 1e-12."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(close(one[name], other[name]) for name in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float):
        return bool(np.isclose(one, other, rtol=1e-12, atol=1e-12, equal_nan=True))
    return bool(one == other)
