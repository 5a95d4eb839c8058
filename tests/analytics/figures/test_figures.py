"""Figures: they say what there is to see, in which units, and draw no line where nothing was measured."""

import html
from collections.abc import Callable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

import analytics
from analytics import figures
from analytics.figures.style import DARK, LIGHT, label, labels
from tests.support.hostile_names import NAMES

TITLE = "The fleet is busy at noon, as always & ever"
HOURS = pd.date_range("2026-03-02", periods=72, freq="1h", tz="UTC")
KEPT = np.r_[0:20, 50:72]
COURSE = pd.DataFrame(
    {"mean": np.linspace(0.1, 0.5, 72), "p10": np.linspace(0.05, 0.2, 72), "p90": np.linspace(0.3, 0.9, 72)},
    index=HOURS,
)
GAPPED = COURSE.iloc[KEPT]


def fleet(users: list[str]) -> pd.DataFrame:
    return pd.concat([GAPPED[["mean"]].assign(user=user) for user in users])


def anomalous() -> pd.DataFrame:
    values = GAPPED["mean"]
    return pd.DataFrame({"value": values, "lower": values - 0.1, "upper": values + 0.1, "anomaly": values > 0.45})


def marked(moments: pd.DataFrame) -> go.Figure:
    figure = figures.trend(GAPPED, TITLE)
    figures.mark_moments(figure, moments)
    return figure


def coming() -> pd.DataFrame:
    index = pd.date_range(HOURS[-1] + pd.Timedelta("1h"), periods=24, freq="1h")
    return pd.DataFrame({"mean": 0.5, "lower_80": 0.4, "upper_80": 0.6, "lower_95": -0.1, "upper_95": 1.2}, index=index)


HOSTS = pd.DataFrame(
    {"user": NAMES, "before": 0.1, "after": 0.2, "now": 8.0, "needed": 2.0, "lower": 1.0, "upper": 3.0}
)
PROFILE = pd.DataFrame(
    {"mean": np.linspace(0, 1, 168)}, index=pd.MultiIndex.from_product([range(7), range(24)], names=["weekday", "hour"])
)
CORES = pd.DataFrame({"core": [0, 1], "mean": [0.2, 0.6], "low": [0.0, 0.1], "high": [0.4, 0.9]})
MOMENTS = pd.DataFrame(
    {"start": [HOURS[2], HOURS[5]], "end": [HOURS[2], HOURS[8]], "text": ["<b>deploy</b>", "incident"]}
)
CHANGES = pd.DataFrame({"before": [0.2], "after": [0.4]}, index=[HOURS[60]])
USE = pd.DataFrame(
    [(name, "", "", "", cpu_s, 1800.0, 3600.0)
     for _ in KEPT for name, cpu_s in ((NAMES[0], 900.0), ("backup", 300.0), ("others", 600.0))],
    columns=["name", "user", "unit", "command", "cpu_s", "busy_s", "core_s"], index=HOURS[KEPT].repeat(3),
)  # fmt: skip
ALL: dict[str, Callable[[], go.Figure]] = {
    "trend": lambda: figures.trend(GAPPED, TITLE, bands=[("p10", "p90", "80 of 100 hosts")]),
    "load_duration": lambda: figures.load_duration(
        {NAMES[0]: pd.DataFrame({"load": [0.0, 0.5, 0.9], "share": [1.0, 0.5, 0.0]})}, TITLE
    ),
    "users_over_time": lambda: figures.users_over_time(fleet(["a", "b"]), TITLE),
    "hour_of_week": lambda: figures.hour_of_week(PROFILE, TITLE),
    "anomalies": lambda: figures.anomalies(anomalous(), TITLE),
    "mark_moments": lambda: marked(MOMENTS),
    "levels": lambda: figures.levels(GAPPED, CHANGES, TITLE),
    "forecast": lambda: figures.forecast(GAPPED, coming(), TITLE, threshold=0.8),
    "core_imbalance": lambda: figures.core_imbalance(CORES, TITLE),
    "right_sizing": lambda: figures.right_sizing(HOSTS, TITLE),
    "hours_of_day": lambda: figures.hours_of_day(HOSTS[["before", "after"]].head(3), TITLE),
    "top_changes": lambda: figures.top_changes(HOSTS, TITLE),
    "use_over_time": lambda: figures.use_over_time(USE, TITLE),
    "use_compared": lambda: figures.use_compared({"all": analytics.who(USE), NAMES[1]: analytics.who(USE)}, TITLE),
}


def test_every_figure_is_looked_at() -> None:
    assert set(ALL) == {name for name in figures.__all__ if name.islower()}


@pytest.mark.parametrize("name", ALL)
def test_a_figure_says_what_to_see_and_names_both_axes(name: str) -> None:
    layout = ALL[name]().layout
    assert html.unescape(layout.title.text).replace("<br>", " ") == TITLE
    assert layout.xaxis.title.text
    assert layout.yaxis.title.text
    assert ("UTC" in layout.xaxis.title.text) == (name in {
        "trend", "users_over_time", "hour_of_week", "anomalies", "levels", "forecast", "hours_of_day", "mark_moments",
        "use_over_time",
    })  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_an_axis_of_utilization_states_percent(name: str) -> None:
    figure = ALL[name]()
    texts = [figure.layout.xaxis.title.text, figure.layout.yaxis.title.text]
    texts += [trace.colorbar.title.text for trace in figure.data if trace.type == "heatmap"]
    assert any("%" in text for text in texts) or name == "right_sizing"


def test_no_line_is_drawn_over_a_gap() -> None:
    line = figures.trend(GAPPED, TITLE).data[-1]
    inside = [
        value for moment, value in zip(line.x, line.y, strict=True) if "2026-03-02T20" <= moment < "2026-03-04T02"
    ]
    assert inside and np.isnan(inside).all()
    assert line.connectgaps is False


def test_nothing_is_filled_over_a_gap() -> None:
    band = figures.trend(GAPPED, TITLE, bands=[("p10", "p90", "most")]).data[0]
    assert list(band.x).count(None) == 2  # a polygon for each side of the gap


def test_moments_are_marked_above_the_data_and_their_texts_are_no_markup() -> None:
    assert not marked(MOMENTS.head(0)).layout.shapes
    figure = marked(MOMENTS)
    marks = figure.data[-1]
    assert list(marks.text) == ["&lt;b&gt;deploy&lt;/b&gt;", "incident"]
    assert list(marks.y) == [figure.layout.yaxis.range[1]] * 2
    assert [shape.type for shape in figure.layout.shapes] == ["line", "line", "rect"]


def test_a_value_between_gaps_is_a_dot() -> None:
    alone = COURSE.iloc[np.r_[0:10, 30, 50:60]]
    line = figures.trend(alone, TITLE).data[-1]
    assert "markers" in line.mode
    assert sum(size > 0 for size in line.marker.size) == 1


def test_long_gaps_are_shortened_and_the_axis_says_so() -> None:
    sparse = COURSE.iloc[np.r_[0:3, 69:72]]
    axis = figures.trend(sparse, TITLE).layout.xaxis
    assert "shortened" in axis.title.text
    [cut] = axis.rangebreaks
    assert sparse.index[2].isoformat() < cut.bounds[0] < cut.bounds[1] < sparse.index[3].isoformat()
    assert not figures.trend(COURSE, TITLE).layout.xaxis.rangebreaks


def test_a_heat_map_of_a_large_fleet_has_no_more_cells_than_can_be_seen_and_keeps_the_mean() -> None:
    users = pd.Categorical([f"m{number:04}" for number in range(1000)])
    moments = pd.date_range("2026-01-01", periods=400, freq="1h", tz="UTC")
    load = np.linspace(0, 0.9, 1000)
    index = pd.DatetimeIndex(np.tile(moments.asi8, 1000).astype(f"datetime64[{moments.unit}]"), tz="UTC")
    frame = pd.DataFrame({"user": users.repeat(400), "mean": load.repeat(400)}, index=index)
    cells = np.asarray(figures.users_over_time(frame, TITLE).data[0].z)
    assert cells.shape[0] <= 150 and cells.shape[1] <= 320
    assert np.nanmean(cells) == pytest.approx(load.mean(), abs=0.005)
    assert (np.diff(cells[:, 0]) < 0).all()  # the busiest on top


def test_a_scale_of_colours_ends_at_the_data_or_says_that_there_is_more() -> None:
    load = fleet([f"m{number}" for number in range(20)])
    load["mean"] = np.where(np.arange(len(load)) == 5, 0.91, 0.3)
    cut = figures.users_over_time(load, TITLE).data[0]
    assert cut.zmax < 0.91
    assert cut.colorbar.ticktext[-1] == f"{cut.zmax * 100:.3g}% and more"
    hours = pd.MultiIndex.from_product([range(7), range(24)], names=["weekday", "hour"])
    profile = pd.DataFrame({"mean": np.where(np.arange(len(hours)) == 5, 0.91, 0.3)}, index=hours)
    whole = figures.hour_of_week(profile, TITLE).data[0]
    assert whole.zmax >= 0.91
    assert whole.colorbar.ticktext[-1] == "95%"


def test_a_heat_map_leaves_what_is_not_known_empty() -> None:
    cells = np.asarray(figures.users_over_time(fleet(["a", "b"]), TITLE).data[0].z)
    assert np.isnan(cells[:, 20:50]).all()
    assert not np.isnan(cells[:, :20]).any()


def test_intervals_of_shares_stay_shares() -> None:
    figure = figures.forecast(GAPPED, coming(), TITLE)
    shown = [value for trace in figure.data for value in trace.y if value is not None and not np.isnan(value)]
    assert min(shown) >= 0 and max(shown) <= 1


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_shown_as_it_is_and_never_as_markup(name: str) -> None:
    shown = label(name, 1000)
    assert not set("<>") & set(shown)
    assert html.unescape(shown).isprintable()
    if name.isprintable():
        assert html.unescape(shown) == name


def test_shortened_names_stay_apart() -> None:
    long = ["x" * 40 + str(number) + "y" * 40 for number in range(3)]
    assert len(set(labels(long))) == 3


@pytest.mark.parametrize("template", [LIGHT, DARK])
def test_figures_stand_on_the_pages_own_background(template: go.layout.Template) -> None:
    assert template.layout.paper_bgcolor == template.layout.plot_bgcolor == "rgba(0,0,0,0)"


def test_a_week_of_a_place_is_labelled_with_its_zone() -> None:
    times = pd.date_range("2026-03-02", periods=7 * 24, freq="1h", tz="UTC", name="time")
    frame = analytics.frame_of_values(pd.DataFrame({"value": 0.5}, times))
    layout = figures.hour_of_week(analytics.hour_of_week_profile(frame, "Europe/Berlin"), TITLE).layout
    assert "(Europe/Berlin)" in layout.xaxis.title.text and "(Europe/Berlin)" in layout.yaxis.title.text
    assert "UTC" not in layout.xaxis.title.text


def test_who_used_the_cpu_is_stacked_up_to_what_was_used_and_gaps_stay_gaps() -> None:
    figure = figures.use_over_time(USE, TITLE)
    assert [trace.name for trace in figure.data][1:] == ["backup", "others"]
    assert [trace.y[0] for trace in figure.data] == pytest.approx([0.25, 1 / 12, 1 / 6], abs=1e-5)
    assert {len(trace.x) for trace in figure.data} == {len(KEPT)}
    assert {trace.width for trace in figure.data} == {3_600_000.0}


def test_ranges_beside_each_other_add_up_and_have_the_colours_of_the_last() -> None:
    first = USE.assign(cpu_s=np.where(USE["name"] == "backup", 1200.0, np.where(USE["name"] == "others", 600.0, 0.0)))
    bars = figures.use_compared({"then": analytics.who(first), "always": analytics.who(USE)}, TITLE).data
    assert [bar.marker.color for bar in bars] == [bar.marker.color for bar in figures.use_over_time(USE, TITLE).data]
    assert [sum(bar.x[row] for bar in bars) for row in range(2)] == pytest.approx([1.0, 1.0], abs=1e-4)
    assert [bar.x[0] for bar in bars] == pytest.approx([0.0, 2 / 3, 1 / 3], abs=1e-4)
