"""How often the sizes of right-sizing hold on days to come, beside known rules, and what they cost.

    .venv/bin/python bench/right_size.py

Each day of the PlanetLab fleet after the first three is a test: hosts are sized from the days before it, and a size
holds where the 95th percentile of that day stays under the target on it. The ideal is the smallest size that holds. The
hosts are taken to have 16 cores, then 1,000, where next to nothing is rounded. Beside:

- the highest of the daily 95th percentiles seen;
- Kubernetes' Vertical Pod Autoscaler, as its recommender has it: the 90th percentile of samples whose weight halves
  each 24 hours, times 1.15 (kubernetes/autoscaler, vertical-pod-autoscaler); as a request of that, and divided by the
  target, as the others are.

Then pairs of hosts with complementary days (`analytics.fit_together`), of those that were seen on all days: pairs
are chosen and sized on the first two thirds of the days, and held on the last third.

The constants of `analytics.methods.right_sizing.later_days` were chosen on every second host: the others stand by
themselves.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from data import FLEET, SAMPLE
from forecasts import planetlab
from options import Options
from output import machine, number, table

from analytics import fit_together, right_size

Floats = npt.NDArray[np.float64]
TARGET, QUANTILE = 0.8, 0.95
HALF_LIFE_DAYS, MARGIN, VPA_QUANTILE = 1.0, 1.15, 0.9


def main() -> None:
    """Measure and print tables."""
    parser = Options(__doc__)
    parser.data("--fleet", FLEET if FLEET.exists() else SAMPLE, tiny=SAMPLE, type=Path, help="PlanetLab's file")
    parser.size("--part", 1, tiny=4, help="measure with this part of the hosts")
    options = parser.parse()
    print(machine() + "\n")
    fleet = planetlab(options.fleet)
    fleet = fleet[fleet["user"].isin(fleet["user"].unique()[:: options.part])]
    names = np.sort(fleet["user"].unique())
    for title, chosen, least in (
        ("all hosts", names, 2), ("all hosts", names, 3), ("hosts that nothing was chosen on", names[1::2], 2)
    ):  # fmt: skip
        print(held(fleet[fleet["user"].isin(chosen)], f"{title}, {least} days or more", least) + "\n")
    print(paired(fleet))


def held(fleet: pd.DataFrame, title: str, least: int) -> str:
    """The table of one kind of hosts: those seen on at least so many days before."""
    days = sorted(fleet.index.normalize().unique())
    daily = fleet.groupby(["user", fleet.index.normalize()], observed=True)["mean"].quantile(
        QUANTILE, interpolation="higher"
    )
    found: dict[str, list[list[float]]] = {}
    for cores in (16, 1000):
        for day in days[3:]:
            past, came = fleet[fleet.index < day], daily.xs(day, level=1)
            sized = right_size(past, cores, TARGET, QUANTILE, least_days=least).set_index("user")
            sized = sized[sized["needed"].notna()]
            both = sized.index[sized.index.isin(came.index)]
            ideal = whole(came[both].to_numpy() * cores / TARGET)
            for name, size in sizes(past, sized.loc[both], cores, day).items():
                ratio = size.sum() / ideal.sum(), float(np.mean(size / ideal))
                found.setdefault(f"{name}, {cores:,} cores", []).append([(size >= ideal).mean(), *ratio])
            within = (sized.loc[both, "lower"] <= ideal) & (ideal <= sized.loc[both, "upper"])
            found.setdefault(f"Loadlens, its interval, {cores:,} cores", []).append([within.mean(), np.nan, np.nan])
    rows = [
        [
            name,
            *(f"{each[0]:.1%}" for each in tests),
            *("-" if np.isnan(mean := np.mean([each[place] for each in tests])) else number(mean) for place in (1, 2)),
        ]
        for name, tests in found.items()
    ]
    headers = [title, *(f"held on {day:%d %B}" for day in days[3:]), "cores beside ideal", "mean of the hosts'"]
    return table(headers, rows)


def paired(fleet: pd.DataFrame) -> str:
    """The table of pairs: what they save, and how often they stayed under the target later."""
    days = fleet.groupby("user", observed=True).apply(lambda rows: rows.index.normalize().nunique())
    throughout = days.index[days == days.max()]
    rows = []
    for quantile in (0.9, QUANTILE, 0.99):
        pairs = fit_together(fleet[fleet["user"].isin(throughout)], 16, TARGET, quantile)
        rows.append(
            [
                f"the {100 * quantile:.0f}th percentile of each part of the day", f"{len(throughout)}", f"{len(pairs)}",
                f"{pairs['saved'].sum() / pairs['apart'].sum():.1%}", f"{pairs['held'].mean():.1%}",
                f"{pairs['held_apart'].mean():.1%}", f"{pairs['fits'].mean():.0%}",
            ]
        )  # fmt: skip
    headers = [
        "pairs, sized by", "hosts", "pairs", "cores saved", "hours held together", "hours both held apart",
        "pairs that fit",
    ]  # fmt: skip
    return table(headers, rows)


def sizes(past: pd.DataFrame, sized: pd.DataFrame, cores: int, day: pd.Timestamp) -> dict[str, Floats]:
    """What each rule gives to the hosts of `sized`, in whole cores."""
    past = past[past["user"].isin(sized.index)]
    daily = past.groupby(["user", past.index.normalize()], observed=True)["mean"].quantile(
        QUANTILE, interpolation="higher"
    )
    highest = daily.groupby(level=0).max()[sized.index].to_numpy()
    request = MARGIN * decayed(past, day)[sized.index].to_numpy()
    return {
        "Loadlens": sized["recommended"].to_numpy(),
        "highest daily p95": whole(highest * cores / TARGET),
        "VPA": whole(request * cores),
        "VPA, divided by the target": whole(request * cores / TARGET),
    }


def whole(cores: Floats) -> Floats:
    """In whole cores, one at least."""
    return np.maximum(np.ceil(cores - 1e-9), 1.0)


def decayed(past: pd.DataFrame, day: pd.Timestamp) -> "pd.Series[float]":
    """The 90th percentile of each host's samples, their weight halved each day."""
    age = (day - past.index) / pd.Timedelta(days=1)
    rows = pd.DataFrame(
        {
            "user": past["user"].astype(str).to_numpy(),
            "mean": past["mean"].to_numpy(),
            "weight": 0.5 ** (age / HALF_LIFE_DAYS),
        }
    ).sort_values(["user", "mean"])
    reached = rows.groupby("user")["weight"].cumsum()
    total = rows.groupby("user")["weight"].transform("sum")
    above = rows[(reached >= VPA_QUANTILE * total - 1e-12).to_numpy()]
    return above.groupby("user")["mean"].first()


if __name__ == "__main__":
    main()
