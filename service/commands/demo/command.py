"""The command `loadlens-service demo`, and what it tells a person."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta
from rich.console import Console

from contract.service_address import SERVICE_URL, ServiceAddress
from contract.settings import fail, load
from service.commands import quick_start
from service.commands.demo.client import Client, ClientError
from service.commands.demo.demonstration import demonstrate
from service.commands.demo.fleet import Fleet, FleetError, read_fleet

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
_SAMPLE = Path(__file__).with_name("data") / "planetlab-sample.parquet"


class DemoSettings(ServiceAddress, frozen=True, kw_only=True):
    """What can be set."""

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
            description="Load only so many machines, those with the most windows.",
            extra={"metavar": "N", "default": "all"},
        ),
    ] = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure, 2 for a wrong setting."""
    settings = load(DemoSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        fleet = read_fleet(settings.data) if settings.data else planetlab()
    except FleetError as error:
        fail(_PROGRAM, str(error))
    if settings.users is not None:
        fleet = fleet.longest(settings.users)
    try:
        with Client(settings.url, settings.token or "") as client:
            done = demonstrate(fleet, client, console, again=True)
    except ClientError as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was loaded stays; the same command loads the rest.", file=sys.stderr)
        return 130
    console.print("\n".join(quick_start.fleet(settings.url.rstrip("/"), fleet.users[0], token=bool(settings.token))))
    return 0 if done else 1


def planetlab() -> Fleet:
    """The sample of the fleet that comes with the project."""
    return read_fleet(_SAMPLE, "PlanetLab node")
