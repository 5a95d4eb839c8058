"""Windows into InfluxDB, report by report: what belongs to one is written, or put aside, together.

A report is a line of the host and one for each core, and InfluxDB may refuse any of them alone. Cores whose host
is missing, or a host without some of its cores, would be answered as if that were all there was.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from analytics.sources.influx_client import InfluxClient
from contract.influx import CORES, MEASUREMENTS, USER_ID, between, identifier, tag_literal
from service.stores.influx.lines import window_lines
from service.stores.influx.writing import Writer
from service.stores.series import SeriesIndex
from service.stores.sorted_windows import numbers

_log = logging.getLogger("loadlens.service")
_ITS_REPORT = "another line of this report was refused"

Flags = npt.NDArray[np.bool_]


class WindowWriter:
    """Writes the windows of a flush. One thread at a time; calls raise Unreachable."""

    def __init__(self, client: InfluxClient, writer: Writer, index: SeriesIndex) -> None:
        self._client = client
        self._writer = writer
        self._index = index

    def write(self, windows: pa.Table) -> npt.NDArray[np.int64]:
        """Write windows with the columns of `MEMTABLE_SCHEMA`, sorted by series and time.

        Returns the rows of all reports of which InfluxDB refused a line. They are put aside, and nothing of them is in
        InfluxDB.
        """
        report = _reports(windows, self._index)
        words: dict[int, str] = {}
        # Of a report whose host is refused, no core needs to be tried, and nothing to be taken back.
        hosts = self._written(windows, words, cores=False)
        refused = _marked(report, words)
        cores = self._written(windows, words, cores=True, without=refused)
        refused = _marked(report, words)
        if words:
            self._put_aside(windows, np.flatnonzero(refused), words)
            for measurement, written in ((MEASUREMENTS, hosts), (CORES, cores)):
                self._take_back(measurement, windows, np.flatnonzero(written & refused).tolist())
        return np.flatnonzero(refused)

    def _written(self, windows: pa.Table, words: dict[int, str], *, cores: bool, without: Flags | None = None) -> Flags:
        """Write the lines of hosts, or of cores, adding to `words` those that are refused; which are written."""
        written = np.zeros(len(windows), np.bool_)
        for lines in window_lines(windows, self._index, cores=cores, without=without):
            found = self._writer.try_write([lines])
            written[lines.rows] = True
            written[[one.row for one in found]] = False
            words |= {one.row: one.words for one in found}
        return written

    def _put_aside(self, windows: pa.Table, rows: npt.NDArray[np.int64], words: dict[int, str]) -> None:
        chosen = windows.take(pa.array(rows)).combine_chunks()
        text = {
            int(rows[place]): line
            for cores in (False, True)
            for lines in window_lines(chosen, self._index, cores=cores)
            for place, line in zip(lines.rows.tolist(), lines.text.to_pylist(), strict=True)
        }
        self._writer.put_aside((words.get(row, _ITS_REPORT), text[row]) for row in sorted(text))

    def _take_back(self, measurement: str, windows: pa.Table, rows: Sequence[int]) -> None:
        """Delete points that were written of reports that were not taken as a whole."""
        if self._client.server().generation > 2:
            if len(rows):
                _log.error(
                    "InfluxDB 3 cannot delete: %d points in %s stay, of reports put aside", len(rows), measurement
                )
            return
        for user, end_ms in sorted(set(self._named(windows, rows))):
            where = f"{between(end_ms, end_ms + 1)} AND {identifier(USER_ID)} = {tag_literal(user)}"
            self._client.execute(f"DELETE FROM {identifier(measurement)} WHERE {where}", change=True)

    def _named(self, windows: pa.Table, rows: Iterable[int]) -> Iterator[tuple[str, int]]:
        series, time = numbers(windows, "series"), numbers(windows, "time")
        return ((self._index.all[series[row] - 1].user_id, int(time[row])) for row in rows)


def _reports(windows: pa.Table, index: SeriesIndex) -> npt.NDArray[np.int64]:
    """A number for each row, the same for all of one report: of one user, with one end."""
    series, time = numbers(windows, "series"), numbers(windows, "time")
    users: dict[str, int] = {}
    named, place = np.unique(series, return_inverse=True)
    user = np.array(
        [users.setdefault(index.all[number - 1].user_id, len(users)) for number in named.tolist()], np.int64
    )
    ends, end = np.unique(time, return_inverse=True)
    found: npt.NDArray[np.int64] = user[place] * max(len(ends), 1) + end if len(series) else np.empty(0, np.int64)
    return found


def _marked(report: npt.NDArray[np.int64], rows: Iterable[int]) -> Flags:
    """Which rows are of the reports of some `rows`."""
    return np.isin(report, report[np.array([*rows], np.int64)])
