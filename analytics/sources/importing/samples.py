"""Samples as an import has them: one row each, checked, and what was set aside with the reason.

A frame of samples has the columns

============  ========  ================================================================================
column        dtype     what
==============================================================================================================
`user`        category  whose
`end_ms`      int64     the moment of the sample: the end of what it stands for, epoch milliseconds
`core`        int64     which core; -1 for the whole host
`quantity`    category  the stored name of the quantity (`contract.metrics.QUANTITIES`)
`value`       float64   in the unit of the quantity: shares in [0, 1]
`line`        int64     where it stands in its file, from 1; 0 where the form has no lines
`file`        int64     which file, as `SetAside.files` numbers them
============  ========  ================================================================================

Samples of our own windows also have `count`, `var`, `min`, `max`, `approximated` and `histogram`
(`analytics.frames.frame`). After `checked` they have `start_ms` too.
"""

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from contract.metrics import QUANTITIES
from contract.report import FUTURE_MS
from contract.selectors import MAX_USER_ID
from contract.times import MINUTE_MS, SECONDS_BELOW

WHOLE: Final = -1
"""The number in `core` of the whole host."""
COLUMNS: Final = ("user", "end_ms", "core", "quantity", "value", "line", "file")
CLIPPED_ABOVE: Final = 0.05
"""A share that is above 1 by at most this is clipped to 1: counters are read a moment apart."""
CLIPPED_BELOW: Final = 0.005
"""A share that is below 0 by at most this is clipped to 0."""
MAX_ASIDE: Final = 10_000
"""So many rows that are set aside are listed; all are counted."""
_NUMBER_SLACK: Final = 1e-9
MAYBE_CUT: Final = (
    "the end of the file, without the end of a line: its last cell is shorter than all above it, or begins another, so "
    "it may be cut; with a line break behind it, it counts"
)
NO_MOMENT: Final = {
    -1: "no moment where the time stands",
    -2: "a time that was not: the clocks of its zone skipped it when they were put forward (--tz)",
    -3: "a time that was twice: the clocks of its zone were put back (--tz); its offset, such as +01:00, tells",
}
"""What is said of what stands for a moment (`moments`)."""
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


class ImportFault(ValueError):
    """A file, or a setting, that an import cannot go on with; the message is one line that says what would be right."""


@dataclass
class SetAside:
    """Rows that are not taken, each with its file, line and reason; the first `MAX_ASIDE` of them."""

    files: list[str] = field(default_factory=list)
    """The names of the files, by number."""
    rows: list[tuple[int, int, str]] = field(default_factory=list)
    """File, line and reason."""
    counts: Counter[str] = field(default_factory=Counter)
    """How many rows for each reason."""

    def number_of(self, file: str) -> int:
        """The number of a file in the list of files, to which it is added if it is new."""
        if file not in self.files:
            self.files.append(file)
        return self.files.index(file)

    def add(self, file: int, line: int, reason: str, count: int = 1) -> None:
        """Set one row aside, or `count` that are listed as one."""
        self.counts[reason] += count
        if len(self.rows) < MAX_ASIDE:
            self.rows.append((file, line, reason))

    def take(self, frame: pd.DataFrame, wrong: Bools, reason: str) -> pd.DataFrame:
        """The rows of a frame that are not `wrong`; the others are set aside."""
        if not wrong.any():
            return frame
        self.counts[reason] += int(wrong.sum())
        room = MAX_ASIDE - len(self.rows)
        if room > 0:
            some = frame.loc[wrong, ["file", "line"]].iloc[:room]
            self.rows += [(int(file), int(line), reason) for file, line in some.itertuples(index=False)]
        return frame[~wrong]

    @property
    def count(self) -> int:
        """How many rows were set aside."""
        return self.counts.total()

    def write(self, path: Path) -> None:
        """Write the rows as CSV: `file,line,reason`, in the order of files and lines. Raises OSError."""
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("file", "line", "reason"))
            table.writerows((self.files[number], line, reason) for number, line, reason in sorted(self.rows))


def repeated(text: str, rows: int) -> Any:
    """A text as the category of all rows."""
    return pd.Categorical([text]).take(np.zeros(rows, np.intp))


def frame_of(columns: dict[str, Any]) -> pd.DataFrame:
    """A frame of samples of columns; single values stand for all rows, and `core` and `line` may be left out."""
    rows = len(columns["value"])
    whole = {"core": WHOLE, "line": 0, "file": 0} | columns
    made: dict[str, Any] = {}
    for name, given in whole.items():
        if name in ("user", "quantity"):
            made[name] = (
                repeated(given, rows) if isinstance(given, str)
                else given if isinstance(given, pd.Categorical) else pd.Categorical(given)
            )  # fmt: skip
        elif np.isscalar(given):
            made[name] = np.full(rows, given)
        else:
            made[name] = np.asarray(given) if name in COLUMNS else given
    return pd.DataFrame(made)


def joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    """Several frames of samples as one."""
    frames = [frame for frame in frames if len(frame)]
    if not frames:
        return frame_of({"user": [], "end_ms": [], "quantity": [], "value": []})
    if len(frames) == 1:
        return frames[0]
    for name in ("user", "quantity"):
        together = pd.CategoricalDtype(
            pd.Index(sorted({one for frame in frames for one in frame[name].cat.categories}))
        )
        frames = [frame.assign(**{name: frame[name].astype(together)}) for frame in frames]
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True, slots=True)
class Checked:
    """Samples that can be kept."""

    frame: pd.DataFrame
    """Sorted by user, quantity, moment and core."""
    clipped: int
    """Shares that were a little out of [0, 1], and were clipped."""
    repeated: int
    """Rows that were there twice, with the same value, and count once."""


def checked(frame: pd.DataFrame, aside: SetAside, now_ms: int, interval_ms: int | None = None) -> Checked:
    """The samples that can be kept, each with the `start_ms` of its window; the others are set aside.

    A sample is the window of `interval_ms` that ends at its moment. Without that the interval is the median distance
    between neighbouring samples of its host and quantity, and a minute where there is one sample only.
    """
    frame = aside.take(frame, frame["value"].isna().to_numpy(), "no number where the value stands")
    for mark, reason in NO_MOMENT.items():
        frame = aside.take(frame, (frame["end_ms"] == mark).to_numpy(), reason)
    frame = _named(frame, aside)
    end_ms = frame["end_ms"]
    early = (end_ms < SECONDS_BELOW).to_numpy()
    frame = aside.take(frame, early, "a moment before August 1970: is it in seconds?")
    late = (frame["end_ms"] > now_ms + FUTURE_MS).to_numpy()
    frame = aside.take(frame, late, "a moment in the future")
    frame, clipped = _in_range(frame, aside)
    frame = frame.sort_values(["user", "quantity", "end_ms", "core"], kind="stable", ignore_index=True)
    frame, repeated = _once(frame, aside)
    return Checked(frame.assign(start_ms=_starts(frame, interval_ms)), clipped, repeated)


def _named(frame: pd.DataFrame, aside: SetAside) -> pd.DataFrame:
    frame = aside.take(frame, frame["user"].isna().to_numpy(), "no name where the host stands")
    names = [str(name) for name in frame["user"].cat.categories]
    wrong = [not 0 < len(name) <= MAX_USER_ID or not name.isprintable() for name in names]
    if any(wrong):
        bad = np.array(wrong)[frame["user"].cat.codes.to_numpy()]
        frame = aside.take(frame, bad, f"a host's name that is not 1 to {MAX_USER_ID} printable characters")
    used = frame["user"].cat.remove_unused_categories()
    ordered = used.cat.rename_categories([str(name) for name in used.cat.categories])
    return frame.assign(user=ordered.cat.reorder_categories(sorted(ordered.cat.categories)))


def _in_range(frame: pd.DataFrame, aside: SetAside) -> tuple[pd.DataFrame, int]:
    names = [str(name) for name in frame["quantity"].cat.categories]
    bounded = np.array([QUANTITIES[name].bounded for name in names], np.bool_)[frame["quantity"].cat.codes.to_numpy()]
    value = frame["value"].to_numpy(np.float64)
    wrong = bounded & ((value > 1 + CLIPPED_ABOVE) | (value < -CLIPPED_BELOW))
    wrong |= ~bounded & ((value < 0) | (value > 1e18))
    wrong |= ~np.isfinite(value)
    frame = aside.take(
        frame, wrong, f"out of range: shares from {-CLIPPED_BELOW:.1%} to {1 + CLIPPED_ABOVE:.0%}, others at least 0"
    )
    bounded, value = bounded[~wrong], value[~wrong]
    out = bounded & ((value > 1) | (value < 0))
    clipped = int((out & ((value > 1 + _NUMBER_SLACK) | (value < -_NUMBER_SLACK))).sum())
    return frame.assign(value=np.where(out, np.clip(value, 0.0, 1.0), value)), clipped


def _once(frame: pd.DataFrame, aside: SetAside) -> tuple[pd.DataFrame, int]:
    """Each window once: the first of those that are of one host, quantity, core and moment."""
    if len(frame) < 2:
        return frame, 0
    same = np.ones(len(frame), np.bool_)
    same[0] = False
    for column in (frame["user"].cat.codes, frame["quantity"].cat.codes, frame["end_ms"], frame["core"]):
        numbers = column.to_numpy()
        same[1:] &= numbers[1:] == numbers[:-1]
    if not same.any():
        return frame, 0
    first = np.maximum.accumulate(np.where(same, 0, np.arange(len(frame))))
    value = frame["value"].to_numpy()
    other = same & (value != value[first])
    repeated = int((same & ~other).sum())
    aside.take(frame, other, "another value for the same host and moment; the first counts")
    return frame[~same].reset_index(drop=True), repeated


def _starts(frame: pd.DataFrame, interval_ms: int | None) -> Ints:
    """When the window of each sample begins, of a sorted frame."""
    end_ms = frame["end_ms"].to_numpy(np.int64)
    if interval_ms is not None:
        return _not_before(end_ms - interval_ms)
    group = frame["user"].cat.codes.to_numpy(np.int64) * len(QUANTITIES) + frame["quantity"].cat.codes.to_numpy()
    apart = np.diff(end_ms)
    between = (np.diff(group) == 0) & (apart > 0)
    medians = pd.Series(apart[between]).groupby(group[1:][between]).median()
    length = pd.Series(group).map(medians).fillna(MINUTE_MS).to_numpy(np.int64)
    return _not_before(end_ms - length)


def _not_before(start_ms: Ints) -> Ints:
    earliest: Ints = np.maximum(start_ms, SECONDS_BELOW)
    return earliest
