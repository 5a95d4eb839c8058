"""Tables of text become the samples that they say, whoever wrote them; what may be cut or misread is set aside."""

from pathlib import Path

import pytest

from tests.support.imported import CPU, MEMORY, cpu_of, same, told, understood


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


def test_lines_may_end_as_on_old_macs(tmp_path: Path) -> None:
    (tmp_path / "mac.csv").write_bytes(b"time,host,cpu\r1772359200,web-1,0.5\r1772359260,web-1,0.7\r")
    assert cpu_of(understood(tmp_path / "mac.csv")) == [0.5, 0.7]
