"""What every reader of a form gives: readings of fields, and what was understood in words."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from analytics.sources.importing.fields import Field, Unit
from analytics.sources.importing.samples import WHOLE, Ints, repeated
from contract.metrics import LAST_CORE

_WHOLE_NAMES: Final = frozenset({"", "all", "total", "cpu-total", "cpu_total", "_total", "-1", "cpu", "aggregate"})
UNKNOWN_CORE: Final = -2
NO_CORE: Final = "a core that is no number, nor all of them"
_LONG: Final = 20
"""Numbers of so many digits are none of a core."""


@dataclass(frozen=True, slots=True)
class Hints:
    """What a person says of files that cannot be guessed, or was guessed wrong; columns as the file names them."""

    time: str | None = None
    host: str | None = None
    value: str | None = None
    core: str | None = None
    metric: str | None = None
    """The stored name of the quantity that values are of."""
    unit: Unit = "guess"
    zone: str = "UTC"
    """The zone of times without an offset."""
    time_format: str | None = None
    """How times are written, as strptime has it."""
    host_name: str | None = None
    """The host, where the file names none."""
    mapping: Path | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file says: readings or windows, in frames."""

    readings: pd.DataFrame
    """As `deriving` describes it; empty where the file has windows of our own."""
    fields: Sequence[Field] = ()
    said: Sequence[str] = ()
    """What was understood, a line each."""
    windows: pd.DataFrame | None = None
    """Samples (`samples`) of windows of our own, which need no deriving."""
    round_ms: int = 0
    """Moments of a host that are less apart than this are of one round of readings, and count as its last."""
    systems: dict[str, tuple[str, str]] = field(default_factory=dict)
    """What hosts run, where the file says so: kind of system and its version."""


def frame_of_readings(columns: dict[str, Any]) -> pd.DataFrame:
    """A frame of readings; `core`, `device`, `field`, `line` and `file` may be left out, or be one for all rows."""
    rows = len(columns["value"])
    defaults: dict[str, Any] = {"core": WHOLE, "device": "", "field": 0, "line": 0, "file": 0}
    made: dict[str, Any] = {}
    for name, given in (defaults | columns).items():
        if name == "user":
            made[name] = (
                repeated(given, rows) if isinstance(given, str)
                else given if isinstance(given, pd.Categorical) else pd.Categorical(given)
            )  # fmt: skip
        elif name == "device":
            made[name] = pd.Categorical([given] * rows if isinstance(given, str) else given)
        else:
            made[name] = np.full(rows, given) if np.isscalar(given) else np.asarray(given)
    return pd.DataFrame(made)


def together(readings: Sequence[Reading]) -> Reading:
    """The readings of several files of one form as one, so that units are told by all of them."""
    readings = [one for one in readings if len(one.readings)]
    if not readings:
        return Reading(frame_of_readings({"user": [], "end_ms": [], "value": []}))
    fields: list[Field] = []
    frames = []
    for one in readings:
        fields += [known for known in one.fields if known not in fields]
        place = np.array([fields.index(known) for known in one.fields])
        frames.append(one.readings.assign(field=place[one.readings["field"].to_numpy()]))
    return replace(readings[0], readings=concatenated(frames), fields=fields)


def in_rounds(frame: pd.DataFrame, round_ms: int) -> pd.DataFrame:
    """Readings of one round given one moment, the last of them."""
    moments = frame[["user", "end_ms"]].drop_duplicates().sort_values(["user", "end_ms"])
    user, end_ms = moments["user"].cat.codes.to_numpy(), moments["end_ms"].to_numpy()
    begins = (
        np.append(True, (np.diff(user) != 0) | (np.diff(end_ms) >= round_ms)) if len(moments) else np.array([], bool)
    )
    last = moments["end_ms"].groupby(np.cumsum(begins)).transform("max")
    placed = frame[["user", "end_ms"]].merge(moments.assign(last=last), on=["user", "end_ms"], how="left")
    return frame.assign(end_ms=placed["last"].to_numpy(np.int64))


def concatenated(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several frames of readings, one below the other."""
    if len(frames) == 1:
        return frames[0]
    columns = {name: [frame[name] for frame in frames] for name in frames[0].columns}
    # Each name is looked up once. That every frame has all names, pandas would do for each of them anew.
    return pd.DataFrame({
        name: _together(parts) if name in ("user", "device") else pd.concat(parts, ignore_index=True)
        for name, parts in columns.items()
    })  # fmt: skip


def _together(parts: Sequence["pd.Series[Any]"]) -> Any:
    """Columns of names, one below the other; the names in their order."""
    names = sorted({str(name) for part in parts for name in part.array.categories})
    places = {name: place for place, name in enumerate(names)}
    codes = []
    for part in parts:
        # A code of -1, for no name, finds the last.
        found = np.array([*(places[str(name)] for name in part.array.categories), -1], np.int64)
        codes.append(found[part.array.codes])
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=pd.CategoricalDtype(names))


def core_of(name: str) -> int:
    """The number of a core by its name: `3`, `cpu3`, `cpu-3`; -1 for the whole host, -2 for what is neither."""
    told = name.strip().lower()
    if told in _WHOLE_NAMES:
        return WHOLE
    digits = told.removeprefix("cpu").lstrip("-_ ")
    number = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < _LONG else UNKNOWN_CORE
    return number if number <= LAST_CORE else UNKNOWN_CORE


def cores_of(names: "pd.Series[Any] | pd.Categorical") -> Ints:
    """The numbers of cores of a column of names; each different one is understood once."""
    coded = pd.Categorical(names)
    numbers = np.array([core_of(_text(name)) for name in coded.categories] + [WHOLE], np.int64)
    found: Ints = numbers[np.asarray(coded.codes)]
    return found


def _text(name: object) -> str:
    return str(int(name)) if isinstance(name, float) and name.is_integer() else str(name)
