"""How often `compare` finds a difference where there is none, and where there is one, beside other tests.

    .venv/bin/python bench/compare.py

Groups of PlanetLab's hosts are dealt at random, at the same times, over one day and over six: they do not differ,
and a difference should be found in 5 % of cases. Then every host of the second group uses 5 points more. Last, a
fleet of ten hosts beside itself two weeks later, made up, with days that are better or worse for all of them.
Beside: Welch's t-test of the hours of all hosts, of the means of hours over the group, and of the means of the
hosts; the rank test of Mann and Whitney of these.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from data import FLEET, SAMPLE
from forecasts import planetlab
from options import Options
from output import machine, table
from scipy import stats

from analytics import compare, resample
from analytics.frames.frame import frame_of_values

Floats = npt.NDArray[np.float64]
Test = Callable[[pd.DataFrame, pd.DataFrame], float]
ALPHA = 0.05
MORE = 0.05
SIZES = (10, 50, 200)


def main() -> None:
    """Measure and print tables."""
    parser = Options(__doc__)
    parser.data("--fleet", FLEET if FLEET.exists() else SAMPLE, tiny=SAMPLE, type=Path, help="PlanetLab's file")
    parser.size("--cases", 200, tiny=4, help="times that groups are dealt")
    options = parser.parse()
    cases = options.cases
    print(machine() + "\n")
    hours = resample(frame_of_values(planetlab(options.fleet), value="mean"), "1h").drop(columns="histogram")
    days = sorted(hours.index.normalize().unique())
    rows = []
    for title, frame in (("one day", hours[hours.index < days[1]]), ("six days", hours)):
        users = frame["user"].astype(str).to_numpy()
        names = np.unique(users)
        for size in (min(each, len(names) // 2) for each in SIZES):
            found = [found_in(dealt(frame, users, names, size, seed)) for seed in range(cases)]
            rows.append([f"{title}, {size} hosts beside {size}", *shares(found)])
            moved = [found_in(dealt(frame, users, names, size, seed, MORE)) for seed in range(cases // 2)]
            rows.append([f"{title}, {size} beside {size} with 5 points more", *shares(moved)])
    rows.append(["ten hosts, two weeks later (made up)", *shares([found_in(later(seed)) for seed in range(cases)])])
    print(table(["A difference is found at 5 %", *TESTS], rows))


def dealt(
    frame: pd.DataFrame,
    users: npt.NDArray[np.str_],
    names: npt.NDArray[np.str_],
    size: int,
    seed: int,
    more: float = 0.0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two groups, dealt at random."""
    order = np.random.default_rng(seed).permutation(names)
    first, second = (frame[np.isin(users, order[n * size : (n + 1) * size])] for n in (0, 1))
    if more:
        second = second.assign(**{name: (second[name] + more).clip(upper=1) for name in ("mean", "min", "max")})
    return first, second


def later(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A fleet for two weeks, and for the next two."""
    random = np.random.default_rng(seed)
    days = random.normal(0, 0.03, 28).repeat(24) + random.normal(0, 0.02, (10, 28 * 24))
    load = (random.uniform(0.2, 0.6, (10, 1)) + days).clip(0, 1)
    index = pd.date_range("2024-01-01", periods=28 * 24, freq="1h", tz="UTC", name="time")
    parts = [pd.DataFrame({"value": each, "user": f"m{n}"}, index) for n, each in enumerate(load)]
    frame = frame_of_values(pd.concat(parts)).drop(columns="histogram")
    return frame[frame.index < index[14 * 24]], frame[frame.index >= index[14 * 24]]


def found_in(frames: tuple[pd.DataFrame, pd.DataFrame]) -> list[bool]:
    """Whether each test finds a difference."""
    return [test(*frames) < ALPHA for test in TESTS.values()]


def shares(found: list[list[bool]]) -> list[str]:
    """How often each does."""
    return [f"{share:.1%}" for share in np.mean(found, axis=0)]


def by_host(frame: pd.DataFrame) -> Floats:
    """The mean of each host."""
    return frame.groupby(frame["user"].astype(str))["mean"].mean().to_numpy()


def by_hour(frame: pd.DataFrame) -> Floats:
    """The mean of all hosts in each hour."""
    return frame.groupby(level=0)["mean"].mean().to_numpy()


TESTS: dict[str, Test] = {
    "Loadlens": lambda one, other: float(compare(one, other)["p_value"].iloc[0]),
    "t, hours of hosts": lambda one, other: stats.ttest_ind(one["mean"], other["mean"], equal_var=False).pvalue,
    "t, hours of the group": lambda one, other: stats.ttest_ind(by_hour(one), by_hour(other), equal_var=False).pvalue,
    "t, hosts": lambda one, other: stats.ttest_ind(by_host(one), by_host(other), equal_var=False).pvalue,
    "ranks, hosts": lambda one, other: stats.mannwhitneyu(by_host(one), by_host(other)).pvalue,
}


if __name__ == "__main__":
    main()
