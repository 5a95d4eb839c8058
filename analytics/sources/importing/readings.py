"""What every reader of a form gives: readings of fields, and what was understood in words."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.sources.importing.fields import Field, Unit
from analytics.sources.importing.samples import WHOLE, Ints
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


_NAMES: Final = ("user", "device")
_LEFT_OUT: Final[dict[str, Any]] = {"core": WHOLE, "device": "", "field": 0, "line": 0, "file": 0}


def frame_of_readings(columns: dict[str, Any]) -> pd.DataFrame:
    """A frame of readings; `core`, `device`, `field`, `line` and `file` may be left out, or be one for all rows."""
    return frame_of_pieces([columns])


def frame_of_pieces(pieces: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One frame of the readings of all pieces, one below the other; each piece as `frame_of_readings` takes it.

    A table may have a piece for each of thousands of columns: a frame is made once and not for each of them.
    """
    if not pieces:
        return frame_of_readings({"user": [], "end_ms": [], "value": []})
    rows = [len(piece["value"]) for piece in pieces]
    made = {}
    for name in _LEFT_OUT | pieces[0]:
        given = [piece.get(name, _LEFT_OUT.get(name)) for piece in pieces]
        made[name] = _names(given, rows) if name in _NAMES else _numbers(given, rows)
    return pd.DataFrame(made)


def _numbers(given: Sequence[Any], rows: Sequence[int]) -> npt.NDArray[Any]:
    if all(map(np.isscalar, given)):
        return np.repeat(np.asarray(given), rows)
    parts = [np.full(many, one) if np.isscalar(one) else np.asarray(one) for one, many in zip(given, rows, strict=True)]
    return np.concatenate(parts)


def _names(given: Sequence[Any], rows: Sequence[int]) -> Any:
    """Names of all rows, which are one text or a column each; their categories in order."""
    columns = [one if isinstance(one, str | pd.Categorical) else pd.Categorical(one) for one in given]
    if len(columns) == 1 and isinstance(columns[0], pd.Categorical):
        return columns[0]
    categories = sorted({name for one in columns for name in _categories(one)})
    places = {name: place for place, name in enumerate(categories)}
    codes = []
    for one, many in zip(columns, rows, strict=True):
        # A code of -1, for no name, finds the last.
        found = np.array([*(places[name] for name in _categories(one)), -1], np.int64)
        codes.append(np.full(many, found[0]) if isinstance(one, str) else found[one.codes])
    return pd.Categorical.from_codes(np.concatenate(codes), dtype=pd.CategoricalDtype(categories))


def _categories(column: str | pd.Categorical) -> list[str]:
    return [column] if isinstance(column, str) else [*map(str, column.categories)]


def together(readings: Sequence[Reading]) -> Reading:
    """The readings of several files of one form as one, so that units are told by all of them."""
    readings = [one for one in readings if len(one.readings)]
    if not readings:
        return Reading(frame_of_readings({"user": [], "end_ms": [], "value": []}))
    fields: list[Field] = []
    pieces = []
    for one in readings:
        fields += [known for known in one.fields if known not in fields]
        place = np.array([fields.index(known) for known in one.fields])
        columns = {str(name): column.array if name in _NAMES else column for name, column in one.readings.items()}
        pieces.append(columns | {"field": place[one.readings["field"].to_numpy()]})
    return replace(readings[0], readings=frame_of_pieces(pieces), fields=fields)


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
