"""How every command asks the service and hands over the answer."""

import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from analytics.commands.settings import PROGRAM, AskSettings, RangeSettings
from contract.settings import fail

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
    from rich.console import Console

    from analytics.commands.output import form_of, write
    from analytics.sources.connecting import connect
    from analytics.sources.service_api import ServiceError

    form = form_of(settings.format, settings.out, terminal=sys.stdout.isatty())
    if form == "table" and isinstance(settings, RangeSettings) and settings.windows:
        fail(PROGRAM, "--windows is for files: --out fleet.parquet, or --format csv, is right")
    try:
        with connect(settings.url, settings.token) as service:
            frame = question(service)
        if form == "table":
            if isinstance(sys.stdout, io.TextIOWrapper):
                # A name that the terminal has no characters for is no reason to show nothing.
                sys.stdout.reconfigure(errors="replace")
            show(Console(highlight=False), frame)
        else:
            write(frame, form, settings.out)
    except BrokenPipeError:
        raise
    except (ServiceError, OSError) as error:
        reason = f"{settings.out}: {error.strerror}" if isinstance(error, OSError) else str(error)
        reason = reason.replace("GET /api/v1/users lists", f"`{PROGRAM} users` lists")
        print(f"{PROGRAM}: error: {reason}", file=sys.stderr)
        return 1
    if approximation := frame.attrs.get("approximation"):
        print(f"Approximate: {approximation}", file=sys.stderr)
    return 0
