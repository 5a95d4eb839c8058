"""Reports on fleets that are written for them, and what is found in these."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analytics import connect
from analytics.reports import making
from analytics.reports.data import ReportQuestion
from analytics.reports.model import Finding, ReportDocument
from analytics.sources.base import Source

__all__ = ["START", "Loads", "found", "named", "noise", "of_host", "report_on", "short", "steady"]


START = pd.Timestamp("2026-03-02")


def of_host(path: Path, name: str) -> ReportDocument:
    with connect(path) as source:
        return making.user(source, name, ReportQuestion(), made_ms=0, named="a test")


def found(report: ReportDocument, kind: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.kind == kind]


def named(report: ReportDocument, kind: str) -> list[object]:
    return [finding.numbers["names"] for finding in found(report, kind) if "names" in finding.numbers]


def short(folder: Path, *parts: pd.DataFrame) -> ReportDocument:
    file = folder / "short.parquet"
    pd.concat(parts).to_parquet(file)
    with connect(file) as source:
        return making.fleet(source, ReportQuestion(), made_ms=0, named="a test")


def steady(periods: int, freq: str, start: pd.Timestamp = START) -> pd.DataFrame:
    times = pd.date_range(start, periods=periods, freq=freq)
    return pd.DataFrame({"time": times, "user": "one", "value": np.linspace(0.9, 0.99, periods)})


class Knowing:
    """A source that knows more of its users than files do."""

    def __init__(self, source: Source, known: pd.DataFrame) -> None:
        self._source, self._known = source, known

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def users(self) -> pd.DataFrame:
        users = self._source.users()
        return users.assign(
            **{name: self._known[name].reindex(users["user"].astype(str)).array for name in self._known}
        )


Loads = dict[str, "np.ndarray[Any, Any]"]
"""An hourly load of each host, NaN where it was not seen."""


def report_on(folder: Path, loads: Loads, **known: dict[str, Any]) -> ReportDocument:
    times = pd.date_range(START, periods=len(next(iter(loads.values()))), freq="1h")
    parts = [pd.DataFrame({"time": times, "user": name, "value": load}) for name, load in loads.items()]
    pd.concat(parts).dropna().to_parquet(folder / "fleet.parquet")
    users = pd.DataFrame({name: pd.Series(values) for name, values in known.items()})
    with connect(folder / "fleet.parquet") as source:
        told: Any = Knowing(source, users)
        return making.fleet(told, ReportQuestion(), made_ms=0, named="a test")


def noise(level: float, hours: int = 240) -> "np.ndarray[Any, Any]":
    return (level + np.random.default_rng(5).normal(0, 0.01, hours)).clip(0, 1)
