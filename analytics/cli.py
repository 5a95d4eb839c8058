"""The command line `loadlens-analytics`: which function of `analytics.commands` each command is."""

import importlib
from collections.abc import Callable, Sequence

from analytics.commands.settings import PROGRAM
from contract.settings import Command, Settings, dispatch, fail, load

_DESCRIPTION = "Shows what a Loadlens service knows: on a terminal as tables and charts, elsewhere as data."
_EPILOG = f"""examples:
  {PROGRAM} users                                         who reports
  {PROGRAM} history 6a:d6:96:d3:45:35                     one host's last day
  {PROGRAM} history 6a:d6:96:d3:45:35 --stat p95 --last 30d --rate 1h
  {PROGRAM} fleet --by user --top 10 --last 7d            the ten busiest hosts of the week
  {PROGRAM} fleet --last 30d --rate 1h --out fleet.parquet
  {PROGRAM} report fleet --out fleet.html                 what changed, who is hot, who is idle, what to do
  {PROGRAM} forecast web-1 --horizon 2d                   what to expect
  {PROGRAM} right-size --data fleet.parquet --cores 8     how many cores hosts need, from a file
  {PROGRAM} fleet --windows --by user --last 30d --rate 1h --out fleet.parquet    all statistics of each host
  {PROGRAM} import sa29.json --dry-run                    what sysstat, Prometheus, CSV and others would become
  {PROGRAM} history web-1 --start 2018-07-12T12:15:00Z --end 2018-07-12T16:15:00Z | cut -d, -f2"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for a failure, 2 for a wrong setting."""
    try:
        return dispatch(PROGRAM, argv, _COMMANDS, _without_command)
    except KeyboardInterrupt:
        return 130


def _without_command(argv: Sequence[str]) -> int:
    try:
        load(
            Settings, argv or ["--help"], program=PROGRAM, description=_DESCRIPTION, epilog=_EPILOG, commands=_COMMANDS
        )
    except SystemExit as end:
        # Called with nothing at all, it explains itself, but has not done what was wanted.
        raise SystemExit(end.code if argv else 2) from None
    fail(PROGRAM, f"a command is missing; expected {', '.join(_COMMANDS)}")


def _command(module: str, function: str, summary: str) -> Command:
    def run(argv: Sequence[str]) -> int:
        # Imported only when it is wanted, so that help and wrong settings are answered at once.
        command: Callable[[Sequence[str]], int] = getattr(
            importlib.import_module(f"analytics.commands.{module}"), function
        )
        return command(argv)

    return Command(summary, run)


_COMMANDS = {
    "history": _command("queries", "run_history", "one host's values over time"),
    "fleet": _command("queries", "run_fleet", "the values of all hosts together, or of groups of them"),
    "report": _command("report", "run_report", "findings, figures and tables in one file"),
    "forecast": _command("forecast", "run_forecast", "what load to expect, and how far to trust it"),
    "anomalies": _command("anomalies", "run_anomalies", "where hosts did what they had not done before"),
    "right-size": _command("right_size", "run_right_size", "how many cores hosts need, and what that saves"),
    "compare": _command("compare", "run_compare", "whether a time, or a host, differs from another"),
    "saturation": _command("saturation", "run_saturation", "for how long hosts were at or above a load"),
    "odd-ones": _command("odd_ones", "run_odd_ones", "hosts that differ from their peers"),
    "stream": _command("stream", "run_stream", "the reports as they come"),
    "import": _command("importing", "run_import", "data of other tools into a service, or into files"),
    "sql": _command("sql", "run_sql", "a question in SQL to windows, of files or of a service"),
    "mcp": _command("mcp_server", "run_mcp", "a server that an assistant asks about the fleet"),
    "users": _command("queries", "run_users", "the hosts that report"),
    "metrics": _command("queries", "run_metrics", "the metrics that can be asked for"),
}
