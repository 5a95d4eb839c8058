"""Files read whatever their form, which is told by their content; the entry of this room."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from analytics.frames.progress import progress
from analytics.sources.importing import collectd, line_protocol, prometheus, sysstat
from analytics.sources.importing.deriving import samples_of, unit_of
from analytics.sources.importing.influx import Database, read_database
from analytics.sources.importing.mapping import Mapping, load_mapping, read_mapped
from analytics.sources.importing.readings import Hints, Reading, in_rounds, together
from analytics.sources.importing.samples import Checked, ImportFault, SetAside, checked, joined
from analytics.sources.importing.table_files import read_csv, read_parquet
from analytics.sources.importing.tables import read_table

_HEAD: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Understood:
    """What was understood of some files, and what was set aside."""

    checked: Checked
    """The samples that can be kept."""
    aside: SetAside
    said: Sequence[str]
    """What was understood, a line each."""
    systems: dict[str, tuple[str, str]]
    """What hosts run, where files say so."""


def read(
    paths: Sequence[Path],
    hints: Hints,
    now_ms: int,
    interval_ms: int | None = None,
    databases: Sequence[Database] = (),
) -> Understood:
    """What files, all files in folders, and databases say.

    Raises ImportFault, whose message names the file or database, and OSError.
    """
    aside = SetAside()
    mapping = load_mapping(hints.mapping) if hints.mapping is not None else None
    readings: list[Reading] = []
    said: list[str] = []
    files = [file for path in paths for file in _files(path)]
    if not files and not databases:
        raise ImportFault(f"{paths[0]}: expected files, got an empty folder")
    with progress("Reading", len(files)) as step:
        for path in files:
            try:
                found = _read_one(path, aside.number_of(str(path)), hints, mapping, aside)
            except ImportFault as error:
                raise ImportFault(f"{path}: {error}") from None
            readings += found
            for one in found:
                said += [f"{path.name}: {line}" for line in one.said]
            step()
    for database in databases:
        name = str(database.address)
        try:
            readings.append(read_database(database, aside.number_of(name), hints, mapping, aside))
        except ImportFault as error:
            raise ImportFault(f"{name}: {error}") from None
        said += [f"{name}: {line}" for line in readings[-1].said]
    gathered = _gathered(readings)
    fields = [
        replace(field, unit=hints.unit) if hints.unit != "guess" and field.unit == "guess" else field
        for field in gathered.fields
    ]
    said += [
        f"{what}: values are taken as {unit}, by the highest (--unit says otherwise)"
        for what, unit in unit_of(fields, gathered.readings).items()
        if what == "state" or what.endswith(".utilization")
    ]
    samples = samples_of(gathered.readings, fields, aside)
    windows = [one.windows for one in readings if one.windows is not None]
    every = joined([samples, *windows])
    systems = {name: system for one in readings for name, system in one.systems.items()}
    return Understood(checked(every, aside, now_ms, interval_ms), aside, _once(said), systems)


def _gathered(readings: Sequence[Reading]) -> Reading:
    """All readings as one, with those of one round at one moment."""
    plain = [one for one in readings if not one.round_ms]
    rounds = [one for one in readings if one.round_ms]
    if not rounds:
        return together(plain)
    told = together(rounds)
    round_ms = max(one.round_ms for one in rounds)
    return together([*plain, replace(told, readings=in_rounds(told.readings, round_ms))])


def _once(said: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(said))


def _files(path: Path) -> list[Path]:
    """A file, or those in a folder; a folder of Parquet files in folders such as `host=web-1` is one."""
    if not path.is_dir():
        return [path]
    files = sorted(one for one in path.rglob("*") if one.is_file() and not one.name.startswith((".", "_")))
    inner = [one.relative_to(path).parts[:-1] for one in files]
    is_hive = any("=" in part for parts in inner for part in parts) and all(one.suffix == ".parquet" for one in files)
    return [path] if is_hive else files


def _read_one(path: Path, file: int, hints: Hints, mapping: Mapping | None, aside: SetAside) -> Sequence[Reading]:
    read_as = read_table if mapping is None else partial(read_mapped, mapping)
    if path.is_dir():
        return read_parquet(path, file, hints, aside, read_as)
    with path.open("rb") as opened:
        head = opened.read(_HEAD)
    if head.startswith(b"PAR1"):
        return read_parquet(path, file, hints, aside, read_as)
    if not head.strip():
        raise ImportFault("expected something to import, got an empty file")
    binary = _read_binary(path, head, file, hints, aside)
    if binary is not None:
        return [binary]
    if line_protocol.is_lines(head):
        return _lines(path, file, hints, mapping, aside)
    for is_it, read_it in _FORMS:
        if is_it(path, head):
            return [read_it(path, file, hints, aside)]
    if head.lstrip()[:1] in (b"{", b"["):
        raise ImportFault("expected JSON of `sadf -j` or of Prometheus' API, got another")
    return read_csv(path, file, hints, aside, read_as)


def _read_binary(path: Path, head: bytes, file: int, hints: Hints, aside: SetAside) -> Reading | None:
    """What a file says that is no text; None for one that is. Raises ImportFault for what is of no known form."""
    # What text does not have: a dump begins with lengths.
    if not any(byte < 0x20 and byte not in b"\t\n\f\r\x1b" for byte in head):
        return None
    message = prometheus.unpacked_dump(path.read_bytes())
    if message is not None:
        return prometheus.read_dump(path, message, file, hints, aside)
    if _is_utf_16(head):
        raise ImportFault("expected text in UTF-8, got UTF-16: save it as UTF-8, as by iconv -f UTF-16 -t UTF-8")
    if b"\0" in head:
        raise ImportFault("expected text or Parquet, got another binary file: unpack what is compressed first")
    return None


def _is_utf_16(head: bytes) -> bool:
    """Whether a file begins with the mark of UTF-16, or every other byte is 0, as in plain texts of it without one."""
    zeros = [head[:1000][place::2].count(0) for place in (0, 1)]
    return head.startswith((b"\xff\xfe", b"\xfe\xff")) or (min(zeros) == 0 and max(zeros) > 0.45 * len(head[:1000]))


_FORMS: Final = (
    (lambda path, head: prometheus.is_lines(head), prometheus.read_dump_lines),
    (lambda path, head: sysstat.is_sadf(head), sysstat.read_sadf),
    (lambda path, head: sysstat.is_sar(head), sysstat.read_sar),
    (lambda path, head: prometheus.is_answer(head), prometheus.read_answer),
    (collectd.is_file, collectd.read_file),
)


def _lines(path: Path, file: int, hints: Hints, mapping: Mapping | None, aside: SetAside) -> Sequence[Reading]:
    """Line protocol; by a mapping each measurement that has the columns that are named is a table."""
    if mapping is None:
        return [line_protocol.read_lines(path, file, hints, aside)]
    wanted = mapping.where.get("_measurement")
    readings = []
    for points in line_protocol.points_of(path, file, aside).values():
        named = all(take.column in points.columns for take in mapping.take)
        if points.measurement == wanted or (wanted is None and named):
            lines = np.array(points.lines)
            readings.append(read_mapped(mapping, points.table(), lines, file, path.stem, hints, aside))
    if not readings:
        raise ImportFault("expected a measurement with the columns that the mapping names, got none")
    return readings
