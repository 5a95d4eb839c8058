"""SQL over windows: frames copied into a DuckDB database in memory, which is then shut off from everything else.

The tables are

=========  ====================================================================================================
`windows`  `metric`, `time` (TIMESTAMP, UTC), `user`, `count`, `mean`, `var`, `std`, `min`, `max`, `approximated`
`bins`     `metric`, `time`, `user`, `value`, `count`: a row for each bin in use, its value as a number in the unit
           of the metric
=========  ====================================================================================================

Means weighed by `count` add up to the mean of all samples, and counts of `bins` to their histogram, over any rows.
"""

from collections.abc import Sequence

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa

from analytics.frames.checking import with_samples
from analytics.frames.frame import bins_of, histograms_of

_STATEMENTS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
_WINDOWS = pa.schema(
    [
        ("metric", pa.string()), ("time", pa.timestamp("ms")), ("user", pa.string()), ("count", pa.int64()),
        ("mean", pa.float64()), ("var", pa.float64()), ("std", pa.float64()), ("min", pa.float64()),
        ("max", pa.float64()), ("approximated", pa.int64()),
    ]
)  # fmt: skip
_BINS = pa.schema(
    [("metric", pa.string()), ("time", pa.timestamp("ms")), ("user", pa.string()), ("value", pa.float64()),
     ("count", pa.int64())]
)  # fmt: skip


class SqlError(ValueError):
    """A question that cannot be answered; the message is DuckDB's."""


def ask(query: str, frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The answer to one SELECT over frames of windows, as a frame; moments are UTC.

    Raises SqlError for anything but one SELECT (or EXPLAIN, DESCRIBE, SUMMARIZE), for a question that is wrong, and for
    one that asks for files, other databases or the network.
    """
    with duckdb.connect(":memory:") as database:
        for name, schema, made in (("windows", _WINDOWS, _windows), ("bins", _BINS, _bins)):
            table = pa.concat_tables([schema.empty_table(), *(made(frame) for frame in frames)])
            database.register("given", table)
            database.execute(f"CREATE TABLE {name} AS SELECT * FROM given")
            database.unregister("given")
        database.execute("SET TimeZone = 'UTC'")
        database.execute("SET python_enable_replacements = false")
        database.execute("SET enable_external_access = false")
        database.execute("SET lock_configuration = true")
        try:
            statements = database.extract_statements(query)
            if len(statements) != 1 or statements[0].type not in _STATEMENTS:
                raise SqlError("expected one SELECT, got " + (f"{len(statements)} statements" if len(statements) != 1
                               else f"a statement of type {statements[0].type.name}"))  # fmt: skip
            found: pa.Table = database.sql(query).to_arrow_table()
        except duckdb.Error as error:
            raise SqlError(str(error)) from None
    return _frame(found)


def _frame(found: pa.Table) -> pd.DataFrame:
    names: list[str] = []
    for place, given in enumerate(found.column_names):
        name = given
        if name in names:
            name = f"{given}_{place}"
            while name in names or name in found.column_names:
                name += "_"
        names.append(name)
    frame: pd.DataFrame = found.rename_columns(names).to_pandas()
    for name in frame.select_dtypes("datetime"):
        frame[name] = frame[name].dt.tz_localize("UTC")
    return frame


def _labels(frame: pd.DataFrame, rows: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> dict[str, object]:
    time = pd.DatetimeIndex(frame.index).asi8[rows]
    user = frame["user"].astype("str").to_numpy(object)[rows] if "user" in frame else [None] * len(rows)
    return {
        "metric": pa.array([str(frame.attrs.get("metric", "cpuLoadAvg"))] * len(rows), pa.string()),
        "time": pa.array(time, pa.int64()).cast(pa.timestamp("ms")), "user": pa.array(user, pa.string()),
    }  # fmt: skip


def _windows(frame: pd.DataFrame) -> pa.Table:
    told = with_samples(frame)
    columns = _labels(told, np.arange(len(told)))
    columns |= {name: told[name].to_numpy() for name in ("count", "mean", "var", "min", "max", "approximated")}
    return pa.table(columns | {"std": np.sqrt(told["var"].to_numpy())}).select(_WINDOWS.names).cast(_WINDOWS)


def _bins(frame: pd.DataFrame) -> pa.Table:
    told = with_samples(frame)
    if "histogram" not in told:
        return _BINS.empty_table()
    found = histograms_of(told)
    bins = bins_of(told)
    used, place = np.unique(found.bin, return_inverse=True)
    values = np.array([bins.value(one) for one in used.tolist()], np.float64)
    columns = _labels(told, found.row) | {"value": values[place], "count": found.count}
    return pa.table(columns).select(_BINS.names).cast(_BINS)
