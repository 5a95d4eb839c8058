"""The report's JSON: the original's is read unchanged, what is written is read back."""

import msgspec
import pytest
from msgspec import UNSET

from contract.metrics import TYPES, Cpu, Memory, type_name
from contract.report import decode_report, encode
from tests.support.documents import ORIGINAL, full


def test_the_original_systems_report_is_read_unchanged() -> None:
    report = decode_report(ORIGINAL)
    assert report.user_id == "6a:d6:96:d3:45:35"
    assert (report.start_timestamp, report.end_timestamp) == (1531402660605, 1531402665626)
    assert report.observations_per_metric == 100
    assert (report.os_type, report.os_version) == ("Linux", "18.04 LTS")
    [cpu] = report.metrics
    assert isinstance(cpu, Cpu)
    assert cpu.avg_utilization == 0.2148631642976225
    assert cpu.var_utilization == 0.005718669350831782
    assert cpu.avg_utilization_by_core[2] == 0.24848360030511063
    assert cpu.var_utilization_by_core[2] == 4.7853845483180853e-4
    assert (cpu.min_utilization, cpu.histogram, report.agent) == (UNSET, UNSET, UNSET)


@pytest.mark.parametrize("member", ["var_utilization", "var_utilization_by_core"])
def test_variances_may_be_missing(member: str) -> None:
    document = msgspec.json.decode(ORIGINAL)
    del document["metrics"][0][member]
    [cpu] = decode_report(msgspec.json.encode(document)).metrics
    assert getattr(cpu, member) in (0.0, [])


def test_unknown_members_are_accepted_anywhere() -> None:
    document = full() | {"colour": "red"}
    document["agent"]["mood"] = [1, {"a": None}]
    document["metrics"][1]["utilization"]["skew"] = 3
    assert decode_report(msgspec.json.encode(document)) == decode_report(msgspec.json.encode(full()))


def test_every_member_is_read_back() -> None:
    report = decode_report(msgspec.json.encode(full()))
    assert decode_report(encode(report)) == report
    assert b"\n" not in encode(report)


def test_members_left_out_are_not_written() -> None:
    written = msgspec.json.decode(encode(decode_report(ORIGINAL)))
    expected = msgspec.json.decode(ORIGINAL)
    del expected["metrics"][0]["name"]
    assert written == expected


def test_a_metrics_distributions_come_with_their_quantities() -> None:
    memory = decode_report(msgspec.json.encode(full())).metrics[1]
    assert isinstance(memory, Memory)
    assert [(quantity.name, samples.mean) for quantity, samples in memory.distributions()] == [
        ("memory.utilization", 0.5)
    ]


@pytest.mark.parametrize("kind", TYPES, ids=type_name)
def test_each_metric_type_is_told_by_its_type_member(kind: type) -> None:
    if kind is Cpu:
        metric = {"type": "CPU", "avg_utilization": 0.5}
    else:
        metric = {"type": type_name(kind)} | {quantity.attribute: {"avg": 0.5} for quantity in kind.quantities}  # type: ignore[attr-defined]
    document = full() | {"metrics": [metric]}
    assert type(decode_report(msgspec.json.encode(document)).metrics[0]) is kind
