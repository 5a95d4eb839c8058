"""Frames of windows in other forms: Arrow tables, CSV and spreadsheets, Nixtla's forecasters.

Arrow tables are the form in which a service sends windows and Parquet files keep them. The columns are those of
`analytics.frames.frame`: `time` (ms, UTC), where they are named `user` (dictionary of texts), `core` (int32) and
`device` (text), null for the whole host, and `cores` (int32, how many the host had, null where that is not
known), `count`, `mean`, `var`, `min`, `max`, `approximated`, and where they are asked for `histogram` (large_binary,
`analytics.frames.packing`). Nothing is copied value by value in either direction.
"""

from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from analytics.frames.checking import number_column, with_samples
from analytics.frames.columns import NUMBERS
from analytics.frames.frame import HISTOGRAM, FrameError, histograms_of, in_order, metric_of

_TIME: Final = pa.timestamp("ms", "UTC")
_USER: Final = pa.dictionary(pa.int32(), pa.string())
_WHOLE: Final = ("count", "approximated")


def schema_of(*, users: bool, cores: bool, histograms: bool, sizes: bool = False, devices: bool = False) -> pa.Schema:
    """The columns of a table of windows that names what is asked for."""
    fields = [pa.field("time", _TIME, nullable=False)]
    if users:
        fields.append(pa.field("user", _USER, nullable=False))
    if cores:
        fields.append(pa.field("core", pa.int32()))
    if devices:
        fields.append(pa.field("device", pa.string()))
    if sizes:
        fields.append(pa.field("cores", pa.int32()))
    fields += [pa.field(name, pa.int64() if name in _WHOLE else pa.float64(), nullable=False) for name in NUMBERS]
    if histograms:
        fields.append(pa.field("histogram", pa.large_binary(), nullable=False))
    return pa.schema(fields)


def table_of(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """The table of a frame of windows, with the columns that `schema` names.

    Raises FrameError where the frame lacks one of them.
    """
    missing = [name for name in schema.names if name != "time" and name not in frame]
    if missing:
        raise FrameError(f"expected a frame with {', '.join(schema.names)}, got one without {', '.join(missing)}")
    columns: dict[str, pa.Array] = {"time": pa.array(pd.DatetimeIndex(frame.index).asi8, pa.int64()).view(_TIME)}
    for field in schema:
        if field.name == "user":
            users = frame["user"].array
            codes = pa.array(np.asarray(users.codes, np.int32))
            columns["user"] = pa.DictionaryArray.from_arrays(codes, pa.array(users.categories, pa.string()))
        elif field.name in NUMBERS:
            # As an array it is taken as it is; in a Series pyarrow looks for NaN, of which there are none.
            columns[field.name] = pa.array(frame[field.name].to_numpy(), field.type)
        elif field.name != "time":
            columns[field.name] = pa.array(frame[field.name], field.type)
    return pa.table(columns, schema=schema)


def frame_of(table: pa.Table) -> pd.DataFrame:
    """The frame of a table of windows, as `analytics.frames.frame` describes it; columns of other names are left out.

    The table lets go of each column that was copied, so that a caller who keeps no other hold of it needs little more
    memory than the frame.

    Raises FrameError where a column is missing, or is not what a frame of windows has.
    """
    missing = [name for name in ("time", *NUMBERS) if name not in table.column_names]
    if missing:
        raise FrameError(f"windows have the columns time, {', '.join(NUMBERS)}; {', '.join(missing)} missing")
    arrays = {name: table[name] for name in table.column_names}
    del table
    try:
        index = pd.DatetimeIndex(arrays.pop("time").cast(_TIME, safe=False).to_pandas(), name="time")
        columns = _columns(arrays)
    except pa.ArrowException as error:
        raise FrameError(f"these are no windows: {error}") from None
    return pd.DataFrame(columns, index=index, copy=False)


def _columns(arrays: dict[str, pa.ChunkedArray]) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    if "user" in arrays:
        user = arrays.pop("user")
        if not pa.types.is_dictionary(user.type):
            user = user.cast(pa.string()).dictionary_encode()
        columns["user"] = in_order(user.unify_dictionaries().to_pandas().astype("category").array)
    if "device" in arrays:
        device = arrays.pop("device")
        if not pa.types.is_dictionary(device.type):
            device = device.cast(pa.string()).dictionary_encode()
        columns["device"] = in_order(device.unify_dictionaries().to_pandas().astype("category").array)
    for name in ("core", "cores"):
        if name in arrays:
            columns[name] = arrays.pop(name).to_pandas(types_mapper=_nullable).astype("Int64").array
    for name in NUMBERS:
        columns[name] = arrays.pop(name).cast(pa.int64() if name in _WHOLE else pa.float64()).to_numpy()
    if "histogram" in arrays:
        columns["histogram"] = pd.array(arrays.pop("histogram").cast(pa.large_binary()), dtype=HISTOGRAM)
    return columns


def _nullable(kind: pa.DataType) -> Any:
    return pd.Int64Dtype() if pa.types.is_integer(kind) else None


def to_text(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with its histograms as texts, `bin:count` pairs with blanks between, as the service's CSV has them.

    `analytics.to_text(frame).to_csv("windows.csv")` writes what any tool reads; printed, the frame shows its numbers.
    The column `histogram` stays the last one. Raises FrameError for what is no frame of windows.
    """
    frame = with_samples(frame)
    if "histogram" not in frame:
        return frame
    found = histograms_of(frame)
    pairs = pd.Series([f"{bin_}:{count}" for bin_, count in zip(found.bin.tolist(), found.count.tolist(), strict=True)],
                      index=found.row, dtype="str")  # fmt: skip
    texts = pairs.groupby(level=0).agg(" ".join).reindex(np.arange(len(frame)), fill_value="")
    told = frame.drop(columns="histogram")
    return told.assign(histogram=texts.to_numpy())


def to_nixtla(frame: pd.DataFrame, column: str = "mean") -> pd.DataFrame:
    """The frame as Nixtla's tools (statsforecast, mlforecast, neuralforecast) take it: `unique_id`, `ds`, `y`.

    `unique_id` is the user, `all` where the frame names none; `ds` the moment in UTC, without a time zone, as those
    tools want it; `y` the values of `column`. Sorted by both. Resample first: they expect steps of one width. Raises
    FrameError for what is no frame of windows, for a frame of several metrics or with rows of single cores, and for an
    unknown column.
    """
    frame = with_samples(frame)
    values = number_column(frame, column)
    metric_of(frame)
    for name in ("core", "device"):
        if name in frame and frame[name].notna().any():
            raise FrameError(f"expected rows of whole hosts, got rows of single {name}s: they would be mixed")
    names: Any = frame["user"].astype("str").to_numpy() if "user" in frame else "all"
    moments = pd.DatetimeIndex(frame.index).tz_localize(None)
    told = pd.DataFrame({"unique_id": names, "ds": moments, "y": values.to_numpy()})
    return told.sort_values(["unique_id", "ds"], kind="stable", ignore_index=True)
