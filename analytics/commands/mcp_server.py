"""`loadlens-analytics mcp`: what an assistant may ask of a service, by the Model Context Protocol on stdin and stdout.

Nothing can be changed by it. Each answer is a page: at most `PAGE` rows, with the query that answers the same, what
the rows are in words, and in which way they are approximate. Times are UTC.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec

from analytics.commands.settings import PROGRAM, fitting_rate
from contract import times
from contract.metrics import NAMES, Statistic
from contract.service_address import ServiceAddress
from contract.settings import fail, load
from contract.times import format_instant, parse_duration, parse_timestamp

if TYPE_CHECKING:
    import pandas as pd
    from mcp.server.mcpserver import MCPServer

    from analytics.sources.service import Client

_DESCRIPTION = """\
Lets an assistant ask a service about the fleet: a server of the Model Context
Protocol on standard input and output, which the assistant starts. It can only
ask. It needs the extra: pip install 'loadlens[mcp]'."""
_EXAMPLES = f"""examples:
  {PROGRAM} mcp --url http://localhost:8888

An assistant's configuration names the command, its arguments, and in its
environment LOADLENS_URL and LOADLENS_TOKEN, a token of the role viewer."""
_INSTRUCTIONS = """\
Answers questions about the CPU (and memory, swap, load, disk, network) of a fleet of hosts, of summaries of samples
every 50 ms that merge exactly. Shares are in [0, 1]; times are UTC, ISO 8601. Prefer p95 or p99 to the mean where peaks
matter. Every answer names the command that gives the same, and says where it is approximate: repeat both to people."""
PAGE: Final = 100
"""Rows of an answer."""
_LONGEST_MS: Final = 3650 * times.DAY_MS
_Asked = ParamSpec("_Asked")
Document = dict[str, Any]


class McpSettings(ServiceAddress, frozen=True, kw_only=True):
    """The service that the server asks."""


def run_mcp(argv: Sequence[str]) -> int:
    """Run the command with `argv` until standard input ends; returns the exit code."""
    settings = load(McpSettings, argv, program=f"{PROGRAM} mcp", description=_DESCRIPTION, epilog=_EXAMPLES)
    try:
        import mcp.server  # noqa: F401
    except ImportError:
        fail(PROGRAM, "expected the package mcp, got none: pip install 'loadlens[mcp]'")
    from analytics.sources.service import Client

    with Client(settings.url, settings.token, ca_file=settings.ca_file) as client:
        server_of(client).run("stdio")
    return 0


def server_of(client: "Client") -> "MCPServer[Any]":
    """The server whose tools ask `client`."""
    from mcp.server.mcpserver import MCPServer
    from mcp.types import ToolAnnotations

    from contract import __version__

    server: MCPServer[Any] = MCPServer("loadlens", instructions=_INSTRUCTIONS, version=__version__, log_level="WARNING")
    only_asks = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    tools = Tools(client)
    for tool in (
        tools.machines, tools.metrics, tools.fleet, tools.devices, tools.history, tools.who, tools.anomalies,
        tools.forecast, tools.sizes,
    ):  # fmt: skip
        server.tool(annotations=only_asks)(_told(tool))
    return server


def _told(tool: Callable[_Asked, Document]) -> Callable[_Asked, Document]:
    """The tool with what goes wrong told to the assistant, which may ask better."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    def told(*args: _Asked.args, **asked: _Asked.kwargs) -> Document:
        from analytics.sources.service_api import ServiceError

        try:
            return tool(*args, **asked)
        except (ServiceError, ValueError, LookupError) as error:
            raise ToolError(str(error.args[0] if error.args else error)) from None

    return told


class Tools:
    """The questions; each method's words are what the assistant reads."""

    def __init__(self, client: "Client") -> None:
        self._client = client

    def machines(self, pattern: str = "*") -> Document:
        """The hosts that report: system, cores, labels, when first and last seen.

        `pattern` is such as `web-*`, or a label such as `role=web`.
        """
        from contract.selectors import host_matcher, read_labels

        found = self._client.users()
        matches = host_matcher([pattern])
        named = zip(found["user"].astype(str), map(read_labels, found["labels"]), strict=True)
        found = found[[matches(*one) for one in named]]
        return page(found, f"hosts that {pattern} means", f"{PROGRAM} users")

    def metrics(self) -> Document:
        """The metrics that can be asked for, with their unit."""
        return page(self._client.metrics().drop(columns=["type", "stored"]), "metrics", f"{PROGRAM} metrics")

    def fleet(
        self,
        metric: str = "cpuLoadAvg",
        stat: Statistic = "p95",
        last: str = "1d",
        end: str | None = None,
        top: int = 20,
    ) -> Document:
        """The hosts with the highest value of a statistic over a time, highest first: who is hot.

        `last` is a duration before `end` (now), such as 6h or 30d; `top` at most 100.
        """
        return self._highest("user", metric, stat, _bounds(last, end), top, None)

    def devices(
        self,
        metric: str = "disksBusy",
        stat: Statistic = "mean",
        machine: str | None = None,
        last: str = "1d",
        end: str | None = None,
        top: int = 20,
    ) -> Document:
        """The disks or network interfaces with the highest value over a time, of one host or of all, highest first.

        `metric` is disksBusy, disksReadBytes, disksWrittenBytes, interfacesReceivedBytes or interfacesSentBytes, which
        hosts have whose agents were asked for disks and interfaces by name.
        """
        return self._highest("device", metric, stat, _bounds(last, end), top, machine)

    def _highest(
        self, by: Literal["user", "device"], metric: str, stat: Statistic, span: tuple[int, int], top: int,
        machine: str | None,
    ) -> Document:  # fmt: skip
        """The hosts, or their devices, whose value is highest over a range."""
        from urllib.parse import urlencode

        top = max(1, min(top, PAGE))
        start_ms, end_ms = span
        users = [] if machine is None else [machine]
        # One bucket: the range itself, whatever its length.
        found = self._client.query(
            [metric], stats=[stat], by=by, users=users, start=start_ms, end=end_ms, rate="all", top=top
        )
        column = next(name for name in found.columns if name not in ("by", "group", "device"))
        named = ["group", *(["device"] if by == "device" else [])]
        rows = found[[*named, column]].rename(columns={"group": "machine", column: stat})
        rows = rows.sort_values(stat, ascending=False).reset_index(drop=True)
        asked = [("metric", metric), ("stat", stat), ("by", by), *(("user", user) for user in users)]
        asked += [("start", format_instant(start_ms)), ("end", format_instant(end_ms))]
        asked += [("resample_rate", "all"), ("top", str(top))]
        what = f"{stat} of {metric}, each {'host' if by == 'user' else 'device'} over the whole time"
        return page(rows, what, f"GET /api/v1/query?{urlencode(asked, safe=':')}", {"metric": metric})

    def history(
        self, machine: str, metric: str = "cpuLoadAvg", stat: Statistic = "p95", last: str = "1d",
        end: str | None = None, rate: str | None = None, device: str | None = None,
    ) -> Document:  # fmt: skip
        """One host's values over time, or those of one disk or interface of it (`device`), such as sda.

        Without `rate` the buckets are as fine as a page allows.
        """
        start_ms, end_ms = _bounds(last, end)
        rate = rate or fitting_rate(end_ms - start_ms, PAGE - 1)
        found = self._client.history(machine, metric, start=start_ms, end=end_ms, rate=rate, stat=stat, device=device)
        rest = f"--stat {stat} --rate {rate}" + ("" if device is None else f" --device {_quoted(device)}")
        command = _command(f"history {_quoted(machine)}", metric, start_ms, end_ms, rest)
        named = machine if device is None else f"{device} of {machine}"
        what = f"{stat} of {metric} of {named}, every {rate}; a time is the start of its bucket"
        return page(found, what, command, found.attrs)

    def who(self, machine: str | None = None, last: str = "1h", end: str | None = None,
            by: Literal["process", "unit"] = "process") -> Document:  # fmt: skip
        """Which processes, or systemd units and containers, used the CPU of a host, or of all: CPU seconds."""
        start_ms, end_ms = _bounds(last, end)
        found = self._client.who(machine, start=start_ms, end=end_ms, by=by, top=20)
        moments = f"start={format_instant(start_ms)}&end={format_instant(end_ms)}"
        named = "" if machine is None else f"host={machine}&"
        return page(found, "CPU seconds used", f"GET /api/v1/who?{named}{moments}&by={by}&top=20", found.attrs)

    def anomalies(
        self, machine: str | None = None, metric: str = "cpuLoadAvg", last: str = "1d", end: str | None = None
    ) -> Document:
        """Where hosts did what they had not done in the two weeks before; without `machine` all are looked at."""
        import pandas as pd

        from analytics.methods.anomalies import Tuning, anomalies

        start_ms, end_ms = _bounds(last, end)
        frame = self._windows(machine, metric, max(0, start_ms - 2 * times.WEEK_MS), end_ms, "5m", histograms=False)
        found: pd.DataFrame = anomalies(frame, tuning=Tuning.for_step(5 * times.MINUTE_MS))
        found = found[found["anomaly"] & (found.index >= pd.Timestamp(start_ms, unit="ms", tz="UTC"))]
        command = _command(f"anomalies {_quoted(machine)}", metric, start_ms, end_ms, "--rate 5m --learn 2w")
        what = f"moments at which an anomaly of {metric} begins, 5 min apart, learned from 2 weeks"
        return page(found.drop(columns="anomaly").sort_index(), what, command, frame.attrs)

    def forecast(self, machine: str, metric: str = "cpuLoadAvg", horizon: str = "2d", last: str = "42d") -> Document:
        """What load to expect of a host, with the bounds that hold it as often as they say."""
        from analytics.methods.forecasting import forecast

        start_ms, end_ms = _bounds(last, None)
        frame = self._windows(machine, metric, start_ms, end_ms, "1h", histograms=False)
        made = forecast(frame, horizon, rate="1h")
        command = _command(f"forecast {_quoted(machine)}", metric, start_ms, end_ms, f"--horizon {horizon} --rate 1h")
        return page(made.frame, made.summary, command, frame.attrs)

    def sizes(
        self, machine: str | None = None, target: float = 0.8, quantile: float = 0.95, last: str = "42d"
    ) -> Document:
        """How many cores hosts need to stay under a utilization at a quantile, and what could be saved."""
        from analytics.methods.right_sizing import size_hosts
        from analytics.sources.base import windows_with_cores

        start_ms, end_ms = _bounds(last, None)
        frame = windows_with_cores(self._client, machine, start=start_ms, end=end_ms)
        sizes = size_hosts(frame, self._client.users(), target, quantile)
        asked = f"--target {target:g} --quantile {quantile:g}"
        command = _command(f"right-size {_quoted(machine)}", "cpuLoadAvg", start_ms, end_ms, asked)
        found = sizes.table.sort_values("saved", ascending=False, na_position="last")
        what = f"sizes that each host needs, in {sizes.unit}; `upper` holds for nine days of ten"
        return page(found, f"{what}. {sizes.caveat}" if sizes.caveat else what, command, frame.attrs)

    def _windows(
        self, machine: str | None, metric: str, start_ms: int, end_ms: int, rate: str, *, histograms: bool
    ) -> "pd.DataFrame":
        """The windows of one host or of each, named by `user`."""
        if machine is None:
            return self._client.fleet(metric, start=start_ms, end=end_ms, rate=rate, by="user", histograms=histograms)
        frame = self._client.history(machine, metric, start=start_ms, end=end_ms, rate=rate, histograms=histograms)
        return frame.assign(user=machine).astype({"user": "category"})


def _bounds(last: str, end: str | None) -> tuple[int, int]:
    """The range of a question, epoch milliseconds; raises ValueError."""
    end_ms = times.now_ms() if end is None else parse_timestamp(end)
    return max(0, end_ms - parse_duration(last, times.SECOND_MS, _LONGEST_MS)), end_ms


def _quoted(machine: str | None) -> str:
    import shlex

    return "" if machine is None else shlex.quote(machine)


def _command(what: str, metric: str, start_ms: int, end_ms: int, rest: str) -> str:
    """The command line that answers the same."""
    span = f"--start {format_instant(start_ms)} --end {format_instant(end_ms)}"
    return f"{PROGRAM} {what.strip()} --metric {metric} {span} {rest}"


def page(frame: "pd.DataFrame", what: str, query: str, attrs: Any = None) -> Document:
    """The first rows of an answer, and all that is to be said of them."""
    import math

    from analytics.commands.output import textual

    columns = textual(frame.iloc[:PAGE]).astype(object)
    # Neither NaN nor infinity is JSON.
    columns = columns.where(columns.notna() & ~columns.isin([math.inf, -math.inf]), None)
    rows = [dict(zip(columns, row, strict=True)) for row in columns.itertuples(index=False, name=None)]
    attrs = attrs or {}
    named = NAMES.get(str(attrs.get("metric")))
    return {
        "what": what, "query": query, "unit": named.quantity.unit if named else None,
        "approximation": attrs.get("approximation") or "none: counts, means and extremes are exact, quantiles within "
        "half a bin (1/128 of shares, 1 % of the rest)",
        "rows": rows, "rows_left_out": max(0, len(frame) - PAGE),
    }  # fmt: skip
