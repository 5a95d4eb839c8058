"""Times, numbers and names of other tools' files are told as they are meant; what is wrong with a file, in a line."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analytics.frames.frame import frame_of_values
from analytics.sources.importing.fields import Field, field_of
from analytics.sources.importing.samples import ImportFault
from tests.support.imported import CPU, cpu_of, told, understood


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
