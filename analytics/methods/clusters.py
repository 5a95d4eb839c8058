"""Users whose weeks look alike: clusters of the shapes of their hour-of-week profiles."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from analytics.frames.aggregation import AnyFrame
from analytics.frames.frame import FrameError
from analytics.frames.kernel import Floats, Ints
from analytics.methods.week_profiles import HOURS, merged_weeks

_SEED: Final = 0
_STARTS: Final = 4
_SAMPLE: Final = 2000
"""Users of which the number of clusters is chosen; the cost of the silhouette grows with their square."""
_FLAT: Final = 1e-6
_MIN_HOURS: Final = 24


@dataclass(frozen=True)
class ProfileClusters:
    """Users in clusters by the shape of their week; printed, it says how many and who stands for each."""

    members: pd.DataFrame
    """Index `user`: `cluster` (0 is the largest), `distance` to its centre, in standard deviations of an hour, and
    `representative`, True for the one user of each cluster that is nearest to its centre."""
    profiles: pd.DataFrame
    """One row for each cluster: `users`, `representative`, `peak` (the hour of the week that is highest, 0 is Monday
    00:00), and columns 0 to 167 with the centre's shape: 0 is a user's own mean, 1 its own standard deviation."""
    silhouettes: pd.DataFrame
    """Index `clusters`, the numbers that were tried: `silhouette`, -1 to 1, of which the highest was taken."""
    left_out: list[str]
    """Users with samples in fewer than 24 hours of the week."""

    def __str__(self) -> str:
        parts = [f"{row.users} like {row.representative}" for row in self.profiles.itertuples()]
        return f"{len(self.profiles)} kinds of weeks: {', '.join(parts)}"


def cluster_profiles(
    frame: AnyFrame, tz: str = "UTC", *, clusters: int | None = None, most: int = 8
) -> ProfileClusters:
    """Clusters of users by the shape of their week in the time zone `tz`, whatever their level.

    Each user's mean at each hour of the week (`hour_of_week_profile`) is taken less its own mean, in its own standard
    deviations, hours without samples are interpolated around the week; users that never change have the shape 0. Then
    k-means with k-means++ (Arthur and Vassilvitskii 2007), the best of four starts, for `clusters`, or for that number
    from 2 to `most` whose mean silhouette (Rousseeuw 1987) is highest, over at most 2,000 users drawn with a fixed
    seed. The same frame always gives the same clusters. Takes a frame of windows of an hour at most with the column
    `user`, pandas' or Dask's; raises FrameError for another, or for fewer than three users, ValueError for a number of
    clusters that is not from 1 to the number of users.
    """
    users, shapes, left_out = _shapes(frame, tz)
    if len(users) < 3:
        raise FrameError(f"{len(users)} users have a profile; clusters take at least three")
    if clusters is not None and not 1 <= clusters <= len(users):
        raise ValueError(f"{clusters} clusters of {len(users)} users: 1 to {len(users)} is right")
    some = shapes[np.random.default_rng(_SEED).permutation(len(shapes))[:_SAMPLE]]
    tried = [clusters] if clusters else range(2, min(most, len(some) - 1) + 1)
    silhouettes = {k: _silhouette(some, _clustered(some, k)[0]) for k in tried}
    best = max(silhouettes, key=lambda k: (silhouettes[k], -k))
    labels, centres = _largest_first(*_clustered(shapes, best))
    distance = np.sqrt(((shapes - centres[labels]) ** 2).mean(axis=1))
    members = pd.DataFrame({"cluster": labels, "distance": distance}, index=pd.Index(users, name="user"))
    nearest = members.groupby("cluster")["distance"].idxmin()
    members["representative"] = members.index.isin(nearest)
    profiles = pd.DataFrame(centres, index=pd.RangeIndex(len(centres), name="cluster"))
    about = {"users": np.bincount(labels), "representative": nearest.to_numpy(), "peak": centres.argmax(axis=1)}
    profiles = pd.concat([pd.DataFrame(about, index=profiles.index), profiles], axis=1)
    found = pd.DataFrame({"silhouette": pd.Series(silhouettes)}).rename_axis("clusters")
    return ProfileClusters(members, profiles, found, left_out)


def _shapes(frame: AnyFrame, tz: str) -> tuple[list[str], Floats, list[str]]:
    """The users, the shape of each one's week, and the users that have too little of one."""
    if "user" not in frame.columns:
        raise FrameError("there are no users to put into clusters: fleet(by='user') has them")
    windows, labels = merged_weeks(frame, tz, by="user", histograms=False)
    users = labels["user"].astype("str").to_numpy()
    means = np.full((len(users), HOURS), np.nan)
    means[windows.series, windows.time] = windows.mean
    enough = np.isfinite(means).sum(axis=1) >= _MIN_HOURS
    filled = np.array([_filled(week) for week in means[enough]]).reshape(-1, HOURS)
    deviation = filled.std(axis=1, keepdims=True)
    shapes = (filled - filled.mean(axis=1, keepdims=True)) / np.where(deviation > _FLAT, deviation, np.inf)
    return users[enough].tolist(), shapes, users[~enough].tolist()


def _filled(week: Floats) -> Floats:
    """A week whose missing hours lie between their neighbours, Sunday night beside Monday morning."""
    known = np.flatnonzero(np.isfinite(week))
    return np.interp(np.arange(HOURS), known, week[known], period=HOURS)


def _clustered(shapes: Floats, clusters: int) -> tuple[Ints, Floats]:
    from sklearn.cluster import KMeans

    found = KMeans(clusters, n_init=_STARTS, random_state=_SEED).fit(shapes)
    return found.labels_.astype(np.int64), found.cluster_centers_


def _silhouette(shapes: Floats, labels: Ints) -> float:
    from sklearn.metrics import silhouette_score

    if not 2 <= len(np.unique(labels)) < len(labels):
        return 0.0
    return float(silhouette_score(shapes, labels))


def _largest_first(labels: Ints, centres: Floats) -> tuple[Ints, Floats]:
    order = np.argsort(-np.bincount(labels, minlength=len(centres)), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[labels], centres[order]
