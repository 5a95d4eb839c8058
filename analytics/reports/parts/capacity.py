"""What is needed: the size of each host, how evenly its cores are used, and what is to come."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.frames.resampling import resample
from analytics.methods.forecasting import forecast
from analytics.methods.load_distribution import core_imbalance
from analytics.methods.right_sizing.pairs import WINDOWS, fit_together
from analytics.reports.data import Data
from analytics.reports.model import Cell, Finding, Picture, ReportColumn, ReportTable, Section
from analytics.reports.parts.advice import Advice
from analytics.reports.parts.base import SHOWN, Part, check_day, in_ms, steady_total
from analytics.reports.text import all_of, each, level, listed, moment, percent, them
from contract.problems import plural
from contract.times import DAY_MS, HOUR_MS, WEEK_MS, format_duration

_SHOWN_SIZES = 15
_UNEVEN = 1.5
"""A core with so many times the work of the average one stands out."""
_MAX_HORIZON_MS = WEEK_MS
_SHOWN_HORIZONS = 3
"""So many times the horizon of the past is shown beside it."""


def fleet_sizes(data: Data, hosts: pd.DataFrame, advice: Advice) -> Part:
    """How large each host should be, those that need more first. Raises TooFewData where none can be sized."""
    sized = advice.check_sizes()
    larger, smaller, idle = (advice.sized(kind) for kind in ("hot", "too big", "idle"))
    title = _sizes_title(larger, smaller, idle, advice)
    rest = advice.sized("")
    # Those that are right change nothing.
    ordered = pd.concat([part for part in (larger, smaller, idle, rest) if len(part)])
    parts: list[Picture | ReportTable] = [
        Picture(
            "sizes",
            figures.right_sizing(
                ordered.head(_SHOWN_SIZES).rename_axis("user").reset_index(), title, unit=advice.relation
            ),
            f"Those that need more first, then those with most to save. {_NEEDED.format(level(data.target))}",
        ),
        _sizes_table("sizes-table", f"Who needs more, and who could do with less, in {advice.relation}",
                     ordered.head(SHOWN)),
    ]  # fmt: skip
    changed = len(advice.who("changed"))
    few = advice.judged - len(sized) - changed
    caveats = [f"{plural(few, 'host')} seen on fewer than {advice.least_days} days got no size."] if few > 0 else []
    caveats += [f"{plural(changed, 'host')} whose load has changed got no size."] if changed else []
    found = [*_too_small(larger, advice, data), *_too_big(smaller, len(idle), float(sized["now"].sum()), advice)]
    return Part(Section("sizes", "What it needs", parts=parts), found, [*_relative(advice), *caveats])


_NEEDED = (
    "Needed: what keeps 95 of 100 samples below {}; its line is what a day within the next two weeks needs, with 90 % "
    "confidence."
)


def _relative(advice: Advice) -> list[str]:
    if advice.in_cores:
        return []
    return ["The number of cores is not known: sizes are relative to what each host has now."]


def _sizes_title(larger: pd.DataFrame, smaller: pd.DataFrame, idle: pd.DataFrame, advice: Advice) -> str:
    told = []
    if len(larger):
        told.append(f"{plural(len(larger), 'host')} should be larger{_by(-larger['saved'].sum(), advice)}")
    if len(smaller):
        told.append(f"{plural(len(smaller), 'host')} could be smaller{_by(smaller['saved'].sum(), advice)}")
    if len(idle):
        told.append(f"{plural(len(idle), 'host')} {'is' if len(idle) == 1 else 'are'} idle")
    return "; ".join(told) or "Every host has the size that it needs"


def _by(cores: float, advice: Advice) -> str:
    """By how much in all; nothing where that is not known."""
    return f", by {advice.amount(cores)} in all" if cores > 0 else ""


def _too_small(small: pd.DataFrame, advice: Advice, data: Data) -> list[Finding]:
    if small.empty:
        return []
    names, many, missing = [*map(str, small.index)], len(small), -float(small["saved"].sum())
    none_fits = int((small["verdict"] == "no size fits").sum())
    action = f"Give {them(many)} {advice.amount(missing)} more." if missing else "Move work away."
    if none_fits and missing:
        action += f" For {none_fits:,} no size is enough."
    return [
        Finding(
            "act",
            "size",
            f"{plural(many, 'hot host')} {'is' if many == 1 else 'are'} too small to stay below "
            f"{level(data.target)}: {listed(names)}.",
            action,
            {"machines": many, "missing": missing, "names": names},
            _sizes_table("all-too-small", f"{all_of(many)} hosts that need more, in {advice.relation}", small)
            if many > 1
            else None,
        )
    ]


def _too_big(big: pd.DataFrame, idle: int, now: float, advice: Advice) -> list[Finding]:
    if big.empty:
        return []
    names, many, saved = [*map(str, big.index)], len(big), float(big["saved"].sum())
    beside = " beside the idle one" if idle == 1 else " beside those that are idle" if idle else ""
    return [
        Finding(
            "watch",
            "size",
            f"{plural(many, 'host')}{beside} {'is' if many == 1 else 'are'} larger than needed, by "
            f"{advice.amount(saved)} ({percent(saved / now)} of what all have): {listed(names)}.",
            f"Make {them(many)} smaller{', those with most to save first' if many > 1 else ''}.",
            {"machines": many, "saved": saved, "names": names},
            _sizes_table("all-too-big", f"{all_of(many)} hosts that could be smaller, in {advice.relation}", big)
            if many > 1
            else None,
        )
    ]


def fleet_pairs(data: Data, advice: Advice) -> Part:
    """Which of the hosts that were sized fit together; nothing where no pair does, or none was sized.

    Raises TooFewData where there are too few days, or buckets are longer than an hour.
    """
    if advice.sizes is None:
        return Part()
    if data.rate_ms > HOUR_MS:
        raise TooFewData("what is looked at is coarser than an hour")
    windows = data.windows.assign(user=data.windows["user"].astype(str))
    # Whoever is too small has nothing to share.
    windows = windows[windows["user"].isin(advice.sizes.index.difference(advice.who("hot")))]
    if windows.empty:
        return Part()
    if advice.in_cores:
        pairs = fit_together(windows, advice.sizes["now"], data.target, tz=data.tz)
    else:
        pairs = fit_together(windows.drop(columns="cores", errors="ignore"), 1.0, data.target, tz=data.tz)
    fit = pairs[pairs["fits"]]
    if fit.empty:
        return Part()
    saved, many = float(fit["saved"].sum()), len(fit)
    one, in_all = ("one", "") if many == 1 else ("one each", " in all")
    title = f"{plural(many, 'pair')} of hosts could share {one}, and save {advice.amount(saved)}{in_all}"
    note = (
        f"Sized in {advice.relation} on the days before the last {plural(int(fit['later_days'].iloc[0]), 'day')}, and "
        f"tried on these: in so many of their hours both together stayed below {level(data.target)}. Of "
        f"{plural(len(pairs), 'pair')} that looked complementary before, {many:,} did so in 95 of 100 hours. Peaks "
        "within an hour are not seen."
    )
    both = listed(fit[["user", "other"]].iloc[0].astype(str).tolist())
    finding = Finding(
        "note", "pairs", f"{title}: {both}{' save most' if many > 1 else ''}.",
        f"Let {'both' if many == 1 else 'each pair'} share a host, if their memory fits too.",
        {"pairs": many, "saved": saved, "tried": len(pairs)},
    )  # fmt: skip
    table = ReportTable("pairs", title, _PAIR_COLUMNS, _pair_rows(fit.head(SHOWN), data.tz), note)
    return Part(Section("pairs", "Which fit together", parts=[table]), [finding])


_PAIR_COLUMNS = (
    ReportColumn("host", "user"), ReportColumn("with", "user"), ReportColumn("its busiest hours"),
    ReportColumn("the other's"), ReportColumn("apart", "number"), ReportColumn("together", "number"),
    ReportColumn("saved", "share"), ReportColumn("later hours held", "share"),
    ReportColumn("apart, both held", "share"),
)  # fmt: skip


def _pair_rows(pairs: pd.DataFrame, tz: str) -> list[list[Cell]]:
    return [
        [str(pair["user"]), str(pair["other"]), _part_of_day(pair["peak"], tz), _part_of_day(pair["other_peak"], tz),
         *(float(pair[name]) for name in ("apart", "together", "saved_share", "held", "held_apart"))]
        for pair in pairs.to_dict("records")
    ]  # fmt: skip


def _part_of_day(hour: Any, tz: str) -> str:
    return f"{int(hour):02}:00 to {int(hour) + 24 // WINDOWS:02}:00 {tz}"


def host_size(data: Data, advice: Advice) -> Part:
    """How large the host should be. Raises TooFewData."""
    sized = advice.check_sizes()
    [host] = sized.to_dict("records")
    now, needed = float(host["now"]), float(host["needed"])
    title = f"The host has {now:g} {'core' if now == 1 else 'cores'} and needs {needed:g}"
    if not advice.in_cores:
        title = f"The host needs {needed:g} times its present size"
    parts: list[Picture | ReportTable] = [
        Picture(
            "sizes",
            figures.right_sizing(sized.rename_axis("user").reset_index(), title, unit=advice.relation),
            _NEEDED.format(level(data.target)),
        ),
        _sizes_table("sizes-table", f"Its size, in {advice.relation}", sized),
    ]
    return Part(Section("sizes", "What it needs", parts=parts), _host_size(host, advice, data),
                _relative(advice))  # fmt: skip


def _host_size(host: Mapping[Hashable, Any], advice: Advice, data: Data) -> list[Finding]:
    """One host is told one thing: an idle one not to shrink, one whose load may grow not either."""
    [kind] = advice.kinds
    saved = float(host["saved"])
    if kind == "hot":
        more = f"Give it {advice.amount(-saved)} more." if saved < 0 else "No size is enough: move work away."
        sentence = f"The host is too small to stay below {level(data.target)}."
        return [Finding("act", "size", sentence, more, {"machines": 1, "missing": 0.0 if np.isnan(saved) else -saved})]
    if kind != "too big":
        return []
    share = percent(saved / float(host["now"]))
    sentence = f"The host is larger than needed, by {advice.amount(saved)} ({share})"
    numbers = {"machines": 1, "saved": saved}
    if not advice.calm:
        return [Finding("note", "size", f"{sentence}, as long as its load stays as it was.", numbers=numbers)]
    return [Finding("watch", "size", f"{sentence}.", "Make it smaller.", numbers)]


def _sizes_table(name: str, title: str, sized: pd.DataFrame) -> ReportTable:
    columns = [
        ReportColumn("host", "user"), ReportColumn("now", "number"), ReportColumn("needed", "number"),
        ReportColumn("at least", "number"), ReportColumn("at most", "number"), ReportColumn("saved", "number"),
        ReportColumn("95th percentile", "share"), ReportColumn("verdict"), ReportColumn("confidence", "share"),
    ]  # fmt: skip
    names = ["now", "needed", "lower", "upper", "saved", "utilization", "verdict", "confidence"]
    rows = [
        [str(user), *(value if isinstance(value, str) else float(value) for value in row)]
        for user, *row in sized[names].itertuples(name=None)
    ]
    return ReportTable(name, title, columns, rows)


def core_balance(data: Data, advice: Advice) -> Part:
    """A bar a core; nothing where cores were not reported. Raises TooFewData for a host of one core."""
    if data.cores is None:
        return Part(caveats=["Single cores are left out: this host reports none."])
    cores = _cores_summary(data.cores)
    if len(cores) < 2:
        raise TooFewData("the host has one core")
    mean = float(cores["mean"].mean())
    busiest = cores.sort_values("mean").to_dict("records")[-1]
    alone = float(core_imbalance(data.cores)["one_saturated"].mean())
    factor = float(busiest["mean"]) / max(mean, 1e-9)
    number = int(busiest["core"])
    if factor >= _UNEVEN:
        title = f"Core {number} does {factor:.1f} times the work of the average core"
        [kind] = advice.kinds
        finding = Finding(
            "watch", "cores", f"{title}: {percent(float(busiest['mean']))} beside {percent(mean)}.",
            "A single thread, or interrupts, may hold the host up"
            + ("." if kind == "hot" else "; more cores would not help."),
            {"core": number, "factor": factor, "one_saturated": alone},
        )  # fmt: skip
    else:
        title = f"The cores share the work evenly: the busiest, core {number}, has {factor:.1f} times the average"
        finding = Finding(
            "note", "cores", f"{title}.", numbers={"core": number, "factor": factor, "one_saturated": alone}
        )
    note = (
        "Bars are means; the lines go from the lowest to the highest bucket of each core. A core was at 90 % or more "
        f"while the host was below for {percent(alone)} of the time."
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
    """The forecast of the fleet's mean, or of the host's. Raises TooFewData where the history is too short."""
    check_day(data)
    horizon_ms = _horizon_ms(data)
    steady, _, what, caveats = steady_total(data)
    total = resample(steady, format_duration(_step_ms(data)))
    made = forecast(total, horizon=format_duration(horizon_ms), tz=data.tz)
    coming = made.frame
    low, high = float(coming["lower_80"].min()), float(coming["upper_80"].max())
    peak = coming["mean"].idxmax()
    height = float(coming["mean"].max())
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
        Section("outlook", "What is to come", parts=[picture]),
        [_forecast_finding(data, what, horizon_ms, low, high, height)],
        caveats,
    )


def _forecast_finding(data: Data, what: str, horizon_ms: int, low: float, high: float, height: float) -> Finding:
    numbers = {"horizon_days": horizon_ms / DAY_MS, "lower_80": low, "upper_80": high, "highest_mean": height}
    who = f"{what[0].upper()}{what[1:]}"
    within = f"in the {each(horizon_ms)} to come"
    mean = f"in the mean of each {each(_step_ms(data))}"
    if height >= data.target:
        sentence = f"{who} is expected to reach {percent(height)} {within}: more than {level(data.target)}."
        return Finding("act", "forecast", sentence, "Add capacity, or move work, before then.", numbers)
    if high >= data.target:
        sentence = f"{who} may reach the target of {level(data.target)} {within}: up to {percent(high)} is likely."
        return Finding("watch", "forecast", sentence, "Have capacity ready.", numbers)
    sentence = f"{who} is expected to stay below {percent(high)} {mean} {within}: with 9 chances in 10 for each."
    return Finding("note", "forecast", sentence, numbers=numbers)


def _step_ms(data: Data) -> int:
    """An hour, or less where the hosts' buckets are shorter."""
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
