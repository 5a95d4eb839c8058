"""InfluxDB's line protocol: as Telegraf writes it, whose names are known, or of any schema with a mapping.

https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/ A line is `measurement,tag=x field=1,other=2
1700000000000000000`. It is read into a table with a column for each tag and field, and `_measurement`; a moment may be
in seconds to nanoseconds. What `influx_inspect export` writes around the lines (`# DML`) is passed over.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from analytics.sources.importing.fields import Field, field_of
from analytics.sources.importing.moments import milliseconds
from analytics.sources.importing.readings import UNKNOWN_CORE, Hints, Reading, cores_of, frame_of_pieces
from analytics.sources.importing.samples import MAYBE_CUT, WHOLE, ImportFault, SetAside
from contract.problems import plural

_LINE: Final = re.compile(
    r"^(?P<series>(?:[^\\ ]|\\.)+) (?P<fields>(?:[^\"\\ ]|\\.|\"(?:[^\"\\]|\\.)*\")+)(?: (?P<time>-?\d+))?\s*$"
)
_PART: Final = re.compile(r"((?:[^\\,=]|\\.)+)=(\"(?:[^\"\\]|\\.)*\"|(?:[^\\,\"]|\\.)*)(?:,|$)")
_ESCAPED: Final = re.compile(r"\\([,= \\\"])")
_TELEGRAF: Final = {
    "mem": {
        "used_percent": Field("gauge", "memory.utilization", "percent"),
        "available_percent": Field("free", "memory.utilization", "percent"),
    },
    "swap": {"used_percent": Field("gauge", "swap.utilization", "percent")},
    "system": {f"load{n}": Field("gauge", f"load.{n}m", "share") for n in (1, 5, 15)},
    "net": {
        "bytes_recv": Field("growth", "network.received_bytes"), "bytes_sent": Field("growth", "network.sent_bytes"),
    },
    "diskio": {
        "read_bytes": Field("growth", "disk.read_bytes"), "write_bytes": Field("growth", "disk.written_bytes"),
        "reads": Field("growth", "disk.reads"), "writes": Field("growth", "disk.writes"),
    },
}  # fmt: skip


@dataclass
class MeasurementPoints:
    """The points of one measurement, column by column."""

    measurement: str
    columns: dict[str, list[str | float | None]] = field(default_factory=dict)
    tags: set[str] = field(default_factory=set)
    time: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)

    def add(self, tags: dict[str, str], values: dict[str, str | float], time: int, line: int) -> None:
        """Add a point to the columns of its measurement."""
        for name, value in (*tags.items(), *values.items()):
            column = self.columns.setdefault(name, [])
            column.extend([None] * (len(self.lines) - len(column)))
            column.append(value)
        self.tags.update(tags)
        self.time.append(time)
        self.lines.append(line)

    def column(self, name: str) -> list[str | float | None]:
        """A column, as long as all others."""
        column = self.columns.get(name, [])
        return column + [None] * (len(self.lines) - len(column))

    def table(self) -> pa.Table:
        """The points as a table of texts, with the columns `time` and `_measurement` (for mappings)."""
        texts = {
            name: pa.array([None if one is None else str(one) for one in self.column(name)], pa.string())
            for name in self.columns
        }
        named = pa.array([self.measurement] * len(self.lines))
        return pa.table(texts | {"time": pa.array(self.time, pa.int64()), "_measurement": named})


def is_lines(body: bytes) -> bool:
    """Whether a file is line protocol."""
    for line in body[:65536].decode("utf-8", "replace").splitlines()[:50]:
        if line.strip() and not line.startswith("#") and not line.startswith(("CREATE DATABASE",)):
            return _LINE.match(line) is not None and "=" in line
    return False


def points_of(path: Path, file: int, aside: SetAside) -> dict[str, MeasurementPoints]:
    """The points of a file by measurement; lines that are none are set aside."""
    found: dict[str, MeasurementPoints] = {}
    shortest = 0
    tags_of: dict[str, tuple[str, dict[str, str]]] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip() or line.startswith(("#", "CREATE DATABASE")):
                continue
            told = _LINE.match(line)
            if told is None or told["time"] is None:
                aside.add(file, number, "no line of line protocol with a time")
                continue
            if not line.endswith("\n") and len(told["time"]) < shortest:
                aside.add(file, number, MAYBE_CUT)
                continue
            shortest = min(shortest or len(told["time"]), len(told["time"]))
            series = told["series"]
            if series not in tags_of:
                name, _, rest = _split(series)
                tags_of[series] = name, {_plain(tag): _plain(value) for tag, value in _PART.findall(rest)}
            measurement, tags = tags_of[series]
            points = found.get(measurement)
            if points is None:
                points = found[measurement] = MeasurementPoints(measurement)
            points.add(tags, dict(_fields(told["fields"])), int(told["time"]), number)
    return found


def _split(series: str) -> tuple[str, str, str]:
    cut = re.search(r"(?<!\\),", series)
    return (_plain(series[: cut.start()]), ",", series[cut.end() :]) if cut else (_plain(series), "", "")


def _fields(text: str) -> Iterator[tuple[str, str | float]]:
    for name, value in _PART.findall(text):
        if value.startswith('"'):
            yield _plain(name), _ESCAPED.sub(r"\1", value[1:-1])
        else:
            try:
                yield _plain(name), float(value.rstrip("iu"))
            except ValueError:
                yield _plain(name), value


def _plain(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def read_lines(path: Path, file: int, hints: Hints, aside: SetAside) -> Reading:
    """What Telegraf's points say, or others whose fields have names that are known."""
    fields: list[Field] = []
    pieces: list[dict[str, Any]] = []
    said: list[str] = ["line protocol"]
    for points in points_of(path, file, aside).values():
        end_ms, unit = milliseconds(pa.chunked_array([pa.array(points.time, pa.int64())]), "UTC")
        cores = cores_of(pd.Series(points.column("cpu"), dtype=object).fillna("all").astype(str))
        hosts = pd.Series(points.column(_host_tag(points, hints)), dtype=object).fillna(hints.host_name or path.stem)
        device = pd.Series(points.column("interface" if "interface" in points.tags else "name"), dtype=object).fillna(
            ""
        )
        known = _fields_of(points)
        for name, one in known.items():
            value = pd.to_numeric(pd.Series(points.column(name), dtype=object), errors="coerce").to_numpy(np.float64)
            some = ~np.isnan(value) & (cores != UNKNOWN_CORE)
            if one.kind == "growth":
                some &= (device != "lo").to_numpy() & (device != "all").to_numpy()
            if not some.any():
                continue
            fields.append(one)
            pieces.append(
                {
                    "user": hosts[some].astype(str), "end_ms": end_ms[some],
                    "core": cores[some] if points.measurement.startswith("cpu") else WHOLE,
                    "device": device[some].astype(str), "field": len(fields) - 1, "value": value[some],
                    "line": np.array(points.lines)[some], "file": file,
                }
            )  # fmt: skip
        taken = ", ".join(known) or "nothing that is known"
        said.append(f"{points.measurement}, {plural(len(points.lines), 'point')}, {unit}: {taken}")
    if not pieces:
        raise ImportFault(
            "expected Telegraf's cpu, mem, swap, system, net or diskio, got none of them: --mapping says what is what"
        )
    return Reading(frame_of_pieces(pieces), fields, said)


def _host_tag(points: MeasurementPoints, hints: Hints) -> str:
    return hints.host or next(
        (tag for tag in ("host", "hostname", "instance", "server", "node") if tag in points.columns), "host"
    )


def _fields_of(points: MeasurementPoints) -> dict[str, Field]:
    known = _TELEGRAF.get(points.measurement)
    if known is not None:
        # The agent's memory is 1 - available / total: used_percent leaves caches out by other rules.
        told = {name: one for name, one in known.items() if name in points.columns}
        if "available_percent" in told:
            told.pop("used_percent", None)
        return told
    named = {name: one for name in points.columns if name not in points.tags and (one := field_of(name)) is not None}
    states = {name: one for name, one in named.items() if one.kind == "state"}
    if states:
        # usage_* are shares of time already, whatever time_* beside them count.
        percent = {name: Field("state", one.target, "percent") for name, one in states.items()}
        return percent if points.measurement == "cpu" else states
    return named
