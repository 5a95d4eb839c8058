"""Users whose weeks look alike: clusters of the shapes of their hour-of-week profiles."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import tzinfo
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.frames.aggregation import AnyFrame, check_frame
from analytics.frames.arguments import whole
from analytics.frames.frame import FrameError
from analytics.frames.kernel import Floats, Ints
from analytics.methods.week_profiles import HOURS, merged_weeks

Bools = npt.NDArray[np.bool_]

_SEED: Final = 0
_STARTS: Final = 4
_SAMPLE: Final = 2000
"""Users of which the number of clusters is chosen; the cost of the silhouette grows with their square."""
_DRAWN: Final = 500
_DRAWS: Final = 39
_SIGNIFICANT: Final = 1 / (_DRAWS + 1)
_STRUCTURE: Final = 0.25
"""Below this silhouette there is no substantial structure (Kaufman and Rousseeuw, *Finding Groups in Data*, 1990)."""
_STABLE: Final = 0.8
"""The prediction strength that is asked for by Tibshirani and Walther, who call 0.8 to 0.9 well separated."""
_FLAT: Final = 1e-6
_MIN_HOURS: Final = 24


@dataclass(frozen=True)
class ProfileClusters:
    """Users in clusters by the shape of their week; printed, it says how many and who stands for each."""

    members: pd.DataFrame
    """One row a user: `user`, `cluster` (0 is the largest), `distance` to its centre, in standard deviations of an
    hour, and
    `representative`, True for the one user of each cluster that is nearest to its centre."""
    profiles: pd.DataFrame
    """One row for each cluster: `cluster`, `users`, `representative`, `peak` (the hour of the week that is highest, 0
    is Monday
    00:00), and columns 0 to 167 with the centre's shape: 0 is a user's own mean, 1 its own standard deviation."""
    silhouettes: pd.DataFrame
    """One row for each number of clusters that was tried: `clusters`, `silhouette`, -1 to 1, and `stability`, 0 to 1,
    how much of each
    cluster is found again in the other half of the weeks; NaN where no users have two weeks."""
    p_value: float
    """How likely a silhouette as high is where there are no kinds, 1/40 at least; 1 where no number is stable, NaN
    where it was given."""
    left_out: list[str]
    """Users with samples in fewer than 24 hours of the week."""

    def __str__(self) -> str:
        parts = [f"{row.users} like {row.representative}" for row in self.profiles.itertuples()]
        kinds = "1 kind of week" if len(parts) == 1 else f"{len(parts)} kinds of weeks"
        return f"{kinds}: {', '.join(parts)}"


def cluster_profiles(
    frame: AnyFrame, tz: str | tzinfo = "UTC", *, clusters: int | None = None, most: int = 8
) -> ProfileClusters:
    """Clusters of users by the shape of their week in the time zone `tz`, whatever their level.

    Each user's mean at each hour of the week (`hour_of_week_profile`) is taken less its own mean, in its own standard
    deviations, hours without samples are interpolated around the week; users that never change have the shape 0. Then
    k-means with k-means++ (Arthur and Vassilvitskii 2007), the best of four starts, for `clusters` (fewer where fewer
    users differ at all), or for the stable number from 2 to `most` whose mean silhouette (Rousseeuw 1987) is highest,
    over at most 2,000 users drawn with a fixed seed.

    A number is stable where in each cluster of every other week at least 0.8 of the pairs are together in the clusters
    of the weeks between, and the other way round: the prediction strength of Tibshirani and Walther (J. Computational
    and Graphical Statistics 14, 2005), over time; not asked where no users have the same 24 hours in two weeks.

    It is one kind where no number is stable, where that silhouette is below 0.25, or where it is no higher than in one
    cloud, a normal distribution with the same covariance (the test of Liu, Hayes, Nobel and Marron, J. American
    Statistical Association 103, 2008, with the silhouette as its index), in any of 39 draws of at most 500 users.

    The same frame always gives the same clusters. Takes a frame of windows of an hour at most with the column `user`,
    pandas' or Dask's; raises FrameError for another, for fewer than three users, and for a number of clusters that is
    not from 1 to the number of users.
    """
    if clusters is not None:
        whole(clusters, "clusters", "a number of clusters of at least 1", lambda n: n >= 1)
    most = whole(most, "most", "a number of clusters of at least 2", lambda n: n >= 2)
    users, shapes, halves, left_out = _shapes(frame, tz)
    if len(users) < 3:
        raise FrameError(f"{len(users)} users have a profile; clusters take at least three")
    if clusters is not None and not 1 <= clusters <= len(users):
        raise FrameError(f"clusters: expected 1 to {len(users)} clusters of {len(users)} users, got {clusters}")
    some = shapes[np.random.default_rng(_SEED).permutation(len(shapes))[:_SAMPLE]]
    tried = _tried(some, halves, [clusters] if clusters else range(2, min(most, len(some) - 1) + 1))
    best, p_value = (clusters, np.nan) if clusters else _kinds(some, tried)
    labels, centres = _largest_first(*_clustered(shapes, best))
    distance = np.sqrt(((shapes - centres[labels]) ** 2).mean(axis=1))
    members = pd.DataFrame({"user": pd.Categorical(users), "cluster": labels, "distance": distance})
    nearest = members.groupby("cluster")["distance"].idxmin().to_numpy()
    members["representative"] = members.index.isin(nearest)
    about = {
        "cluster": np.arange(len(centres)), "users": np.bincount(labels),
        "representative": members["user"].iloc[nearest].astype("str").to_numpy(), "peak": centres.argmax(axis=1),
    }  # fmt: skip
    profiles = pd.concat([pd.DataFrame(about), pd.DataFrame(centres)], axis=1)
    return ProfileClusters(members, profiles, tried, p_value, left_out)


class _Shapes(NamedTuple):
    """The weeks of the users that have one: shapes (n, 168)."""

    users: list[str]
    whole: Floats
    halves: tuple[Floats, Floats]
    """From every other week alone, for the users that have both."""
    left_out: list[str]


def _shapes(frame: AnyFrame, tz: str | tzinfo) -> _Shapes:
    check_frame(frame)
    if "user" not in frame.columns:
        raise FrameError("there are no users to put into clusters: fleet(by='user') has them")
    windows, labels = merged_weeks(frame, tz, by="user", histograms=False, halves=True)
    users = labels["user"].astype("str").to_numpy()
    count, mean = np.zeros((2, len(users), HOURS)), np.zeros((2, len(users), HOURS))
    place = windows.time // HOURS, windows.series, windows.time % HOURS
    count[place], mean[place] = windows.count, windows.mean
    enough = (count > 0).any(axis=0).sum(axis=1) >= _MIN_HOURS
    both: Bools = np.all(count > 0, axis=0)
    halved = both.sum(axis=1) >= _MIN_HOURS
    first, second = (_shaped(each[halved], both[halved]) for each in mean)
    total = count.sum(axis=0)
    means = np.divide((count * mean).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
    whole = _shaped(means[enough], total[enough] > 0)
    return _Shapes(users[enough].tolist(), whole, (first, second), users[~enough].tolist())


def _shaped(means: Floats, known: Bools) -> Floats:
    """Weeks less their mean, in their standard deviations; 0 for one that never changes."""
    weeks = [_filled(np.where(seen, week, np.nan)) for week, seen in zip(means, known, strict=True)]
    filled = np.array(weeks).reshape(-1, HOURS)
    deviation = filled.std(axis=1, keepdims=True)
    shaped: Floats = (filled - filled.mean(axis=1, keepdims=True)) / np.where(deviation > _FLAT, deviation, np.inf)
    return shaped


def _filled(week: Floats) -> Floats:
    """A week whose missing hours lie between their neighbours, Sunday night beside Monday morning."""
    known = np.flatnonzero(np.isfinite(week))
    return np.interp(np.arange(HOURS), known, week[known], period=HOURS)


def _clustered(shapes: Floats, clusters: int) -> tuple[Ints, Floats]:
    from sklearn.cluster import KMeans

    different = len(np.unique(shapes, axis=0))
    found = KMeans(min(clusters, different), n_init=_STARTS, random_state=_SEED).fit(shapes)
    return found.labels_.astype(np.int64), found.cluster_centers_


def _silhouette(shapes: Floats, labels: Ints) -> float:
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return 0.0
    return float(silhouette_score(shapes, labels))


def _tried(shapes: Floats, halves: tuple[Floats, Floats], numbers: Iterable[int]) -> pd.DataFrame:
    """The silhouette and stability of some numbers of clusters."""
    first, second = (half[:_SAMPLE] for half in halves)
    rows = [
        (
            k,
            _silhouette(shapes, _clustered(shapes, k)[0]),
            _stability(_clustered(first, k)[0], _clustered(second, k)[0]) if len(first) > k else np.nan,
        )
        for k in numbers
    ]
    return pd.DataFrame(rows, columns=["clusters", "silhouette", "stability"])


def _kinds(shapes: Floats, tried: pd.DataFrame) -> tuple[int, float]:
    """How many clusters are kinds, and how likely the silhouette that says so is by chance."""
    stable = tried[~(tried["stability"] < _STABLE)]
    if stable.empty:
        return 1, 1.0
    best, silhouette = stable[["clusters", "silhouette"]].iloc[int(stable["silhouette"].argmax())]
    p_value = _p_value(shapes[:_DRAWN], int(best))
    return (int(best) if p_value <= _SIGNIFICANT and silhouette >= _STRUCTURE else 1), p_value


def _stability(first: Ints, second: Ints) -> float:
    """The share of the pairs in a cluster of one half of the weeks that are together in the other, where it is lowest.

    A user alone says nothing; 0 where fewer than two clusters have more than one.
    """
    together = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(together, (first, second), 1)
    shares = []
    for table in (together, together.T):
        sizes = table.sum(axis=1)
        pairs = sizes * (sizes - 1)
        kept = (table * (table - 1)).sum(axis=1)
        if (pairs > 0).sum() < 2:
            return 0.0
        shares.append(float((kept[pairs > 0] / pairs[pairs > 0]).min()))
    return min(shares)


def _p_value(shapes: Floats, clusters: int) -> float:
    """How likely shapes without kinds have as high a silhouette in so many clusters."""
    if len(shapes) <= clusters:
        return 1.0
    seen = _silhouette(shapes, _clustered(shapes, clusters)[0])
    # k-means and silhouettes know distances only, so the draws may lie along the axes of the shapes.
    spread = np.linalg.svd(shapes - shapes.mean(axis=0), compute_uv=False) / np.sqrt(len(shapes) - 1)
    random = np.random.default_rng(_SEED)
    draws = [random.normal(size=(len(shapes), len(spread))) * spread for _ in range(_DRAWS)]
    higher = sum(_silhouette(draw, _clustered(draw, clusters)[0]) >= seen for draw in draws)
    return (1 + higher) / (1 + _DRAWS)


def _largest_first(labels: Ints, centres: Floats) -> tuple[Ints, Floats]:
    order = np.argsort(-np.bincount(labels, minlength=len(centres)), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[labels], centres[order]
