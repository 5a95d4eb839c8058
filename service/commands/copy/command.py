"""The command `loadlens-service copy`: one store is copied into another while a person looks on."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from analytics.sources.influx_address import Credentials
from contract.settings import Settings, fail, load
from contract.times import format_duration
from service.commands import failed
from service.settings import StoreMemory

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from service.commands.copy.stores import DayRange, Opened
    from service.commands.copy.transfer import Copied
    from service.commands.copy.verifying import CopyCheck

_PROGRAM = "loadlens-service copy"
_DESCRIPTION = """\
Copies all windows and rollups of one store into another, the reports that are
still in the source's journal among them, and compares both at the end: counts,
means, variances, extremes and histograms of each user, quantity, core and day.
Stop the service whose embedded store is copied first: it alone can use it.
An InfluxDB is copied while its service runs; none may write to the target.
A copy that was cut short goes on when the command is given again."""
_EPILOG = """examples:
  loadlens-service copy --from embedded:var/loadlens --to embedded:/srv/loadlens
  loadlens-service copy --from embedded:var/loadlens --to influx://localhost:8086/METRICS
  LOADLENS_STORE_TOKEN_FILE=token loadlens-service copy --from influx://old:8086 --to influxs://new:8086/METRICS
"""
_MAX_NAMED = 20
_ADDRESS = "embedded:FOLDER or influx://HOST:PORT/DATABASE"


class CopySettings(Settings, frozen=True, kw_only=True):
    """Settings of `loadlens-service copy`."""

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
    store_memory: StoreMemory = "1GB"
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
        """The credentials of the database that is written."""
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
    from service.commands.copy.stores import AddressError, open_store, parse_store_address
    from service.stores.base import StoreError, StoreUnavailable

    console = Console(highlight=False, markup=False, soft_wrap=True)
    try:
        old, new = parse_store_address(settings.from_, new=False), parse_store_address(settings.to, new=True)
        if old == new:
            raise AddressError(f"{settings.from_} and {settings.to} are the same store")
        with (
            open_store(old, settings.source(), settings.store_memory, new=False, data_dir=settings.data_dir) as source,
            open_store(new, settings.target(), settings.store_memory, new=True) as target,
        ):
            return 0 if _show_copy(source, target, console) else 1
    except AddressError as error:
        fail(_PROGRAM, str(error))
    except (StoreError, OSError, BadStatement) as error:
        return failed(_PROGRAM, error)
    except StoreUnavailable as error:
        return failed(_PROGRAM, f"{error}\nWhat was copied stays; the same command copies the rest.")
    except KeyboardInterrupt:
        print("\nStopped. What was copied stays; the same command copies the rest.", file=sys.stderr)
        return 130


def _show_copy(source: "Opened", target: "Opened", console: "Console") -> bool:
    """Copy what `target` lacks of `source`, and compare them; True where nothing differs."""
    if source.replayed:
        console.print(f"{source.replayed:,} windows were in the source's journal only; they are copied too.")
    if source.is_running:
        console.print("The source's service runs: what its journal alone has, of the last seconds, is not copied.")
    from service.commands.copy.stores import day_ranges

    todo = day_ranges(source.store)
    total = sum(span.samples for span in todo)
    users, days = len(source.store.users()), sum(span.days for span in todo)
    console.print(f"Hosts: {users:,}. Days with data: {days:,}. Samples: {total:,}.")
    if not todo:
        console.print("There is nothing to copy.")
        return True
    copied = _transfer(source, target, todo, total, console)
    console.print(_done(copied))
    check = _verify(source, target, todo, total, console)
    console.print(_found(check))
    return not check.differences


def _transfer(source: "Opened", target: "Opened", todo: "list[DayRange]", total: int, console: "Console") -> "Copied":
    from service.commands.copy.transfer import Transfer

    with _progress(console, "{task.fields[windows]:,} windows  {task.fields[speed]:,.0f}/s") as progress:
        task = progress.add_task("Copying", total=total, windows=0, speed=0.0)

        def advance(samples: int, windows: int) -> None:
            shown = progress.tasks[task]
            copied = shown.fields["windows"] + windows
            progress.update(task, advance=samples, windows=copied, speed=copied / (shown.elapsed or 1.0))

        transfer = Transfer(source.store, target.store, target.offset, advance)
        for span in todo:
            transfer.run(span)
    return transfer.copied


def _verify(source: "Opened", target: "Opened", todo: "list[DayRange]", total: int, console: "Console") -> "CopyCheck":
    from service.commands.copy.fields import compare_fields
    from service.commands.copy.verifying import CopyCheck, verify

    check = CopyCheck()
    with _progress(console) as progress:
        task = progress.add_task("Comparing", total=total)
        for span in todo:
            verify(source.store, target.store, span, check, lambda samples: progress.advance(task, samples))
            compare_fields(source.store, target.store, span, check)
    return check


def _done(copied: "Copied") -> str:
    from service.commands.copy.stores import day_name

    lines = [f"Windows copied: {copied.windows:,}."]
    if copied.there:
        lines.append(f"{copied.there:,} samples were there already; they count once.")
    if copied.uses:
        lines.append(f"Windows and hours copied of who used the CPU: {copied.uses:,}.")
    for tier, buckets in sorted(copied.rollups.items()):
        lines.append(
            f"{buckets:,} rollups of {format_duration(tier)} stand for days whose windows the source has no more."
        )
    for user, day in copied.conflicts[:_MAX_NAMED]:
        lines.append(f"{user}, {day_name(day)}: only rollups are left, and the target has other windows of that day.")
    return "\n".join(lines)


def _found(check: "CopyCheck") -> str:
    compared = f"{check.sums:,} sums of a user, quantity, core and day; {check.samples:,} samples"
    if check.fields:
        compared += f"; {check.fields:,} of a field of the original, each with its count, sum, minimum and maximum"
    if not check.differences:
        return (
            f"Verified: {compared}.\nCounts, means, variances, extremes and histograms are those of the source "
            f"(checksum {check.checksum:016x})."
        )
    lines = [f"DIFFERENT: {check.differences:,} of {compared}."]
    lines += [f"  {words}" for words in check.named]
    if check.differences > len(check.named):
        lines.append(f"  and {check.differences - len(check.named):,} more")
    return "\n".join(lines)


def _progress(console: "Console", *columns: str) -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
    texts = [TextColumn(text) for text in ("{task.percentage:>3.0f} %", *columns)]
    return Progress(TextColumn("{task.description}"), BarColumn(), *texts, left, console=console)
