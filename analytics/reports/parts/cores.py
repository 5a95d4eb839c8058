"""How evenly the cores are used."""

import numpy as np
import pandas as pd

from analytics import figures
from analytics.frames.frame import TooFewData
from analytics.reports.data import Data
from analytics.reports.model import Finding, Picture, Section
from analytics.reports.parts.base import Part
from analytics.reports.words import percent

_UNEVEN = 1.5
"""A core with so many times the work of the average one stands out."""


def of_machine(data: Data) -> Part:
    """A bar a core; nothing where cores were not reported. Raises TooFewData for a machine of one core."""
    if data.cores is None:
        return Part(caveats=["Single cores are left out: this machine reports none."])
    import analytics

    cores = _summary(data.cores)
    if len(cores) < 2:
        raise TooFewData("the machine has one core")
    mean = float(cores["mean"].mean())
    busiest = cores.sort_values("mean").to_dict("records")[-1]
    alone = float(analytics.core_imbalance(data.cores)["one_saturated"].mean())
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


def _summary(frame: pd.DataFrame) -> pd.DataFrame:
    weighted = frame.assign(load=frame["mean"] * frame["count"]).groupby("core")
    cores = pd.DataFrame(
        {
            "mean": weighted["load"].sum() / weighted["count"].sum(),
            "low": weighted["mean"].min(),
            "high": weighted["mean"].max(),
        }
    )
    return cores.astype(np.float64).rename_axis("core").reset_index()
