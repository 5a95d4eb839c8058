"""Samples of our metrics from fields of other tools: states of the CPU, counters, amounts, gauges.

A frame of readings has the columns `user` (category), `end_ms`, `core` (-1 for the whole host), `device` (a text,
where fields are of devices), `field` (a number into the list of fields), `value`, `line` and `file`.

- **Utilization** is the share of time that the CPU was neither idle nor waiting for input and output, as our agent
  says it: 1 - (idle + iowait) where idle is known, otherwise the sum of the busy states. Guest time is user time.
- **Counters** say it by their growth between two readings; the first reading of each has none, and where one goes back
  (a restart) that step is left out.
- **Devices** are added up. A host of which only cores are known has their mean, weighed by time.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from analytics.sources.importing.fields import BUSY_STATES, IDLE_STATES, Field
from analytics.sources.importing.samples import WHOLE, SetAside, frame_of, joined
from contract.metrics import QUANTITIES

_MAX_AS_SHARES: Final = 1.06
"""Numbers of shares that go higher are percent."""
_PLACE: Final = ["user", "core", "end_ms"]


def samples_of(readings: pd.DataFrame, fields: Sequence[Field], aside: SetAside) -> pd.DataFrame:
    """The samples (`samples`) that some readings say; what says nothing by itself is set aside."""
    kind = np.array([field.kind for field in fields])[readings["field"].to_numpy()] if len(readings) else np.array([])
    frames = []
    for name, derive in (
        ("gauge", _gauges), ("free", _gauges), ("state", _states), ("state_time", _state_times), ("rate", _rates),
        ("growth", _growths), ("part", _parts),
    ):  # fmt: skip
        mine = kind == name
        if mine.any():
            frames.append(derive(readings[mine], fields, aside))
    return joined(frames)


def unit_of(fields: Sequence[Field], readings: pd.DataFrame) -> dict[str, str]:
    """For each kind of share whose unit no name says: percent or share, told by the highest value."""
    told: dict[str, str] = {}
    number, values = readings["field"].to_numpy(), readings["value"].to_numpy(np.float64)
    # All fields at once: a table may have thousands of columns.
    highs = np.full(len(fields), -np.inf)
    np.fmax.at(highs, number, values)
    said = np.bincount(number, minlength=len(fields))
    finite = np.bincount(number[np.isfinite(values)], minlength=len(fields))
    for field, highest, some, known in zip(fields, highs.tolist(), said.tolist(), finite.tolist(), strict=True):
        group = "state" if field.kind == "state" else field.target
        if field.unit == "guess" and some:
            high = highest if known else 0.0
            told[group] = "percent" if high > _MAX_AS_SHARES or told.get(group) == "percent" else "share"
    return told


def _scales(readings: pd.DataFrame, fields: Sequence[Field]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    told = unit_of(fields, readings)
    scales = []
    for field in fields:
        quantity = QUANTITIES.get(field.target)
        is_share = field.kind == "state" or (quantity is not None and quantity.bounded)
        unit = told.get("state" if field.kind == "state" else field.target) if field.unit == "guess" else field.unit
        scales.append(field.scale / (100.0 if is_share and unit == "percent" else 1.0))
    each: np.ndarray[tuple[int], np.dtype[np.float64]] = np.array(scales)[readings["field"].to_numpy()]
    return each


def _targets(readings: pd.DataFrame, fields: Sequence[Field]) -> Any:
    names = sorted({field.target for field in fields})
    place = np.array([names.index(field.target) for field in fields])
    return pd.Categorical(names, names).take(place[readings["field"].to_numpy()]).remove_unused_categories()


def _gauges(readings: pd.DataFrame, fields: Sequence[Field], aside: SetAside) -> pd.DataFrame:
    value = readings["value"].to_numpy(np.float64) * _scales(readings, fields)
    free = np.array([field.kind == "free" for field in fields])[readings["field"].to_numpy()]
    return frame_of(
        {
            "user": readings["user"].array, "end_ms": readings["end_ms"], "core": readings["core"],
            "quantity": _targets(readings, fields), "value": np.where(free, 1.0 - value, value),
            "line": readings["line"], "file": readings["file"],
        }
    )  # fmt: skip


def _table(readings: pd.DataFrame, fields: Sequence[Field], index: list[str]) -> pd.DataFrame:
    """A row for each place, a column for each target; the last of two readings of one place counts."""
    table = readings.assign(target=_targets(readings, fields).astype(str))
    table = table.drop_duplicates([*index, "target"], keep="last")
    wide: pd.DataFrame = table.set_index([*index, "target"])["value"].unstack("target")
    first = table.drop_duplicates(index).set_index(index)[["line", "file"]]
    return wide.join(first)


def _complete(wide: pd.DataFrame, aside: SetAside) -> pd.DataFrame:
    """The rows that have all that their host has at other moments: of parts of a whole none may be missing."""
    there = wide.drop(columns=["line", "file"]).notna()
    usual = there.groupby(level="user", observed=True).transform("any")
    return aside.take(wide, (usual & ~there).any(axis=1).to_numpy(), "a part of a whole that is missing at this moment")


def _utilization(states: pd.DataFrame, total: "pd.Series[float] | float") -> "pd.Series[float]":
    """The share of time that was busy, of times in states that make up `total`; NaN where nobody can tell."""
    there = {*states.columns}
    if "idle" in there:
        idle = states[[name for name in states if name in IDLE_STATES]].sum(axis=1, min_count=1)
        by_idle: pd.Series[float] = 1.0 - idle / total
        return by_idle.where(states["idle"].notna())
    busy = states[[name for name in states if name in BUSY_STATES]].sum(axis=1, min_count=1)
    return busy / total


def _states(readings: pd.DataFrame, fields: Sequence[Field], aside: SetAside) -> pd.DataFrame:
    scaled = readings.assign(value=readings["value"].to_numpy(np.float64) * _scales(readings, fields))
    wide = _complete(_table(scaled, fields, _PLACE), aside)
    states = wide.drop(columns=["line", "file"])
    return _cpu(wide.assign(share=_utilization(states, 1.0), weight=1.0))


def _state_times(readings: pd.DataFrame, fields: Sequence[Field], aside: SetAside) -> pd.DataFrame:
    wide = _complete(_table(readings, fields, _PLACE).sort_index(), aside)
    states = wide.drop(columns=["line", "file"])
    series = states.groupby(level=["user", "core"], observed=True, sort=False)
    grown = series.diff()
    moments = pd.Series(wide.index.get_level_values("end_ms").to_numpy(), index=wide.index)
    seconds = moments.groupby(level=["user", "core"], observed=True, sort=False).diff() / 1000.0
    is_first = seconds.isna().to_numpy()
    back = (grown < -1e-9).any(axis=1).to_numpy()
    known = [name for name in grown if name != "guest"]
    # All states make up the time; where only some are told, the clock says how long it was.
    whole = {"idle", "user", "system"} <= {*known}
    total = grown[known].sum(axis=1, min_count=1) if whole else seconds
    share = _utilization(grown, total.where(total > 0))
    single = wide.groupby(level=["user", "core"], observed=True).size() == 1
    for place in single[single].index:
        row = wide.xs(place, level=("user", "core")).iloc[0]
        aside.add(int(row["file"]), int(row["line"]), "one reading of a counter, which says nothing without another")
    if back.any():
        some = wide[back].iloc[0]
        aside.add(int(some["file"]), int(some["line"]), "a counter that went back, as after a restart", int(back.sum()))
    usable = ~is_first & ~back
    return _cpu(wide.assign(share=share, weight=total)[usable])


def _cpu(shares: pd.DataFrame) -> pd.DataFrame:
    """Samples of `share`, by place; hosts of which only cores are known get their mean, weighed by `weight`."""
    rows = shares[["share", "weight", "line", "file"]].reset_index()
    rows = rows[rows["share"].notna()]
    whole = rows[rows["core"] == WHOLE]
    told = pd.MultiIndex.from_frame(whole[["user", "end_ms"]].astype({"user": str}))
    cores = rows[rows["core"] != WHOLE]
    alone = cores[~pd.MultiIndex.from_frame(cores[["user", "end_ms"]].astype({"user": str})).isin(told)]
    if len(alone):
        summed = alone.assign(busy=alone["share"] * alone["weight"]).groupby(["user", "end_ms"], observed=True)
        made = summed.agg({"busy": "sum", "weight": "sum", "line": "first", "file": "first"}).reset_index()
        rows = pd.concat([rows, made.assign(core=WHOLE, share=made["busy"] / made["weight"])], ignore_index=True)
    return frame_of(
        {
            "user": rows["user"].astype("category").array, "end_ms": rows["end_ms"], "core": rows["core"],
            "quantity": "cpu.utilization", "value": rows["share"], "line": rows["line"], "file": rows["file"],
        }
    )  # fmt: skip


def _rates(readings: pd.DataFrame, fields: Sequence[Field], aside: SetAside) -> pd.DataFrame:
    value = readings["value"].to_numpy(np.float64) * _scales(readings, fields)
    return _summed(readings.assign(target=_targets(readings, fields), value=value))


def _growths(readings: pd.DataFrame, fields: Sequence[Field], aside: SetAside) -> pd.DataFrame:
    rows = readings.assign(
        target=_targets(readings, fields).astype(str), value=readings["value"] * _scales(readings, fields)
    )
    rows = rows.sort_values(["user", "target", "device", "end_ms"], kind="stable")
    series = rows.groupby(["user", "target", "device"], observed=True, sort=False)
    grown, seconds = series["value"].diff(), series["end_ms"].diff() / 1000.0
    back = (grown < 0).to_numpy()
    if back.any():
        some = rows[back].iloc[0]
        aside.add(int(some["file"]), int(some["line"]), "a counter that went back, as after a restart", int(back.sum()))
    return _summed(rows.assign(value=grown / seconds.where(seconds > 0))[~back])


def _summed(rows: pd.DataFrame) -> pd.DataFrame:
    """Samples of rates of devices: those of a host and a moment added up."""
    rows = rows[rows["value"].notna()]
    summed = rows.groupby(["user", "target", "end_ms"], observed=True)
    made = summed.agg({"value": "sum", "line": "first", "file": "first"}).reset_index()
    return frame_of(
        {
            "user": made["user"].astype("category").array, "end_ms": made["end_ms"],
            "quantity": pd.Categorical(made["target"].astype(str)), "value": made["value"], "line": made["line"],
            "file": made["file"],
        }
    )  # fmt: skip


def _parts(readings: pd.DataFrame, fields: Sequence[Field], aside: SetAside) -> pd.DataFrame:
    """Shares of amounts: 1 - available / total; a total of 0 is a host without any, of which nothing is in use."""
    frames = []
    for what in ("memory", "swap"):
        total, free = f"{what}.total", f"{what}.available"
        named = np.array([field.target.startswith(what) for field in fields])[readings["field"].to_numpy()]
        if not named.any():
            continue
        wide = _of_amounts(_complete(_table(readings[named], fields, ["user", "end_ms"]), aside), what)
        if {total, free} <= {*wide.columns}:
            rows = wide[wide[[total, free]].notna().all(axis=1)].reset_index()
            used = 1.0 - rows[free] / rows[total].where(rows[total] > 0)
            frames.append(
                frame_of(
                    {
                        "user": rows["user"].astype("category").array, "end_ms": rows["end_ms"],
                        "quantity": f"{what}.utilization", "value": used.fillna(0.0), "line": rows["line"],
                        "file": rows["file"],
                    }
                )
            )  # fmt: skip
        else:
            aside.add(int(wide["file"].iloc[0]), 0, f"{what}: one of total and available without the other", len(wide))
    return joined(frames)


def _of_amounts(wide: pd.DataFrame, what: str) -> pd.DataFrame:
    """Total and available of the amounts that together are all there is, as collectd writes them."""
    amounts = {name.removeprefix(f"{what}."): wide[name] for name in wide.columns if name.startswith(f"{what}.")}
    if not {"used", "free"} <= amounts.keys():
        return wide
    names = [name for name in ("free", "buffered", "cached", "slab_recl") if name in amounts]
    available = pd.concat([amounts[name] for name in names], axis=1).sum(axis=1, min_count=1)
    total = pd.concat([*amounts.values()], axis=1).sum(axis=1, min_count=1)
    return wide.assign(**{f"{what}.total": total, f"{what}.available": available})
