"""Files of other tools become the samples that they say, whatever their form."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.frames.frame import frame_of_values
from analytics.sources.importing.fields import Field, field_of
from analytics.sources.importing.reading import Understood, read
from analytics.sources.importing.readings import Hints
from analytics.sources.importing.samples import ImportFault
from tests.support import remote_write

DATA = Path(__file__).parents[2] / "data" / "import"
NOW_MS = 1_800_000_000_000
CPU, MEMORY = "cpu.utilization", "memory.utilization"
Told = Mapping[tuple[str, str, int, str], float]


def understood(*names: str | Path, **hints: Any) -> Understood:
    return read([DATA / name for name in names], Hints(**hints), NOW_MS)


def told(found: Understood) -> Told:
    """Each sample by host, quantity, core (-1 for the host) and moment."""
    frame = found.checked.frame
    moments = pd.to_datetime(frame["end_ms"], unit="ms").dt.strftime("%d %H:%M:%S")
    keys = zip(frame["user"], frame["quantity"], frame["core"], moments, strict=True)
    return dict(zip(keys, frame["value"], strict=True))


def same(found: Told, expected: Told) -> bool:
    assert found.keys() == expected.keys()
    return found == pytest.approx(dict(expected), rel=1e-12, abs=1e-15)


def cpu_of(found: Understood, user: str = "web-1", core: int = -1) -> list[float]:
    return [
        value for (name, quantity, one, _), value in told(found).items() if (name, quantity, one) == (user, CPU, core)
    ]


# CSV


def test_wide_csv_with_several_metrics() -> None:
    found = understood("csv/wide.csv")
    values = told(found)
    assert same(
        {key: value for key, value in values.items() if key[0] == "web-1"},
        {
            ("web-1", CPU, -1, "01 10:00:00"): 0.125, ("web-1", CPU, -1, "01 10:01:00"): 1.0,
            **{("web-1", MEMORY, -1, f"01 10:0{n}:00"): 0.4 + n / 100 for n in range(3)},
            **{("web-1", "load.1m", -1, f"01 10:0{n}:00"): load for n, load in enumerate((0.5, 1.5, 1.0))},
            **{("web-1", "load.5m", -1, f"01 10:0{n}:00"): load for n, load in enumerate((0.4, 0.6, 0.6))},
            **{("web-1", "load.15m", -1, f"01 10:0{n}:00"): load for n, load in enumerate((0.3, 0.4, 0.4))},
        },
    )  # fmt: skip
    assert cpu_of(found, "web-2") == [0.875]
    assert any("not taken: comment" in line for line in found.said)


def test_dubious_rows_are_set_aside_by_line_and_not_the_file() -> None:
    found = understood("csv/wide.csv")
    assert found.checked.clipped == 1  # 100.4 %
    assert {(line, reason.partition(":")[0]) for _, line, reason in found.aside.rows} == {
        (4, "no number in the column 'CPU Utilization (%)'"), (6, "out of range"),
        (8, "expected 8 columns, got another number"),
    }  # fmt: skip


def test_long_csv_of_german_spreadsheets() -> None:
    found = understood("csv/long.csv", time="Zeit", time_format="%d.%m.%Y %H:%M:%S", zone="Europe/Berlin")
    assert same(
        told(found),
        {
            ("web-1", CPU, -1, "01 10:00:00"): 0.125, ("web-1", CPU, -1, "01 10:05:00"): 0.25,
            ("web-1", MEMORY, -1, "01 10:00:00"): 0.4, ("web-1", MEMORY, -1, "01 10:05:00"): 0.5,
        },
    )  # fmt: skip
    assert any("not taken: temperature" in line for line in found.said)
    assert set(found.checked.frame["end_ms"] - found.checked.frame["start_ms"]) == {300_000}


def test_csv_whose_columns_are_hosts() -> None:
    assert same(
        told(understood("csv/hosts.csv")),
        {
            ("web-1", CPU, -1, "01 10:00:00"): 0.125, ("web-1", CPU, -1, "01 10:01:00"): 0.25,
            ("web-1", CPU, -1, "01 10:02:00"): 0.5, ("web-2", CPU, -1, "01 10:00:00"): 0.875,
            ("web-2", CPU, -1, "01 10:02:00"): 0.625,
        },
    )  # fmt: skip


def test_csv_of_one_host_without_a_name() -> None:
    found = understood("csv/one.csv", host_name="i-5f5533")
    assert cpu_of(found, "i-5f5533") == pytest.approx([0.51846, 0.44508, 0.41244], rel=1e-12)
    assert cpu_of(understood("csv/one.csv"), "one") != []
    small = understood("csv/one.csv", unit="share")
    assert small.checked.frame.empty and small.aside.count == 3


def test_a_core_with_no_number_of_a_core_is_refused_by_its_line(tmp_path: Path) -> None:
    cores = ["²", "٣", "9" * 5000, "65534", "-2x", "65533", "cpu1"]
    rows = "".join(f"2026-03-01 10:00:00,web-1,{core},0.5\n" for core in cores)
    (tmp_path / "cores.csv").write_text("time,host,core,cpu\n" + rows)
    (tmp_path / "m.toml").write_text(
        'time = "time"\nhost = "host"\ncore = "core"\n[[take]]\n'
        'column = "cpu"\nmetric = "cpu.utilization"\nunit = "share"\n'
    )
    for hints in ({"core": "core"}, {"mapping": tmp_path / "m.toml"}):
        found = understood(tmp_path / "cores.csv", **hints)
        assert {key[2] for key in told(found)} == {1, 65_533}
        reason = "a core that is no number, nor all of them"
        assert sorted((line, told) for _, line, told in found.aside.rows) == [(line, reason) for line in range(2, 7)]


def test_csv_of_states_and_cores() -> None:
    found = understood("csv/cores.csv")
    assert [cpu_of(found, core=core) for core in (-1, 0, 1)] == [[pytest.approx(0.3)], [0.6], [pytest.approx(0.0)]]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1772359200", "01 10:00:00"), ("1772359200.25", "01 10:00:00"), ("1772359200000", "01 10:00:00"),
        ("1772359200000000", "01 10:00:00"), ("1772359200000000000", "01 10:00:00"),
        ("2026-03-01T10:00:00Z", "01 10:00:00"),
        ("2026-03-01 10:00:00", "01 15:00:00"), ("2026-03-01T12:00:00+02:00", "01 10:00:00"),
        ("2026-03-01 10:00:00 UTC", "01 10:00:00"), ("2026-03-01T10:00:00.5-0800", "01 18:00:00"),
        ("2026-03-01 12:00:00 +02:00", "01 10:00:00"), ("20260301T120000+0200", "01 10:00:00"),
        ("2026-03-01T12:00:00.25 +02", "01 10:00:00"), ("20260301T100000Z", "01 10:00:00"),
        ("2026-03-01T12+02", "01 10:00:00"), ("20260301T1000", "01 15:00:00"), ("2026-03-01", "01 05:00:00"),
        ("20260301", "01 05:00:00"), ("202603011000", "01 15:00:00"), ("20260301100000", "01 15:00:00"),
    ],
)  # fmt: skip
def test_times_of_any_unit_and_zone(tmp_path: Path, text: str, moment: str) -> None:
    (tmp_path / "x.csv").write_text(f"time,host,cpu\n{text},web-1,0.5\n")
    found = understood(tmp_path / "x.csv", zone="America/New_York")
    assert told(found) == {("web-1", CPU, -1, moment): 0.5}


def test_numbers_that_read_as_dates_are_dates_and_what_is_of_no_calendar_is_set_aside(tmp_path: Path) -> None:
    pq.write_table(pa.table({"time": [20260301, 20260302], "cpu": [0.5, 0.25]}), tmp_path / "x.parquet")
    assert [key[3] for key in told(understood(tmp_path / "x.parquet"))] == ["01 00:00:00", "02 00:00:00"]
    (tmp_path / "x.csv").write_text("time,host,cpu\n1772359200,a,0.5\n1772359260,a,0.5\n99999999999999999999,a,0.5\n")
    found = understood(tmp_path / "x.csv")
    assert found.aside.counts == {"a moment in the future": 1}


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["0.5%", "0.25 %", "1%"], [0.005, 0.0025, 0.01]), (["0.5", "0.25", "1"], [0.5, 0.25, 1.0]),
        (["0,5%", "0,25%", "100%"], [0.005, 0.0025, 1.0]),
    ],
)  # fmt: skip
def test_a_percent_sign_says_the_unit(tmp_path: Path, texts: list[str], values: list[float]) -> None:
    rows = [f"17723592{place}0;web-1;{text}" for place, text in enumerate(texts)]
    (tmp_path / "x.csv").write_text("\n".join(["time;host;cpu", *rows, ""]))
    assert cpu_of(understood(tmp_path / "x.csv")) == pytest.approx(values)
    (tmp_path / "m.toml").write_text("time='time'\nhost='host'\n[[take]]\ncolumn='cpu'\nmetric='cpuUtilization'")
    assert cpu_of(understood(tmp_path / "x.csv", mapping=tmp_path / "m.toml")) == pytest.approx(values)
    given = cpu_of(understood(tmp_path / "x.csv", unit="share"))
    assert given == [value for value in (100 * value if "%" in texts[0] else value for value in values) if value <= 1]


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1,234,567", "1,234", "12"], [1234567, 1234, 12]), (["1.234.567", "1.234", "12"], [1234567, 1234, 12]),
        (["1.234,5", "1.234", "0,25"], [1234.5, 1234, 0.25]), (["1,234.5", "1,234", "0.25"], [1234.5, 1234, 0.25]),
        (["1,25", "1,5", "2"], [1.25, 1.5, 2]), (["1.234", "0.5", "x"], [1.234, 0.5]),
    ],
)  # fmt: skip
def test_signs_may_group_digits_by_thousands(tmp_path: Path, texts: list[str], values: list[float]) -> None:
    rows = [f"17723592{place}0;web-1;{text}" for place, text in enumerate(texts)]
    (tmp_path / "x.csv").write_text("\n".join(["time;host;load1", *rows, ""]))
    assert list(told(understood(tmp_path / "x.csv")).values()) == values


@pytest.mark.parametrize("closing", ["", '1772459200,a,"y",0.75\n'], ids=["at the end", "by the next"])
@pytest.mark.parametrize("below", [1, 50])
def test_rows_that_an_open_quotation_mark_takes_in_are_told(tmp_path: Path, closing: str, below: int) -> None:
    row = "17723{}000,a,{}x,0.5\n".format
    right = [row(50 + number, "") for number in range(10)]
    taken_in = [row(60, '"'), *(row(61 + number // 2, "") for number in range(below))]
    note = '1772349000,a,"two\nlines, said",0.25\n'
    (tmp_path / "x.csv").write_text("".join(["time,host,note,cpu\n", note, *right, *taken_in, closing]))
    found = understood(tmp_path / "x.csv")
    assert cpu_of(found, "a") == [0.25, *[0.5] * 10]
    lost = len(taken_in) + bool(closing)
    assert found.aside.counts == {"a quotation mark that is left open takes in the lines below": lost}


@pytest.mark.parametrize(
    ("header", "rows", "cut"),
    [
        ("time,host,cpu", ["1772359200,a,0.125", "1772359260,a,0.250", "1772359320,a,0.3"], True),
        ("time,host,cpu", ["1772359200,a,0.125", "1772359260,a,0.250", "1772359320,a,0.375"], False),
        ("time,host,cpu", ["1772359200,a,0.5", "1772359260,a,0.250", "1772359320,a,0.3"], False),
        ("cpu,time", ["0.125,2026-03-01T10:00:00", "0.25,2026-03-01T10:01:00", "0.5,2026-03-01T10:02"], True),
        ("time,cpu,host", ["1772359200,0.1,web-11", "1772359260,0.2,web-12", "1772359320,0.3,web-1"], True),
        ("time,cpu,host", ["1772359200,0.1,web-11", "1772359260,0.2,web-1", "1772359320,0.3,web-1"], False),
        ("time,cpu,host", ["1772359200,0.1,web-1", "1772359260,0.2,web-11", "1772359320,0.3,web-2"], False),
    ],
)  # fmt: skip
def test_the_last_cell_of_a_file_that_may_be_cut_is_set_aside(
    tmp_path: Path, header: str, rows: list[str], cut: bool
) -> None:
    text = "\n".join([header, *rows])
    for number, (body, is_cut) in enumerate([(text, cut), (text + "\n", False), (text.replace("\n", "\r\n"), cut)]):
        (tmp_path / f"{number}.csv").write_bytes(body.encode())
        found = understood(tmp_path / f"{number}.csv", host_name="a")
        assert len(found.checked.frame) == len(rows) - is_cut
        assert [(line, "it may be cut" in reason) for _, line, reason in found.aside.rows] == [(4, True)] * is_cut


def test_a_file_that_ends_in_a_quotation_mark_or_with_a_column_less_is_not_taken_for_cut(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('time,host,cpu\n1772359200,"a","0.125"\n1772359260,"a","0.250"')
    assert cpu_of(understood(tmp_path / "x.csv"), "a") == [0.125, 0.25]
    (tmp_path / "y.csv").write_text("time,host,cpu\n1772359200,a,0.125\n1772359260,a")
    found = understood(tmp_path / "y.csv")
    assert [(line, reason) for _, line, reason in found.aside.rows] == [(3, "expected 3 columns, got another number")]


def test_points_of_line_protocol_with_a_time_that_may_be_cut_are_set_aside(tmp_path: Path) -> None:
    lines = [f"mem,host=a used_percent={value} 17723592{n}0000000000" for n, value in enumerate((12.5, 25, 50))]
    (tmp_path / "x.lp").write_text("\n".join(lines)[:-1])
    found = understood(tmp_path / "x.lp")
    assert list(told(found).values()) == [0.125, 0.25]
    assert [(line, "it may be cut" in reason) for _, line, reason in found.aside.rows] == [(3, True)]


def test_times_that_a_change_of_clocks_skips_or_doubles_are_told_by_line(tmp_path: Path) -> None:
    times = ["2026-03-29 01:59:00", "2026-03-29 02:30:00", "2026-03-29 03:00:00", "2026-10-25 01:59:00",
             "2026-10-25 02:30:00", "2026-10-25 03:00:00", "2026-10-25 02:30:00+01:00"]  # fmt: skip
    (tmp_path / "x.csv").write_text("time,host,cpu\n" + "".join(f"{time},a,0.5\n" for time in times))
    found = understood(tmp_path / "x.csv", zone="Europe/Berlin")
    assert len(found.checked.frame) == 5
    assert [(line, reason.partition(":")[0]) for _, line, reason in found.aside.rows] == [
        (3, "a time that was not"), (6, "a time that was twice"),
    ]  # fmt: skip
    assert understood(tmp_path / "x.csv", zone="UTC").aside.count == 0


def test_commas_among_decimal_points_are_told_by_line(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        "time;host;cpu\n1772359200;a;0.5\n1772359260;a;0,25\n1772359320;a;0.75\n1772359380;a;n.a.\n"
    )
    found = understood(tmp_path / "x.csv")
    assert cpu_of(found, "a") == [0.5, 0.75]
    comma = "a comma in a number where others of the column 'cpu' have a point: both are decimal, or one groups digits"
    assert sorted((line, reason) for _, line, reason in found.aside.rows) == [
        (3, comma), (5, "no number in the column 'cpu'"),
    ]  # fmt: skip


def test_a_table_may_have_any_number_of_columns(tmp_path: Path) -> None:
    names = [f"machine-{number}" for number in range(5_000)]
    (tmp_path / "x.csv").write_text(f"time,{','.join(names)}\n1772359200{',0.5' * len(names)}\n")
    assert len(told(understood(tmp_path / "x.csv"))) == len(names)


@pytest.mark.parametrize(
    "name",
    ["CPU", "cpu_util", "cpuUtilization", "CPUUtilization", "% Processor Time", "avg cpu", "cpu.utilization",
     "usage_active",
     "utilization_percent", "cpu_percent", "CPU Usage (%)", "system.cpu.utilization"],
)  # fmt: skip
def test_usual_names_of_utilization(name: str) -> None:
    field = field_of(name)
    assert field is not None
    assert (field.kind, field.target) == ("gauge", CPU)


def test_names_that_say_nothing_of_ours() -> None:
    assert [name for name in ("temperature", "id", "requests", "cpu_count", "disk_free", "us") if field_of(name)] == []
    assert field_of("time_idle") == Field("state_time", "idle")


# Parquet


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


# Prometheus


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


# Telegraf and InfluxDB


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


# What all share


def test_rows_that_are_there_twice_count_once_and_others_are_set_aside(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(
        "time,host,cpu\n1772359200,a,0.5\n1772359200,a,0.5\n1772359200,a,0.25\n1,a,0.5\n99999999999,a,0.5\n,a,0.5\n1772359201,,0.5\n"
    )
    found = understood(tmp_path / "x.csv")
    assert told(found) == {("a", CPU, -1, "01 10:00:00"): 0.5}
    assert found.checked.repeated == 1
    assert sorted(line for _, line, _ in found.aside.rows) == [4, 5, 6, 7, 8]


def test_what_is_set_aside_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("time,host,cpu_percent\n" + "1772359200,a,900\n" * 30_000 + "1772359200,a,50\n")
    found = understood(tmp_path / "x.csv")
    assert (len(found.aside.rows), found.aside.count) == (10_000, 30_000)
    found.aside.write(tmp_path / "aside.csv")
    assert len((tmp_path / "aside.csv").read_text().splitlines()) == 10_001


def test_lines_may_end_as_on_old_macs(tmp_path: Path) -> None:
    (tmp_path / "mac.csv").write_bytes(b"time,host,cpu\r1772359200,web-1,0.5\r1772359260,web-1,0.7\r")
    assert cpu_of(understood(tmp_path / "mac.csv")) == [0.5, 0.7]


@pytest.mark.parametrize("form", ["%Q%", "%Y%Y", "%"])
def test_a_wrong_time_format_is_said(tmp_path: Path, form: str) -> None:
    (tmp_path / "x.csv").write_bytes(b"time,host,cpu\n2026-03-01 10:00,web-1,0.5\n")
    with pytest.raises(ImportFault, match=r"x\.csv: --time-format: expected directives of strptime"):
        understood(tmp_path / "x.csv", time_format=form)


def test_windows_keep_the_hosts_of_another_column(tmp_path: Path) -> None:
    times = pd.date_range("2026-03-01", periods=2, freq="1h", tz="UTC", name="time")
    values = pd.DataFrame({"value": [0.25, 0.5, 0.25, 0.5], "user": list("aabb")}, index=[*times, *times])
    frame_of_values(values).rename(columns={"user": "host"}).to_parquet(tmp_path / "x.parquet")
    found = understood(tmp_path / "x.parquet")
    assert cpu_of(found, "a") == cpu_of(found, "b") == [0.25, 0.5]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.csv", b"", "expected something to import, got an empty file"),
        ("binary.bin", b"\x00\x01\x02" * 100, "expected text or Parquet"),
        ("cut.parquet", b"PAR1" + b"\x00" * 30, "expected Parquet"),
        ("cut.json", b'{"sysstat": {"hosts": [', "expected the JSON of `sadf -j`"),
        ("other.json", b'{"answer": 42}', "expected JSON of `sadf -j` or of Prometheus' API"),
        ("error.json", b'{"status":"error","resultType":"","metric":1,"value":1,"error":"bad"}', "got an error: bad"),
        ("latin.csv", b"time,host,cpu\n1772359200,\xfc\xff,0.5\n", "expected CSV in UTF-8"),
        ("header.csv", b"1772359200,0.5\n1772359210,0.5\n", "expected the names of columns in the first line"),
        ("none.csv", b"time,host,cpu\n", "expected rows below the header"),
        ("notime.csv", b"host,cpu\nweb-1,0.5\n", "expected a column of times"),
        ("novalue.csv", b"time,host,colour\n1772359200,web-1,red\n", "expected a column of values"),
        ("when.csv", b"time,host,cpu\nyesterday,web-1,0.5\n", "--time-format"),
        ("wide.csv", "time,host,cpu\n1772359200,web-1,0.5\n".encode("utf-16"), "expected text in UTF-8, got UTF-16"),
        ("plain.csv", "time,host,cpu\n1772359200,a,0.5\n".encode("utf-16-le"), "expected text in UTF-8, got UTF-16"),
        ("blank.csv", b"\n\ntime,host,cpu\n1772359200,web-1,0.5\n", "expected the names of columns in the first line"),
        ("returns.csv", b"time\rhost,cpu\n1772359200,web-1,0.5\n", "expected the names of columns in the first line"),
        ("some.lp", b"fan,host=web-1 speed=3 1772359200\n", "--mapping"),
    ],
)  # fmt: skip
def test_a_bad_file_ends_with_one_clear_line(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImportFault) as caught:
        understood(tmp_path / name)
    assert said in str(caught.value) and name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("time = 1", "time"), ("time = 'x'", "take"), ("time='x'\n[[take]]\ncolumn='y'", "expected metric or state"),
        ("time='x'\n[[take]]\ncolumn='y'\nmetric='z'", "metric: expected one of cpu.utilization"),
        ("time='_time'\n[[take]]\ncolumn='y'\nmetric='cpuUtilization'", "expected a column 'y'"), ("= 3", "Invalid"),
    ],
)  # fmt: skip
def test_a_wrong_mapping_is_said(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "m.toml").write_text(text)
    with pytest.raises(ImportFault, match=said):
        understood("influx/annotated.csv", mapping=tmp_path / "m.toml")
