"""How good forecasts are, beside the seasonal naive and known methods, and how long they take.

    .venv/bin/python bench/forecasts.py [--quick]

Alibaba's data centre is forecast hourly, a day ahead, and so is every other series at hand, from many moments of its
past; the intervals are checked over the PlanetLab fleet. STL with exponential smoothing (statsmodels) is always beside;
so is MSTL of statsforecast where that is installed. Needs ../shared/data (--data for another folder).
"""

import argparse
import importlib.util
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from output import machine, number, table

from analytics import forecast, right_size

Floats = npt.NDArray[np.float64]
Peer = Callable[[Floats], Floats]
DATA = Path(__file__).parents[2] / "shared" / "data"
DAY = 24


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder with the data (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer moments and machines: see that it runs")
    options = parser.parse_args()
    print(machine() + "\n")
    series = hourly(options.data)
    print(last_days(series["Alibaba, cpu"]) + "\n")
    print(many_days(series, every=48 if options.quick else 6) + "\n")
    print(fleet_intervals(planetlab(options.data), quick=options.quick) + "\n")
    print(durations(100 if options.quick else 1))


def hourly(data: Path) -> dict[str, "pd.Series[float]"]:
    """Alibaba's five quantities and NAB's CPU series, hourly means."""
    trace = pd.read_csv(data / "alibaba-2018-fleet-300s.csv")
    trace.index = pd.date_range("2018-01-01", periods=len(trace), freq="300s", tz="UTC", name="time")
    found = {f"Alibaba, {name.split('_util')[0].split('_percent')[0]}": values for name, values in trace.items()}
    for path in sorted((data / "nab-cpu").glob("*.csv")):
        values = pd.read_csv(path, parse_dates=["timestamp"], index_col="timestamp")["value"]
        found[f"NAB, {path.stem.rpartition('_')[2]}"] = values.tz_localize("UTC")
    return {name: values.resample("1h").mean() for name, values in found.items()}


def peers() -> dict[str, Peer]:
    """Known methods: from a history to its next day."""
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

        found["MSTL (statsforecast)"] = lambda past: MSTL(season_length=[DAY]).forecast(past, DAY)["mean"]
    return found


def filled(values: "pd.Series[float]") -> Floats:
    """Without gaps, which peers do not take."""
    return values.interpolate().to_numpy()


def off(said: Floats, came: "pd.Series[float]") -> float:
    """Mean absolute error."""
    return float(np.nanmean(np.abs(said - came.to_numpy())))


def last_days(values: "pd.Series[float]") -> str:
    """A day ahead from the start of each of the last two days: of the last 48 hours, and of the whole days."""
    whole = len(values) // DAY * DAY
    ends = {"the last 48 hours": len(values), "the last two whole days": whole}
    errors: dict[str, list[float]] = {}
    for end in ends.values():
        for name, said in _days(values, [end - 2 * DAY, end - DAY]).items():
            errors.setdefault(name, []).append(float(np.mean(said)))
    naive = errors["seasonal naive"]
    rows = [[name, *map(number, each), *map(beside, each, naive)] for name, each in errors.items()]
    if len(rows) == 3:
        rows.append(["MSTL (statsforecast): not installed", *["-"] * 4])
    kinds = [f"{kind}, {name}" for kind in ("error", "beside naive") for name in ends]
    headers = ["Alibaba, CPU in percent, hourly, a day ahead", *kinds]
    return table(headers, rows)


def beside(error: float, naive: float) -> str:
    """An error as a share of the seasonal naive's."""
    return f"{error / naive:.2f}"


def _days(values: "pd.Series[float]", origins: list[int]) -> dict[str, list[float]]:
    """The errors of all methods from some origins."""
    found: dict[str, list[float]] = {}
    for origin in origins:
        past, came = values.iloc[:origin], values.iloc[origin : origin + DAY]
        said = {"Loadlens": forecast(past.to_frame("mean"), "24h").frame["mean"].to_numpy()}
        said |= {name: peer(filled(past)) for name, peer in peers().items()}
        said["seasonal naive"] = filled(past)[-DAY:]
        for name, each in said.items():
            found.setdefault(name, []).append(off(each, came))
    return found


def many_days(series: dict[str, "pd.Series[float]"], every: int) -> str:
    """A day ahead from every few hours, once there are three days."""
    others = [*peers()]
    rows = []
    for name, values in series.items():
        origins = list(range(3 * DAY, len(values) - DAY + 1, every))
        errors = _days(values, origins)
        naive = np.array(errors["seasonal naive"])
        ours = np.array(errors["Loadlens"])
        held = np.mean([_held(values, origin) for origin in origins], axis=0)
        beside = [f"{np.sum(errors[other]) / naive.sum():.2f}" for other in others]
        days = f"{(ours < naive).mean():.0%}"
        rows.append(
            [
                name,
                str(len(origins)),
                f"{ours.sum() / naive.sum():.2f}",
                *beside,
                days,
                *(f"{share:.0%}" for share in held),
            ]
        )
    ratios = np.array([[float(cell) for cell in row[2 : 3 + len(others)]] for row in rows])
    rows.append(["**median**", "", *(f"{middle:.2f}" for middle in np.median(ratios, axis=0)), "", "", ""])
    rows.append(["**worst**", "", *(f"{worst:.2f}" for worst in ratios.max(axis=0)), "", "", ""])
    headers = ["Error beside the seasonal naive's", "origins", "Loadlens", *others, "better days", "in 80 %", "in 95 %"]
    return table(headers, rows)


def _held(values: "pd.Series[float]", origin: int) -> tuple[float, float]:
    """The shares of the next day that the intervals hold."""
    made = forecast(values.iloc[:origin].to_frame("mean"), "24h").frame
    came = values.iloc[origin : origin + DAY].dropna()
    made = made.loc[came.index]
    inside = [(came >= made[f"lower_{level}"]) & (came <= made[f"upper_{level}"]) for level in (80, 95)]
    return float(inside[0].mean()), float(inside[1].mean())


def planetlab(data: Path) -> pd.DataFrame:
    """The fleet as a frame of windows of 5 minutes."""
    fleet = pd.read_parquet(data / "planetlab-fleet.parquet")
    index = pd.DatetimeIndex(fleet["time"], name="time").tz_localize("UTC")
    return pd.DataFrame(
        {"user": fleet["user_id"].array, "mean": fleet["utilization_percent"].to_numpy() / 100}, index=index
    )


def fleet_intervals(fleet: pd.DataFrame, *, quick: bool) -> str:
    """What intervals hold of the PlanetLab fleet, in several ways to split it."""
    if quick:
        fleet = fleet[fleet["user"].isin(fleet["user"].unique()[::20])]
    rows = []
    for name, parts in splits(fleet).items():
        began = time.perf_counter()
        held, machines = [], 0
        for past, came, start, horizon in parts:
            made = forecast(past, horizon, rate="1h" if "hourly" in name else "5m", start=start).frame
            machines += made["user"].nunique()
            held.append(compared(made, came))
        all_ = pd.concat(held)
        seconds = time.perf_counter() - began
        rows.append(
            [name, f"{machines:,}", f"{all_['in_80'].mean():.1%}", f"{all_['in_95'].mean():.1%}",
             f"{all_['width_80'].mean():.3f}", f"{all_['width_95'].mean():.3f}", number(seconds)]
        )  # fmt: skip
    headers = ["PlanetLab", "forecasts", "in 80 %", "in 95 %", "mean width, 80 %", "mean width, 95 %", "seconds"]
    return table(headers, rows)


Part = tuple[pd.DataFrame, pd.DataFrame, pd.Timestamp, str]


def splits(fleet: pd.DataFrame) -> dict[str, Iterator[Part]]:
    """Past and what came, in several ways; the days of the fleet have gaps between them."""
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
    """The last days of each machine that has so many, moved together so that none is missing between them."""
    steps = days * 288
    rows = fleet.groupby("user", observed=True).cumcount(ascending=False)
    size = fleet.groupby("user", observed=True)["mean"].transform("size")
    kept = fleet[((rows < steps) & (size >= steps)).to_numpy()]
    place = kept.groupby("user", observed=True).cumcount().to_numpy()
    index = fleet.index.min().normalize() + pd.to_timedelta(place * 300, unit="s")
    return kept.set_axis(pd.DatetimeIndex(index, name="time"))


def compared(made: pd.DataFrame, came: pd.DataFrame) -> pd.DataFrame:
    """Whether each value that came lies in its intervals, and how wide they are."""
    step = made.index[1] - made.index[0]
    actual = came.groupby(["user", came.index.floor(step)], observed=True)["mean"].mean().rename("came")
    joined = made.set_index("user", append=True).swaplevel().join(actual, how="inner")
    return pd.DataFrame(
        {
            f"{kind}_{level}": (joined["came"] >= joined[f"lower_{level}"])
            & (joined["came"] <= joined[f"upper_{level}"])
            if kind == "in"
            else joined[f"upper_{level}"] - joined[f"lower_{level}"]
            for level in (80, 95)
            for kind in ("in", "width")
        }
    )


def durations(part: int) -> str:
    """How long a fleet takes."""
    rows = []
    for name, users, work in (
        ("forecast of a day, 3,000 machines, 30 days hourly", 3000, lambda frame: forecast(frame, "24h")),
        ("forecast of a week, 3,000 machines, 30 days hourly", 3000, lambda frame: forecast(frame, "7d")),
        ("forecast of a week, one machine, 30 days hourly", part, lambda frame: forecast(frame, "7d")),
        ("right_size, 10,000 machines, 30 days hourly", 10_000, lambda frame: right_size(frame, 8)),
    ):
        frame = simulated(users // part, 30)
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
