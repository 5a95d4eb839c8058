"""Columns of moments as epoch milliseconds: numbers of any unit, texts of any offset, or of a zone without one."""

import re
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analytics.sources.importing.samples import ImportFault, Ints

UNKNOWN_MS, SKIPPED_MS, TWICE_MS = -1, -2, -3
"""What stands for a moment that cannot be read, and for a time that the clocks of its zone skipped, or showed twice."""
_MOSTLY: Final = 0.5
"""Where a larger share of different texts are no moments, the column is none of moments."""
_LAST_MS: Final = 1e15
"""What is later is of no calendar, and of the future anyway."""
_DATES: Final = r"^(?:199\d|20\d\d)(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?)?$"
"""Numbers that are dates: year, month and day, perhaps hour and minute, perhaps second."""
_UNITS: Final = (("s", 2e10, 1e3), ("ms", 2e13, 1.0), ("us", 2e16, 1e-3), ("ns", np.inf, 1e-6))
"""Names, the number below which one is of that unit, and milliseconds in it: all moments from 1970 to 2603."""


def zone_of(name: str) -> ZoneInfo:
    """The time zone of a name such as `Europe/Berlin`; raises ValueError."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"expected a time zone such as Europe/Berlin, got {name}") from None


def milliseconds(column: pa.ChunkedArray, zone: str, form: str | None = None) -> tuple[Ints, str]:
    """Epoch milliseconds of a column, below 0 where there is no moment (`UNKNOWN_MS`), and in words what it was.

    Numbers are seconds, milliseconds, microseconds or nanoseconds, told by their size; where all read as dates,
    `YYYYMMDD` with or without `HHMM` and `SS`, they are dates. Texts are ISO 8601 or of `form` (as strptime takes it);
    without an offset they are of `zone`. Less than a millisecond is cut off.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return milliseconds(column.cast(kind.value_type), zone, form)
    if pa.types.is_timestamp(kind):
        return _of_timestamps(column, zone)
    if pa.types.is_date(kind):
        return _of_timestamps(column.cast(pa.timestamp("ms")), zone)
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        if pa.types.is_integer(kind) and form is None and (dates := _of_dates(column.cast(pa.string()), zone)):
            return dates
        return _of_numbers(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
    if form is None:
        try:
            numbers = pc.cast(column, pa.float64())
        except pa.ArrowInvalid:
            pass
        else:
            dates = _of_dates(column.cast(pa.string()), zone)
            return dates or _of_numbers(numbers.to_numpy(zero_copy_only=False))
    return _of_texts(column.cast(pa.string()), zone, form)


def _of_dates(column: pa.ChunkedArray, zone: str) -> tuple[Ints, str] | None:
    """Moments of numbers that all read as dates of 1990 to 2099; None where they do not.

    As epoch numbers these would be of August 1970 or of 1976, of which nobody has data.
    """
    if not pc.all(pc.match_substring_regex(column.slice(0, 1000), _DATES)).as_py():
        return None
    if not pc.all(pc.match_substring_regex(column, _DATES)).as_py():
        return None
    codes, names = _distinct(column)
    shapes = {len(name) for name in names}
    if len(shapes) != 1:
        return None
    form = "%Y%m%d%H%M%S"[: shapes.pop() - 2]
    each = _local(pd.DatetimeIndex(pd.to_datetime(names, format=form, errors="coerce")), zone)
    return np.where(codes < 0, UNKNOWN_MS, each[codes]), f"{form}, {zone}"


def _of_numbers(numbers: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> tuple[Ints, str]:
    numbers = np.asarray(numbers, np.float64)
    there = np.isfinite(numbers) & (numbers >= 0)
    if not there.any():
        return np.full(len(numbers), UNKNOWN_MS, np.int64), "no moments"
    middle = float(np.median(numbers[there]))
    name, _, scale = next(unit for unit in _UNITS if middle < unit[1])
    # To the microsecond first: 1.7e9 s as a float is exact to 0.2 us, and 12.345 s would become 12344 ms.
    exact = np.floor(np.where(there, numbers, 0.0) * scale + 1e-3 * (scale >= 1))
    exact = np.minimum(exact, _LAST_MS)
    return np.where(there, exact, UNKNOWN_MS).astype(np.int64), f"epoch {name}"


def _of_timestamps(column: pa.ChunkedArray, zone: str) -> tuple[Ints, str]:
    said = f"timestamps, {column.type.tz or zone}"
    if column.type.tz is None:
        moments = pd.DatetimeIndex(column.to_pandas())
        return _local(moments, zone), said
    whole = column.cast(pa.timestamp("ms", "UTC"), safe=False).cast(pa.int64())
    return pc.fill_null(whole, UNKNOWN_MS).to_numpy().astype(np.int64), said


def _of_texts(column: pa.ChunkedArray, zone: str, form: str | None) -> tuple[Ints, str]:
    codes, names = _distinct(column)
    if form is None:
        each, said = _iso(names, zone)
    else:
        try:
            parsed = pd.DatetimeIndex(pd.to_datetime(names, format=form, errors="coerce", utc="%z" in form))
        except (ValueError, TypeError, re.error) as error:
            raise ImportFault(
                f"--time-format: expected directives of strptime, such as '%d/%m/%Y %H:%M:%S', got {form!r}: {error}"
            ) from None
        each, said = (_epoch(parsed), form) if parsed.tz is not None else (_local(parsed, zone), f"{form}, {zone}")
    if len(each) and (each == UNKNOWN_MS).mean() > _MOSTLY:
        raise ImportFault(
            f"expected {form or 'ISO 8601 or epoch numbers'} in the column of times, got {str(names[0])[:40]!r}: "
            "--time-format says how they are written, such as '%d/%m/%Y %H:%M:%S'"
        )
    return np.where(codes < 0, UNKNOWN_MS, each[codes]) if len(each) else np.full(len(codes), UNKNOWN_MS), said


def _distinct(column: pa.ChunkedArray) -> "tuple[Ints, pd.Index[str]]":
    """Texts as numbers and names: each is understood once."""
    coded = column.dictionary_encode().unify_dictionaries().combine_chunks()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.chunk(0) if coded.num_chunks else pa.array([], coded.type)
    codes = pc.fill_null(coded.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return codes, pd.Index(coded.dictionary.to_pandas(), dtype="str").str.strip()


def _iso(names: "pd.Index[str]", zone: str) -> tuple[Ints, str]:
    """Moments of ISO 8601 texts; those without an offset are of `zone`."""
    plain = names.str.replace(r" ?(?:UTC|GMT)$", "Z", regex=True)
    with_offset = np.asarray(
        plain.str.contains(r"(?:[zZ]|(?::\d{2}|[Tt ]\d{2}(?:\d{2}){0,2})(?:[.,]\d+)? ?[+-]\d{2}(?::?\d{2})?)$"),
        np.bool_,
    )
    parsed = pd.DatetimeIndex(pd.to_datetime(plain, format="ISO8601", errors="coerce", utc=True))
    each = _epoch(parsed)
    if len(each) and not with_offset.all():
        each = np.where(with_offset, each, _local(parsed.tz_localize(None), zone))
    return each, "ISO 8601" + ("" if with_offset.all() else f", {zone}")


def _local(moments: pd.DatetimeIndex, zone: str) -> Ints:
    """Wall-clock times of a zone; those that a change of its clocks skips, or makes unclear, are none."""
    known = zone_of(zone)
    found = moments.tz_localize(known, ambiguous="NaT", nonexistent="NaT")
    each = _epoch(found)
    lost = np.asarray(found.isna()) & np.asarray(moments.notna())
    if lost.any():
        once = moments[lost].tz_localize(known, ambiguous="NaT", nonexistent="shift_forward")
        each[lost] = np.where(once.isna(), TWICE_MS, SKIPPED_MS)
    return each


def _epoch(moments: pd.DatetimeIndex) -> Ints:
    whole = moments.as_unit("ms")
    return np.where(whole.isna(), UNKNOWN_MS, whole.asi8)
