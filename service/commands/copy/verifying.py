"""Whether a copy is one: the merged summaries of each user, quantity, core and day are those of the source."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.frame import unpacked
from analytics.frames.tiers import RAW
from contract import times
from contract.metrics import Cpu
from contract.times import DAY_MS
from service.commands.copy.stores import DayRange, counts, day_name, with_cores
from service.commands.copy.transfer import unknown
from service.ingest.acknowledgement import keys_of
from service.stores.base import Question, Store
from service.stores.process_use import UseQuestion

_TOLERANCE = 1e-9
"""Means and variances are merged in another order; all else is equal to the bit."""
_MAX_NAMED = 20
_NAMES = {"mean": "mean", "var": "variance", "min": "minimum", "max": "maximum"}


@dataclass(slots=True)
class CopyCheck:
    """What was compared, and what was found."""

    sums: int = 0
    """Summaries compared: one for each user, quantity, core and day."""
    samples: int = 0
    """In them, those of whole hosts."""
    checksum: int = 0
    """Of counts and histograms, all together; the same for equal stores, whatever the order."""
    fields: int = 0
    """Fields of the original compared: one for each user, field and day that has any of its points."""
    differences: int = 0
    named: list[str] = field(default_factory=list)
    """The first of the differences, in words."""

    def differ(self, words: str) -> None:
        """Note a difference."""
        self.differences += 1
        if len(self.named) < _MAX_NAMED:
            self.named.append(words)


def verify(source: Store, target: Store, span: DayRange, check: CopyCheck, advance: Callable[[int], object]) -> None:
    """Compare all that the source has of a span; `advance` is told of samples that are compared."""
    for question, what in _questions(source, span):
        wanted, found = (_summaries(store, question) for store in (source, target))
        _compare(_Compared(source, target, question, what), wanted, found, check)
        if question.user_id is None:
            samples = int(wanted["count"].sum())
            check.samples += samples
            advance(samples)
    _compare_windows(source, target, span, check)
    _compare_rollups(target, span, check)
    _compare_uses(source, target, span, check)


def _compare_uses(source: Store, target: Store, span: DayRange, check: CopyCheck) -> None:
    """Whether the target knows as much of who used the CPU."""
    wanted, found = (store.who(UseQuestion(span.start_ms, span.end_ms, top=1)) for store in (source, target))
    if wanted.hosts:
        check.sums += 1
        if found.seconds < wanted.seconds * (1.0 - _TOLERANCE) or found.hosts < wanted.hosts:
            check.differ(
                f"who used the CPU in {wanted.seconds:.0f} s of {wanted.hosts} hosts in the source, "
                f"in {found.seconds:.0f} s of {found.hosts} in the target"
            )


def _compare_windows(source: Store, target: Store, span: DayRange, check: CopyCheck) -> None:
    """Whether the target has the windows too of which the source has all; sums are answered from rollups."""
    users = source.users()["user_id"].tolist()
    if source.kept(RAW, users, span.start_ms, span.end_ms) == span.samples:
        parts = [(span.start_ms, span.end_ms, span.samples)]
    else:
        daily = counts(source, span).sum(axis=1).groupby(level="day").sum()
        parts = [(day, day + DAY_MS, count) for day, count in zip(daily.index.tolist(), daily.tolist(), strict=True)]
    for start, end, samples in parts:
        wanted = source.kept(RAW, users, start, end)
        found = target.kept(RAW, users, start, end) if wanted == samples else wanted
        if found < wanted:
            days = day_name(start) + (f" to {day_name(end - DAY_MS)}" if end - start > DAY_MS else "")
            check.differ(f"{days}: windows of {wanted} samples in the source, of {found} in the target")


def _compare_rollups(target: Store, span: DayRange, check: CopyCheck) -> None:
    """Whether no finer rollup of the target tells of more samples than its days do, which is what is compared above.

    Fewer it may have, where it keeps them for a shorter time.
    """
    users = target.users()["user_id"].tolist()
    until_ms = min(span.end_ms, times.now_ms() // DAY_MS * DAY_MS - DAY_MS)
    *finer, days = target.tiers
    of_days = target.kept(days, users, span.start_ms, until_ms) if until_ms > span.start_ms else 0
    for tier in finer if of_days else ():
        found = target.kept(tier, users, span.start_ms, until_ms)
        if found > of_days:
            check.differ(f"{of_days} samples in the days of the target, {found} in its buckets of {tier // 60_000} min")


def _questions(source: Store, span: DayRange) -> Iterator[tuple[Question, str]]:
    """Everything, and what it is called: the whole hosts of all users, then the cores of each."""
    start, end = span.start_ms, span.end_ms
    for quantity in source.quantities:
        yield Question(quantity, start, end, DAY_MS, by="user", histograms=True), quantity.name
    cpu = Cpu.quantities[0]
    for user in with_cores(source):
        yield Question(cpu, start, end, DAY_MS, user_id=user, cores="each", histograms=True), f"{cpu.name} of core"


def _summaries(store: Store, question: Question) -> pd.DataFrame:
    """The answer, by group and day."""
    windows = store.answer(question)
    names = windows["user" if question.by else "core"].astype("str").astype(object)
    index = pd.MultiIndex.from_arrays([names, pd.DatetimeIndex(windows.index).asi8], names=["group", "day"])
    columns = {name: windows[name].to_numpy() for name in ("count", "mean", "var", "min", "max")}
    return pd.DataFrame(columns | {"histogram": _hashes(windows)}, index)


def _hashes(windows: pd.DataFrame) -> npt.NDArray[np.uint64]:
    """A checksum of each row's histogram: the sum of its counts, each times a number of its bin's own, modulo 2^64."""
    histograms, _ = unpacked(windows)
    weights = _mixed(histograms.bin.astype(np.int64).view(np.uint64))
    hashes = np.zeros(len(windows), np.uint64)
    np.add.at(hashes, histograms.row, weights * histograms.count.astype(np.uint64))
    return hashes


def _mixed(numbers: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Numbers that look random and are the same each time (the finalizer of SplitMix64, Steele et al. 2014)."""
    mixed = numbers + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@dataclass(frozen=True, slots=True)
class _Compared:
    """Two stores, and the question whose answers are compared."""

    source: Store
    target: Store
    question: Question
    what: str

    def user_of(self, group: str) -> str:
        return group if self.question.user_id is None else self.question.user_id

    def named(self, group: str, day: int) -> str:
        what = self.what if self.question.user_id is None else f"{self.what} {group}"
        return f"{self.user_of(group)}, {what}, {day_name(day)}"


def _compare(compared: _Compared, wanted: pd.DataFrame, found: pd.DataFrame, check: CopyCheck) -> None:
    check.sums += len(wanted)
    checked = _mixed(wanted["histogram"].to_numpy() + wanted["count"].to_numpy().astype(np.uint64))
    check.checksum = (check.checksum + int(np.add.reduce(checked, dtype=np.uint64))) % 2**64
    pair = pd.concat([wanted, found.reindex(wanted.index).add_suffix("_found")], axis=1)
    more = pair["count_found"] > pair["count"]
    close = np.ones(len(pair), np.bool_)
    for name in ("count", "min", "max"):
        close &= (pair[name] == pair[f"{name}_found"]).to_numpy()
    for name in ("mean", "var"):
        close &= np.isclose(pair[f"{name}_found"], pair[name], rtol=_TOLERANCE, atol=1e-15)
    close &= (found["histogram"].reindex(wanted.index, fill_value=0) == wanted["histogram"]).to_numpy()
    for row in np.flatnonzero(~close).tolist():
        group, day = pair.index[row]
        if not more.iloc[row] or not _has_all(compared, compared.user_of(group), day):
            check.differ(f"{compared.named(group, day)}: {_difference(pair.iloc[row])}")


def _has_all(compared: _Compared, user_id: str, day: int) -> bool:
    """Whether a target that has more of a day, from elsewhere, has all windows of the source too."""
    end_ms = day + DAY_MS
    pages = compared.source.reports([user_id], day, end_ms)
    return compared.source.kept(RAW, [user_id], day, end_ms) > 0 and not any(
        any(keys_of(report) for report in unknown(compared.target, page, {user_id})) for page in pages
    )


def _difference(row: "pd.Series[float]") -> str:
    if np.isnan(row["count_found"]):
        return f"{row['count']:.0f} samples are missing"
    if row["count"] != row["count_found"]:
        return f"{row['count']:.0f} samples in the source, {row['count_found']:.0f} in the target"
    differing = [name for name in _NAMES if row[name] != row[f"{name}_found"]]
    words = [
        f"{_NAMES[name]} {row[name]!r} in the source, {row[name + '_found']!r} in the target" for name in differing
    ]
    return "; ".join(words) or "the histograms differ"
