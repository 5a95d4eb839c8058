"""How good forecasts are, beside the seasonal naive and known methods, and how long they take.

    .venv/bin/python bench/forecasts.py

Alibaba's data centre is forecast hourly, a day ahead, and so is every other series at hand, from many moments of its
past; the intervals are checked over the PlanetLab fleet. STL with exponential smoothing (statsmodels) is always beside;
so is MSTL of statsforecast where that is installed.
"""

import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from data import ALIBABA, FLEET, NAB_OTHER, SAMPLE
from forecast_bands import Series, bands, made_up, of_fleet, one_by_one, together
from nab_scoring import labelled_files, other_files
from options import Options
from output import left_out, machine, number, table

from analytics import forecast, right_size

Floats = npt.NDArray[np.float64]
Peer = Callable[[Floats], Floats]
DAY = 24
MSTL_NAME = "MSTL (statsforecast)"
QUANTITIES = {
    "cpu_util_percent": "cpu",
    "mem_util_percent": "mem",
    "net_in": "net_in",
    "net_out": "net_out",
    "disk_io_percent": "disk_io",
}


def main() -> None:
    """Measure and print tables."""
    parser = Options(__doc__)
    parser.data("--alibaba", ALIBABA, tiny=None, type=Path, help="the data centre's file")
    parser.data("--fleet", FLEET if FLEET.exists() else SAMPLE, tiny=SAMPLE, type=Path, help="PlanetLab's file")
    parser.data("--other", NAB_OTHER, tiny=None, type=Path, help="the folder of NAB's other series")
    parser.size("--machines", 40, tiny=4, help="hosts of each group of which bands are counted")
    parser.size("--every", 6, tiny=1000, help="hours between the moments that are forecast from")
    parser.size("--part", 1, tiny=100, help="measure durations with this part of the hosts")
    options = parser.parse()
    print(machine() + "\n")
    series = hourly(options.alibaba)
    print(last_days(series) + "\n")
    print(many_days(series, options.every) + "\n")
    fleet = planetlab(options.fleet)
    print(fleet_intervals(fleet) + "\n")
    print(bands(band_groups(fleet, series, options.other, options.machines, options.every)) + "\n")
    print(durations(options.part))


def hourly(alibaba: Path | None) -> dict[str, "pd.Series[float] | None"]:
    """Alibaba's five quantities, None where the file is missing, and NAB's five CPU series; hourly means."""
    found: dict[str, pd.Series[float] | None] = {f"Alibaba, {name}": None for name in QUANTITIES.values()}
    if alibaba and alibaba.exists():
        trace = pd.read_csv(alibaba)
        trace.index = pd.date_range("2018-01-01", periods=len(trace), freq="300s", tz="UTC", name="time")
        found |= {f"Alibaba, {name}": trace[column].resample("1h").mean() for column, name in QUANTITIES.items()}
    for name, file in labelled_files().items():
        values = pd.Series(file.value, index=file.time)
        found[f"NAB, {name.rpartition('_')[2]}"] = values.resample("1h").mean()
    return found


def peers() -> dict[str, Peer]:
    """Known methods that are installed: from a history to its next day."""
    from statsmodels.tsa.exponential_smoothing.ets import ETSModel
    from statsmodels.tsa.forecasting.stl import STLForecast

    def stl(past: Floats) -> Floats:
        settings = {"trend": "add", "damped_trend": True}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = STLForecast(past, ETSModel, model_kwargs=settings, period=DAY, robust=True)
            return np.asarray(model.fit(fit_kwargs={"disp": False}).forecast(DAY))

    found: dict[str, Peer] = {"STL + ETS (statsmodels)": stl}
    if importlib.util.find_spec("statsforecast"):
        from statsforecast.models import MSTL

        found[MSTL_NAME] = lambda past: MSTL(season_length=[DAY]).forecast(past, DAY)["mean"]
    return found


def filled(values: "pd.Series[float]") -> Floats:
    """Without gaps, which peers do not take."""
    return values.interpolate().to_numpy()


def absolute_error(predicted: Floats, actual: "pd.Series[float]") -> float:
    """The mean of it."""
    return float(np.nanmean(np.abs(predicted - actual.to_numpy())))


def last_days(series: Mapping[str, "pd.Series[float] | None"]) -> str:
    """The first series there is, a day ahead from the start of each of its last two days.

    Once its last 48 hours, and once its last two whole days.
    """
    title, values = next((name, values) for name, values in series.items() if values is not None)
    whole = len(values) // DAY * DAY
    ends = {"the last 48 hours": len(values), "the last two whole days": whole}
    errors: dict[str, list[float]] = {}
    for end in ends.values():
        for name, each in _errors(values, [end - 2 * DAY, end - DAY]).items():
            errors.setdefault(name, []).append(float(np.mean(each)))
    naive = errors["seasonal naive"]
    kinds = [f"{kind}, {name}" for kind in ("error", "beside naive") for name in ends]
    headers = [f"{title} in percent, hourly, a day ahead", *kinds]
    rows = [[name, *map(number, each), *map(share, each, naive)] for name, each in errors.items()]
    if MSTL_NAME not in errors:
        rows.append(left_out(MSTL_NAME, len(headers)))
    return table(headers, rows)


def share(error: float, naive: float) -> str:
    """An error beside the seasonal naive's."""
    return f"{error / naive:.2f}"


def _errors(values: "pd.Series[float]", origins: Sequence[int]) -> dict[str, list[float]]:
    """The errors of all methods from some origins."""
    found: dict[str, list[float]] = {}
    for origin in origins:
        past, actual = values.iloc[:origin], values.iloc[origin : origin + DAY]
        predicted = {"Loadlens": forecast(past.to_frame("mean"), "24h").frame["mean"].to_numpy()}
        predicted |= {name: peer(filled(past)) for name, peer in peers().items()}
        predicted["seasonal naive"] = filled(past)[-DAY:]
        for name, each in predicted.items():
            found.setdefault(name, []).append(absolute_error(each, actual))
    return found


def many_days(series: Mapping[str, "pd.Series[float] | None"], every: int) -> str:
    """A day ahead from every few hours, once there are three days."""
    others = [*peers()]
    headers = ["Error beside the seasonal naive's", "origins", "Loadlens", *others, "better days", "in 80 %", "in 95 %"]
    rows, ratios = [], []
    for name, values in series.items():
        if values is None:
            rows.append(left_out(name, len(headers), "no data"))
            continue
        origins = range(3 * DAY, len(values) - DAY + 1, every)
        errors = {method: np.array(each) for method, each in _errors(values, origins).items()}
        naive, ours = errors["seasonal naive"], errors["Loadlens"]
        covered = np.mean([_covered(values, origin) for origin in origins], axis=0)
        ratios.append([errors[method].sum() / naive.sum() for method in ("Loadlens", *others)])
        days = f"{(ours < naive).mean():.0%}"
        rows.append(
            [name, str(len(origins)), *(f"{one:.2f}" for one in ratios[-1]), days, *(f"{one:.0%}" for one in covered)]
        )
    for name, each in (("median", np.median(ratios, axis=0)), ("worst", np.max(ratios, axis=0))):
        rows.append([f"**{name}**", "-", *(f"{one:.2f}" for one in each), "-", "-", "-"])
    return table(headers, rows)


def _covered(values: "pd.Series[float]", origin: int) -> tuple[float, float]:
    """The shares of the next day that lie in the intervals of 80 and 95 %."""
    predicted = forecast(values.iloc[:origin].to_frame("mean"), "24h").frame
    actual = values.iloc[origin : origin + DAY].dropna()
    predicted = predicted.loc[actual.index]
    inside = [(actual >= predicted[f"lower_{level}"]) & (actual <= predicted[f"upper_{level}"]) for level in (80, 95)]
    return float(inside[0].mean()), float(inside[1].mean())


def planetlab(path: Path) -> pd.DataFrame:
    """The fleet as a frame of windows of 5 minutes."""
    fleet = pd.read_parquet(path)
    index = pd.DatetimeIndex(fleet["time"], name="time").tz_localize("UTC")
    return pd.DataFrame(
        {"user": fleet["user_id"].array, "mean": fleet["utilization_percent"].to_numpy() / 100}, index=index
    )


def fleet_intervals(fleet: pd.DataFrame) -> str:
    """How much of the PlanetLab fleet lies in its intervals, in several ways to split it."""
    rows = []
    for name, parts in splits(fleet).items():
        began = time.perf_counter()
        covered, hosts = [], 0
        for past, actual, start, horizon in parts:
            predicted = forecast(past, horizon, rate="1h" if "hourly" in name else "5m", start=start).frame
            hosts += predicted["user"].nunique()
            covered.append(compared(predicted, actual))
        all_ = pd.concat(covered)
        seconds = time.perf_counter() - began
        rows.append(
            [name, f"{hosts:,}", f"{all_['in_80'].mean():.1%}", f"{all_['in_95'].mean():.1%}",
             f"{all_['width_80'].mean():.3f}", f"{all_['width_95'].mean():.3f}", number(seconds)]
        )  # fmt: skip
    headers = ["PlanetLab", "forecasts", "in 80 %", "in 95 %", "mean width, 80 %", "mean width, 95 %", "seconds"]
    return table(headers, rows)


Part = tuple[pd.DataFrame, pd.DataFrame, pd.Timestamp, str]


def splits(fleet: pd.DataFrame) -> dict[str, Iterator[Part]]:
    """Past and actual values, in several ways; the days of the fleet have gaps between them."""
    days = sorted(fleet.index.normalize().unique())
    day, evening = pd.Timedelta(days=1), pd.Timedelta(hours=18)

    def until(frame: pd.DataFrame, start: pd.Timestamp, horizon: str) -> Part:
        later = frame[(frame.index >= start) & (frame.index < start + pd.Timedelta(horizon))]
        return frame[frame.index < start], later, start, horizon

    def joined(least: int) -> Iterator[Part]:
        frame = back_to_back(fleet, least)
        yield until(frame, frame.index.min() + (least - 1) * day, "24h")

    return {
        "each day from the days before, hourly": (until(fleet, start, "24h") for start in days[1:]),
        "the last six hours of each day, hourly": (until(fleet, start + evening, "6h") for start in days),
        "second of two days, put together, hourly": joined(2),
        "third of three days, put together, hourly": joined(3),
        "third of three days, put together, 5 minutes": joined(3),
    }


def back_to_back(fleet: pd.DataFrame, days: int) -> pd.DataFrame:
    """The last days of each host that has so many, moved together so that none is missing between them."""
    steps = days * 288
    rows = fleet.groupby("user", observed=True).cumcount(ascending=False)
    size = fleet.groupby("user", observed=True)["mean"].transform("size")
    kept = fleet[((rows < steps) & (size >= steps)).to_numpy()]
    place = kept.groupby("user", observed=True).cumcount().to_numpy()
    index = fleet.index.min().normalize() + pd.to_timedelta(place * 300, unit="s")
    return kept.set_axis(pd.DatetimeIndex(index, name="time"))


def compared(predicted: pd.DataFrame, actual: pd.DataFrame) -> pd.DataFrame:
    """Whether each actual value lies in its intervals, and how wide they are."""
    step = predicted.index[1] - predicted.index[0]
    means = actual.groupby(["user", actual.index.floor(step)], observed=True)["mean"].mean().rename("actual")
    joined = predicted.set_index("user", append=True).swaplevel().join(means, how="inner")
    columns = {}
    for level in (80, 95):
        lower, upper = joined[f"lower_{level}"], joined[f"upper_{level}"]
        columns[f"in_{level}"] = (joined["actual"] >= lower) & (joined["actual"] <= upper)
        columns[f"width_{level}"] = upper - lower
    return pd.DataFrame(columns)


DAYS_OF_LEVELS = 5
HOSTS_OF_LEVELS = 20
LEAST_DAYS = 10


def band_groups(
    fleet: pd.DataFrame,
    series: Mapping[str, "pd.Series[float] | None"],
    other: Path | None,
    hosts: int,
    every: int,
) -> dict[str, list[Series]]:
    """All series at hand in groups of a kind, at most so many hosts each."""
    joined = back_to_back(fleet, DAYS_OF_LEVELS)
    hourly_means = joined.groupby(["user", joined.index.floor("1h")], observed=True)["mean"].mean().unstack("time")
    groups: dict[str, list[Series]] = {}
    if len(hourly_means) >= HOSTS_OF_LEVELS:
        groups |= {f"PlanetLab, {name}": parts for name, parts in of_fleet(hourly_means.to_numpy(), hosts).items()}
    there = {name: values for name, values in series.items() if values is not None}
    smooth = [values for name, values in there.items() if "net_" in name]
    alibaba = [values for name, values in there.items() if name.startswith("Alibaba") and "net_" not in name]
    cpu = [values for name, values in there.items() if name.startswith("NAB")]
    groups |= {
        "Alibaba, CPU, memory, disk": one_by_one(alibaba, every),
        "Alibaba, network": one_by_one(smooth, every),
        "NAB, CPU, one by one": one_by_one(cpu, 3 * every),
        "NAB, CPU, as a fleet": together(cpu, 3 * every),
    }
    kinds: dict[str, list[pd.Series[float]]] = {}
    for name, file in (other_files(other) if other else {}).items():
        values = pd.Series(file.value, index=file.time).sort_index().resample("1h").mean()
        if len(values) >= LEAST_DAYS * DAY:
            kinds.setdefault(f"NAB, {name.partition('/')[0]}", []).append(values)
    groups |= {name: one_by_one(kind) for name, kind in kinds.items()} | {name: [part] for name, part in made_up(hosts)}
    return {name: parts for name, parts in groups.items() if parts}


def durations(part: int) -> str:
    """How long a fleet takes."""
    rows = []
    for name, users, work in (
        ("forecast of a day, 3,000 hosts, 30 days hourly", 3000, lambda frame: forecast(frame, "24h")),
        ("forecast of a week, 3,000 hosts, 30 days hourly", 3000, lambda frame: forecast(frame, "7d")),
        ("forecast of a week, one host, 30 days hourly", 1, lambda frame: forecast(frame, "7d")),
        ("right_size, 10,000 hosts, 30 days hourly", 10_000, lambda frame: right_size(frame, 8)),
    ):
        frame = simulated(max(users // part, 1), 30)
        began = time.perf_counter()
        work(frame)
        rows.append([name, number(time.perf_counter() - began)])
    return table(["Duration", "seconds"], rows)


def simulated(users: int, days: int) -> pd.DataFrame:
    """A fleet with daily patterns."""
    rng = np.random.default_rng(1)
    hours = np.arange(days * DAY)
    size, phase = rng.beta(2, 8, (users, 1)), rng.uniform(0, DAY, (users, 1))
    load = size * (1 + 0.5 * np.sin(2 * np.pi * (hours - phase) / DAY)) + rng.normal(0, 0.05, (users, len(hours)))
    names = pd.Categorical.from_codes(np.repeat(np.arange(users), len(hours)), [f"host-{n:05}" for n in range(users)])
    index = pd.DatetimeIndex(np.tile(pd.date_range("2024-03-04", periods=len(hours), freq="1h"), users), name="time")
    return pd.DataFrame({"user": names, "mean": load.clip(0, 1).ravel()}, index=index.tz_localize("UTC"))


if __name__ == "__main__":
    main()
