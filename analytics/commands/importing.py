"""`loadlens-analytics import`: the data of other tools brought into a service, or into files, with their own times."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from analytics.commands.answering import failed
from analytics.commands.settings import DURATION, MOMENT, PROGRAM
from analytics.sources.influx_address import Address, Credentials, is_influx
from contract import times
from contract.metrics import NAMES, QUANTITIES
from contract.problems import plural
from contract.service_address import SERVICE_URL, ServiceAddress
from contract.settings import fail, load
from contract.times import format_instant, parse_duration

if TYPE_CHECKING:
    from analytics.sources.importing.influx import Database
    from analytics.sources.importing.reading import Understood
    from analytics.sources.importing.readings import Hints

_DESCRIPTION = """\
Brings data of other tools into a service, or into Parquet files: CSV and Parquet
of any columns, sysstat (`sadf -j`, `sar`), Prometheus' API, collectd's CSV,
Telegraf's line protocol, and any table or InfluxDB with a mapping file. What was
understood is shown before anything is written. Times stay as they are; what is imported
twice counts once."""
_EXAMPLES = f"""examples:
  {PROGRAM} import load.csv --dry-run                          what would be understood, nothing is written
  {PROGRAM} import load.csv --to http://localhost:8888         into a service
  {PROGRAM} import sa29.json sa30.json --to fleet/             into Parquet files, for --data fleet/
  {PROGRAM} import load.csv --time-column ts --host-column box --value-column busy --unit percent --tz Europe/Berlin
  {PROGRAM} import points.lp --mapping schema.toml             line protocol of any schema (docs/importing.md)
  {PROGRAM} import influx://localhost:8086/hosts --mapping schema.toml
                                                               an InfluxDB of any schema"""
_SHOWN = 40
_EXIT_NOTHING = 1


class ImportSettings(ServiceAddress, frozen=True, kw_only=True):
    """What to import, where to, and how to read it where it cannot be guessed."""

    url: Annotated[str, Meta(description="The service to import into, unless --to says another place.")] = SERVICE_URL
    file: Annotated[
        tuple[str, ...],
        Meta(
            description="The files, folders of files, or InfluxDBs, with a mapping file.",
            min_length=1,
            extra={"positional": True, "expected": "paths, or influx://HOST:PORT/DATABASE"},
        ),
    ]
    to: Annotated[
        str | None,
        Meta(
            description="A service's address, a folder, or a file that ends in .parquet.",
            extra={"metavar": "PLACE", "default": "the service of --url"},
        ),
    ] = None
    dry_run: Annotated[bool, Meta(description="Say what was understood, and write nothing.")] = False
    yes: Annotated[bool, Meta(description="Do not ask on a terminal before writing.")] = False
    time_column: Annotated[
        str | None, Meta(description="The column of times.", extra={"metavar": "COLUMN", "default": "guessed"})
    ] = None
    host_column: Annotated[
        str | None, Meta(description="The column, or tag, of hosts.", extra={"metavar": "COLUMN", "default": "guessed"})
    ] = None
    value_column: Annotated[
        str | None, Meta(description="The column of values.", extra={"metavar": "COLUMN", "default": "guessed"})
    ] = None
    core_column: Annotated[
        str | None, Meta(description="The column of cores.", extra={"metavar": "COLUMN", "default": "guessed"})
    ] = None
    metric: Annotated[
        str | None,
        Meta(
            description="The metric that values without a known name are of.",
            extra={"metavar": "NAME", "default": "cpuUtilization"},
        ),
    ] = None
    unit: Annotated[
        Literal["percent", "share", "guess"],
        Meta(
            description="The unit of shares.",
            extra={"default": "told by names and values", "expected": "percent, share or guess"},
        ),
    ] = "guess"
    tz: Annotated[str, Meta(description="The time zone of times without an offset.", extra={"metavar": "ZONE"})] = "UTC"
    time_format: Annotated[
        str | None,
        Meta(
            description="How times are written, as strptime has it.", extra={"metavar": "FORMAT", "default": "guessed"}
        ),
    ] = None
    host_name: Annotated[
        str | None,
        Meta(
            description="The host, where files name none.", extra={"metavar": "NAME", "default": "the name of the file"}
        ),
    ] = None
    sample_interval: Annotated[
        str | None,
        Meta(
            description="The time that a sample stands for.",
            extra={**DURATION, "default": "the median distance of a host's samples"},
        ),
    ] = None
    mapping: Annotated[
        Path | None,
        Meta(description="TOML file that says what columns are.", extra={"metavar": "FILE", "default": "none"}),
    ] = None
    start: Annotated[
        int | None,
        Meta(description="Of an InfluxDB: only points from this time on.", extra={**MOMENT, "default": "all"}),
    ] = None
    end: Annotated[
        int | None,
        Meta(description="Of an InfluxDB: only points before this time.", extra={**MOMENT, "default": "all"}),
    ] = None
    from_token: Annotated[
        str, Meta(description="API token of the InfluxDB (2 and 3).", extra={"metavar": "TOKEN", "secret": True})
    ] = ""
    from_user: Annotated[str, Meta(description="User of the InfluxDB (1).", extra={"metavar": "NAME"})] = ""
    from_password: Annotated[
        str, Meta(description="Password of that user.", extra={"metavar": "PASSWORD", "secret": True})
    ] = ""
    from_org: Annotated[
        str, Meta(description="Organization of the bucket to import (InfluxDB 2).", extra={"metavar": "NAME"})
    ] = ""
    aside: Annotated[
        Path, Meta(description="Where rows that are set aside are listed, with the reason.", extra={"metavar": "FILE"})
    ] = Path("import-aside.csv")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metric is not None and self.metric not in NAMES and self.metric not in QUANTITIES:
            raise ValueError(f"--metric: expected a name that `{PROGRAM} metrics` lists, got {self.metric}")
        if self.mapping is not None and (self.time_column or self.host_column or self.value_column or self.core_column):
            raise ValueError("expected --mapping or names of columns, got both: the mapping names them")
        for address in filter(is_influx, self.file):
            try:
                Address.parse(address)
            except ValueError as error:
                raise ValueError(f"FILE: {error}") from None
        if self.from_token and self.from_user:
            raise ValueError("--from-token: does not go with --from-user; InfluxDB 1 has users, 2 and 3 have tokens")

    @property
    def address(self) -> str | None:
        """The service to import into; None where it is files."""
        if self.to is None:
            return self.url
        return self.to if self.to.startswith(("http://", "https://")) else None


def run_import(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0, 1 for a failure, 2 for a wrong setting, 130 after Ctrl-C."""
    settings = load(ImportSettings, argv, program=f"{PROGRAM} import", description=_DESCRIPTION, epilog=_EXAMPLES)
    from analytics.sources.importing.moments import zone_of
    from analytics.sources.importing.reading import read
    from analytics.sources.importing.samples import ImportFault
    from analytics.sources.service_api import ServiceError

    try:
        zone_of(settings.tz)
    except ValueError as error:
        fail(PROGRAM, f"--tz: {error}")
    interval_ms = None if settings.sample_interval is None else parse_duration(settings.sample_interval)
    try:
        paths = [Path(file) for file in settings.file if not is_influx(file)]
        understood = read(paths, _hints(settings), times.now_ms(), interval_ms, _databases(settings))
        _tell(understood)
        if understood.checked.frame.empty:
            _write_aside(understood, settings)
            return failed(ImportFault("expected samples that can be kept, got none: nothing is written"))
        if settings.dry_run:
            _say("Nothing is written (--dry-run).")
            return 0
        if not _confirmed(settings):
            return 1
        done = _into_service(understood, settings) if settings.address else _into_files(understood, settings)
        _write_aside(understood, settings)
        return done
    except (ImportFault, ServiceError, OSError) as error:
        return failed(error)
    except KeyboardInterrupt:
        _say("Stopped. What was taken stays; the same command goes on where it ended.")
        return 130


def _databases(settings: ImportSettings) -> "list[Database]":
    addresses = [Address.parse(file) for file in settings.file if is_influx(file)]
    if not addresses:
        return []
    from analytics.sources.importing.influx import Database

    who = Credentials(settings.from_token, settings.from_user, settings.from_password, settings.from_org)
    given = {"start_ms": settings.start, "end_ms": settings.end}
    within = {name: moment for name, moment in given.items() if moment is not None}
    return [Database(address, who, **within) for address in addresses]


def _hints(settings: ImportSettings) -> "Hints":
    from analytics.sources.importing.readings import Hints

    stored = NAMES[settings.metric].quantity.name if settings.metric in NAMES else settings.metric
    return Hints(
        time=settings.time_column, host=settings.host_column, value=settings.value_column, core=settings.core_column,
        metric=stored, unit=settings.unit, zone=settings.tz, time_format=settings.time_format,
        host_name=settings.host_name, mapping=settings.mapping,
    )  # fmt: skip


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _tell(understood: "Understood") -> None:
    """What was understood, before anything is written."""
    for line in understood.said[:_SHOWN]:
        _say(line)
    if len(understood.said) > _SHOWN:
        _say(f"... and {len(understood.said) - _SHOWN} lines more")
    frame = understood.checked.frame
    if not frame.empty:
        first, last = (format_instant(int(moment)) for moment in (frame["end_ms"].min(), frame["end_ms"].max()))
        hosts = plural(frame["user"].nunique(), "host")
        _say(f"{plural(len(frame), 'sample')} of {hosts}, {first} to {last}")
        for name, rows in frame.groupby("quantity", observed=True):
            value, apart_ms = rows["value"], int((rows["end_ms"] - rows["start_ms"]).median())
            spread = f"{value.min():.4g} to {value.max():.4g}, mean {value.mean():.4g}"
            _say(f"  {name}: {plural(len(rows), 'sample')}, {spread}, each of {times.format_duration(apart_ms)}")
    if understood.checked.clipped:
        _say(f"{plural(understood.checked.clipped, 'share')} a little out of 0 to 100 %, clipped")
    if understood.checked.repeated:
        _say(f"{plural(understood.checked.repeated, 'row')} there twice, counted once")
    for reason, count in understood.aside.counts.most_common():
        _say(f"{count:,} set aside: {reason}")


def _confirmed(settings: ImportSettings) -> bool:
    if settings.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    sys.stderr.write(f"Import into {settings.to or settings.url}? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _write_aside(understood: "Understood", settings: ImportSettings) -> None:
    if understood.aside.rows and not settings.dry_run:
        understood.aside.write(settings.aside)
        _say(f"{settings.aside} lists what was set aside")


def _into_files(understood: "Understood", settings: ImportSettings) -> int:
    from analytics.sources.importing.storing import store

    for done in store(understood.checked, Path(str(settings.to))):
        _say(
            f"{done.path}: {plural(done.added, 'window')} added"
            + (f", {done.known:,} were there already" if done.known else "")
        )
    return 0


def _into_service(understood: "Understood", settings: ImportSettings) -> int:
    from analytics.sources.importing.reports import lanes_of
    from analytics.sources.importing.sending import send
    from analytics.sources.service_api import ServiceApi

    lanes = lanes_of(understood.checked, understood.systems, understood.aside)
    total = sum(batch.reports for lane in lanes for batch in lane)
    with ServiceApi(str(settings.address), settings.token, ca_file=settings.ca_file) as api, _bar(total) as advance:
        sent = send(api, lanes, advance)
    taken = [f"{plural(sent.accepted, 'window')} taken"]
    taken += [f"{sent.duplicates:,} were there already"] if sent.duplicates else []
    taken += [f"{sent.skipped:,} taken by the run before"] if sent.skipped else []
    _say(", ".join(taken))
    if sent.refused:
        _say(f"{sent.refused:,} refused; the first for {sent.reason}")
    return _EXIT_NOTHING if sent.refused else 0


@contextmanager
def _bar(total: int) -> Iterator[Callable[[int], object]]:
    """A bar on a terminal; elsewhere nothing is shown."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("Importing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda count: bar.advance(task, count)
