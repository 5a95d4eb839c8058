"""Prometheus: the JSON that its API answers to `query` and `query_range`, each series with its labels.

https://prometheus.io/docs/prometheus/latest/querying/api/
node_exporter's names are known: `node_cpu_seconds_total` becomes shares of time by its growth, whatever the step was;
amounts of memory and swap become shares; counters of network and disks become rates, devices added up. A series
without a name is the answer of an expression: of the metric that `--metric` says, of CPU utilization otherwise; with a
label `mode` it is the share of time in that mode.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from analytics.sources.importing.fields import Field, field_of
from analytics.sources.importing.readings import UNKNOWN_CORE, Hints, Reading, concatenated, core_of, frame_of_readings
from analytics.sources.importing.samples import ImportFault, SetAside
from contract.problems import decode_json

_HOSTS: Final = ("instance", "host", "hostname", "node", "nodename", "machine", "server", "exported_instance")
_CPU_SECONDS: Final = ("node_cpu_seconds_total", "node_cpu", "windows_cpu_time_total")
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
    fields: list[Field] = []
    frames: list[pd.DataFrame] = []
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
        frames.append(
            frame_of_readings(
                {
                    "user": user or path.stem, "end_ms": np.floor(moments * 1000 + 1e-3).astype(np.int64), "core": core,
                    "device": device, "field": fields.index(field), "value": values, "line": number, "file": file,
                }
            )
        )  # fmt: skip
    if not frames:
        names = ", ".join([*unknown][:5]) or "none"
        raise ImportFault(f"expected series such as node_cpu_seconds_total, got {names}: --metric says what they are")
    said = [f"answer of Prometheus: {len(frames)} series", "host: label " + "/".join(_HOSTS[:2])]
    said += [f"{field.target} ({field.kind})" for field in fields]
    said += [f"not taken: {name}, {count} series" for name, count in unknown.items()]
    return Reading(concatenated(frames), fields, said)


def _series(one: dict[str, Any]) -> tuple[dict[str, str], "np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
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
