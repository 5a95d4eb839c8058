"""How many hosts that differ from their peers are found, and how many are called odd that do not.

    .venv/bin/python bench/odd_ones.py

The hosts are PlanetLab's that were seen on four days or more; their first four days are put behind each other.
Two kinds of groups are drawn from them, with fixed seeds:

- alike: hosts that follow each other in the order of their means, as a label would name hosts of one purpose;
- one load: hosts behind a load balancer. Each has the load of one host, times a share of its own (log-normal, 0.15),
  and one point of noise.

Each group is asked as it is, and with one of its hosts changed: twice the load, half of it, 10 or 20 points more,
always its mean, zero, its day twelve hours late. Precision is that of all answers to groups with a changed host: of
the hosts called odd, those that were changed.

The threshold was chosen on every second host, as the lowest of 2, 2.5, 3 and 4 at which at most one of 1,000 hosts
in groups of alike ones is called odd as it is; the tables are of the others. Then PlanetLab as it is: of the hosts
that are odd on two days, those that are as far from all others on the two days after as well.
"""

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from data import FLEET, SAMPLE
from options import Options
from output import machine, table

from analytics.methods import odd_one_out
from analytics.methods.odd_one_out import odd_ones_out

Floats = npt.NDArray[np.float64]
DAYS, HOURS = 4, 24
SIZES = (8, 20, 50)
THRESHOLDS = (2.0, 2.5, 3.0, 4.0)
BUDGET = 0.001
START = pd.Timestamp("2011-03-01")

KINDS: dict[str, Callable[[Floats], Floats]] = {
    "twice": lambda load: np.minimum(2 * load, 1.0),
    "half": lambda load: load / 2,
    "10 points more": lambda load: np.minimum(load + 0.1, 1.0),
    "20 points more": lambda load: np.minimum(load + 0.2, 1.0),
    "its mean": lambda load: np.full_like(load, load.mean()),
    "zero": np.zeros_like,
    "12 hours late": lambda load: np.roll(load, HOURS // 2),
}
"""What is done to the hours of a host."""


def main() -> None:
    """Measure and print tables."""
    parser = Options(__doc__)
    parser.data("--fleet", FLEET if FLEET.exists() else SAMPLE, tiny=SAMPLE, type=Path, help="PlanetLab's file")
    parser.size("--draws", 50, tiny=1, help="groups of each kind and size")
    options = parser.parse()
    print(machine() + "\n")
    loads = days_of(options.fleet)
    chosen_on, others = loads[::2], loads[1::2]
    print(f"{thresholds(chosen_on, options.draws)}\n")
    print(f"{groups(others, options.draws)}\n")
    print(later({"the hosts that the threshold was chosen on": chosen_on, "the others": others}))


def days_of(path: Path) -> Floats:
    """The hours of four days of each host that has so many, (hosts, 96)."""
    fleet = pd.read_parquet(path)
    hours = fleet.groupby(["user_id", fleet["time"].dt.floor("1h")], observed=True)["utilization_percent"].mean() / 100
    counted = hours.groupby(level=0, observed=True)
    first = hours[(counted.cumcount() < DAYS * HOURS) & (counted.transform("size") >= DAYS * HOURS)]
    return first.to_numpy(np.float64).reshape(-1, DAYS * HOURS)


def asked(loads: Floats) -> pd.DataFrame:
    """What the library says of hosts, by their number."""
    times = pd.date_range(START, periods=loads.shape[1], freq="1h", name="time")
    users = np.repeat([f"{number:05}" for number in range(len(loads))], len(times))
    values = loads.ravel()
    frame = pd.DataFrame(
        {"user": pd.Categorical(users), "count": 1, "mean": values, "var": 0.0, "min": values, "max": values,
         "approximated": 0},
        index=pd.DatetimeIndex(np.tile(times.to_numpy(), len(loads)), name="time").tz_localize("UTC"),
    )  # fmt: skip
    found = odd_ones_out(frame)
    return found.set_axis(found["user"].astype(int)).sort_index()


def alike(loads: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Hosts out of twice as many that follow each other by their means."""
    order = np.argsort(loads.mean(axis=1))
    span = min(2 * size, len(order))
    first = int(rng.integers(0, len(order) - span + 1))
    chosen: Floats = loads[rng.choice(order[first : first + span], min(size, span), replace=False)]
    return chosen


def one_load(loads: Floats, size: int, rng: np.random.Generator) -> Floats:
    """Hosts that share the load of one host."""
    shared = loads[rng.integers(len(loads))]
    own = np.exp(rng.normal(0.0, 0.15, (size, 1)))
    return np.clip(shared * own + rng.normal(0.0, 0.01, (size, loads.shape[1])), 0.0, 1.0)


SOURCES: dict[str, Callable[[Floats, int, np.random.Generator], Floats]] = {"alike": alike, "one load": one_load}


def thresholds(loads: Floats, draws: int) -> str:
    """How many hosts would be called odd as they are, by threshold."""
    rows = []
    for source, draw in SOURCES.items():
        rng = np.random.default_rng(0)
        times = np.concatenate(
            [asked(draw(loads, size, rng))["times"].to_numpy() for size in SIZES for _ in range(draws)]
        )
        rows.append([source, f"{len(times):,}", *(f"{np.mean(times > limit):.2%}" for limit in THRESHOLDS)])
    return table(["called odd as they are", "hosts", *(f"over {limit:g} times" for limit in THRESHOLDS)], rows)


def groups(loads: Floats, draws: int) -> str:
    """What is found in groups with one host changed, and called odd beside it."""
    rows = []
    for source, draw in SOURCES.items():
        for size in SIZES:
            rng = np.random.default_rng(1)
            hits: dict[str, list[bool]] = defaultdict(list)
            as_it_is, hosts, right, called = 0, 0, 0, 0
            for _ in range(draws):
                group = draw(loads, size, rng)
                as_it_is, hosts = as_it_is + int(asked(group)["odd"].sum()), hosts + len(group)
                for kind, change in KINDS.items():
                    changed = group.copy()
                    changed[0] = change(changed[0])
                    odd = asked(changed)["odd"].to_numpy()
                    hits[kind].append(bool(odd[0]))
                    right, called = right + int(odd[0]), called + int(odd.sum())
            found = [f"{np.mean(hits[kind]):.0%}" for kind in KINDS]
            rows.append([f"{source}, {size} hosts", f"{as_it_is / hosts:.2%}", *found, f"{right / max(called, 1):.1%}"])
    return table(["one of the group has", "odd as they are", *KINDS, "precision"], rows)


def later(parts: dict[str, Floats]) -> str:
    """Of the hosts that are odd on two days, those that are as far from the others on the two days after."""
    rows = []
    for name, loads in parts.items():
        first, after = asked(loads[:, : 2 * HOURS]), asked(loads[:, 2 * HOURS :])
        odd = first["odd"].to_numpy()
        again = after["times"].to_numpy()
        rows.append(
            [
                name, f"{len(loads):,}", f"{odd.sum()}", f"{(again[odd] > odd_one_out.TIMES).sum()}",
                f"{(again[odd] > odd_one_out.TIMES / 2).sum()}", f"{np.mean(again > odd_one_out.TIMES / 2):.1%}",
            ]
        )  # fmt: skip
    headers = [
        "PlanetLab as it is", "hosts", "odd on two days", "of these odd on the next two",
        "over half the threshold on the next two", "of all hosts over half the threshold",
    ]  # fmt: skip
    return table(headers, rows)


if __name__ == "__main__":
    main()
