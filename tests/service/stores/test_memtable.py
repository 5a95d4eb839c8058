"""Windows in memory are found by their series: as many as are there, whatever lies between them."""

import math
import random
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest
from msgspec.structs import replace

from contract.metrics import Cpu, Distribution, Memory, Metric
from contract.processes import Consumer, ProcessUse
from contract.report import Report
from service.stores import memtable as memtable_module
from service.stores import sorted_windows
from service.stores.memtable import Memtable
from service.stores.series import WHOLE, SeriesIndex
from service.stores.sorted_windows import Entry, SortedWindows, columns

Row = tuple[int, int, float]
"""Series, end and mean."""
HOSTS = 7


def reports(count: int, seed: int = 0) -> list[Report]:
    """Of some hosts, in no order of time; hosts have up to four cores, which may change."""
    draw = random.Random(seed)
    ends = [1_000_000 + number for number in range(count)]
    draw.shuffle(ends)
    made = []
    for end in ends:
        cores = [draw.random() for _ in range(draw.randrange(5))]
        metrics: list[Metric] = [Cpu(draw.random(), avg_utilization_by_core=cores, var_utilization_by_core=cores)]
        if draw.random() < 0.1:
            metrics.append(Memory(utilization=Distribution(mean=draw.random(), variance=0.0)))
        made.append(Report(f"host-{draw.randrange(HOSTS)}", end - 5, end, 100, "Linux", "12", metrics))
    return made


def rows(batches: list[pa.RecordBatch]) -> list[Row]:
    """What batches hold, in order of series and end."""
    found = [
        row
        for one in batches
        for row in zip(*(one[name].to_pylist() for name in ("series", "time", "mean")), strict=True)
    ]
    return sorted(found)


@pytest.fixture(params=[0, 1, 100, 2047, 2048, 5000])
def filled(request: pytest.FixtureRequest) -> tuple[Memtable, SeriesIndex]:
    """A memtable of so many reports, a part of them in pieces that do not change."""
    index = SeriesIndex()
    memtable = Memtable(index, after=0)
    for number, report in enumerate(reports(request.param), 1):
        memtable.add(number, [report])
    return memtable, index


def test_the_windows_of_some_series_are_all_that_are_there(filled: tuple[Memtable, SeriesIndex]) -> None:
    memtable, index = filled
    everything = rows(memtable.batches())
    assert len(everything) == memtable.rows
    draw = random.Random(1)
    for width in (0, 1, 2, 5):
        chosen = sorted(draw.sample(range(1, len(index) + 6), width))
        found = rows(memtable.of_series(np.array(chosen, np.int64)))
        assert found == [row for row in everything if row[0] in chosen]


@pytest.mark.slow
def test_windows_are_known_by_series_and_end(filled: tuple[Memtable, SeriesIndex]) -> None:
    memtable, index = filled
    streams = {series for series in range(1, len(index) + 1) if index.streams()[series]}
    there = [(series, end) for series, end, _ in rows(memtable.batches()) if series in streams]
    beside = [(series, end + off) for series, end in there for off in (-1, 1)] + [(len(index) + 9, 1_000_000)]
    asked = there + beside
    random.Random(2).shuffle(asked)
    held = memtable.holds(*np.array(asked, np.int64).reshape(-1, 2).T)
    stored = set(there)
    assert [pair for pair, one in zip(asked, held.tolist(), strict=True) if one] == [
        pair for pair in asked if pair in stored
    ]


@pytest.mark.parametrize("make", [SortedWindows, SortedWindows.of])
def test_no_windows_are_found_where_there_are_none(make: Callable[[pa.RecordBatch], SortedWindows]) -> None:
    index = SeriesIndex()
    memtable = Memtable(index, after=0)
    memtable.add(1, reports(1))
    empty = make(memtable.batches()[0].slice(0, 0))
    assert empty.of_series(np.array([1, 2])) == []
    assert not empty.holds(np.array([1]), np.array([1_000_000])).any()


def test_what_is_found_has_every_column() -> None:
    index = SeriesIndex()
    report = reports(1, seed=3)[0]
    memtable = Memtable(index, after=0)
    memtable.add(1, [report])
    (batch,) = memtable.of_series(np.array([1]))
    assert batch.schema == columns([((1,), report, Cpu(0.5), 0)]).schema
    assert batch["count"].to_pylist() == [100]
    assert math.isnan(batch["minimum"].to_pylist()[0])


def test_all_hosts_together_are_merged_once_and_right(filled: tuple[Memtable, SeriesIndex]) -> None:
    memtable, index = filled
    series, _ = index.of_hosts("cpu.utilization") if len(index) else (np.array([1]), None)
    expected: dict[int, list[float]] = {}
    for number, end, mean in rows(memtable.batches()):
        if number in series:
            expected.setdefault(end // 300_000 * 300_000, []).append(mean)
    for _ in range(2):
        found: dict[int, tuple[int, float]] = {}
        for piece in memtable.pieces():
            windows = piece.together(300_000, series, index.bounded(), histograms=False)
            assert set(windows.series.tolist()) <= {int(series[0])}
            for time, count, mean in zip(
                windows.time.tolist(), windows.count.tolist(), windows.mean.tolist(), strict=True
            ):
                before, total = found.get(time, (0, 0.0))
                found[time] = before + count, total + count * mean
        assert {time: count // 100 for time, (count, _) in found.items()} == {
            time: len(means) for time, means in expected.items()
        }
        for time, (count, total) in found.items():
            assert total / count == pytest.approx(np.mean(expected[time]))


def test_of_many_reports_at_once_pieces_are_made_once_and_every_window_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those that came before a service had imported what that takes are asked for while more come."""
    monkeypatch.setattr(memtable_module, "_CHUNK", 16)
    index = SeriesIndex()
    memtable = Memtable(index, after=0)
    sent = reports(700)
    with monkeypatch.context() as patch:
        patch.setattr(memtable_module, "is_imported", lambda _: False)
        memtable.add(500, sent[:500])
    everything = rows(memtable.batches())
    assert len(everything) == memtable.rows
    before = memtable.pieces()
    again = memtable.pieces()
    assert len(before) == len(again) > 500 // 16
    assert all(one is other for one, other in zip(before[:-1], again[:-1], strict=True))
    for number in range(500, 700):
        memtable.add(number + 1, [sent[number]])
        series = np.array([1 + number % len(index)])
        found = rows(memtable.of_series(series))
        assert found == [row for row in rows(memtable.batches()) if row[0] == series[0]]
        end = sent[number].end_timestamp
        assert memtable.holds(np.array([stream_of(index, sent[number])]), np.array([end])).all()
    after = memtable.pieces()
    assert all(one is other for one, other in zip(before[:-1], after, strict=False))
    assert len(rows(memtable.batches())) == memtable.rows


def test_who_asks_for_one_series_makes_few_pieces_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memtable_module, "_CHUNK", 16)
    index = SeriesIndex()
    memtable = Memtable(index, after=0)
    with monkeypatch.context() as patch:
        patch.setattr(memtable_module, "is_imported", lambda _: False)
        memtable.add(500, reports(500))
    made: list[int] = []

    def counted(entries: Sequence[Entry]) -> pa.RecordBatch:
        made.append(len(entries))
        return columns(entries)

    monkeypatch.setattr(sorted_windows, "columns", counted)
    memtable.of_series(np.array([1]))
    assert made.count(16) <= 2
    memtable.pieces()
    once = made.count(16)
    memtable.pieces()
    assert made.count(16) == once


def test_of_a_bulk_load_few_reports_stay_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """As objects they take ten times the memory, of which the interpreter gives little back."""
    monkeypatch.setattr(memtable_module, "_CHUNK", 16)
    memtable = Memtable(SeriesIndex(), after=0)
    sent = reports(1_000)
    for last in range(100, 1_001, 100):
        memtable.add(last, sent[last - 100 : last])
    counted: list[int] = []

    def counting(entries: Sequence[Entry]) -> pa.RecordBatch:
        counted.append(len(entries))
        return columns(entries)

    monkeypatch.setattr(sorted_windows, "columns", counting)
    memtable.pieces()
    assert sum(counted) < 16


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("place", [0, 1, 20, 49, 50])
def test_reports_that_stay_as_they_came_can_be_cut(place: int, asked: bool) -> None:
    index = SeriesIndex()
    memtable = Memtable(index, after=100, as_came=True)
    sent = reports(50)
    for number in range(0, 50, 5):
        memtable.add(105 + number, sent[number : number + 5])
        if asked:
            memtable.pieces()
    everything, series = rows(memtable.batches()), len(index)
    before, behind = memtable.cut(place, 100 + place)
    ends = {report.end_timestamp for report in sent[:place]}
    assert rows(before.batches()) == [row for row in everything if row[1] in ends]
    assert rows(behind.batches()) == [row for row in everything if row[1] not in ends]
    assert (before.last, behind.last, before.rows + behind.rows) == (100 + place, 150, memtable.rows)
    assert len(index) == series
    behind.add(151, reports(1, seed=1))
    assert len(rows(behind.batches())) == behind.rows


def test_who_used_the_cpu_is_cut_with_its_report() -> None:
    use = ProcessUse(seconds=5.0, cores=4, busy_s=2.0, processes=[Consumer("cc1plus", 1.5)])
    sent = [replace(one, processes=use) for one in reports(3)]
    memtable = Memtable(SeriesIndex(), after=0, as_came=True)
    memtable.add(3, sent)
    before, behind = memtable.cut(1, 1)
    found = [[len(tables.windows) for tables in one.process_uses()] for one in (before, behind)]
    assert found == [[1], [2]]


def test_nothing_is_made_of_reports_that_stay_as_they_came_until_somebody_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[int] = []

    def counted(entries: Sequence[Entry]) -> pa.RecordBatch:
        made.append(len(entries))
        return columns(entries)

    monkeypatch.setattr(sorted_windows, "columns", counted)
    memtable = Memtable(SeriesIndex(), after=0, as_came=True)
    sent = reports(600)
    memtable.add(500, sent[:500])
    assert not made
    assert len(rows(memtable.batches())) == memtable.rows
    for number in range(500, 600):
        memtable.add(number + 1, [sent[number]])
        memtable.pieces()
    # What came between two who asked is made once, and nothing twice.
    assert sum(made) == sum(len(report.metrics) for report in sent)
    assert len(memtable.pieces()) <= 17
    assert len(rows(memtable.batches())) == memtable.rows


def test_a_bulk_load_is_sorted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small pieces are for reports that come one by one; joining them sorts their windows again."""
    monkeypatch.setattr(memtable_module, "_CHUNK", 64)
    monkeypatch.setattr(memtable_module, "_STEP", 8)
    sorted_rows: list[int] = []
    sort = sorted_windows.SortedWindows.of

    def counted(batch: pa.RecordBatch) -> sorted_windows.SortedWindows:
        sorted_rows.append(len(batch))
        return sort(batch)

    monkeypatch.setattr(sorted_windows.SortedWindows, "of", counted)
    memtable = Memtable(SeriesIndex(), after=0)
    sent = reports(1_000)
    for last in range(20, 1_001, 20):
        memtable.add(last, sent[last - 20 : last])
    memtable.pieces()
    assert sum(sorted_rows) == memtable.rows


def test_of_reports_that_come_one_by_one_few_are_turned_into_columns_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody waits for a whole piece; and pieces are as large as those of a bulk load, once there are enough."""
    monkeypatch.setattr(memtable_module, "_CHUNK", 64)
    monkeypatch.setattr(memtable_module, "_STEP", 8)
    made: list[int] = []

    def counted(entries: Sequence[Entry]) -> pa.RecordBatch:
        made.append(len(entries))
        return columns(entries)

    monkeypatch.setattr(sorted_windows, "columns", counted)
    index = SeriesIndex()
    memtable = Memtable(index, after=0)
    sent = reports(1_000)
    for number, report in enumerate(sent, 1):
        memtable.add(number, [report])
    assert made
    assert max(made) <= 8 + 1, "a report may have two metrics"
    assert len(memtable.pieces()) <= 1_100 // 64 + 8 + 1
    expected = sorted(
        (series, report.end_timestamp, mean) for report in sent for series, mean in means_of(index, report)
    )
    assert rows(memtable.batches()) == expected
    newest = max(sent, key=lambda one: one.end_timestamp)
    assert memtable.newest()[stream_of(index, newest)] == newest.end_timestamp


def means_of(index: SeriesIndex, report: Report) -> list[tuple[int, float]]:
    """The series of a report, with the mean of each."""
    found = []
    for metric in report.metrics:
        if isinstance(metric, Cpu):
            numbers = index.cores(report.user_id, Cpu.quantities[0].name)
            found.append((numbers[WHOLE], metric.avg_utilization))
            found += [(numbers[core], mean) for core, mean in enumerate(metric.avg_utilization_by_core)]
        elif isinstance(metric, Memory):
            (distribution,) = [one for _, one in metric.distributions()]
            found.append((index.of_metric(report.user_id, metric)[0], distribution.mean))
    return found


def stream_of(index: SeriesIndex, report: Report) -> int:
    """The series that stands for a report of CPU."""
    number = index.stream(report.user_id, Cpu)
    assert number is not None
    return number
