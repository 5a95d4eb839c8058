"""Sizes of machines of a source: in cores where those of most are known, else in times the present size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from analytics.frames.frame import FrameError
from analytics.frames.weights import cores_by_user
from analytics.methods.right_sizing.sizing import right_size
from analytics.methods.right_sizing.text import relative_sentence

RELATIVE_SIZES: Final = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
"""Sizes to choose from where cores are not known, in times the present size."""
_MOST: Final = 0.5
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Sizes:
    """What `right_size` answers, in which unit, and of whom it says nothing."""

    table: pd.DataFrame
    """As `right_size` answers it, a row a machine."""
    in_cores: bool
    """Whether sizes are cores; else they are in times the present size."""
    left_out: tuple[str, ...]
    """Machines whose cores are not known, where sizes are cores."""

    @property
    def unit(self) -> str:
        """Of sizes: `cores`, or `times the present size`."""
        return "cores" if self.in_cores else "times the present size"

    @property
    def caveat(self) -> str | None:
        """What is to be known beside the table, a sentence; None where that is nothing."""
        if not self.in_cores:
            return "The number of cores is not known: sizes are in times what each machine has now."
        if not self.left_out:
            return None
        many, few = len(self.left_out), ", ".join(self.left_out[:_NAMED])
        named = few if many <= _NAMED else f"{few} and {many - _NAMED:,} more"
        who = "1 machine is" if many == 1 else f"{many:,} machines are"
        return f"{who} left out, whose number of cores is not known: {named}."


def size_machines(
    windows: pd.DataFrame,
    users: pd.DataFrame,
    target: float = 0.8,
    quantile: float = 0.95,
    *,
    sizes: Sequence[float] | None = None,
    least_days: int = 5,
    core_hour_price: float | None = None,
) -> Sizes:
    """The sizes of machines, with the cores that each had at the time.

    Args:
        windows: As `right_size` takes them, with the columns `user` and `cores`, missing where not known, as
            `analytics.sources.machines.windows_with_cores` answers them.
        users: `source.users()`: how many cores each has now. Of whom it does not know, the last window says it.
        target: As `right_size` takes it, as are the following.
        quantile: The same.
        sizes: In cores; they are not known where cores are not.
        least_days: The same.
        core_hour_price: The same.

    Returns:
        Sizes in cores where the cores of more than half of the machines are known, or sizes or a price are given;
        the others are left out. Else sizes of all in times the present size.

    Raises:
        FrameError: As `right_size`; sizes or a price are given and no machine's cores are known.
    """
    names = windows["user"].astype(str)
    present = names.unique()
    now = cores_by_user(users).rename(index=str)
    if "cores" in windows:
        had = pd.to_numeric(windows["cores"], errors="coerce").astype("float64")
        now = now.combine_first(had.groupby(names).last().dropna())
    known = now[now.index.isin(present)]
    in_cores = len(known) > _MOST * len(present)
    if sizes is not None or core_hour_price is not None:
        if known.empty and len(present):
            raise FrameError("how many cores the machines have is not known here: say it with --cores")
        in_cores = True
    if not in_cores and len(present):
        table = right_size(
            windows.drop(columns="cores", errors="ignore"), 1.0, target, quantile, sizes=RELATIVE_SIZES,
            least_days=least_days,
        )  # fmt: skip
        table["why"] = [
            relative_sentence({str(name): value for name, value in row.items()}, quantile, target, least_days)
            for row in table.to_dict("records")
        ]
        return Sizes(table, False, ())
    table = right_size(
        windows[names.isin(known.index)], known, target, quantile, sizes=sizes, least_days=least_days,
        core_hour_price=core_hour_price,
    )  # fmt: skip
    return Sizes(table, True, tuple(sorted({*present} - {*known.index})))
