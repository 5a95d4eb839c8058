"""sysstat: the JSON that `sadf -j` writes, and the text that `sar` does.

CPU (all and each), memory, swap, load averages, network interfaces and block devices are taken. A record's moment is
the end of its interval. `sar`'s lines have the time of day of the host: its zone has to be known (`--tz`), unless it
is UTC; a day is over where the time goes back. Memory and swap are as `%memused` and `%swpused` say. Loopback is left
out of the network, as the agent does.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd
import pyarrow as pa

from analytics.sources.importing.fields import Field
from analytics.sources.importing.moments import milliseconds
from analytics.sources.importing.readings import UNKNOWN_CORE, Hints, Reading, core_of, frame_of_readings
from analytics.sources.importing.samples import WHOLE, ImportFault, SetAside
from contract.problems import decode_json

_STATES: Final = {
    "user": "user", "usr": "user", "nice": "nice", "system": "system", "sys": "system", "idle": "idle",
    "iowait": "iowait", "steal": "steal", "irq": "irq", "soft": "softirq", "guest": "guest", "gnice": "guest",
}  # fmt: skip
_SECTOR: Final = 512.0
_PLAIN: Final = {
    "memused": Field("gauge", "memory.utilization", "percent"),
    "swpused": Field("gauge", "swap.utilization", "percent"),
    "ldavg-1": Field("gauge", "load.1m", "share"), "ldavg-5": Field("gauge", "load.5m", "share"),
    "ldavg-15": Field("gauge", "load.15m", "share"),
    "rxkB": Field("rate", "network.received_bytes", scale=1024.0),
    "txkB": Field("rate", "network.sent_bytes", scale=1024.0),
    "rtps": Field("rate", "disk.reads"), "wtps": Field("rate", "disk.writes"),
    "bread": Field("rate", "disk.read_bytes", scale=_SECTOR),
    "bwrtn": Field("rate", "disk.written_bytes", scale=_SECTOR),
}  # fmt: skip
_SAR_NAMES: Final = {
    "%memused": "memused", "%swpused": "swpused", "ldavg-1": "ldavg-1", "ldavg-5": "ldavg-5", "ldavg-15": "ldavg-15",
    "rxkB/s": "rxkB", "txkB/s": "txkB", "rtps": "rtps", "wtps": "wtps", "bread/s": "bread", "bwrtn/s": "bwrtn",
}  # fmt: skip
_FIELDS: Final = {name: Field("state", state, "percent") for name, state in _STATES.items()} | _PLAIN
_ORDER: Final = list(_FIELDS)
_HEADER: Final = re.compile(r"^(\S+) (\S+) \((.+)\)\s+(\S+)\s+(\S+)\s+\((\d+) CPU\)")
_LINE: Final = re.compile(r"^(\d{1,2}:\d{2}:\d{2})(?: ([AaPp][Mm]))?\s+(\S.*)$")


class _Row(NamedTuple):
    user: str
    moment: str | int
    core: int
    device: str
    name: str
    value: float
    line: int


def is_sadf(body: bytes) -> bool:
    """Whether a file is what `sadf -j` writes."""
    return re.match(rb'\s*\{\s*"sysstat"\s*:', body) is not None


def is_sar(body: bytes) -> bool:
    """Whether a file is what `sar` writes."""
    return _HEADER.match(body[:400].decode("utf-8", "replace").lstrip()) is not None


def read_sadf(path: Path, file: int, hints: Hints, aside: SetAside) -> Reading:
    """Read a file that `sadf -j` wrote."""
    try:
        hosts = decode_json(path.read_bytes())["sysstat"]["hosts"]
        rows = [row for host in hosts for row in _host(host, file, aside)]
        systems = {
            str(host["nodename"]): (str(host.get("sysname", "Linux")), str(host.get("release", ""))) for host in hosts
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImportFault(f"expected the JSON of `sadf -j`, got what cannot be read: {error!r:.80}") from None
    return _reading(rows, "UTC", file, hints, "JSON of sadf", systems)


def _host(host: Mapping[str, Any], file: int, aside: SetAside) -> Iterator[_Row]:
    user = str(host["nodename"])
    for number, record in enumerate(host.get("statistics", []), 1):
        stamp = record.get("timestamp")
        if not stamp:
            continue
        if "date" not in stamp or "time" not in stamp:
            aside.add(file, number, "a record without a time")
            continue
        # `utc` is 1 where the time is, which is so unless sadf was asked for local times (-t).
        if not int(stamp.get("utc", 1)) and host.get("timezone") not in ("UTC", "GMT"):
            raise ImportFault(f"expected times in UTC, got those of {host.get('timezone')}: run `sadf -j` without -t")
        moment = f"{stamp['date']}T{stamp['time']}"
        for core, device, name, value in _record(record):
            yield _Row(user, moment, core, device, name, float(value), number)


def _record(record: Mapping[str, Any]) -> Iterator[tuple[int, str, str, float]]:
    for cpu in [*record.get("cpu-load", []), *record.get("cpu-load-all", [])]:
        core = core_of(str(cpu["cpu"]))
        if core != UNKNOWN_CORE:
            yield from ((core, "", name, cpu[name]) for name in _STATES if name in cpu)
    memory = record.get("memory", {})
    if "memused-percent" in memory:
        yield WHOLE, "", "memused", memory["memused-percent"]
    if "swpused-percent" in memory:
        yield WHOLE, "", "swpused", memory["swpused-percent"]
    queue = record.get("queue", {})
    yield from ((WHOLE, "", name, queue[name]) for name in ("ldavg-1", "ldavg-5", "ldavg-15") if name in queue)
    for card in (record.get("network") or {}).get("net-dev", []):
        if card["iface"] != "lo":
            yield from ((WHOLE, str(card["iface"]), name, card[name]) for name in ("rxkB", "txkB") if name in card)
    disk = record.get("io", {})
    for part, names in (("io-reads", ("rtps", "bread")), ("io-writes", ("wtps", "bwrtn"))):
        yield from ((WHOLE, "io", name, disk[part][name]) for name in names if name in disk.get(part, {}))


def read_sar(path: Path, file: int, hints: Hints, aside: SetAside) -> Reading:
    """What `sar` says as text, all its tables."""
    text = path.read_text("utf-8", "replace")
    rows: list[_Row] = []
    systems: dict[str, tuple[str, str]] = {}
    table = _SarTable("", None)
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            systems[header[3]] = (header[1], header[2])
            table = _SarTable(header[3], _date_of(header[4]))
            continue
        rows += table.read(line, number, file, aside)
    if not rows:
        raise ImportFault("expected tables of `sar` such as %user ... %idle, got none that is known")
    return _reading(rows, hints.zone, file, hints, "text of sar", systems)


class _SarTable:
    """Reads the lines of one host's tables, one by one."""

    def __init__(self, user: str, date: datetime | None) -> None:
        self._user, self._first = user, date
        self._day, self._last = date, ""
        self._columns: Sequence[str] = ()

    def read(self, line: str, number: int, file: int, aside: SetAside) -> Iterator[_Row]:
        told = _LINE.match(line)
        if told is None or self._first is None:
            return
        clock, noon, rest = told[1], told[2], told[3].split()
        if noon:
            hour = int(clock.split(":")[0]) % 12 + (12 if noon.upper() == "PM" else 0)
            clock = f"{hour:02}:{clock.split(':', 1)[1]}"
        clock = clock.zfill(8)
        if any(word.startswith(("%", "ldavg")) or word.endswith("/s") for word in rest) and not _numbers(rest[1:]):
            # A new table begins: another quantity of the same day, or the same one again after a page.
            if [*rest] != [*self._columns]:
                self._day = self._first
            self._columns, self._last = rest, clock
            return
        if rest[:2] == ["LINUX", "RESTART"] or not self._columns:
            return
        if len(rest) != len(self._columns):
            aside.add(file, number, f"expected {len(self._columns)} columns, got {len(rest)}")
            return
        if clock < self._last:
            self._day = (self._day or self._first) + timedelta(days=1)
        self._last = clock
        yield from self._row(f"{(self._day or self._first):%Y-%m-%d}T{clock}", rest, number, file, aside)

    def _row(self, moment: str, cells: Sequence[str], number: int, file: int, aside: SetAside) -> Iterator[_Row]:
        named = dict(zip(self._columns, cells, strict=True))
        core, device = core_of(named.get("CPU", "all")), named.get("IFACE", "")
        if core == UNKNOWN_CORE or device == "lo":
            return
        for column, cell in named.items():
            name = _STATES.get(column.removeprefix("%")) if "CPU" in named and column.startswith("%") else None
            known = column.removeprefix("%") if name else _SAR_NAMES.get(column)
            if known is None:
                continue
            try:
                yield _Row(self._user, moment, core, device, known, float(cell.replace(",", ".")), number)
            except ValueError:
                aside.add(file, number, f"no number in the column {column!r}")


def _numbers(cells: Sequence[str]) -> bool:
    return bool(cells) and all(re.fullmatch(r"-?\d+(?:[.,]\d+)?", cell) for cell in cells)


def _date_of(text: str) -> datetime | None:
    for form in ("%m/%d/%y", "%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y", "%d/%m/%Y"):
        try:
            return datetime.strptime(text, form)  # noqa: DTZ007 - the zone is told by who imports
        except ValueError:
            continue
    raise ImportFault(f"expected a date such as 2026-11-29 in the first line of `sar`, got {text}")


def _reading(
    rows: Sequence[_Row], zone: str, file: int, hints: Hints, form: str, systems: dict[str, tuple[str, str]]
) -> Reading:
    frame = pd.DataFrame(rows, columns=list(_Row._fields))
    end_ms, said = milliseconds(pa.chunked_array([pa.array(frame["moment"].astype(str), pa.string())]), zone)
    made = frame_of_readings(
        {
            "user": frame["user"] if hints.host_name is None else hints.host_name, "end_ms": end_ms,
            "core": frame["core"], "device": frame["device"], "field": frame["name"].map(_ORDER.index),
            "value": frame["value"], "line": frame["line"], "file": file,
        }
    )  # fmt: skip
    fields = list(_FIELDS.values())
    told = [f"{form}, times {said}", f"host: {', '.join(systems)}", "taken: " + ", ".join(sorted({*frame["name"]}))]
    return Reading(made, fields, told, systems=systems)
