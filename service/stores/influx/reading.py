"""Reads: the windows and buckets that InfluxDB holds, as rows with our numbers of series."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.columns import Windows
from analytics.sources.influx_client import InfluxClient
from analytics.sources.influx_points import Points, condition, frame_of, select
from contract.influx import USER_ID, fields_of, identifier, measurement_of, tag_value
from contract.metrics import Quantity
from service.stores.keys import Keys
from service.stores.series import WHOLE, SeriesIndex
from service.stores.sorted_windows import LoadedRows

Ints = npt.NDArray[np.int64]


class NumberedRows:
    """Rows of a rollup, each with the number of the part that it is of its bucket: one number for a bucket."""

    def __init__(self, rows: Windows, parts: Ints) -> None:
        self.rows = rows
        self.parts = parts
        self._keys = Keys(rows.series, rows.time)
        self._times, first = np.unique(rows.time, return_index=True)
        self._of_time = parts[first]

    def hold(self, series: Ints, time: Ints, part: Ints) -> npt.NDArray[np.bool_]:
        """Which rows are among them."""
        place = np.minimum(np.searchsorted(self._times, time), len(self._times) - 1)
        found: npt.NDArray[np.bool_] = self._keys.hold(series, time) & (part == self._of_time[place])
        return found


class Reader:
    """Reads one database. Calls raise Unreachable or Refused."""

    def __init__(self, client: InfluxClient, index: SeriesIndex) -> None:
        self._client = client
        self._index = index

    def rows(
        self, points: Points, *, histograms: bool, numbered: bool = False, unless: NumberedRows | None = None
    ) -> Iterator[LoadedRows]:
        """The points as frames of windows, a part at a time; only those of series that the index knows.

        Of rollups, only the parts that are `numbered`, and none of those of `unless`.
        """
        if unless is not None or numbered:
            points = replace(points, parts=True)
        for step in points.steps(len(points.users), self._client.server().generation):
            found = select(self._client, step, histograms=histograms)
            if len(found):
                frame = frame_of(found, step, histograms=histograms)
                series = self._series(found, step)
                wanted = series > 0
                if numbered:
                    wanted &= found["part"].to_numpy() >= 0
                if unless is not None:
                    wanted &= ~unless.hold(series, found["time"].to_numpy(), found["part"].to_numpy())
                frame = frame.drop(columns=["user", "core"], errors="ignore")
                rows = LoadedRows(series, frame).take(wanted)
                if len(rows.series):
                    yield rows

    def windows(self, points: Points, *, numbered: bool = False) -> Iterator[Windows]:
        """The points as plain arrays, with their histograms, a part at a time."""
        return (rows.windows() for rows in self.rows(points, histograms=True, numbered=numbered))

    def as_came(self, points: Points) -> pa.Table:
        """Windows with the columns of `SCHEMA`, nothing filled in; of a core's, `duration` is 0."""
        found = select(self._client, points, histograms=True, durations=points.cores == "whole")
        series = self._series(found, points)
        columns = {"series": series, "time": found["time"]}
        columns["duration"] = found["duration"] if points.cores == "whole" else np.zeros(len(found), np.int64)
        columns |= {name: found[name] for name in ("count", "mean", "variance", "minimum", "maximum", "histogram")}
        return pa.table(columns).take(pa.array(np.flatnonzero(series > 0)))

    def ends(self, quantity: Quantity, start_ms: int, end_ms: int, users: Sequence[str]) -> tuple[list[str], Ints]:
        """User and end of each window of hosts in [start, end)."""
        mean = fields_of(quantity).mean
        rows = self._client.select(
            f"SELECT {identifier(mean)}, {identifier(USER_ID)} FROM {identifier(measurement_of())}"
            f" WHERE {condition(users, start_ms, end_ms)}",
            {"time": pa.int64(), mean: pa.float64(), USER_ID: pa.string()},
        )
        rows = rows.filter(pc.is_valid(rows[mean]))
        return [tag_value(user) for user in rows[USER_ID].to_pylist()], rows["time"].to_numpy()

    def _series(self, rows: pa.Table, points: Points) -> Ints:
        """Our number of each row's series, 0 where we have none."""
        core, cores = np.zeros(len(rows), np.int64), pd.Index([WHOLE])
        if "core" in rows.column_names:
            core, cores = pd.factorize(rows["core"].to_numpy())
        users = rows["user"].combine_chunks()
        known = [self._index.cores(user, points.quantity.name) for user in users.dictionary.to_pylist()]
        numbers = np.array([[of_user.get(one, 0) for one in cores] for of_user in known], np.int64)
        found: Ints = numbers[users.indices.to_numpy(), core]
        return found
