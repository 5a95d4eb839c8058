"""Samples brought into Parquet files of windows, which every command reads by `--data`: a file for each metric.

A window that is there already, by host, core and end, stays as it is, so that what is imported twice counts once.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analytics.frames.exchange import frame_of, schema_of, table_of
from analytics.frames.frame import frame_of_values, histograms_of, packed, utc
from analytics.frames.kernel import Histograms
from analytics.sources.importing.samples import WHOLE, Checked, ImportFault
from analytics.sources.parquet_files import metric_of
from contract.metrics import NAMES, QUANTITIES


class Stored(NamedTuple):
    """What became of the windows of one file."""

    path: Path
    added: int
    known: int


def store(checked: Checked, target: Path) -> list[Stored]:
    """Add all windows to the files of a folder, or to one file where `target` ends in `.parquet`.

    Raises ImportFault where one file is to hold several metrics, or holds another; OSError.
    """
    frame = checked.frame
    quantities = [name for name in QUANTITIES if (frame["quantity"] == name).any()]
    one_file = target.suffix == ".parquet"
    if one_file and len(quantities) > 1:
        raise ImportFault(f"expected a folder for several metrics ({', '.join(quantities)}), got the file {target}")
    if not one_file:
        target.mkdir(parents=True, exist_ok=True)
    done = []
    for name in quantities:
        metric = QUANTITIES[name].camel
        path = target if one_file else target / f"{metric}.parquet"
        done.append(_store_one(windows_of(frame[(frame["quantity"] == name).to_numpy()], metric), path, metric))
    return done


def windows_of(samples: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Samples of one quantity as a frame of windows (`analytics.frames.frame`)."""
    plain = samples["count"].isna().to_numpy() if "count" in samples else np.ones(len(samples), np.bool_)
    parts = []
    for some, made in ((samples[plain], _of_values), (samples[~plain], _of_windows)):
        if len(some):
            parts.append(made(some, metric))
    frame = pd.concat(parts) if len(parts) > 1 else parts[0]
    frame.attrs = {"metric": metric, "unit": NAMES[metric].quantity.unit}
    return frame


def _cores(samples: pd.DataFrame) -> Any:
    core = samples["core"].to_numpy(np.int64)
    return pd.arrays.IntegerArray(np.maximum(core, 0), core == WHOLE)


def _of_values(samples: pd.DataFrame, metric: str) -> pd.DataFrame:
    values = pd.DataFrame({"value": samples["value"].to_numpy(), "user": samples["user"].array})
    values.index = utc(samples["end_ms"].to_numpy(np.int64))
    frame = frame_of_values(values, metric=metric)
    frame.insert(1, "core", _cores(samples))
    return frame


def _of_windows(samples: pd.DataFrame, metric: str) -> pd.DataFrame:
    columns = {"user": samples["user"].array, "core": _cores(samples)}
    columns |= {"count": samples["count"].to_numpy(np.int64), "mean": samples["value"].to_numpy()}
    columns |= {name: samples[name].to_numpy() for name in ("var", "min", "max")}
    columns |= {"approximated": samples["approximated"].to_numpy(np.int64)}
    found = histograms_of(samples) if samples["histogram"].notna().any() else None
    columns["histogram"] = (
        packed(found, len(samples)) if found is not None else packed(Histograms.empty(), len(samples))
    )
    return pd.DataFrame(columns, index=utc(samples["end_ms"].to_numpy(np.int64)))


def _store_one(frame: pd.DataFrame, path: Path, metric: str) -> Stored:
    known = _known(path, metric)
    every = frame if known is None else pd.concat([known, frame])
    keys = pd.DataFrame(
        {
            "user": every["user"].astype(str).to_numpy(), "core": every["core"].fillna(WHOLE).to_numpy(np.int64),
            "time": pd.DatetimeIndex(every.index).asi8,
        }
    )  # fmt: skip
    again = keys.duplicated().to_numpy()
    before = 0 if known is None else len(known)
    added = int((~again[before:]).sum())
    if added:
        every = every[~again]
        order = keys[~again].reset_index(drop=True).sort_values(["user", "time", "core"], kind="stable").index
        every = every.iloc[order.to_numpy()].assign(user=lambda rows: rows["user"].astype("category"))
        schema = schema_of(users=True, cores=True, histograms=True)
        unit = NAMES[metric].quantity.unit
        table = table_of(every, schema).replace_schema_metadata({"metric": metric, "unit": unit})
        part = path.with_name(path.name + ".part")
        pq.write_table(table, part, compression="zstd")
        part.replace(path)
    return Stored(path, added, len(frame) - added)


def _known(path: Path, metric: str) -> pd.DataFrame | None:
    """The windows of a file that is there already."""
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        held = metric_of(path, table.schema)
        if held != metric:
            raise ImportFault(f"{path}: expected windows of {metric}, got those of {held}")
        frame = frame_of(table)
    except (pa.ArrowException, ValueError) as error:
        if isinstance(error, ImportFault):
            raise
        raise ImportFault(f"{path}: expected windows, got {error}") from None
    if "user" not in frame:
        raise ImportFault(f"{path}: expected windows that name their hosts in a column user, got none")
    if "core" not in frame:
        frame = frame.assign(core=pd.array([pd.NA] * len(frame), "Int64"))
    if "histogram" not in frame:
        frame["histogram"] = packed(Histograms.empty(), len(frame))
    return frame
