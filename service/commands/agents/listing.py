"""`loadlens-service agents list` and `audit`: what is in force at agents, and who changed what, as tables."""

import itertools
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from contract.problems import display
from contract.settings import load
from contract.times import format_seconds, parse_timestamp
from service.commands.agents.calling import (
    PROGRAM,
    TARGETS,
    AgentsApi,
    CallSettings,
    agents_in_words,
    console,
    one_line_errors,
    selector_of,
)

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_LIST = f"{PROGRAM} list"
_LIST_DESCRIPTION = f"""\
Lists agents: what is in force at each, whether that is what was asked of it and
if not why, what it costs, and how many reports wait in its spool.

{TARGETS}"""
_LIST_EPILOG = """examples:
  loadlens-service agents                     all agents
  loadlens-service agents list user:web-*     some of them
  loadlens-service agents list --no-in-step   those that have not in force what was asked
  loadlens-service agents list --json | jq '.[].overhead'
"""
_AUDIT = f"{PROGRAM} audit"
_AUDIT_DESCRIPTION = f"""\
Lists who changed what, newest first.

{TARGETS}"""
_AUDIT_EPILOG = """examples:
  loadlens-service agents audit                  everything
  loadlens-service agents audit user:web-*       what was changed for this selection
"""
_CLOCK_LIMIT_S = 60.0
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


class ListSettings(CallSettings, frozen=True, kw_only=True):
    """Which agents to list."""

    target: Annotated[str, Meta(description="Which agents.", extra={"positional": True})] = "all"
    in_step: Annotated[
        bool | None,
        Meta(description="Only those that have in force what was asked, or have not.", extra={"default": "both"}),
    ] = None
    most: Annotated[int, Meta(ge=1, description="Most agents in a table.", extra={"metavar": "N"})] = 200


class AuditSettings(CallSettings, frozen=True, kw_only=True):
    """Which entries of the audit log are listed."""

    target: Annotated[
        str | None, Meta(description="Which target's entries.", extra={"positional": True, "default": "all entries"})
    ] = None
    most: Annotated[int, Meta(ge=1, le=1000, description="Most entries.", extra={"metavar": "N"})] = 50


def list_agents(argv: Sequence[str]) -> int:
    """Run `list`; returns the exit code."""
    settings = load(ListSettings, argv, program=_LIST, description=_LIST_DESCRIPTION, epilog=_LIST_EPILOG)
    conditions = {} if settings.in_step is None else {"in_step": str(settings.in_step).lower()}
    with one_line_errors(_LIST), AgentsApi(settings) as api:
        agents = api.agents(settings.target, **conditions)
        if settings.json:
            print(msgspec.json.encode(list(agents)).decode())
            return 0
        shown = list(itertools.islice(agents, settings.most))
        if not shown:
            print("No agents.", file=sys.stderr)
            return 0
        terminal = console()
        terminal.print(_agents_table(shown))
        left = sum(1 for _ in agents)
        behind = sum(not agent["in_step"] for agent in shown)
        more = f"; {left} more are not shown: --most {len(shown) + left} shows them" if left else ""
        if any(agent["shared_at"] for agent in shown):
            terminal.print("\nWhere several hosts report as one, their numbers are mixed: give each a --user-id.")
        terminal.print(f"\n{agents_in_words(len(shown))}, {behind} not in sync{more}.")
    return 0


def _agents_table(agents: Iterable[Mapping[str, Any]]) -> "Table":
    """A row for each agent."""
    from rich.text import Text

    from analytics.commands.tables import fitting_table, keep_whole

    numbers = ("CPU %", "MB", "spool")
    table = fitting_table(
        "agent", "os", "seen", "stream", "in force", "in sync", *numbers, numbers=numbers, whole=("seen", "stream")
    )
    for agent in agents:
        overhead, spool = agent["overhead"], agent["spool"] or {}
        share, resident = overhead["cpu_share"], overhead["resident_bytes"]
        table.add_row(
            _named(agent),
            agent["os_type"],
            _ago(agent["last_seen"]),
            "open" if agent["connected"] else "-",
            _short_settings(agent["reported"] or {}),
            Text("yes", "green") if agent["in_step"] else Text(f"no: {agent['why']}", "yellow"),
            "-" if share is None else f"{share * 100:.2f}",
            "-" if resident is None else f"{resident / 1e6:.1f}",
            str(spool.get("waiting", "-")),
        )
    return keep_whole(table, "agent")


def _named(agent: Mapping[str, Any]) -> "Text":
    """The agent's name, with what makes its numbers doubtful."""
    from rich.text import Text

    doubts = [] if agent["shared_at"] is None else ["several hosts"]
    ahead_s = agent.get("clock_ahead_s")  # not said by older services
    if ahead_s is not None and abs(ahead_s) > _CLOCK_LIMIT_S:
        doubts.append(f"clock {_length(round(abs(ahead_s)))} {'ahead' if ahead_s > 0 else 'behind'}")
    return Text(f"{agent['user_id']} ({', '.join(doubts)})", "yellow") if doubts else Text(agent["user_id"])


def _short_settings(settings: Mapping[str, Any]) -> str:
    """What is in force, in few characters: `50ms x 100 cpu`."""
    if settings.get("paused"):
        return "paused"
    if not {"interval", "samples"} <= settings.keys():
        return "-"
    metrics = display(",".join(settings.get("metrics", ())))
    return f"{format_seconds(settings['interval'])} x {settings['samples']} {metrics}"


def _ago(instant: str) -> str:
    """How long ago that was: `3s`, `5m`, `2d`."""
    return f"{_length(max(0, round(time.time() - parse_timestamp(instant) / 1000)))} ago"


def _length(seconds: int) -> str:
    """Seconds in the largest unit that fits: `3s`, `5m`, `2d`."""
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), ("s", 1))
    return f"{seconds // size}{unit}"


def audit(argv: Sequence[str]) -> int:
    """Run `audit`; returns the exit code."""
    settings = load(AuditSettings, argv, program=_AUDIT, description=_AUDIT_DESCRIPTION, epilog=_AUDIT_EPILOG)
    with one_line_errors(_AUDIT), AgentsApi(settings) as api:
        target = None if settings.target is None else selector_of(settings.target)
        entries = api.call("GET", "audit", params={"limit": settings.most, "target": target}).document()["entries"]
        if settings.json:
            print(msgspec.json.encode(entries).decode())
        else:
            console().print(_audit_table(entries))
    return 0


def _audit_table(entries: Iterable[Mapping[str, Any]]) -> "Table":
    """A row for each change."""
    from rich.text import Text

    from analytics.commands.tables import fitting_table

    table = fitting_table("when", "who", "what", "target", "before", "after", whole=("when",))
    for entry in entries:
        who = f"{entry['actor'] or '-'} ({entry['token']}, {entry['address']})"
        values = (_short_document(entry["before"]), _short_document(entry["after"]))
        table.add_row(entry["at"], Text(who), entry["action"], Text(entry["target"]), *map(Text, values))
    return table


def _short_document(document: object) -> str:
    return "-" if document is None else msgspec.json.encode(document).decode()
