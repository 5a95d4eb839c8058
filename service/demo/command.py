"""The command `loadlens-service demo`, and what it tells a person."""

import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, urlsplit

from msgspec import Meta
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from contract.settings import Settings, fail, load
from service.demo.client import Client, ClientError
from service.demo.fleet import Fleet, FleetError, read_fleet
from service.demo.loading import Loaded, Plan, plan
from service.demo.loading import load as send

__all__ = ["DemoSettings", "default_data", "demonstrate", "main", "queries"]

_PROGRAM = "loadlens-service demo"
_DESCRIPTION = """\
Loads a real fleet into a running service: the CPU utilization of PlanetLab
machines on six days of 2011, every five minutes. The days are put one after
another and end now. Loading again is harmless: nothing is counted twice."""
_EPILOG = """examples:
  loadlens-service demo                               the fleet into http://localhost:8888
  loadlens-service demo --users 100                   fewer machines, those with the most windows
  loadlens-service demo --data fleet.parquet          a fleet of your own: time, user_id, utilization_percent
"""
_PROJECT = Path(__file__).parents[2]
_FULL = _PROJECT.parent / "shared" / "data" / "planetlab-fleet.parquet"
_SAMPLE = Path(__file__).with_name("data") / "planetlab-sample.parquet"


class DemoSettings(Settings, frozen=True, kw_only=True):
    """What can be set."""

    url: Annotated[str, Meta(description="The service to load into.", extra={"metavar": "URL"})] = (
        "http://localhost:8888"
    )
    data: Annotated[
        Path | None,
        Meta(
            description="Parquet file with the columns time, user_id and utilization_percent.",
            extra={"metavar": "FILE", "default": "the whole fleet where it lies beside the project, else a sample"},
        ),
    ] = None
    token: Annotated[str, Meta(description="Sent to the service.", extra={"metavar": "TOKEN", "secret": True})] = ""
    users: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Load only so many machines, those with the most windows.",
            extra={"metavar": "N", "default": "all"},
        ),
    ] = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"--url: expected an address such as http://localhost:8888, not {self.url}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure, 2 for a wrong setting."""
    settings = load(DemoSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    console = Console(highlight=False, soft_wrap=True)
    try:
        fleet = read_fleet(settings.data or default_data())
    except FleetError as error:
        fail(_PROGRAM, str(error))
    if settings.users is not None:
        fleet = fleet.longest(settings.users)
    try:
        code = demonstrate(fleet, Client(settings.url, settings.token), console, again=True)
    except ClientError as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was loaded stays; the same command loads the rest.", file=sys.stderr)
        return 130
    if code == 0:
        console.print("\n" + queries(settings.url, fleet.users[0]))
    return code


def default_data() -> Path:
    """The whole fleet where it lies beside the checkout of the project, otherwise the sample that comes with it."""
    return _FULL if _FULL.exists() else _SAMPLE


def demonstrate(fleet: Fleet, client: Client, console: Console, *, again: bool) -> int:
    """Load a fleet, and say so; returns the exit code.

    A fleet that is there already is sent `again` only if asked, to be told as duplicates. Raises ClientError.
    """
    todo = plan(fleet, client.last_seen(), time.time_ns() // 1_000_000)
    if todo.complete and not again:
        console.print(f"The fleet of {len(fleet.users):,} machines is here already; it ends {_instant(todo)}.")
        return 0
    console.print(_description(todo))
    with _progress(console) as progress:
        task = progress.add_task("Loading", total=len(todo.fleet))
        loaded = send(todo.fleet, client, lambda windows: progress.advance(task, windows))
    console.print(_summary(loaded))
    return 1 if loaded.rejected else 0


def queries(url: str, user: str) -> str:
    """What to ask of the fleet, as commands to copy."""
    api = f"{url.rstrip('/')}/api/v1/metrics/cpuLoadAvg"
    asked = (
        ("The whole fleet, hour by hour", f"{api}/fleet?resample_rate=1h"),
        ("The ten busiest machines of each day", f"{api}/fleet?by=user&top=10&resample_rate=1d"),
        ("One machine's 95th percentile", f"{api}/byUser/{quote(user)}?stat=p95&resample_rate=1h"),
    )
    return "\n".join(f"  {words}:\n    curl -H 'Accept: text/csv' '{address}'" for words, address in asked)


def _description(todo: Plan) -> str:
    fleet = todo.fleet
    size = f"{len(fleet.users):,} machines, {len(fleet):,} windows of five minutes"
    if todo.continues:
        assert todo.here_until_ms is not None
        return f"The fleet that ended {_moment(todo.here_until_ms)} goes on until {_instant(todo)}: {size}."
    return (
        f"A fleet of {size}, up to {_instant(todo)}.\n"
        "Each window is a recorded mean: one observation, without variance and without cores."
    )


def _summary(loaded: Loaded) -> str:
    rate = (loaded.accepted + loaded.duplicates) / max(loaded.seconds, 1e-3)
    text = f"Loaded {loaded.accepted:,} windows in {loaded.seconds:.1f} s ({rate:,.0f}/s)."
    if loaded.duplicates:
        text += f" {loaded.duplicates:,} were there already and do not count twice."
    if loaded.rejected:
        text += f"\n{loaded.rejected:,} were refused; the first for {loaded.reason}"
    return text


def _instant(todo: Plan) -> str:
    return _moment(todo.fleet.last_ms)


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


class _Windows(ProgressColumn):
    """How many, and how fast."""

    def render(self, task: Task) -> Text:
        """Such as `912,384 / 2,035,584  41,200/s`."""
        speed = task.finished_speed or task.speed
        return Text(f"{task.completed:,.0f} / {task.total:,.0f}" + (f"  {speed:,.0f}/s" if speed else ""))


def _progress(console: Console) -> Progress:
    left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), _Windows(), left, console=console)
