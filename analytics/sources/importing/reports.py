"""Reports of samples, as bodies for `POST /api/v1/metrics`: the same samples always make the same windows.

A sample is a window of its interval with one observation: its mean is the value, and nothing else is said, neither a
variance nor extremes nor a histogram, since a single number has none. Windows of our own are sent whole.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise
from operator import itemgetter
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.frame import histograms_of
from analytics.sources.importing.samples import WHOLE, Checked, SetAside
from contract.metrics import TYPES, Cpu, Metric, type_name
from contract.report import OS_TYPES

_BATCH_REPORTS: Final = 4000
_BATCH_BYTES: Final = 4_000_000
"""Half of what the service takes at once."""
LANES: Final = 4
"""So many requests are under way at a time, each of other hosts: so a host's windows come in order of time."""
_VERSION: Final = "imported"
Texts = npt.NDArray[np.object_]


class ImportBatch(NamedTuple):
    """The body of one request."""

    body: bytes
    """A report a line (NDJSON)."""
    reports: int


class _Pieces(NamedTuple):
    """A metric of each report: whose (the place of its name), when, and its JSON; arrays of int64, and of texts."""

    user: Any
    start_ms: Any
    end_ms: Any
    observations: Any
    text: Texts


def lanes_of(checked: Checked, systems: Mapping[str, tuple[str, str]], aside: SetAside) -> list[list[ImportBatch]]:
    """The batches of all samples, in `LANES` lists that may be sent beside each other.

    Samples that make no metric are set aside: a type of several quantities is reported with all of them.
    """
    frame = checked.frame
    users = [str(name) for name in frame["user"].cat.categories]
    pieces = [made for kind in TYPES if (made := _pieces(kind, frame, aside)) is not None]
    if not pieces:
        return []
    joined = _Pieces._make(np.concatenate(parts) for parts in zip(*pieces, strict=True))
    if len(pieces) > 1:
        order = np.lexsort((joined.observations, joined.start_ms, joined.end_ms, joined.user))
        joined = _Pieces._make(column[order] for column in joined)
    heads = [f'{{"user_id":{json.dumps(user)},{_system(*systems.get(user, ("Linux", "")))},' for user in users]
    counts = np.bincount(joined.user, minlength=len(users))
    lane_of = _spread(counts)
    lanes: list[list[ImportBatch]] = [[] for _ in range(LANES)]
    bounds = np.concatenate([[0], np.cumsum(counts)]).tolist()
    for lane in range(LANES):
        lines = (
            line for user, (first, last) in enumerate(pairwise(bounds)) if lane_of[user] == lane and last > first
            for line in _lines(heads[user], joined, first, last)
        )  # fmt: skip
        lanes[lane] = list(_cut(lines))
    return [lane for lane in lanes if lane]


def _system(kind: str, version: str) -> str:
    known = kind if kind in OS_TYPES else "Linux"
    return f'"os_type":"{known}","os_version":{json.dumps(version or _VERSION)}'


def _spread(counts: npt.NDArray[np.int64]) -> list[int]:
    """A lane for each user, so that lanes have about as many reports."""
    filled = [0] * LANES
    lane_of = [0] * len(counts)
    for user in np.argsort(-counts, kind="stable").tolist():
        lane = filled.index(min(filled))
        lane_of[user] = lane
        filled[lane] += int(counts[user])
    return lane_of


def _lines(head: str, pieces: _Pieces, first: int, last: int) -> Iterator[str]:
    """The reports of one user, in order of time; metrics of one window stand together."""
    rows = zip(
        pieces.end_ms[first:last].tolist(), pieces.start_ms[first:last].tolist(),
        pieces.observations[first:last].tolist(), pieces.text[first:last].tolist(), strict=True,
    )  # fmt: skip
    for (end, start, count), some in groupby(rows, itemgetter(0, 1, 2)):
        metrics = ",".join([row[3] for row in some])
        yield (
            f'{head}"start_timestamp":{start},"end_timestamp":{end},"observations_per_metric":{count},'
            f'"metrics":[{metrics}]}}\n'
        )


def _cut(lines: Iterator[str]) -> Iterator[ImportBatch]:
    some: list[str] = []
    size = 0
    for line in lines:
        some.append(line)
        size += len(line)
        if len(some) >= _BATCH_REPORTS or size >= _BATCH_BYTES:
            yield ImportBatch("".join(some).encode(), len(some))
            some, size = [], 0
    if some:
        yield ImportBatch("".join(some).encode(), len(some))


def _pieces(kind: type[Metric], frame: pd.DataFrame, aside: SetAside) -> _Pieces | None:
    names = [quantity.name for quantity in kind.quantities]
    mine = frame[frame["quantity"].isin(names).to_numpy()]
    if mine.empty:
        return None
    if kind is Cpu:
        return _cpu(mine, aside)
    mine = mine[mine["core"].to_numpy() == WHOLE]
    texts = _distributions(mine)
    members = {quantity.name: quantity.attribute for quantity in kind.quantities}
    if len(members) == 1:
        [member] = members.values()
        made: Texts = np.array([f'{{"type":"{type_name(kind)}","{member}":{text}}}' for text in texts], object)
        return _of_rows(mine, made)
    rows = mine.assign(text=texts).sort_values(["user", "end_ms"], kind="stable")
    key = rows["user"].cat.codes.to_numpy(np.int64), rows["end_ms"].to_numpy(np.int64)
    first = np.flatnonzero(np.append(True, (np.diff(key[0]) != 0) | (np.diff(key[1]) != 0)))
    ends = np.append(first[1:], len(rows))
    whole = ends - first == len(members)
    part = np.repeat(~whole, ends - first)
    aside.take(rows, part, f"{type_name(kind)} needs all of {', '.join(members)} at one moment")
    attributes = rows["quantity"].map(members).tolist()
    told = rows["text"].tolist()
    made = np.array(
        [
            f'{{"type":"{type_name(kind)}",'
            + ",".join(f'"{attributes[row]}":{told[row]}' for row in range(begin, end))
            + "}"
            for begin, end in zip(first[whole].tolist(), ends[whole].tolist(), strict=True)
        ],
        object,
    )
    return _of_rows(rows.iloc[first[whole]], made)


def _of_rows(rows: pd.DataFrame, texts: Texts) -> _Pieces:
    count = rows["count"].fillna(1) if "count" in rows else pd.Series(1, index=rows.index)
    return _Pieces(
        rows["user"].cat.codes.to_numpy(np.int64), rows["start_ms"].to_numpy(np.int64),
        rows["end_ms"].to_numpy(np.int64), count.to_numpy(np.int64), texts,
    )  # fmt: skip


def _summaries(rows: pd.DataFrame) -> list[dict[str, Any]] | None:
    """What is known of each row beyond its value; None where all are single samples."""
    if "count" not in rows or rows["count"].isna().all():
        return None
    found = histograms_of(rows) if rows["histogram"].notna().any() else None
    flat, ends = [], np.zeros(len(rows) + 1, np.int64)
    if found is not None:
        flat = np.column_stack([found.bin, found.count]).ravel().tolist()
        ends = 2 * np.searchsorted(found.row, np.arange(len(rows) + 1))
    known: list[dict[str, Any]] = []
    columns = (rows[name].tolist() for name in ("count", "var", "min", "max", "approximated"))
    for (count, variance, low, high, guessed), begin, end in zip(
        zip(*columns, strict=True), ends[:-1].tolist(), ends[1:].tolist(), strict=True
    ):
        if count != count:
            known.append({})
            continue
        one: dict[str, Any] = {"count": int(count), "var": max(0.0, variance)}
        # What was a stand-in becomes one again.
        if guessed < count:
            one |= {"min": low, "max": high, **({"histogram": flat[begin:end]} if end > begin else {})}
        known.append(one)
    return known


def _distributions(rows: pd.DataFrame) -> list[str]:
    """The JSON of a distribution for each row."""
    known = _summaries(rows)
    values = rows["value"].tolist()
    if known is None:
        return [f'{{"avg":{value!r}}}' for value in values]
    return [
        json.dumps({"avg": value} | {_NAMED.get(name, name): what for name, what in one.items()}, separators=(",", ":"))
        for value, one in zip(values, known, strict=True)
    ]


_NAMED: Final = {"count": "observations"}


def _cpu(rows: pd.DataFrame, aside: SetAside) -> _Pieces:
    core = rows["core"].to_numpy()
    known = _summaries(rows)
    if known is None and (core == WHOLE).all():
        texts = [f'{{"type":"CPU","avg_utilization":{value!r}}}' for value in rows["value"].tolist()]
        return _of_rows(rows, np.array(texts, object))
    user, end_ms = rows["user"].cat.codes.to_numpy(), rows["end_ms"].to_numpy()
    # Sorted by user, moment and core: the whole host, -1, is the first of each.
    first = np.flatnonzero(np.append(True, (np.diff(user) != 0) | (np.diff(end_ms) != 0)))
    ends = np.append(first[1:], len(rows))
    whole = core[first] == WHOLE
    aside.take(rows, np.repeat(~whole, ends - first), "cores of a host without the host as a whole")
    values, numbers = rows["value"].tolist(), core.tolist()
    known = known or [{}] * len(rows)
    texts = [
        json.dumps(_cpu_of(values, numbers, known, begin, end), separators=(",", ":"))
        for begin, end in zip(first[whole].tolist(), ends[whole].tolist(), strict=True)
    ]
    return _of_rows(rows.iloc[first[whole]], np.array(texts, object))


_MEMBERS: Final = {
    "var": "var_utilization",
    "min": "min_utilization",
    "max": "max_utilization",
    "histogram": "histogram",
}


def _cpu_of(
    values: Sequence[float], numbers: Sequence[int], known: Sequence[Mapping[str, Any]], begin: int, end: int
) -> dict[str, Any]:
    """The CPU metric of the row `begin`, the whole host, and of its cores, which follow it up to `end`."""
    metric: dict[str, Any] = {"type": "CPU", "avg_utilization": values[begin]}
    metric |= {member: known[begin][name] for name, member in _MEMBERS.items() if name in known[begin]}
    cores = range(begin + 1, end)
    if not cores:
        return metric
    metric |= {"avg_utilization_by_core": [values[row] for row in cores], "cores": [numbers[row] for row in cores]}
    # A report has these for all cores or for none, and all of one number of samples.
    if all(known[row].get("count") == known[begin].get("count") for row in cores):
        for name, member in _MEMBERS.items():
            if all(name in known[row] for row in cores):
                metric[f"{member}_by_core"] = [known[row][name] for row in cores]
    return metric
