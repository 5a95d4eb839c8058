"""What is advised of each host: one thing of one host, for all parts of a report."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pandas as pd

from analytics.frames.frame import TooFewData, by_user
from analytics.methods.right_sizing import size_hosts
from analytics.reports.data import Data
from analytics.reports.parts.base import silent_before_ms
from analytics.reports.parts.moves import LEAP, NOTEWORTHY, Moves, surely_above_at_last
from analytics.reports.text import count
from contract.problems import plural
from contract.times import DAY_MS

IDLE: Final = 0.1
"""A host is idle where 95 of 100 of its samples are below this."""
RARELY: Final = 0.05
"""The share of the time for which a host may be above the target."""
_MIN_SAMPLES: Final = 20
"""With fewer, a 95th percentile is the highest sample."""
_MIN_MS: Final = 600_000
"""How long a host is seen at least before anything is advised: a few seconds say nothing of what it is for."""

_SHORT_MS: Final = 14 * DAY_MS
_MIN_DAYS, _MIN_DAYS_SHORT = 5, 3
_SHORT_OF: Final = ("too small", "no size fits")

Kind = Literal["hot", "idle", "too big", "changed", ""]


@dataclass(frozen=True, slots=True)
class Advice:
    """What is advised, and the sizes it rests on."""

    kinds: "pd.Series[str]"
    """Of each host, index `user`: `hot`, `idle`, `too big` (and not idle), `changed`, or nothing. `changed` is one of
    which the range as a whole says something that is not so any more."""
    fallen: pd.Index
    """Those of the changed that were hot, and have fallen."""
    risen: pd.Index
    """Those of the changed that were idle or too big, and have risen."""
    unheard: pd.Index
    """Hosts of which nothing is advised, since they are silent or were hardly seen."""
    sizes: pd.DataFrame | None
    """What `analytics.right_size` answers of the hosts that were seen for long enough and are not `changed`, index
    `user`; None where there are none."""
    in_cores: bool
    """Whether sizes are cores; else they are relative to what each host has now."""
    least_days: int
    judged: int
    """How many hosts there is enough to say of."""
    caveats: tuple[str, ...]
    calm: bool
    """Whether nothing says that the load will reach the target soon."""

    def amount(self, size: float) -> str:
        """So much CPU, in a sentence: the same number as in a table."""
        one, many = ("core", "cores") if self.in_cores else ("host's worth of CPU", "hosts' worth of CPU")
        return f"{count(size)} {one if count(size) == '1' else many}"

    @property
    def relation(self) -> str:
        """What sizes are counted in, as the title of an axis says it."""
        return "cores" if self.in_cores else "times the present size"

    def who(self, kind: Kind) -> pd.Index:
        """The hosts of which this is said."""
        return self.kinds.index[self.kinds == kind]

    def sized(self, kind: Kind) -> pd.DataFrame:
        """The sizes of the hosts of which this is said, those with most to change first."""
        if self.sizes is None:
            return pd.DataFrame(columns=["now", "needed", "recommended", "saved"])
        chosen = self.sizes.loc[self.sizes.index.intersection(self.who(kind))]
        # Where no size is enough, nothing is known of what is missing, and that is most.
        return chosen.loc[chosen["saved"].abs().sort_values(ascending=False, na_position="first").index]

    def check_sizes(self) -> pd.DataFrame:
        """The sizes; raises TooFewData where there are none."""
        if self.sizes is None:
            if len(self.who("changed")):
                raise TooFewData("what was seen before the load changed says nothing of what is needed now")
            who = "no host" if self.unheard.empty or len(self.kinds) == 1 else "no host that gets advice"
            raise TooFewData(f"{who} was seen on {self.least_days} days or more")
        return self.sizes


def advise(data: Data, hosts: pd.DataFrame, moves: Moves, *, calm: bool = True) -> Advice:
    """What is advised of each host of a report's table; `calm`: nothing says that it will reach the target soon.

    Whether a host that was sized is too small, its size says; otherwise it is hot where more than 5 of 100 of its
    samples are above the target for sure. What a host has moved away from is not advised of it.
    """
    enough = (hosts["samples"] >= _MIN_SAMPLES) & (hosts["buckets"] * data.rate_ms >= _MIN_MS)
    # Where all fell silent together, the source did; what there is of them is as good as it ever was.
    silent = hosts["last"] < silent_before_ms(data, min(data.end_ms, int(hosts["last"].max()) + data.rate_ms))
    judged = hosts[enough & ~silent]
    in_cores, least_days, sizes = _sizes(data, judged)
    verdicts = sizes["verdict"].reindex(hosts.index)
    short = verdicts.isin(_SHORT_OF).where(verdicts.notna(), hosts["surely_above"] > RARELY)
    kinds = pd.Series(
        np.select([~hosts.index.isin(judged.index), short, hosts["p95"] < IDLE, verdicts == "too big"],
                  ["", "hot", "idle", "too big"], ""), index=hosts.index,
    )  # fmt: skip
    fallen, risen = _moved_away(data, kinds, moves)
    kinds[fallen.union(risen)] = "changed"
    if not calm:
        kinds[kinds == "idle"] = ""
    sizes = sizes[~sizes.index.isin(fallen.union(risen))]
    return Advice(
        kinds, fallen, risen, hosts.index[~(enough & ~silent)], None if sizes.empty else sizes, in_cores, least_days,
        len(judged), _caveats(enough, silent, data), calm,
    )  # fmt: skip


def _moved_away(data: Data, kinds: "pd.Series[str]", moves: Moves) -> tuple[pd.Index, pd.Index]:
    """The hot hosts that have fallen and are not above the target any more, and those idle or too big that rose.

    A leap counts whatever a test says of it: it cannot be sure soon after one.
    """
    change = moves.hosts["change"].reindex(kinds.index).fillna(0.0)
    _, fell = moves.by(NOTEWORTHY)
    fallen = kinds.index[(kinds == "hot") & (kinds.index.isin(fell.index) | (change <= -LEAP))]
    if len(fallen):
        fallen = fallen[(surely_above_at_last(data, fallen) <= RARELY).to_numpy()]
    return fallen, kinds.index[kinds.isin(["idle", "too big"]) & (change >= LEAP)]


def _caveats(enough: "pd.Series[bool]", silent: "pd.Series[bool]", data: Data) -> tuple[str, ...]:
    few, lost = int((~enough).sum()), int((enough & silent).sum())
    told = []
    if few:
        seen = f"seen for less than ten minutes, or in fewer than {_MIN_SAMPLES} samples"
        told.append(f"{plural(few, 'host')} {seen}, got no advice.")
    if lost:
        told.append(f"{plural(lost, 'silent host')} got no advice.")
    return tuple(told) if data.is_fleet else ()


def _sizes(data: Data, judged: pd.DataFrame) -> tuple[bool, int, pd.DataFrame]:
    """Whether sizes are in cores, on how many days a host is to be seen, and the sizes of those that were."""
    least_days = _MIN_DAYS_SHORT if data.end_ms - data.start_ms < _SHORT_MS else _MIN_DAYS
    windows = data.windows.assign(user=data.windows["user"].astype(str))
    windows = windows[windows["user"].isin(judged.index)]
    if windows.empty:
        return False, least_days, pd.DataFrame({"verdict": pd.Series(dtype="str"), "needed": pd.Series(dtype=float)})
    found = size_hosts(windows, data.users.rename_axis("user").reset_index(), data.target, least_days=least_days)
    sized = by_user(found.table)
    return found.in_cores, least_days, sized[sized["needed"].notna()]
