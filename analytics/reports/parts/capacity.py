"""What is needed: the size of each machine, how evenly its cores are used, and what is to come."""

import numpy as np
import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.frames.resampling import resample
from analytics.methods.forecasting import forecast
from analytics.methods.load_distribution import core_imbalance
from analytics.methods.right_sizing import right_size
from analytics.reports.data import Data
from analytics.reports.model import Finding, Picture, ReportColumn, ReportTable, Section
from analytics.reports.parts.base import Part, check_day, in_ms, subject
from analytics.reports.text import each, level, listed, moment, percent, plural
from contract.times import DAY_MS, HOUR_MS, WEEK_MS, format_duration

_SHOWN_SIZES = 15
_ROWS = 25
_STEPS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""Sizes to choose from where cores are not known, in times the present size."""
_SHORT_MS = 14 * DAY_MS
_MIN_DAYS, _MIN_DAYS_SHORT = 5, 3
_HALF_UNKNOWN = 0.5
_UNEVEN = 1.5
"""A core with so many times the work of the average one stands out."""
_MAX_HORIZON_MS = WEEK_MS
_SHOWN_HORIZONS = 3
"""So many times the horizon of the past is shown beside it."""


def sizes(data: Data, machines: pd.DataFrame) -> Part:
    """How large each machine should be. Raises TooFewData where none was seen for long enough."""
    known = data.users["cores"].dropna().astype(float)
    known = known[known > 0]
    in_cores = len(known) > _HALF_UNKNOWN * len(machines)
    least_days = _MIN_DAYS_SHORT if data.end_ms - data.start_ms < _SHORT_MS else _MIN_DAYS
    sized = right_size(
        data.windows.assign(user=data.windows["user"].astype(str)),
        known.rename(index=str) if in_cores else 1.0,
        data.target,
        sizes=None if in_cores else _STEPS,
        least_days=least_days,
    )
    judged = sized[sized["needed"].notna()]
    if judged.empty:
        raise TooFewData(f"no machine was seen on {least_days} days or more")
    unit = "cores" if in_cores else "machines' worth of CPU"
    title = _sizes_title(data, judged, unit)
    most = judged.loc[judged["saved"].abs().sort_values(ascending=False).index]
    parts: list[Picture | ReportTable] = [
        Picture(
            "sizes",
            figures.right_sizing(
                most.head(_SHOWN_SIZES).rename_axis("user").reset_index(),
                title,
                unit="cores" if in_cores else "times the present size",
            ),
            f"The machines with most to change. Needed: what keeps 95 of 100 samples below "
            f"{level(data.target)}; its line is what a day within the next two weeks needs, with 90 % confidence.",
        ),
        _sizes_table(most, "in cores" if in_cores else "in times the present size"),
    ]
    caveats = [] if in_cores else ["The number of cores is not known: sizes are relative to what each machine has now."]
    if len(judged) < len(machines):
        caveats.append(
            f"{plural(len(machines) - len(judged), 'machine')} seen on fewer than {least_days} days got no size."
        )
    section = Section("sizes", "What it needs", parts=parts)
    return Part(section, _size_findings(judged, unit, data), caveats)


def _sizes_title(data: Data, judged: pd.DataFrame, unit: str) -> str:
    if not data.is_fleet:
        [machine] = judged.to_dict("records")
        return f"The machine has {machine['now']:g} and needs {machine['needed']:g} {unit}"
    smaller, larger = judged[judged["saved"] > 0]["saved"], judged[judged["saved"] < 0]["saved"]
    parts = [f"{plural(len(smaller), 'machine')} could be smaller, by {smaller.sum():,.1f} {unit} in all"]
    if len(larger):
        parts.append(f"{len(larger):,} should be larger, by {-larger.sum():,.1f}")
    return "; ".join(parts)


def _size_findings(judged: pd.DataFrame, unit: str, data: Data) -> list[Finding]:
    small = judged[judged["verdict"] == "too small"].sort_values("saved")
    big = judged[judged["verdict"] == "too big"]
    told = []
    if len(small):
        missing = -float(small["saved"].sum())
        told.append(
            Finding(
                "act",
                "size",
                f"{_who(data, small)} too small to stay below {level(data.target)}{_named(data, small)}.",
                f"Give {'it' if len(small) == 1 else 'them'} {missing:,.1f} {unit} more.",
                {"machines": len(small), "missing": missing, "names": [*small.index[:_ROWS]]},
            )
        )
    if len(big):
        saved = float(big["saved"].sum())
        told.append(
            Finding(
                "watch",
                "size",
                f"{_who(data, big)} larger than needed, by {saved:,.1f} {unit} "
                f"({percent(saved / float(judged['now'].sum()))}).",
                "Make them smaller, beginning with those of the table." if data.is_fleet else "Make it smaller.",
                {"machines": len(big), "saved": saved, "names": [*big.index[:_ROWS]]},
            )
        )
    return told


def _who(data: Data, machines: pd.DataFrame) -> str:
    if not data.is_fleet:
        return "The machine is"
    return f"{plural(len(machines), 'machine')} {'is' if len(machines) == 1 else 'are'}"


def _named(data: Data, machines: pd.DataFrame) -> str:
    return f": {listed(list(machines.index))}" if data.is_fleet else ""


def _sizes_table(most: pd.DataFrame, unit: str) -> ReportTable:
    columns = [
        ReportColumn("machine", "user"), ReportColumn("now", "number"), ReportColumn("needed", "number"),
        ReportColumn("at least", "number"), ReportColumn("at most", "number"), ReportColumn("saved", "number"),
        ReportColumn("95th percentile", "share"), ReportColumn("verdict"), ReportColumn("confidence", "share"),
    ]  # fmt: skip
    names = ["now", "needed", "lower", "upper", "saved", "utilization", "verdict", "confidence"]
    rows = [
        [user, *(value if isinstance(value, str) else float(value) for value in row)]
        for user, *row in most[names].head(_ROWS).itertuples(name=None)
    ]
    return ReportTable("sizes-table", f"The machines with most to change, {unit}", columns, rows)


def core_balance(data: Data) -> Part:
    """A bar a core; nothing where cores were not reported. Raises TooFewData for a machine of one core."""
    if data.cores is None:
        return Part(caveats=["Single cores are left out: this machine reports none."])
    cores = _cores_summary(data.cores)
    if len(cores) < 2:
        raise TooFewData("the machine has one core")
    mean = float(cores["mean"].mean())
    busiest = cores.sort_values("mean").to_dict("records")[-1]
    alone = float(core_imbalance(data.cores)["one_saturated"].mean())
    factor = float(busiest["mean"]) / max(mean, 1e-9)
    number = int(busiest["core"])
    if factor >= _UNEVEN:
        title = f"Core {number} does {factor:.1f} times the work of the average core"
        finding = Finding(
            "watch", "cores", f"{title}: {percent(float(busiest['mean']))} beside {percent(mean)}.",
            "A single thread, or interrupts, may hold the machine up; more cores would not help.",
            {"core": number, "factor": factor, "one_saturated": alone},
        )  # fmt: skip
    else:
        title = f"The cores share the work evenly: the busiest, core {number}, has {factor:.1f} times the average"
        finding = Finding(
            "note", "cores", f"{title}.", numbers={"core": number, "factor": factor, "one_saturated": alone}
        )
    note = (
        "Bars are means; the lines go from the lowest to the highest bucket of each core. A core was at 90 % or more "
        f"while the machine was below for {percent(alone)} of the time."
    )
    return Part(
        Section("cores", "Cores", parts=[Picture("cores", figures.core_imbalance(cores, title), note)]), [finding]
    )


def _cores_summary(frame: pd.DataFrame) -> pd.DataFrame:
    weighted = frame.assign(load=frame["mean"] * frame["count"]).groupby("core")
    cores = pd.DataFrame(
        {
            "mean": weighted["load"].sum() / weighted["count"].sum(),
            "low": weighted["mean"].min(),
            "high": weighted["mean"].max(),
        }
    )
    return cores.astype(np.float64).rename_axis("core").reset_index()


def expected_load(data: Data) -> Part:
    """The forecast of the fleet's mean, or of the machine's. Raises TooFewData where the history is too short."""
    check_day(data)
    horizon_ms = _horizon_ms(data)
    total = resample(data.total, format_duration(_step_ms(data)))
    made = forecast(total, horizon=format_duration(horizon_ms))
    coming = made.frame
    low, high = float(coming["lower_80"].min()), float(coming["upper_80"].max())
    peak = coming["mean"].idxmax()
    height = float(coming["mean"].max())
    what = "the fleet's mean" if data.is_fleet else "the machine"
    title = (
        f"In each {each(_step_ms(data))} of the {each(horizon_ms)} to come {what} is expected between {percent(low)} "
        f"and {percent(high)}, highest "
        f"about {moment(in_ms(peak))}"
    )
    history = total[pd.DatetimeIndex(total.index) >= _since(data, horizon_ms)]
    picture = Picture(
        "forecast",
        figures.forecast(history, coming, title, threshold=data.target if high > data.target / 2 else None),
        f"{made.summary} Bands: where 80 and 95 of 100 values are expected, each by itself.",
    )
    return Part(
        Section("outlook", "What is to come", parts=[picture]), [_forecast_finding(data, horizon_ms, low, high, height)]
    )


def _forecast_finding(data: Data, horizon_ms: int, low: float, high: float, height: float) -> Finding:
    numbers = {"horizon_days": horizon_ms / DAY_MS, "lower_80": low, "upper_80": high, "highest_mean": height}
    within = f"in the {each(horizon_ms)} to come"
    if height >= data.target:
        sentence = f"{subject(data)} is expected to reach {percent(height)} {within}: more than {level(data.target)}."
        return Finding("act", "forecast", sentence, "Add capacity, or move work, before then.", numbers)
    if high >= data.target:
        sentence = (
            f"{subject(data)} may reach the target of {level(data.target)} {within}: up to {percent(high)} is likely."
        )
        return Finding("watch", "forecast", sentence, "Have capacity ready.", numbers)
    sentence = f"{subject(data)} is expected to stay below {percent(high)} {within}: each value with 9 chances in 10."
    return Finding("note", "forecast", sentence, numbers=numbers)


def _step_ms(data: Data) -> int:
    """An hour, or less where the machines' buckets are shorter."""
    return min(HOUR_MS, data.rate_ms)


def _horizon_ms(data: Data) -> int:
    """A week, or less where the history is short: a quarter of it, in whole steps, four at least."""
    index = pd.DatetimeIndex(data.total.index)
    history_ms = in_ms(index[-1]) - in_ms(index[0])
    wanted = min(_MAX_HORIZON_MS, max(history_ms // 4, 4 * _step_ms(data)))
    unit = DAY_MS if wanted >= DAY_MS else _step_ms(data)
    return wanted // unit * unit


def _since(data: Data, horizon_ms: int) -> pd.Timestamp:
    return pd.Timestamp(data.end_ms - _SHOWN_HORIZONS * horizon_ms, unit="ms", tz="UTC")
