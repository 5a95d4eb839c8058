"""What the data are, and what is missing of them."""

import numpy as np
import pandas as pd

from analytics.reports.data import Data
from analytics.reports.model import Cell, Finding, ReportColumn, ReportTable
from analytics.reports.parts.base import silent_before_ms
from analytics.reports.text import all_of, each, level, listed, moment, percent, span
from contract.problems import plural

_MAX_GAPS = 6
_EXACT = 1e-9


def facts(data: Data, hosts: pd.DataFrame) -> list[tuple[str, str]]:
    """Of what, how much and how fine the data are."""
    first, last = _ends(data.total)
    # A bucket that the range begins or ends in counts as one.
    buckets = -(-data.end_ms // data.rate_ms) - data.start_ms // data.rate_ms
    whose = "all hosts'" if data.is_fleet else "its"
    told = [
        ("Range", f"{moment(data.start_ms)} to {moment(data.end_ms)} ({span(data.end_ms - data.start_ms)})"),
        (
            "First and last data",
            f"{moment(max(first, data.start_ms))}, {moment(min(last + data.total_rate_ms, data.end_ms))}",
        ),
        *([("Hosts", f"{len(hosts):,}")] if data.is_fleet else []),
        (
            "Samples",
            f"{int(data.samples['count'].sum()):,}, in {plural(len(data.windows), 'bucket')} of {span(data.rate_ms)}",
        ),
        (
            "Coverage",
            f"{percent(len(data.windows) / max(1.0, len(hosts) * buckets))} of {whose} time in the range",
        ),
    ]
    missing = [f"{moment(start)} to {moment(end)}" for start, end in gaps(data)]
    if missing:
        more = f" and {len(missing) - _MAX_GAPS} more" if len(missing) > _MAX_GAPS else ""
        told.append(("Gaps without any data", "; ".join(missing[:_MAX_GAPS]) + more))
    else:
        told.append(("Gaps without any data", "none"))
    return told


def caveats(data: Data) -> list[str]:
    """How far the numbers are approximate."""
    told = [
        "Quantiles come from histograms of 64 equal bins: within 0.8 points.",
        _shares_of_time(data),
    ]
    if data.is_fleet:
        cores = data.host_cores
        told.append(
            "Each host counts by the time it was seen, however often it samples, "
            + ("and however large it is: the cores of some are not known." if cores is None else "and by its cores.")
        )
    approximated = float(data.samples["approximated"].sum() / max(1, data.samples["count"].sum()))
    if approximated > 0:
        told.append(
            f"{percent(approximated)} of the samples came without extremes and histogram: their quantiles are guessed "
            "from mean and variance."
        )
    return told


def _shares_of_time(data: Data) -> str:
    """How far off the shares of time above the target may be."""
    import analytics

    above = analytics.saturation(data.windows, data.target)
    off = np.maximum(above["share"] - above["lower"], above["upper"] - above["share"])
    height = f"The share of time above {level(data.target)}"
    if off.max() < _EXACT:
        return f"{height} is exact."
    said = f"{height} comes from them too: of each host within {_points(off.max())}"
    if not data.is_fleet:
        return f"{said.replace('of each host ', '')}."
    return f"{said}, of all together within {_points(float(off @ above['count'] / above['count'].sum()))}."


def _points(share: float) -> str:
    """Rounded up, so that it is a bound."""
    return f"{np.ceil(share * 1000) / 10:.1f} points"


def findings(data: Data, hosts: pd.DataFrame) -> list[Finding]:
    """Who is not one host, who has fallen silent, and how much is missing."""
    told = _shared_ids(data)
    silent = hosts[hosts["last"] < silent_before_ms(data, data.end_ms)].sort_values("last")
    if len(silent):
        verb = "is" if len(silent) == 1 else "are"
        told.append(
            Finding(
                "watch" if len(silent) < len(hosts) else "act",
                "coverage",
                f"{plural(len(silent), 'host')} of {len(hosts):,} {verb} silent: nothing in the last "
                f"{each(data.end_ms - int(silent['last'].max()) - data.rate_ms)} or longer "
                f"({listed(list(silent.index))}).",
                "Look whether it is gone or its agent is stopped."
                if len(silent) == 1
                else "Look whether they are gone or their agents are stopped.",
                {"machines": len(silent), "names": [*map(str, silent.index)]},
                _silent_table(silent, data) if len(silent) > 1 else None,
            )
        )
    lost = sum(end - start for start, end in gaps(data))
    share = lost / max(1, data.end_ms - data.start_ms)
    if lost:
        told.append(
            Finding(
                "watch" if share > 0.05 else "note",
                "coverage",
                f"For {percent(share)} of the range there are no data at all; gaps are listed under “The data”.",
                numbers={"share_missing": share, "gaps": len(gaps(data))},
            )
        )
    return told


def _shared_ids(data: Data) -> list[Finding]:
    """The ids under which several hosts reported in the range, where the source tells."""
    if "shared_at" not in data.users:
        return []
    shared = data.users[data.users["shared_at"] >= pd.Timestamp(data.start_ms, unit="ms", tz="UTC")]
    if shared.empty:
        return []
    names = [str(user) for user in shared.index]
    windows = int(shared["shared_windows"].sum())
    overlap = f"{plural(windows, 'window')} {'overlaps' if windows == 1 else 'overlap'} others"
    subject = f"{listed(names)} is" if len(names) == 1 else f"{len(names):,} hosts ({listed(names)}) are each"
    return [
        Finding(
            "act",
            "identity",
            f"{subject} more than one host: {overlap} of the same id. Their numbers are mixed.",
            "Give each host a --user-id of its own.",
            {"machines": len(names), "names": names, "windows": windows},
            _shared_table(shared) if len(names) > 1 else None,
        )
    ]


def _silent_table(silent: pd.DataFrame, data: Data) -> ReportTable:
    columns = [ReportColumn("host", "user"), ReportColumn("last data", "time"), ReportColumn("mean", "share")]
    rows: list[list[Cell]] = [[str(user), min(int(last) + data.rate_ms, data.end_ms), float(mean)]
            for user, last, mean in silent[["last", "mean"]].itertuples(name=None)]  # fmt: skip
    return ReportTable("all-silent", f"{all_of(len(silent))} silent hosts", columns, rows)


def _shared_table(shared: pd.DataFrame) -> ReportTable:
    columns = [ReportColumn("host", "user"), ReportColumn("overlapping windows", "number")]
    rows: list[list[Cell]] = [[str(user), int(windows)] for user, windows in shared["shared_windows"].items()]
    return ReportTable("all-shared", f"{all_of(len(shared))} ids of more than one host", columns, rows)


def gaps(data: Data) -> list[tuple[int, int]]:
    """The times without any data in the range, epoch milliseconds."""
    index = pd.DatetimeIndex(data.total.index).as_unit("ms").asi8
    after = np.flatnonzero(np.diff(index) > data.total_rate_ms)
    first, last = _ends(data.total)
    edges = [(data.start_ms, first), (last + data.total_rate_ms, data.end_ms)]
    # The range may be rounded to whole buckets of the hosts: less than one says nothing.
    lead, trail = ([edge] if edge[1] - edge[0] >= data.rate_ms else [] for edge in edges)
    inside = [(int(index[place]) + data.total_rate_ms, int(index[place + 1])) for place in after.tolist()]
    return [*lead, *inside, *trail]


def _ends(frame: pd.DataFrame) -> tuple[int, int]:
    index = pd.DatetimeIndex(frame.index).as_unit("ms").asi8
    return int(index.min()), int(index.max())
