"""What prediction intervals hold at each horizon: groups of series two days ahead, and what of it is chance.

Part of `bench/forecasts.py`. A share of values that lie in their bands is one of few things that are independent: hours
of one forecast miss together, and forecasts of one series that overlap do. So each share has an interval of its own, by
a bootstrap of clusters: of all forecasts of a series that begin in the same two days. Hosts of one fleet that have
the same bad day are not one cluster, so intervals of fleets are too narrow rather than too wide.

What a group's bands hold is by chance itself, as they rest on so much past and no more: with n errors that are
independent, a conformal interval of level p holds a share that has the law Beta(p (n + 1), (1 - p) (n + 1)) over all
pasts there might have been (Vovk, Conditional validity of inductive conformal predictors, ACML 2012). No method that
learns from the past alone does without that. The errors that are taken for independent are stretches of the past as
long as the horizon, of each series: rather too many, as above.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from output import table

from analytics import forecast

Floats = npt.NDArray[np.float64]
DAY: Final = 24
AHEAD: Final = 2 * DAY
SPANS: Final = {"1 to 3 h": slice(0, 3), "4 to 24 h": slice(3, DAY), "25 to 48 h": slice(DAY, AHEAD)}
AIMS: Final = {80: (0.75, 0.85), 95: (0.92, 0.98)}
_DRAWS: Final = 1000
_TAIL: Final = 0.025
_LEAST: Final = 3
"""Values that a series needs to be forecast."""
_START: Final = pd.Timestamp("2024-03-04", tz="UTC")


@dataclass(frozen=True, slots=True)
class Series:
    """Series that are forecast as one fleet: shape (n, hours), NaN where nothing was seen; and from where."""

    values: Floats
    origins: Sequence[int]


Groups = Mapping[str, Sequence[Series]]


def bands(groups: Groups) -> str:
    """The table: a row a group, a column for each level and horizon."""
    rows: list[list[str]] = []
    shares: list[list[float]] = []
    forecasts, outside, exact, conformal, beyond = 0, 0, 0.0, 0.0, 0
    for name, parts in groups.items():
        held = [_held(part) for part in parts]
        cells = [_cell(held, place, span, level) for place, level in enumerate(AIMS) for span in SPANS.values()]
        number = sum(len(one.clusters) for one in held)
        forecasts += number
        rows.append([name, f"{number:,}", *(cell.text for cell in cells)])
        shares.append([cell.share for cell in cells])
        outside += sum(cell.is_outside for cell in cells)
        beyond += sum(cell.is_beyond for cell in cells)
        exact += sum(cell.by_chance for cell in cells)
        conformal += sum(cell.by_chance_of_past for cell in cells)
    headers = [f"in {level} %, {span}" for level in AIMS for span in SPANS]
    count = len(rows) * len(headers)
    rows.append(
        ["**mean of the groups**", f"{forecasts:,}", *(f"{100 * share:.0f}" for share in np.mean(shares, axis=0))]
    )
    said = (
        f"{outside} of {count} shares lie outside their aims, {beyond} of them beyond chance (bold). Were each band "
        f"exact, {exact:.0f} would lie outside by chance. Of conformal bands that rest on so much past as these, "
        f"{conformal:.0f} would."
    )
    return (
        f"{table(['Intervals by horizon, percent (and the interval of 95 %)', 'forecasts', *headers], rows)}\n\n{said}"
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """Whether values lie in their bands: shape (levels, forecasts, hours), NaN where nothing came."""

    inside: Floats
    clusters: Sequence[tuple[int, int, int]]
    """What each forecast misses together with."""
    stretches: Floats
    """How many stretches of the past, each as long as the horizon, the bands rest on: shape (spans,)."""


@dataclass(frozen=True, slots=True)
class _Cell:
    text: str
    share: float
    is_outside: bool
    is_beyond: bool
    by_chance: float
    """How likely a band that is exact would lie outside."""
    by_chance_of_past: float
    """The same of a conformal one that rests on as much past."""


def _held(part: Series) -> _Held:
    inside, clusters, stretches = [], [], []
    for origin in part.origins:
        kept = np.flatnonzero(np.isfinite(part.values[:, :origin]).sum(axis=1) >= _LEAST)
        if not len(kept):
            continue
        came = part.values[kept, origin : origin + AHEAD]
        hours = np.isfinite(part.values[kept, :origin]).sum()
        stretches.append([max(hours / span.stop, len(kept)) for span in SPANS.values()])
        predicted = forecast(_frame(part.values[kept, :origin]), f"{AHEAD}h", rate="1h", start=_at(origin)).frame
        ends = [
            [predicted[f"{side}_{level}"].to_numpy().reshape(len(kept), AHEAD) for side in ("lower", "upper")]
            for level in AIMS
        ]
        within = [(came >= low - 1e-12) & (came <= high + 1e-12) for low, high in ends]
        inside.append(np.where(np.isfinite(came), np.array(within, np.float64), np.nan))
        block = (origin - part.origins[0]) // AHEAD
        clusters += [(id(part), series, block) for series in kept.tolist()]
    return _Held(np.concatenate(inside, axis=1), clusters, np.mean(stretches, axis=0))


def _frame(values: Floats) -> pd.DataFrame:
    index = pd.date_range(_START, periods=values.shape[1], freq="1h", unit="ms", name="time")
    series = [pd.DataFrame({"user": f"{n:04}", "mean": row}, index) for n, row in enumerate(values)]
    return pd.concat(series).dropna()


def _at(hour: int) -> pd.Timestamp:
    return _START + pd.Timedelta(hours=hour)


def _cell(held: Sequence[_Held], place: int, span: slice, level: int) -> _Cell:
    """The share, its interval, and what they say of the aim."""
    names = [cluster for one in held for cluster in one.clusters]
    inside = np.concatenate([one.inside[place, :, span] for one in held])
    number, found = pd.factorize(pd.MultiIndex.from_tuples(names))
    hits = np.bincount(number, np.nansum(inside, axis=1), len(found))
    sizes = np.bincount(number, np.isfinite(inside).sum(axis=1), len(found))
    share = hits.sum() / sizes.sum()
    drawn = np.random.default_rng(level).integers(0, len(found), (_DRAWS, len(found)))
    shares = hits[drawn].sum(axis=1) / np.maximum(sizes[drawn].sum(axis=1), 1)
    low, high = np.quantile(shares, (_TAIL, 1 - _TAIL))
    if share in (0, 1):
        # Of clusters that all hold, or all miss, none is drawn that does not: the bound of Clopper and Pearson.
        least_held = _TAIL ** (1 / len(found))
        low, high = (least_held, 1.0) if share else (0.0, 1 - least_held)
    least, most = AIMS[level]
    is_outside, is_beyond = not least <= share <= most, high < least or low > most
    text = f"{100 * share:.0f} ({100 * low:.0f}-{100 * high:.0f})"
    shown = f"**{text}**" if is_beyond else text
    error, of_past = _error_of(hits, sizes, level), _error_of_past(held, span, level)
    return _Cell(
        shown, float(share), is_outside, is_beyond, _outside(error, level), _outside(math.hypot(error, of_past), level)
    )


def _error_of(hits: Floats, sizes: Floats, level: int) -> float:
    """The standard error of the share of an exact band, whose clusters scatter as these do."""
    share = hits.sum() / sizes.sum()
    error = math.sqrt(float(((hits - share * sizes) ** 2).sum())) / sizes.sum()
    # A band that holds nearly everything, or nothing, scatters less than one that holds its share.
    exact = level / 100
    return error * math.sqrt(exact * (1 - exact) / max(share * (1 - share), exact * (1 - exact) / 16))


def _error_of_past(held: Sequence[_Held], span: slice, level: int) -> float:
    """The standard deviation, over pasts, of the share that a group's conformal bands hold.

    Bands of series that are forecast apart have pasts of their own; those of one fleet, from several origins, have one.
    """
    exact, place = level / 100, [*SPANS.values()].index(span)
    weights = np.array([np.isfinite(one.inside[0]).sum() for one in held], np.float64)
    stretches = np.array([one.stretches[place] for one in held])
    variances = exact * (1 - exact) / (stretches + 2)
    return math.sqrt(float((weights**2 * variances).sum())) / float(weights.sum())


def _outside(error: float, level: int) -> float:
    """The chance that a share with the right mean and this standard error lies outside its aim."""
    if not error:
        return 0.0
    least, most = AIMS[level]
    law = statistics.NormalDist(level / 100, error)
    return law.cdf(least) + 1 - law.cdf(most)


def made_up(hosts: int, seed: int = 3) -> Iterator[tuple[str, Series]]:
    """Fleets of seven kinds, three weeks each."""
    random, hours = np.random.default_rng(seed), np.arange(21 * DAY)
    shape = (hosts, len(hours))

    def noise(memory: float) -> Floats:
        steps = random.normal(size=shape)
        for hour in range(1, len(hours)):
            steps[:, hour] += memory * steps[:, hour - 1]
        return steps * math.sqrt(1 - memory**2)

    day = np.sin(2 * np.pi * (hours - random.uniform(0, DAY, (hosts, 1))) / DAY)
    jumps = np.where(random.random(shape) < 0.01, random.normal(0, 0.2, shape), 0).cumsum(axis=1)
    batch = np.where((hours % DAY < 3) & (random.random(shape) < 0.9), 0.9, 0.05)
    working = np.where((hours // DAY) % 7 < 5, 0.3, 0.0)
    kinds = {
        "high": 0.85 + 0.1 * day + 0.08 * noise(0.6),
        "low": 0.04 + 0.03 * day + 0.03 * noise(0.6),
        "wandering": 0.5 + 0.02 * random.normal(size=shape).cumsum(axis=1),
        "heavy tails": 0.2 + 0.05 * day + 0.03 * random.standard_t(2.5, size=shape),
        "jumping levels": 0.4 + jumps + 0.03 * noise(0.3),
        "batch jobs": batch + 0.01 * random.normal(size=shape),
        "working days": 0.1 + working * (1 + day) / 2 + 0.03 * noise(0.5),
    }
    for name, values in kinds.items():
        origins = (341, 390, 430, 450) if name == "working days" else (68, 155, 261)
        yield f"made up, {name}", Series(values.clip(0, 1), origins)


def of_fleet(values: Floats, hosts: int) -> dict[str, Sequence[Series]]:
    """A fleet of five days, shape (n, 120), in eight ways: by level, by how much it varies, and a few alone."""
    random, origins = np.random.default_rng(0), (41, 52, 60, 66)

    def some(rows: npt.NDArray[np.integer], most: int = hosts) -> Sequence[Series]:
        return [Series(values[random.permutation(rows)[:most]], origins)]

    level = np.nanmean(values, axis=1)
    ordered = np.argsort(level)
    names = ("the idlest fifth", "the second", "the middle", "the fourth", "the busiest")
    found = {name: some(rows) for name, rows in zip(names, np.array_split(ordered, 5), strict=True)}
    varying = np.argsort(np.nanstd(values, axis=1) / np.maximum(level, 1e-3))
    quarter = len(varying) // 4
    found |= {"twelve": some(ordered, 12), "the steadiest quarter": some(varying[:quarter])}
    return found | {"the most varied quarter": some(varying[-quarter:])}


def one_by_one(series: Sequence["pd.Series[float]"], every: int | None = None) -> list[Series]:
    """Hourly series, each by itself, from every so many hours, or else from eight moments at most."""
    found = []
    for each in series:
        values = each.to_numpy(np.float64)[-60 * DAY :]
        first = min(4 * DAY, len(values) // 2) if every is None else 4 * DAY
        step = every or max(3 * DAY + 5, (len(values) - 6 * DAY) // 8)
        origins = range(first, len(values) - AHEAD, step)
        if origins:
            found.append(Series(values[None], origins))
    return found


def together(series: Sequence["pd.Series[float]"], every: int) -> list[Series]:
    """The same as one fleet, each in parts of its highest value."""
    hours = min(map(len, series))
    values = np.array([each.to_numpy(np.float64)[:hours] for each in series])
    values = values / np.maximum(np.nanmax(values, axis=1, keepdims=True), 1e-12)
    return [Series(values, range(4 * DAY, hours - AHEAD, every))]
