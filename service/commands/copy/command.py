"""The command `loadlens-service copy`, and what it tells a person."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from analytics.sources.influx_address import Credentials
from contract.settings import Settings, fail, load

_PROGRAM = "loadlens-service copy"
_DESCRIPTION = """\
Copies all windows and rollups of one store into another, the reports that are
still in the source's journal among them, and compares both at the end: counts,
means, variances, extremes and histograms of each user, quantity, core and day.
Stop the service whose embedded store is copied first: it alone can use it.
A copy that was cut short goes on when the command is given again."""
_EPILOG = """examples:
  loadlens-service copy --from embedded:var/loadlens --to embedded:/srv/loadlens
  loadlens-service copy --from embedded:var/loadlens --to influx://localhost:8086/METRICS
  LOADLENS_STORE_TOKEN_FILE=token loadlens-service copy --from influx://old:8086 --to influxs://new:8086/METRICS
"""
_ADDRESS = "embedded:FOLDER or influx://HOST:PORT/DATABASE"


class CopySettings(Settings, frozen=True, kw_only=True):
    """What can be set."""

    from_: Annotated[
        str, Meta(min_length=1, description="The store to copy.", extra={"metavar": "STORE", "expected": _ADDRESS})
    ]
    to: Annotated[
        str,
        Meta(
            min_length=1,
            description="The store to copy into; made where there is none.",
            extra={"metavar": "STORE", "expected": _ADDRESS},
        ),
    ]
    data_dir: Annotated[
        Path,
        Meta(
            description="Folder of the service whose InfluxDB is copied; what its journal still has is copied too.",
            extra={"metavar": "DIR"},
        ),
    ] = Path("var/loadlens")
    store_memory: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]+(\.[0-9]+)?(MB|GB|MiB|GiB)$",
            description="Most memory the database may use for a query or for sorting.",
            extra={"metavar": "SIZE", "examples": ["4GB"], "expected": "a size such as 512MB or 4GB"},
        ),
    ] = "1GB"
    store_token: Annotated[
        str, Meta(description="Token of the InfluxDB (2 and 3).", extra={"metavar": "TOKEN", "secret": True})
    ] = ""
    store_user: Annotated[str, Meta(description="User of the InfluxDB (1).", extra={"metavar": "NAME"})] = ""
    store_password: Annotated[
        str, Meta(description="Password of that user.", extra={"metavar": "PASSWORD", "secret": True})
    ] = ""
    store_org: Annotated[
        str, Meta(description="Organization of the bucket (InfluxDB 2).", extra={"metavar": "NAME"})
    ] = ""
    from_token: Annotated[
        str, Meta(description="Token of the InfluxDB to copy, where it is another.",
                  extra={"metavar": "TOKEN", "secret": True}),
    ] = ""  # fmt: skip
    from_user: Annotated[
        str, Meta(description="User of the InfluxDB to copy, where it is another.", extra={"metavar": "NAME"})
    ] = ""
    from_password: Annotated[
        str, Meta(description="Password of that user.", extra={"metavar": "PASSWORD", "secret": True})
    ] = ""
    from_org: Annotated[
        str, Meta(description="Organization of the bucket to copy, where it is another.", extra={"metavar": "NAME"})
    ] = ""

    def target(self) -> Credentials:
        """Who writes."""
        return Credentials(self.store_token, self.store_user, self.store_password, self.store_org)

    def source(self) -> Credentials:
        """Who reads: the same, unless another was named."""
        if self.from_token or self.from_user:
            return Credentials(self.from_token, self.from_user, self.from_password, self.from_org or self.store_org)
        return self.target()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure or a difference, 2 for a wrong setting."""
    settings = load(CopySettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    # What copies is imported only when it is wanted: --help answers at once.
    from rich.console import Console

    from analytics.sources.influx_client import BadStatement
    from service.commands.copy.opening import AddressError, open_store, place_of
    from service.commands.copy.showing import show_copy
    from service.stores.base import StoreError, StoreUnavailable

    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        places = place_of(settings.from_, new=False), place_of(settings.to, new=True)
        if places[0] == places[1]:
            raise AddressError(f"{settings.from_} and {settings.to} are the same store")
        with (
            open_store(
                places[0], settings.source(), settings.store_memory, new=False, data_dir=settings.data_dir
            ) as source,
            open_store(places[1], settings.target(), settings.store_memory, new=True) as target,
        ):
            return 0 if show_copy(source, target, console) else 1
    except AddressError as error:
        fail(_PROGRAM, str(error))
    except (StoreError, OSError, BadStatement) as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    except StoreUnavailable as error:
        print(f"{_PROGRAM}: error: {error}\nWhat was copied stays; the same command copies the rest.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was copied stays; the same command copies the rest.", file=sys.stderr)
        return 130
