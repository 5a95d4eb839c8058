"""Prometheus: what its API answers to `query` and `query_range`, dumps of remote read, and `promtool tsdb dump`.

https://prometheus.io/docs/prometheus/latest/querying/api/ is JSON. The answer of
https://prometheus.io/docs/prometheus/latest/querying/remote_read_api/ is a message of protobuf (`ReadResponse`), as it
came in a block of snappy, or unpacked. `promtool tsdb dump` has a line for each sample.
node_exporter's names are known: `node_cpu_seconds_total` becomes shares of time by its growth, whatever the step was;
amounts of memory and swap become shares; counters of network and disks become rates, devices added up. A series
without a name is the answer of an expression: of the metric that `--metric` says, of CPU utilization otherwise; with a
label `mode` it is the share of time in that mode.
"""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from analytics.sources.importing.fields import Field, field_of
from analytics.sources.importing.readings import UNKNOWN_CORE, Hints, Reading, core_of, frame_of_pieces
from analytics.sources.importing.samples import ImportFault, SetAside
from contract.problems import decode_json

_HOSTS: Final = ("instance", "host", "hostname", "node", "nodename", "machine", "server", "exported_instance")
_CPU_SECONDS: Final = ("node_cpu_seconds_total", "node_cpu", "windows_cpu_time_total")
_Told = tuple[dict[str, str], "np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]
"""A series: its labels, its moments in seconds and its values."""
_FIRST_MEMBER: Final = b"\n"
_STALE: Final = 0x7FF0000000000002
_LINE: Final = re.compile(
    r"\{(?P<labels>(?:[^\"}]|\"(?:[^\"\\]|\\.)*\")+)\} "
    r"(?P<value>[-+]?(?:[\d.]+(?:e[-+]?\d+)?|Inf|NaN)) (?P<time>\d{1,15})\s*$"
)
_LABEL: Final = re.compile(r"(\w+)=\"((?:[^\"\\]|\\.)*)\"")
_LEFT_OUT: Final = ("lo", "veth", "docker", "br-", "ram", "loop", "sr", "dm-", "md")


def is_answer(body: bytes) -> bool:
    """Whether a file is an answer of the API."""
    head = body[:4096]
    return b'"resultType"' in head or (b'"metric"' in head and b'"value' in head)


def read_answer(path: Path, file: int, hints: Hints, aside: SetAside) -> Reading:
    """What an answer says; also its `result` alone."""
    try:
        document = decode_json(path.read_bytes())
        if isinstance(document, dict) and document.get("status") == "error":
            raise ImportFault(f"expected an answer, got an error: {document.get('error')}")
        result = document if isinstance(document, list) else document["data"]["result"]
        series = [_series(one) for one in result]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ImportFault):
            raise
        raise ImportFault(f"expected an answer of Prometheus' API, got what cannot be read: {error!r:.80}") from None
    return _reading("answer of Prometheus", series, path, file, hints)


def unpacked_dump(body: bytes) -> bytes | None:
    """The message of a dump of remote read; None for what is none."""
    length = shift = 0
    for byte in body[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    # A block of snappy never unpacks to more than 64 bytes for each three.
    if 0 < length <= len(body) * 22:
        with contextlib.suppress(pa.ArrowException, OSError):
            return bytes(pa.Codec("snappy").decompress(body, decompressed_size=length, asbytes=True))
    return body if body[:1] == _FIRST_MEMBER and b"\0" in body else None


def read_dump(path: Path, message: bytes, file: int, hints: Hints, aside: SetAside) -> Reading:
    """What a dump of remote read says. Raises ImportFault."""
    # Few files are such: protobuf is loaded for them.
    from analytics.sources.prometheus_messages import READ, Malformed, parse, series_of

    try:
        told = [*series_of(parse(message, READ))]
    except Malformed as error:
        raise ImportFault(f"expected text, Parquet, or a dump of remote read: {error}") from None
    series = []
    for labels, samples, _, _ in told:
        values = np.array([sample.value for sample in samples], np.float64)
        # A marker of the end of a series is no sample.
        kept = values.view(np.uint64) != _STALE
        moments = np.array([sample.timestamp for sample in samples], np.float64) / 1000.0
        series.append(({**labels}, moments[kept], values[kept]))
    return _reading("dump of Prometheus' remote read", series, path, file, hints)


def is_lines(head: bytes) -> bool:
    """Whether a file is what `promtool tsdb dump` prints."""
    return _LINE.match(head.lstrip().partition(b"\n")[0].decode("utf-8", "replace")) is not None


def read_dump_lines(path: Path, file: int, hints: Hints, aside: SetAside) -> Reading:
    """What `promtool tsdb dump` has printed; lines that are none are set aside."""
    found: dict[str, tuple[list[float], list[float]]] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            told = _LINE.match(line)
            if told is not None:
                moments, values = found.setdefault(told["labels"], ([], []))
                moments.append(int(told["time"]) / 1000.0)
                values.append(float(told["value"]))
            elif line.strip():
                aside.add(file, number, "no line of a dump")
    series = [
        ({name: _unescaped(text) for name, text in _LABEL.findall(labels)}, np.array(moments), np.array(values))
        for labels, (moments, values) in found.items()
    ]
    return _reading("promtool tsdb dump", series, path, file, hints)


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)


def _reading(what: str, series: Sequence[_Told], path: Path, file: int, hints: Hints) -> Reading:
    """What series say; those of other metrics are named."""
    fields: list[Field] = []
    pieces: list[dict[str, Any]] = []
    unknown: dict[str, int] = {}
    for number, (labels, moments, values) in enumerate(series, 1):
        field = _field(labels, hints)
        name = labels.get("__name__", "an expression")
        core = core_of(labels.get("cpu", labels.get("core", "all")))
        device = labels.get("device", labels.get("nic", labels.get("volume", "")))
        if field is None or core == UNKNOWN_CORE:
            unknown[name] = unknown.get(name, 0) + 1
            continue
        if device.startswith(_LEFT_OUT) and field.kind == "growth":
            continue
        if field not in fields:
            fields.append(field)
        user = hints.host_name or next((labels[label] for label in _HOSTS if labels.get(label)), None)
        pieces.append(
            {
                "user": user or path.stem, "end_ms": np.floor(moments * 1000 + 1e-3).astype(np.int64), "core": core,
                "device": device, "field": fields.index(field), "value": values, "line": number, "file": file,
            }
        )  # fmt: skip
    if not pieces:
        names = ", ".join([*unknown][:5]) or "none"
        raise ImportFault(f"expected series such as node_cpu_seconds_total, got {names}: --metric says what they are")
    said = [f"{what}: {len(pieces)} series", "host: label " + "/".join(_HOSTS[:2])]
    said += [f"{field.target} ({field.kind})" for field in fields]
    said += [f"not taken: {name}, {count} series" for name, count in unknown.items()]
    return Reading(frame_of_pieces(pieces), fields, said)


def _series(one: dict[str, Any]) -> _Told:
    pairs = one["values"] if "values" in one else [one["value"]]
    moments = np.array([pair[0] for pair in pairs], np.float64)
    values = np.array([float(pair[1]) for pair in pairs])
    return {str(name): str(value) for name, value in one.get("metric", {}).items()}, moments, values


def _field(labels: dict[str, str], hints: Hints) -> Field | None:
    name = labels.get("__name__")
    mode = labels.get("mode", labels.get("state"))
    if name in _CPU_SECONDS:
        state = field_of(f"usage_{mode}")
        return None if state is None else Field("state_time", state.target)
    if name is None or hints.metric is not None:
        if mode is not None and hints.metric in (None, "cpu.utilization"):
            state = field_of(f"usage_{mode}")
            return None if state is None else Field("state", state.target, hints.unit)
        return Field("gauge", hints.metric or "cpu.utilization", hints.unit)
    field = field_of(name)
    if field is not None and field.kind == "gauge" and hints.unit != "guess":
        return Field(field.kind, field.target, hints.unit)
    return field
