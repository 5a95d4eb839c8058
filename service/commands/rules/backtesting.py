"""`loadlens-service rules backtest`: when rules would have fired, by a running service's history."""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from contract import times
from contract.problems import display
from contract.service_address import ServiceAddress
from contract.settings import fail, load
from contract.times import DAY_MS, format_instant, parse_duration, parse_timestamp, wrong_end
from service.commands import failed

if TYPE_CHECKING:
    from rich.console import Console

    from service.alerts.backtest import FiringPeriod


_PROGRAM = "loadlens-service rules backtest"
_DESCRIPTION = """\
Asks a running service for its windows, evaluates rules from files with them, as
if they arrived now, and shows when each would have fired. Nobody is told."""
_EPILOG = """examples:
  loadlens-service rules backtest rules.toml --last 7d
  loadlens-service rules backtest rules.toml --start 2018-07-12 --end 2018-07-14 --rate 1m
  loadlens-service rules backtest rules.toml --rule busy --last 30d --rate 5m
  loadlens-service rules backtest rules.toml --last 7d | cut -d, -f1,2    in a pipe it is CSV"""
_MAX_MS = 3650 * DAY_MS
_LINES = 40
"""Users whose time is drawn for each rule."""
_MOMENT = {"metavar": "TIME", "parse": parse_timestamp, "format": format_instant,
           "expected": "ISO 8601 or epoch milliseconds"}  # fmt: skip


class BacktestSettings(ServiceAddress, frozen=True, kw_only=True):
    """Which rules, and of which time."""

    path: Annotated[
        Path, Meta(description="A TOML or YAML file with rules, or a folder of them.", extra={"positional": True})
    ]
    rule: Annotated[
        str | None, Meta(description="One of the rules alone.", extra={"metavar": "NAME", "default": "all"})
    ] = None
    last: Annotated[str, Meta(description="The time this long before the end.", extra={"metavar": "DURATION"})] = "1d"
    start: Annotated[
        int | None,
        Meta(description="Begin with windows that end at this moment.", extra={**_MOMENT, "default": "as --last says"}),
    ] = None
    end: Annotated[
        int | None, Meta(description="Windows that end before this moment.", extra={**_MOMENT, "default": "now"})
    ] = None
    rate: Annotated[
        str,
        Meta(
            description="raw for windows as they came; for a long time, merge them first to buckets such as 1m.",
            extra={"metavar": "DURATION"},
        ),
    ] = "raw"
    json: Annotated[bool, Meta(description="Print JSON instead of words and tables.")] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        parse_duration(self.last, 1000, _MAX_MS)
        if self.rate != "raw":
            parse_duration(self.rate)

    def range_ms(self, now_ms: int) -> tuple[int, int]:
        """The half-open range, epoch ms."""
        end_ms = now_ms if self.end is None else self.end
        start_ms = end_ms - parse_duration(self.last, 1000, _MAX_MS) if self.start is None else self.start
        return max(0, start_ms), end_ms


def backtest_rules(argv: Sequence[str]) -> int:
    """Run `backtest`; returns the exit code."""
    settings = load(BacktestSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    from rich.console import Console
    from rich.progress import track

    from analytics.sources.service import Client
    from analytics.sources.service_api import ServiceError
    from service.alerts.backtest import backtest, steps
    from service.alerts.rule_set import RuleFileError, read_rule_set

    try:
        rules = [*read_rule_set(settings.path).rules.values()]
    except RuleFileError as error:
        return failed(_PROGRAM, error)
    if settings.rule is not None:
        rules = [rule for rule in rules if rule.name == settings.rule] or fail(
            _PROGRAM, f"--rule: {settings.rule} is none of {', '.join(rule.name for rule in rules)}"
        )
    start_ms, end_ms = settings.range_ms(times.now_ms())
    if start_ms >= end_ms:
        fail(_PROGRAM, f"--end: {wrong_end(start_ms, end_ms)}")
    console = Console(highlight=False)
    progress = iter(
        track(
            range(steps(rules, start_ms, end_ms)),
            "asking",
            console=Console(stderr=True),
            transient=True,
            disable=not console.is_terminal,
        )
    )
    try:
        with Client(settings.url, settings.token, ca_file=settings.ca_file) as source:
            periods = backtest(rules, source, start_ms, end_ms, settings.rate, lambda: next(progress, None))
    except ServiceError as error:
        return failed(_PROGRAM, error)
    if settings.json or not console.is_terminal:
        _write(periods, as_json=settings.json)
        return 0
    for rule in rules:
        _show(console, rule.name, [period for period in periods if period.rule == rule.name], start_ms, end_ms)
    return 0


def _write(periods: "Sequence[FiringPeriod]", *, as_json: bool) -> None:
    """Every time that a rule would have fired, for programs: an array of objects, or CSV."""
    rows = [
        {
            "rule": period.rule,
            "user": period.user,
            "fired": format_instant(period.fired_ms),
            "resolved": None if period.resolved_ms is None else format_instant(period.resolved_ms),
            "value": period.value,
        }
        for period in periods
    ]
    if as_json:
        print(msgspec.json.encode(rows).decode())
        return
    lines = csv.DictWriter(sys.stdout, ("rule", "user", "fired", "resolved", "value"), lineterminator="\n")
    lines.writeheader()
    lines.writerows(rows)


def _show(console: "Console", name: str, periods: "Sequence[FiringPeriod]", start_ms: int, end_ms: int) -> None:
    """Each time and a timeline of a rule; the terminal wraps what is too long, nothing is cut."""
    range_ = f"{format_instant(start_ms)} to {format_instant(end_ms)}"
    if not periods:
        console.print(f"[bold]{_safe(name)}[/] would not have fired, {range_}\n")
        return
    users = sorted({period.user for period in periods})
    often, many = _many(len(periods), "time"), _many(len(users), "user")
    console.print(f"[bold]{_safe(name)}[/] would have fired {often}, for {many}, {range_}")
    console.print(f"  {'fired':<24}  {'resolved':<24}  for, value, user", soft_wrap=True)
    for period in periods[:_LINES]:
        until = "-" if period.resolved_ms is None else format_instant(period.resolved_ms)
        minutes = ((end_ms if period.resolved_ms is None else period.resolved_ms) - period.fired_ms) / 60_000
        line = f"  {format_instant(period.fired_ms):<24}  {until:<24}  {minutes:.1f} min, {period.value:.4g}, "
        console.print(line + _safe(period.user or "the fleet"), soft_wrap=True)
    width = max(20, min(console.width, 120) - 30)
    for user in users[:_LINES]:
        bar = _bar([period for period in periods if period.user == user], start_ms, end_ms, width)
        console.print(f"{_safe(user or 'the fleet'):<27} [red]{bar}[/]")
    if len(periods) > _LINES or len(users) > _LINES:
        console.print(f"... of {len(periods)} times and {len(users)} users, the first {_LINES} are shown")
    console.print()


def _safe(text: str) -> str:
    """Text that neither marks itself up nor tells the terminal anything."""
    from rich.markup import escape

    return escape(display(text))


def _bar(periods: "Sequence[FiringPeriod]", start_ms: int, end_ms: int, width: int) -> str:
    """A line of the range: a block where it fires, a dot where it does not."""
    cells = ["·"] * width
    for period in periods:
        first = int((period.fired_ms - start_ms) / (end_ms - start_ms) * width)
        last_ms = end_ms if period.resolved_ms is None else period.resolved_ms
        last = int((last_ms - start_ms) / (end_ms - start_ms) * width)
        for place in range(first, min(max(last, first + 1), width)):
            cells[place] = "█"
    return "".join(cells)


def _many(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
