"""collectd: the CSV files of its csv plugin, a folder a host: `HOST/PLUGIN-INSTANCE/TYPE-INSTANCE-YYYY-MM-DD`.

https://www.collectd.org/documentation/manpages/collectd.conf.html#plugin-csv: each begins `epoch,value` or
`epoch,rx,tx`. Types `percent` and `cpu` (states), `memory` and `swap` (amounts or percent), `load`, `if_octets`,
`disk_octets` and `disk_ops` are known. Counters stand there as they are, or per second where collectd was told
`StoreRates true`: these hardly ever grow all the time, so what never goes back is a counter.
"""

import io
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from analytics.sources.importing.fields import Field, Kind, field_of
from analytics.sources.importing.readings import UNKNOWN_CORE, Hints, Reading, core_of, frame_of_pieces
from analytics.sources.importing.samples import WHOLE, ImportFault, SetAside

_NAME: Final = re.compile(r"^(?P<type>[a-z_]+)(?:-(?P<instance>.+?))?-\d{4}-\d{2}-\d{2}$")
_PAIRS: Final = {
    "if_octets": ("network.received_bytes", "network.sent_bytes"),
    "disk_octets": ("disk.read_bytes", "disk.written_bytes"),
    "disk_ops": ("disk.reads", "disk.writes"),
}
_LOADS: Final = {"shortterm": "load.1m", "midterm": "load.5m", "longterm": "load.15m"}
_ROUND_MS: Final = 250
"""Values of one round are noted some milliseconds apart; rounds are a second apart at least."""
_AMOUNTS: Final = ("used", "free", "buffered", "cached", "slab_recl", "slab_unrecl")


class _Path(NamedTuple):
    host: str
    plugin: str
    instance: str
    type: str
    type_instance: str


def is_file(path: Path, body: bytes) -> bool:
    """Whether a file is one of collectd's."""
    return body.startswith(b"epoch,") and _NAME.match(path.name) is not None


def read_file(path: Path, file: int, hints: Hints, aside: SetAside) -> Reading:
    """What one file says; nothing where its type is not known."""
    named = _named(path)
    if hints.host_name is not None:
        named = named._replace(host=hints.host_name)
    lines = path.read_text("utf-8", "replace")
    try:
        table = pd.read_csv(io.StringIO(lines), dtype=str, on_bad_lines="error")
    except ValueError as error:
        raise ImportFault(f"expected collectd's CSV, got what cannot be read: {error}".splitlines()[0]) from None
    epoch = pd.to_numeric(table["epoch"], errors="coerce")
    end_ms = np.where(epoch.isna(), -1.0, np.floor(epoch.fillna(0) * 1000 + 1e-3)).astype(np.int64)
    pieces: list[dict[str, Any]] = []
    fields: list[Field] = []
    for column in table.columns[1:]:
        value = pd.to_numeric(table[column], errors="coerce")
        field = _field(named, str(column), value.to_numpy(np.float64))
        core = core_of(named.instance) if named.plugin == "cpu" else WHOLE
        if field is None or core == UNKNOWN_CORE:
            continue
        fields.append(field)
        pieces.append(
            {
                "user": named.host, "end_ms": end_ms,
                "core": core, "device": named.instance or named.type_instance, "field": len(fields) - 1,
                "value": value, "line": np.arange(2, len(table) + 2), "file": file,
            }
        )  # fmt: skip
    return Reading(frame_of_pieces(pieces), fields, (), round_ms=_ROUND_MS)


def _named(path: Path) -> _Path:
    plugin, _, instance = path.parent.name.partition("-")
    told = _NAME.match(path.name)
    assert told is not None
    return _Path(path.parent.parent.name, plugin, instance, told["type"], told["instance"] or "")


def _field(named: _Path, column: str, value: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Field | None:
    if named.type in _PAIRS:
        names = dict(
            zip(("rx", "tx") if named.type == "if_octets" else ("read", "write"), _PAIRS[named.type], strict=True)
        )
        skipped = named.plugin == "interface" and named.instance == "lo"
        return None if skipped or column not in names else Field(_kind("growth", "rate", value), names[column])
    if named.type == "load":
        return Field("gauge", _LOADS[column], "share") if column in _LOADS else None
    if named.plugin in ("cpu", "aggregation") and named.type in ("percent", "cpu"):
        state = field_of(f"usage_{named.type_instance}")
        if state is None:
            return Field("gauge", "cpu.utilization", "percent") if named.type_instance == "active" else None
        return Field("state", state.target, "percent") if named.type == "percent" else _cpu_ticks(state.target, value)
    if named.type == "percent" and named.plugin in ("memory", "swap") and named.type_instance == "used":
        return Field("gauge", f"{named.plugin}.utilization", "percent")
    if named.type == named.plugin and named.plugin in ("memory", "swap") and named.type_instance in _AMOUNTS:
        return Field("part", f"{named.plugin}.{named.type_instance}")
    return None


def _cpu_ticks(state: str, value: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Field:
    """Ticks since boot, or of each second, of which a core has 100 (USER_HZ)."""
    kind = _kind("state_time", "state", value)
    return Field(kind, state) if kind == "state_time" else Field("state", state, "share", scale=0.01)


def _kind(counter: Kind, rate: Kind, value: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> Kind:
    there = value[np.isfinite(value)]
    whole = bool((there == np.floor(there)).all())
    grows = len(there) > 1 and bool((np.diff(there) >= 0).all())
    return counter if grows and whole else rate
