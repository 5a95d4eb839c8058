"""The commands that ask one question and show or write the answer: history, fleet, users, metrics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from analytics.commands.answering import answer
from analytics.commands.settings import PROGRAM, AskSettings, RangeSettings
from contract import times
from contract.devices import DeviceName
from contract.selectors import BY_LABEL, MAX_USER_ID, NAME_PATTERN
from contract.settings import load

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console


_HISTORY = "Shows one host's values over time: a chart and a table on a terminal, otherwise data."
_HISTORY_EXAMPLES = f"""examples:
  {PROGRAM} history 6a:d6:96:d3:45:35 --stat p95 --last 30d --rate 1h
  {PROGRAM} history 6a:d6:96:d3:45:35 --core 3 --last 1h --rate 1m
  {PROGRAM} history db-1 --metric disksBusy --device sda --last 6h
  {PROGRAM} history web-1 --start 2018-07-12T12:15:00Z --end 2018-07-12T16:15:00Z --out web-1.csv"""


class HistorySettings(RangeSettings, frozen=True, kw_only=True):
    """The host, metric and range whose history is shown."""

    user_id: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_USER_ID,
            description=f"The host, as `{PROGRAM} users` lists it.",
            extra={"positional": True},
        ),
    ]
    core: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(description="One core of it.", extra={"metavar": "N", "default": "the whole host"}),
    ] = None
    device: Annotated[
        DeviceName | None,
        Meta(
            description="One disk or interface of it, by name, of the metrics that name them.",
            extra={"examples": ["sda"], "default": "the whole host"},
        ),
    ] = None


def run_history(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(HistorySettings, argv, program=f"{PROGRAM} history", description=_HISTORY, epilog=_HISTORY_EXAMPLES)
    from analytics.commands.output import show_series

    start_ms, end_ms = settings.bounds_ms(times.now_ms(), "1d")
    rate = settings.rate_of(start_ms, end_ms)
    part = settings.device if settings.core is None else f"core {settings.core}"
    name = settings.user_id if part is None else f"{settings.user_id}, {part}"
    return answer(
        settings,
        lambda service: service.history(
            settings.user_id, settings.metric, start=start_ms, end=end_ms, rate=rate, stat=settings.statistic,
            core=settings.core, device=settings.device,
        ),
        lambda console, frame: show_series(console, frame, name, rate),
    )  # fmt: skip


_FLEET = "Shows the values of all hosts together, or of each group of them."
_FLEET_EXAMPLES = f"""examples:
  {PROGRAM} fleet --last 7d --rate 1h
  {PROGRAM} fleet --by user --top 10 --stat p95      the ten hosts with the highest 95th percentile
  {PROGRAM} fleet --weight cores                     the share of all CPU time that was used
  {PROGRAM} fleet --by os_version --format json"""


class FleetQuerySettings(RangeSettings, frozen=True, kw_only=True):
    """The metric, range and grouping of the fleet that are shown."""

    by: Annotated[
        Annotated[str, Meta(pattern=f"^(os_type|os_version|user|{BY_LABEL}{NAME_PATTERN.strip('^$')})$")] | None,
        Meta(
            description="One group for each value of it, `label:role` for those of the label `role`.",
            extra={
                "default": "all hosts together",
                "expected": "os_type, os_version, user or a label such as label:role",
            },
        ),
    ] = None
    top: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)] | None,
        Meta(description="Only the groups that are highest over the whole range.", extra={"metavar": "N"}),
    ] = None

    weight: Annotated[
        Literal["samples", "cores", "hosts"],
        Meta(description="How hosts count in what is said of several: each sample, each core or each host alike."),
    ] = "samples"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.top is not None and self.by is None:
            raise ValueError("--top goes with --by: it keeps the groups with the highest values")


def run_fleet(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(FleetQuerySettings, argv, program=f"{PROGRAM} fleet", description=_FLEET, epilog=_FLEET_EXAMPLES)
    from analytics.commands.output import show_groups, show_series

    start_ms, end_ms = settings.bounds_ms(times.now_ms(), "1d")
    rate = settings.rate_of(start_ms, end_ms)
    show = show_series if settings.by is None else show_groups
    name = "the fleet" if settings.by is None else settings.by
    return answer(
        settings,
        lambda service: service.fleet(
            settings.metric, start=start_ms, end=end_ms, rate=rate, by=settings.by, top=settings.top,
            stat=settings.statistic, weight=settings.weight,
        ),
        lambda console, frame: show(console, frame, name, rate),
    )  # fmt: skip


_USERS = "Lists the hosts that have reported, and what each last said of itself."


def run_users(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(AskSettings, argv, program=f"{PROGRAM} users", description=_USERS)
    return answer(settings, lambda service: service.users(), _show_users)


def _show_users(console: "Console", frame: "pd.DataFrame") -> None:
    from analytics.commands.tables import show_rows

    if not frame["shared_windows"].any():
        frame = frame.drop(columns=["shared_windows", "shared_at"])
    if not (frame["labels"] != "").any():
        frame = frame.drop(columns="labels")
    written = {"cores": lambda cores: str(cores or "-"), "first_seen": lambda at: at.strftime("%Y-%m-%d")}
    show_rows(console, frame, "Nothing has been reported yet.", written=written, whole=True)


_METRICS = "Lists the metrics that can be asked for, with unit and usual statistic."


def run_metrics(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(AskSettings, argv, program=f"{PROGRAM} metrics", description=_METRICS)
    from analytics.commands.tables import show_rows

    return answer(
        settings,
        lambda service: service.metrics(),
        lambda console, frame: show_rows(console, frame.drop(columns=["type", "stored"]), "No metric.", whole=True),
    )
