"""The command `loadlens-service copy`, and what it tells a person."""

import sys
from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from contract.settings import Settings, fail, load

__all__ = ["CopySettings", "main"]

_PROGRAM = "loadlens-service copy"
_DESCRIPTION = """\
Copies all windows and rollups of one store into another, the reports that are
still in the source's journal among them, and compares both at the end: counts,
means, variances, extremes and histograms of each user, quantity, core and day.
Stop the service whose embedded store is copied first: it alone can use it.
A copy that was cut short goes on when the command is given again."""
_EPILOG = """examples:
  loadlens-service copy --from embedded:var/loadlens --to embedded:/srv/loadlens
"""
_ADDRESS = "embedded:FOLDER"


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
    store_memory: Annotated[
        str,
        Meta(
            pattern=r"^[0-9]+(\.[0-9]+)?(MB|GB|MiB|GiB)$",
            description="Most memory the database may use for a query or for sorting.",
            extra={"metavar": "SIZE", "examples": ["4GB"], "expected": "a size such as 512MB or 4GB"},
        ),
    ] = "1GB"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure or a difference, 2 for a wrong setting."""
    settings = load(CopySettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    # What copies is imported only when it is wanted: --help answers at once.
    from rich.console import Console

    from service.copying.opening import AddressError, check, open_store
    from service.copying.showing import show_copy
    from service.stores.base import StoreError

    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        check(settings.from_, settings.to)
        with (
            open_store(settings.from_, settings.store_memory) as source,
            open_store(settings.to, settings.store_memory) as target,
        ):
            return 0 if show_copy(source, target, console) else 1
    except AddressError as error:
        fail(_PROGRAM, str(error))
    except (StoreError, OSError) as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. What was copied stays; the same command copies the rest.", file=sys.stderr)
        return 130
