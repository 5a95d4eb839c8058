"""How a command answers: it asks a service or files of a host and a range, then shows a table or writes data."""

import io
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from analytics.commands.settings import PROGRAM, AskSettings, RangeSettings, SpanSettings
from contract.selectors import MAX_USER_ID
from contract.settings import SettingsError, fail

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

    from analytics.sources.base import Source


def answer(
    settings: AskSettings,
    question: "Callable[[Source], pd.DataFrame]",
    show: "Callable[[Console, pd.DataFrame], None]",
) -> int:
    """Ask, then `show` the frame on the terminal or write it as data; returns the exit code."""
    from analytics.commands.output import form_of, write
    from analytics.frames.frame import FrameError, TooFewData
    from analytics.sources.connecting import connect
    from analytics.sources.service_api import ServiceError

    form = form_of(settings.format, settings.out, terminal=sys.stdout.isatty())
    if form == "table" and isinstance(settings, RangeSettings) and settings.windows:
        fail(PROGRAM, "--windows is for files: expected --out fleet.parquet or --format csv, got a table")
    try:
        with connect(settings.data or settings.url, settings.token, ca_file=settings.ca_file) as source:
            frame = question(source)
        if form == "table":
            show(terminal(), frame)
        else:
            write(frame, form, settings.out)
    except BrokenPipeError:
        raise
    except (ServiceError, OSError, FrameError, TooFewData, LookupError, ValueError) as error:
        return failed(error)
    if approximation := frame.attrs.get("approximation"):
        print(f"Approximate: {approximation}", file=sys.stderr)
    return 0


def terminal() -> "Console":
    """Standard output; a name that it has no characters for is no reason to show nothing."""
    from rich.console import Console

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    return Console(highlight=False, markup=False)


def failed(error: Exception) -> int:
    """Say on standard error what went wrong; returns the exit code of failures, 1. Raises SettingsError as it is."""
    if isinstance(error, SettingsError):
        raise error
    reason = str(error.args[0]) if isinstance(error, LookupError) and error.args else str(error)
    if isinstance(error, OSError) and error.filename:
        # What is written is first named so; nobody asked for that file.
        reason = f"{str(error.filename).removesuffix('.part')}: {error.strerror}"
    print(f"{PROGRAM}: error: {in_commands(reason)}", file=sys.stderr)
    return 1


_COMMANDS = {
    "GET /api/v1/users": f"{PROGRAM} users",
    "GET /api/v1/metrics": f"{PROGRAM} metrics",
    "DELETE /api/v1/users/...": "loadlens-service agents forget --windows",
    "GET /api/v1/agents": "loadlens-service agents",
    "GET /api/v1/rules": "loadlens-service rules",
    "GET /api/v1/silences": "loadlens-service rules silence",
    "GET /api/v1/tokens": "loadlens-service tokens",
    "users()": f"{PROGRAM} users",
}
_ASKED = re.compile("|".join(rf"{re.escape(said)}(?![\w/])" for said in _COMMANDS))


def in_commands(text: str) -> str:
    """What a service or the library says, with the commands that ask where it names requests and methods."""
    return _ASKED.sub(lambda said: f"`{_COMMANDS[said[0]]}`", text)


HostName = Annotated[str, Meta(min_length=1, max_length=MAX_USER_ID)]


class MethodSettings(SpanSettings, frozen=True, kw_only=True):
    """The host and range of which a method is asked."""

    user_id: Annotated[
        HostName | None,
        Meta(
            description=f"The host, as `{PROGRAM} users` lists it.",
            extra={"positional": True, "default": "all hosts"},
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
    """The windows that a method looks at, of each host by name.

    With `cores` a column of that name says how many the host had at the time, where names are known.
    """
    from analytics.sources.base import windows_with_cores

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
        # A file that names no host is of one.
        user_id = settings.data.stem if settings.data is not None else ""
        frame = source.fleet(settings.metric, start=start, end=end, rate=rate, histograms=histograms)
    else:
        frame = source.history(user_id, settings.metric, start=start, end=end, rate=rate, histograms=histograms)
    frame = frame.assign(user=user_id)
    frame["user"] = frame["user"].astype("category")
    return frame
