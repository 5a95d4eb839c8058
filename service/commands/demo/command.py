"""The command `loadlens-service demo`: a fleet is loaded while a person looks on."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from analytics.sources.service_api import ProblemError, ServiceApi, ServiceError
from contract import times
from contract.problems import plural
from contract.service_address import SERVICE_URL, ServiceAddress
from contract.settings import fail, load
from service.commands import failed, quick_start
from service.commands.demo.fleet import FleetError, RecordedFleet, read_fleet
from service.commands.demo.loading import Loaded, LoadPlan, last_seen, load_fleet, plan

_PROGRAM = "loadlens-service demo"
_DESCRIPTION = """\
Loads a real fleet into a running service: the CPU utilization of PlanetLab
hosts on six days of 2011, every five minutes. The days are put one after
another and end now. Loading again is harmless: nothing is counted twice."""
_EPILOG = """examples:
  loadlens-service demo                               the fleet into http://localhost:8888
  loadlens-service demo --users 100                   fewer hosts, those with the most windows
  loadlens-service demo --data fleet.parquet          a fleet of your own: time, user_id, utilization_percent
"""
_SAMPLE = Path(__file__).with_name("data") / "planetlab-sample.parquet"
_TIMEOUT_S = 60.0


class DemoSettings(ServiceAddress, frozen=True, kw_only=True):
    """Settings of `loadlens-service demo`."""

    url: Annotated[str, Meta(description="The service to load into.")] = SERVICE_URL
    data: Annotated[
        Path | None,
        Meta(
            description="Parquet file with the columns time, user_id and utilization_percent.",
            extra={"metavar": "FILE", "default": "the sample that comes with it"},
        ),
    ] = None
    token: Annotated[str | None, Meta(description="Sent to the service.", extra={"secret": True})] = None
    users: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(
            description="Load only so many hosts, those with the most windows.",
            extra={"metavar": "N", "default": "all"},
        ),
    ] = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure, 2 for a wrong setting."""
    settings = load(DemoSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        fleet = read_fleet(settings.data) if settings.data else sample_fleet()
    except FleetError as error:
        fail(_PROGRAM, str(error))
    if settings.users is not None:
        fleet = fleet.longest(settings.users)
    try:
        done = demonstrate(fleet, settings.url, settings.token, console, again=True, ca_file=settings.ca_file)
    except ServiceError as error:
        wants_token = isinstance(error, ProblemError) and error.status == HTTPStatus.UNAUTHORIZED
        hint = " Give --token, or LOADLENS_TOKEN in the environment." if wants_token else ""
        return failed(_PROGRAM, f"{error}{hint}")
    except KeyboardInterrupt:
        print("\nStopped. What was loaded stays; the same command loads the rest.", file=sys.stderr)
        return 130
    console.print("\n".join(quick_start.fleet(settings.url.rstrip("/"), fleet.users[0], token=bool(settings.token))))
    return 0 if done else 1


def sample_fleet() -> RecordedFleet:
    """The sample of PlanetLab hosts that comes with Loadlens."""
    return read_fleet(_SAMPLE, "PlanetLab node")


def demonstrate(
    fleet: RecordedFleet, url: str, token: str | None, console: Console, *, again: bool, ca_file: Path | None = None
) -> bool:
    """Load a fleet into the service at `url`; True where nothing of it was refused.

    A fleet that is there already is sent `again` only where asked. Raises ServiceError.
    """
    with ServiceApi(url, token, timeout_s=_TIMEOUT_S, ca_file=ca_file) as api:
        return _load(fleet, api, console, again=again)


def _load(fleet: RecordedFleet, api: ServiceApi, console: Console, *, again: bool) -> bool:
    todo = plan(fleet, last_seen(api), times.now_ms())
    if todo.complete and not again:
        console.print(
            f"The fleet of {plural(len(fleet.users), 'host')} is there already, up to {_moment(todo.fleet.last_ms)}."
        )
        return True
    console.print(_description(todo))
    with _progress(console) as progress:
        task = progress.add_task("Loading", total=len(todo.fleet))
        loaded = load_fleet(todo.fleet, api, lambda windows: progress.advance(task, windows))
    console.print(_summary(loaded))
    return not loaded.rejected


def _description(todo: LoadPlan) -> str:
    fleet = todo.fleet
    hosts, windows = plural(len(fleet.users), "host"), plural(len(fleet), "window")
    size = f"{hosts}, {windows} of five minutes, until {_moment(fleet.last_ms)}"
    if todo.continues_after_ms is not None:
        return f"The fleet, which ended {_moment(todo.continues_after_ms)}, goes on:\n{size}."
    return f"{size}.\nEach window is a recorded mean: one observation, no variance, no single cores."


def _summary(loaded: Loaded) -> str:
    rate = (loaded.accepted + loaded.duplicates) / max(loaded.seconds, 1e-3)
    text = f"Loaded {loaded.accepted:,} windows in {loaded.seconds:.1f} s ({rate:,.0f} a second)."
    if loaded.duplicates:
        text += f"\n{loaded.duplicates:,} were there already; they count once."
    if loaded.rejected:
        text += f"\n{loaded.rejected:,} were refused; the first for {loaded.reason}"
    return text


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


class _WindowRate(ProgressColumn):
    """How many, and how fast."""

    def render(self, task: Task) -> Text:
        """Such as `912,384 / 2,035,584  41,200/s`."""
        speed = task.finished_speed or task.speed
        return Text(f"{task.completed:,.0f} / {task.total:,.0f}" + (f"  {speed:,.0f}/s" if speed else ""))


def _progress(console: Console) -> Progress:
    left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), _WindowRate(), left, console=console)
