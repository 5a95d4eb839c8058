"""Files of Parquet, sysstat, Prometheus, collectd, Telegraf and InfluxDB become the samples that they say."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.sources.importing.samples import ImportFault
from tests.support import remote_write
from tests.support.imported import CPU, DATA, MEMORY, cpu_of, same, told, understood


def test_parquet_in_hive_folders(tmp_path: Path) -> None:
    for host, value in (("web-1", 0.25), ("web-2", 0.75)):
        folder = tmp_path / "fleet" / f"host={host}"
        folder.mkdir(parents=True)
        times = pa.array([1_772_359_200_000, 1_772_359_260_000], pa.timestamp("ms", "UTC"))
        pq.write_table(pa.table({"ts": times, "cpu": [value, value / 2]}), folder / "part-0.parquet")
    found = understood(tmp_path / "fleet")
    assert [cpu_of(found, host) for host in ("web-1", "web-2")] == [[0.25, 0.125], [0.75, 0.375]]


def test_parquet_of_cloud_hosts_with_naive_times(tmp_path: Path) -> None:
    times = pd.to_datetime(["2026-03-01 10:00", "2026-03-01 10:05"]).astype("datetime64[us]")
    table = pd.DataFrame({"timestamp": times, "vmid": ["a=", "a="], "min cpu": [1.0, 2.0], "avg cpu": [12.5, 25.0]})
    table.to_parquet(tmp_path / "azure.parquet")
    found = understood(tmp_path / "azure.parquet", zone="Europe/Berlin")
    assert told(found) == {("a=", CPU, -1, "01 09:00:00"): 0.125, ("a=", CPU, -1, "01 09:05:00"): 0.25}


def test_parquet_in_long_form_with_dictionaries(tmp_path: Path) -> None:
    table = pa.table(
        {
            "time": [1_772_359_200, 1_772_359_200], "host": pa.array(["web-1", "web-1"]).dictionary_encode(),
            "metric": pa.array(["system.cpu.utilization", "load1"]).dictionary_encode(), "value": [0.5, 3.0],
        }
    )  # fmt: skip
    pq.write_table(table, tmp_path / "long.parquet")
    found = told(understood(tmp_path / "long.parquet"))
    assert found == {("web-1", CPU, -1, "01 10:00:00"): 0.5, ("web-1", "load.1m", -1, "01 10:00:00"): 3.0}


# sysstat
def test_sadf_json_as_it_was_recorded() -> None:
    found = understood("sysstat/sadf.json")
    [host] = json.loads((DATA / "sysstat/sadf.json").read_text())["sysstat"]["hosts"]
    loads = [record["cpu-load"] for record in host["statistics"]]
    for place, core in enumerate((-1, 0, 1)):
        expected = [1 - (one[place]["idle"] + one[place]["iowait"]) / 100 for one in loads]
        assert cpu_of(found, host["nodename"], core) == pytest.approx(expected, abs=1e-12)
    assert found.systems == {host["nodename"]: ("Linux", host["release"])}
    values = told(found)
    first = host["statistics"][0]
    stamp = f"{first['timestamp']['date'][-2:]} {first['timestamp']['time']}"
    assert values[host["nodename"], "load.5m", -1, stamp] == first["queue"]["ldavg-5"]
    assert values[host["nodename"], MEMORY, -1, stamp] == pytest.approx(first["memory"]["memused-percent"] / 100)
    assert values[host["nodename"], "disk.read_bytes", -1, stamp] == first["io"]["io-reads"]["bread"] * 512
    assert values[host["nodename"], "network.received_bytes", -1, stamp] == 0.0


def sadf(folder: Path, *hosts: Mapping[str, Any]) -> Path:
    (folder / "sadf.json").write_text(json.dumps({"sysstat": {"hosts": hosts}}))
    return folder / "sadf.json"


def at(minute: int) -> dict[str, Any]:
    return {"date": "2026-03-01", "time": f"10:{minute:02}:01", "utc": 1, "interval": 600}


def test_sadf_json_of_an_older_release_with_all_kinds_of_time_and_a_restart(tmp_path: Path) -> None:
    kinds = {"usr": 10.0, "nice": 1.0, "sys": 4.0, "iowait": 5.0, "steal": 2.0, "irq": 0.5, "soft": 1.5, "guest": 0.0}
    host = {
        "nodename": "old-1", "sysname": "Linux", "release": "2.6.32", "number-of-cpus": 2, "file-date": "2026-03-01",
        "statistics": [
            {},
            {"timestamp": at(0), "cpu-load-all": [
                {"cpu": "all", **kinds, "gnice": 0.0, "idle": 76.0},
                {"cpu": "0", **kinds, "usr": 20.0, "gnice": 0.0, "idle": 66.0},
                {"cpu": "1", **kinds, "usr": 0.0, "gnice": 0.0, "idle": 86.0},
            ]},
        ],
        "restarts": [{"boot": {"date": "2026-03-01", "time": "09:55:00", "utc": 1}}],
    }  # fmt: skip
    assert told(understood(sadf(tmp_path, host))) == {
        ("old-1", CPU, -1, "01 10:00:01"): pytest.approx(0.19, rel=1e-12),
        ("old-1", CPU, 0, "01 10:00:01"): pytest.approx(0.29, rel=1e-12),
        ("old-1", CPU, 1, "01 10:00:01"): pytest.approx(0.09, rel=1e-12),
    }


def test_sadf_json_of_two_hosts_without_the_cpu(tmp_path: Path) -> None:
    hosts = [
        {"nodename": f"db-{number}", "release": "6.1", "statistics": [
            {"timestamp": at(10 * number), "memory": {"memfree": 1, "memused-percent": 25.5 + number},
             "queue": {"runq-sz": 1, "ldavg-1": 0.5 * number, "ldavg-5": 0.25, "ldavg-15": 0.125},
             "network": {"net-dev": [{"iface": name, "rxkB": 1.5, "txkB": 0.5} for name in ("lo", "eth0")]}},
        ]}
        for number in (1, 2)
    ]  # fmt: skip
    values = told(understood(sadf(tmp_path, *hosts)))
    for number in (1, 2):
        moment = f"01 10:{10 * number}:01"
        expected = {
            MEMORY: 0.255 + number / 100, "load.1m": 0.5 * number, "load.5m": 0.25, "load.15m": 0.125,
            "network.received_bytes": 1536.0, "network.sent_bytes": 512.0,
        }  # fmt: skip
        said = {name: value for (user, name, core, when), value in values.items()
                if (user, core, when) == (f"db-{number}", -1, moment)}  # fmt: skip
        assert said == pytest.approx(expected, rel=1e-12)


def test_sar_text_says_the_same_as_the_json_of_the_same_recording() -> None:
    text, document = told(understood("sysstat/sar.txt")), told(understood("sysstat/sadf.json"))
    assert len(text) > 30
    assert same(text, document)


def test_sar_text_over_midnight_on_a_twelve_hour_clock() -> None:
    found = understood("sysstat/sar-night.txt", zone="America/New_York")
    assert told(found) == {
        ("db-1", CPU, -1, "02 04:50:01"): pytest.approx(0.15), ("db-1", CPU, -1, "02 05:00:01"): pytest.approx(0.26),
        ("db-1", CPU, -1, "02 05:20:01"): pytest.approx(0.3),
    }  # fmt: skip


def test_sar_text_with_one_core_and_a_restart() -> None:
    found = understood("sysstat/sar-one-core.txt")
    assert cpu_of(found) == pytest.approx([0.10, 0.01])
    assert cpu_of(found, core=3) == pytest.approx([0.24])


def test_counters_of_node_exporter_become_shares() -> None:
    found = understood("prometheus/counters.json")
    # Core 0: 25 of 60 s busy, then none; core 1: none, then all; both counters went back, then 30 s busy and none.
    assert cpu_of(found, "web-1:9100", 0) == pytest.approx([25 / 60, 0.0, 0.5])
    assert cpu_of(found, "web-1:9100", 1) == pytest.approx([0.0, 1.0, 0.0])
    assert cpu_of(found, "web-1:9100") == pytest.approx([25 / 120, 0.5, 0.25])
    assert [reason for _, _, reason in found.aside.rows] == ["a counter that went back, as after a restart"]


def test_an_expression_is_of_the_metric_that_is_named() -> None:
    found = understood("prometheus/expression.json")
    assert cpu_of(found, "web-1:9100") == [0.125, 0.25]
    assert found.checked.frame["end_ms"].iloc[0] == 1_772_359_200_123
    load = told(understood("prometheus/expression.json", metric="load.1m"))
    assert load["web-1:9100", "load.1m", -1, "01 10:00:00"] == 12.5


def test_an_instant_answer_has_gauges_and_amounts() -> None:
    found = understood("prometheus/vector.json")
    assert told(found) == {
        ("web-1:9100", "load.1m", -1, "01 10:00:00"): 0.5, ("web-1:9100", "load.5m", -1, "01 10:00:00"): 0.25,
        ("web-1:9100", "load.15m", -1, "01 10:00:00"): 0.125, ("web-1:9100", MEMORY, -1, "01 10:00:00"): 0.75,
    }  # fmt: skip
    assert any("one reading of a counter" in reason for _, _, reason in found.aside.rows)


def dumped() -> list[remote_write.Series]:
    """A core that is busy for 15 of 60 s and then for 45, with a marker of its end, and a metric of another kind."""
    at_ms = 1_772_359_200_000
    named = {"__name__": "node_cpu_seconds_total", "instance": "web-1:9100", "cpu": "0"}
    moments = [at_ms + 60_000 * number for number in range(4)]
    idle = [*zip(moments, (1e6, 1e6 + 45, 1e6 + 60, remote_write.STALE), strict=True)]
    user = [*zip(moments, (5e5, 5e5 + 15, 5e5 + 60, remote_write.STALE), strict=True)]
    odd = {"__name__": "go_threads", "instance": 'odd "name"'}
    return [(named | {"mode": "idle"}, idle), (named | {"mode": "user"}, user), (odd, [(at_ms, 9.0)])]


def snappy(body: bytes) -> bytes:
    return bytes(pa.Codec("snappy").compress(body, asbytes=True))


@pytest.mark.parametrize("pack", [bytes, remote_write.block, snappy])
def test_a_dump_of_remote_read_is_its_series(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    *cpu, other = dumped()
    # Each query of a request has a result of its own.
    body = remote_write.member(1, remote_write.first(cpu)) + remote_write.member(1, remote_write.first([other]))
    (tmp_path / "answer.bin").write_bytes(pack(body))
    found = understood(tmp_path / "answer.bin")
    assert cpu_of(found, "web-1:9100", 0) == pytest.approx([0.25, 0.75], rel=1e-12)
    assert found.checked.frame["end_ms"].tolist()[0] == 1_772_359_260_000
    assert "answer.bin: not taken: go_threads, 1 series" in found.said


def test_what_promtool_dumps_is_its_series(tmp_path: Path) -> None:
    lines = [
        "{" + ", ".join(f"{name}={json.dumps(text)}" for name, text in labels.items()) + f"}} {value!r} {at_ms}"
        for labels, samples in dumped() for at_ms, value in samples if value == value
    ]  # fmt: skip
    (tmp_path / "dump.txt").write_text("\n".join([*lines, "{broken", ""]))
    found = understood(tmp_path / "dump.txt")
    assert cpu_of(found, "web-1:9100", 0) == pytest.approx([0.25, 0.75], rel=1e-12)
    assert [reason for _, _, reason in found.aside.rows] == ["no line of a dump"]


def test_a_dump_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    body = remote_write.member(1, remote_write.first(dumped()))
    for wrong in (body[:-3], remote_write.block(body)[:-3], remote_write.block(b"\x0a\x09"), b"\x1f\x8b\x08\0" * 9):
        (tmp_path / "wrong.bin").write_bytes(wrong)
        with pytest.raises(ImportFault, match=r"wrong\.bin: expected"):
            understood(tmp_path / "wrong.bin")


# collectd
def test_collectd_percent_as_it_was_recorded() -> None:
    found = understood("collectd/percent")
    frame = found.checked.frame
    idle = pd.read_csv(next((DATA / "collectd/percent/db-1/cpu-0").glob("percent-idle-*")))
    wait = pd.read_csv(next((DATA / "collectd/percent/db-1/cpu-0").glob("percent-wait-*")))
    expected = 1 - (idle["value"] + wait["value"]) / 100
    assert cpu_of(found, "db-1", 0) == pytest.approx(expected.tolist()[: len(cpu_of(found, "db-1", 0))], abs=1e-9)
    cores = np.array([cpu_of(found, "db-1", core) for core in (0, 1)])
    assert cpu_of(found, "db-1") == pytest.approx(cores.mean(axis=0).tolist())
    assert {*frame["quantity"]} >= {CPU, MEMORY, "load.1m", "load.5m", "load.15m", "swap.utilization"}
    memory = frame[frame["quantity"] == MEMORY]["value"]
    assert ((memory > 0) & (memory < 1)).all()


def test_collectd_counters_as_they_were_recorded() -> None:
    found = understood("collectd/counters")
    folder = DATA / "collectd/counters/db-1/cpu-1"
    states = {path.name.split("-")[1]: pd.read_csv(path)["value"].diff() for path in folder.iterdir()}
    total = sum(states.values())
    expected = (1 - (states["idle"] + states["wait"]) / total).dropna().tolist()
    assert cpu_of(found, "db-1", 1) == pytest.approx(expected[: len(cpu_of(found, "db-1", 1))])
    assert len(cpu_of(found, "db-1", 1)) >= 3


def test_collectd_rates_of_an_interface(tmp_path: Path) -> None:
    folder = tmp_path / "csv" / "db-1" / "interface-eth0"
    folder.mkdir(parents=True)
    (folder / "if_octets-2026-03-01").write_text("epoch,rx,tx\n1772359200.000,100.5,20.25\n1772359210.000,50.5,10.25\n")
    values = told(understood(tmp_path / "csv"))
    assert values["db-1", "network.received_bytes", -1, "01 10:00:10"] == 50.5
    assert values["db-1", "network.sent_bytes", -1, "01 10:00:00"] == 20.25


def test_telegraf_names_become_ours() -> None:
    found = understood("telegraf/telegraf.lp")
    at = "01 10:00:00"
    assert same(
        told(found),
        {
            ("web-1", CPU, -1, at): 0.25, ("web-1", CPU, 0, at): 0.5, ("web-1", CPU, 1, at): 0.0,
            ("web-1", CPU, -1, "01 10:00:10"): 0.5, ("web-1", MEMORY, -1, at): 0.25,
            ("web-1", "swap.utilization", -1, at): 0.125, ("web-1", "load.1m", -1, at): 0.5,
            ("web-1", "load.5m", -1, at): 0.25, ("web-1", "load.15m", -1, at): 0.125,
            ("web-1", "network.received_bytes", -1, "01 10:00:10"): 150.0,
            ("web-1", "network.sent_bytes", -1, "01 10:00:10"): 5.0,
        },
    )  # fmt: skip
    assert (14, "no line of line protocol with a time") in {(line, reason) for _, line, reason in found.aside.rows}


def test_telegraf_in_seconds_with_escaped_names() -> None:
    assert cpu_of(understood("telegraf/seconds.lp"), "web 1") == pytest.approx([0.3, 0.4])


def test_telegraf_times_of_the_cpu_are_counters() -> None:
    assert cpu_of(understood("telegraf/times.lp")) == [pytest.approx(0.4)]


def test_annotated_csv_of_influxdb_by_a_mapping() -> None:
    found = understood("influx/annotated.csv", mapping=DATA / "influx/annotated.toml")
    assert told(found) == {
        ("web-1", CPU, -1, "01 10:00:00"): 0.125, ("web-1", CPU, -1, "01 10:01:00"): 0.25,
        ("web-1", MEMORY, -1, "01 10:00:00"): pytest.approx(0.4),
    }  # fmt: skip


def test_line_protocol_of_another_schema_by_a_mapping() -> None:
    found = understood("influx/export.lp", mapping=DATA / "influx/export.toml")
    assert cpu_of(found) == pytest.approx([0.125, 0.25])


def test_influxql_csv_with_counters_by_a_mapping() -> None:
    assert cpu_of(understood("influx/influxql.csv", mapping=DATA / "influx/influxql.toml")) == [pytest.approx(0.25)]
