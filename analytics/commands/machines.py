"""What the commands that run a method share: of which machine they ask, and the windows that the method looks at."""

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from analytics.commands.settings import PROGRAM, SpanSettings
from contract.selectors import MAX_USER_ID

if TYPE_CHECKING:
    import pandas as pd

    from analytics.sources.base import Source

MachineName = Annotated[str, Meta(min_length=1, max_length=MAX_USER_ID)]


class MethodSettings(SpanSettings, frozen=True, kw_only=True):
    """The machine and range of which a method is asked."""

    user_id: Annotated[
        MachineName | None,
        Meta(
            description=f"The machine, as `{PROGRAM} users` lists it.",
            extra={"positional": True, "default": "all machines"},
        ),
    ] = None


def windows(
    source: "Source",
    settings: MethodSettings,
    bounds_ms: tuple[int | None, int | None],
    rate: str,
    *,
    histograms: bool,
    user_id: str | None = None,
    cores: bool = False,
) -> "pd.DataFrame":
    """The windows that a method looks at, of each machine by name.

    With `cores` a column of that name says how many the machine had at the time, where names are known.
    """
    from analytics.sources.machines import windows_with_cores

    user_id = user_id or settings.user_id
    start, end = bounds_ms
    nameless = user_id is None and settings.data is not None and source.users().empty
    if cores and not nameless:
        return windows_with_cores(
            source, user_id, settings.metric, start=start, end=end, rate=rate, histograms=histograms
        )
    if user_id is None and not nameless:
        return source.fleet(settings.metric, start=start, end=end, rate=rate, by="user", histograms=histograms)
    if user_id is None:
        # A file that names no machine is of one.
        user_id = settings.data.stem if settings.data is not None else ""
        frame = source.fleet(settings.metric, start=start, end=end, rate=rate, histograms=histograms)
    else:
        frame = source.history(user_id, settings.metric, start=start, end=end, rate=rate, histograms=histograms)
    frame = frame.assign(user=user_id)
    frame["user"] = frame["user"].astype("category")
    return frame
