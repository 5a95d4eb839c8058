"""`loadlens-service agents set`, `unset` and `watch`: settings are rolled out, and followed until they are in force."""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from analytics.sources.service_api import ApiResponse
from contract.agent_protocol import InvalidSettings, parse_settings
from contract.problems import shortened
from contract.settings import fail, load
from contract.times import DAY_S, parse_seconds, parse_timestamp
from service.commands.agents.calling import (
    PROGRAM,
    TARGETS,
    WAIT,
    AgentsApi,
    CallSettings,
    agents_in_words,
    console,
    one_line_errors,
    settings_in_words,
)

_SET = f"{PROGRAM} set"
_UNSET = f"{PROGRAM} unset"
_SET_DESCRIPTION = f"""\
Asks agents to sample differently. Those that listen change within a second, the
others with their next report; each at the edge of a window.

  interval=100ms             time between two samples, 10ms to 60s
  samples=50                 samples in one report, 1 to 10000
  metrics=cpu,memory         of cpu, memory, swap, disk, network, load, times,
                             scheduler, pressure, bursts, limits, memory_bytes,
                             filesystems, frequency, temperature, disks,
                             interfaces
  processes=names            say who used the CPU: off, names, full
  paused=true                sample nothing
  log_level=debug            debug, info, warning or error

What is set for one agent wins over a selection, and a selection over all; of
selections the higher rank wins (os: 100, user: 200 unless given).

{TARGETS}"""
_SET_EPILOG = """examples:
  loadlens-service agents set all interval=1s samples=10
  loadlens-service agents set 'web-*' metrics=cpu,memory,network --watch
  loadlens-service agents set 6a:d6:96:d3:45:35 paused=true
"""
_UNSET_DESCRIPTION = f"""\
Takes settings back: what the weaker layers ask, or the agent's own settings, hold
again. Without names, all that is set for the target.

{TARGETS}"""
_UNSET_EPILOG = """examples:
  loadlens-service agents unset user:web-* metrics
  loadlens-service agents unset all
"""
_WATCH = f"{PROGRAM} watch"
_WATCH_DESCRIPTION = f"""\
Shows how many agents have in force what was asked of them, until all have. Ends
with 0 then, and with 1 where the others have refused or the deadline is reached,
saying which have not and why.

{TARGETS}"""
_WATCH_EPILOG = """examples:
  loadlens-service agents watch                         all agents
  loadlens-service agents watch user:web-* --deadline 1m
"""
_DEADLINE_S = 300.0
_SEEN_S = 3600.0
_LOOK_EVERY_S = 0.5
_MAX_NAMED = 20
_MAX_SHADOWED = 3
_CONVERT: Mapping[str, Callable[[str], object]] = {
    "interval": parse_seconds,
    "samples": int,
    "metrics": lambda text: [name.strip() for name in text.split(",") if name.strip()],
    "paused": lambda text: {"true": True, "false": False}.get(text.lower(), text),
}


class SetSettings(CallSettings, frozen=True, kw_only=True):
    """The agents, and the settings that they are to have."""

    target: Annotated[str, Meta(description="Which agents.", extra={"positional": True})]
    changes: Annotated[
        tuple[str, ...],
        Meta(description="Settings, each as name=value.", extra={"positional": True, "metavar": "NAME=VALUE"}),
    ]
    rank: Annotated[
        Annotated[int, Meta(ge=1, le=1000)] | None,
        Meta(description="Where a selection stands among others.", extra={"metavar": "N", "default": "as it is"}),
    ] = None
    watch: Annotated[bool, Meta(description="Follow until all have it in force.")] = False


class UnsetSettings(CallSettings, frozen=True, kw_only=True):
    """The agents, and the settings that are taken back."""

    target: Annotated[str, Meta(description="Which agents.", extra={"positional": True})]
    names: Annotated[
        tuple[str, ...], Meta(description="Names of settings.", extra={"positional": True, "metavar": "NAME"})
    ] = ()


class WatchSettings(CallSettings, frozen=True, kw_only=True):
    """What to follow, and how long."""

    target: Annotated[str, Meta(description="Which agents.", extra={"positional": True})] = "all"
    deadline: Annotated[
        Annotated[float, Meta(ge=1.0, le=DAY_S)], Meta(description="How long to follow at most.", extra=WAIT)
    ] = _DEADLINE_S
    seen: Annotated[
        Annotated[float, Meta(ge=1.0, le=DAY_S)],
        Meta(description="Agents that were silent for longer are not waited for.", extra=WAIT),
    ] = _SEEN_S


def assignments(changes: Sequence[str]) -> dict[str, Any]:
    """The settings of `name=value` texts; raises InvalidSettings or ValueError, saying what was expected."""
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"expected name=value such as interval=100ms, got {shortened(change)}")
        try:
            values[name] = _CONVERT.get(name, str)(text)
        except ValueError:
            values[name] = text
        if name == "interval" and not _is_interval(values[name]):
            raise ValueError(f"interval: expected 10ms to 60s, got {shortened(text)}")
    parse_settings(values)
    return values


def _is_interval(value: Any) -> bool:
    return isinstance(value, float | int) and 0.01 <= value <= 60


def set_settings(argv: Sequence[str]) -> int:
    """Run `set`; returns the exit code."""
    settings = load(SetSettings, argv, program=_SET, description=_SET_DESCRIPTION, epilog=_SET_EPILOG)
    try:
        values = assignments(settings.changes)
    except (InvalidSettings, ValueError) as error:
        fail(_SET, str(error))

    def send(path: str, query: dict[str, str], etag: str) -> ApiResponse:
        parameters = query | ({"rank": str(settings.rank)} if settings.rank else {})
        return _patch(api, path, parameters, etag, values)

    with one_line_errors(_SET), AgentsApi(settings) as api:
        _say_layer(settings, api.change_settings(settings.target, send).document())
        if not settings.json:
            _say_who_differs(settings.target, values, [*api.agents(settings.target)])
        if settings.watch:
            return _follow(api, settings.target, deadline_s=_DEADLINE_S, seen_s=_SEEN_S, as_json=settings.json)
    return 0


def _say_who_differs(target: str, values: Mapping[str, Any], agents: Sequence[Mapping[str, Any]]) -> None:
    """Say where stronger layers keep agents from what was set, or that there are no agents at all."""
    terminal = console()
    if not agents:
        terminal.print(f"No agent that {target} means has reported yet; one that does is told then.")
    for name, value in values.items():
        others = [agent["user_id"] for agent in agents if agent["desired"].get(name) != value]
        if others:
            named = ", ".join(others[:_MAX_SHADOWED]) + (", ..." if len(others) > _MAX_SHADOWED else "")
            keep = "keeps its" if len(others) == 1 else "keep their"
            terminal.print(
                f"{len(others)} of {agents_in_words(len(agents))} {keep} own {name}, as a stronger layer asks: {named}."
            )


def unset_settings(argv: Sequence[str]) -> int:
    """Run `unset`; returns the exit code."""
    settings = load(UnsetSettings, argv, program=_UNSET, description=_UNSET_DESCRIPTION, epilog=_UNSET_EPILOG)

    def send(path: str, query: dict[str, str], etag: str) -> ApiResponse:
        if not settings.names:
            return api.call("DELETE", path, params=query, headers={"If-Match": etag})
        return _patch(api, path, query, etag, dict.fromkeys(settings.names))

    with one_line_errors(_UNSET), AgentsApi(settings) as api:
        answer = api.change_settings(settings.target, send)
        _say_layer(settings, answer.document() if settings.names else {})
    return 0


def _patch(api: AgentsApi, path: str, query: dict[str, str], etag: str, values: Mapping[str, Any]) -> ApiResponse:
    headers = {"If-Match": etag, "Content-Type": "application/merge-patch+json"}
    return api.call("PATCH", path, values, params=query, headers=headers)


def _say_layer(settings: SetSettings | UnsetSettings, layer: dict[str, Any]) -> None:
    """Show what is set for the target now."""
    if settings.json:
        print(msgspec.json.encode(layer).decode())
        return
    terminal = console()
    if not layer:
        terminal.print(f"Nothing is set for {settings.target} now.")
        return
    terminal.print(f"Set for {settings.target} now: {settings_in_words(layer)}.")
    if not getattr(settings, "watch", False):
        terminal.print(f"`{_WATCH} '{settings.target}'` shows which have it in force.")


def watch(argv: Sequence[str]) -> int:
    """Run `watch`; returns the exit code."""
    settings = load(WatchSettings, argv, program=_WATCH, description=_WATCH_DESCRIPTION, epilog=_WATCH_EPILOG)
    with one_line_errors(_WATCH), AgentsApi(settings) as api:
        return _follow(api, settings.target, deadline_s=settings.deadline, seen_s=settings.seen, as_json=settings.json)


def _follow(api: AgentsApi, target: str, *, deadline_s: float, seen_s: float, as_json: bool) -> int:
    """Show a roll-out until its end or the deadline; 0 where all are in sync, 1 otherwise."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    terminal = console()
    end = time.monotonic() + deadline_s
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=terminal, disable=as_json) as progress:
        task = progress.add_task("in sync", total=None)
        while True:
            agents = [agent for agent in api.agents(target) if _is_heard(agent, seen_s)]
            behind = [agent for agent in agents if not agent["in_step"]]
            progress.update(task, total=len(agents), completed=len(agents) - len(behind))
            if all(agent["settled"] for agent in behind) or time.monotonic() >= end:
                break
            time.sleep(_LOOK_EVERY_S)
    if as_json:
        print(msgspec.json.encode({"agents": len(agents), "behind": behind}).decode())
    elif behind:
        _say_behind(behind)
    else:
        terminal.print(f"{agents_in_words(len(agents))}: what was asked is in force." if agents else "No agents.")
    return 1 if behind else 0


def _is_heard(agent: Mapping[str, Any], seen_s: float) -> bool:
    return bool(agent["connected"]) or time.time() - parse_timestamp(agent["last_seen"]) / 1000 <= seen_s


def _say_behind(behind: Sequence[Mapping[str, Any]]) -> None:
    """Name agents that have not in force what was asked, and count the reasons of those beyond the first."""
    terminal = console()
    terminal.print(f"{agents_in_words(len(behind))}: what was asked is not in force.")
    for agent in behind[:_MAX_NAMED]:
        terminal.print(f"  {agent['user_id']}: {agent['why']}")
    if len(behind) > _MAX_NAMED:
        terminal.print("  and others:")
        for why, count in Counter(agent["why"] for agent in behind[_MAX_NAMED:]).most_common():
            terminal.print(f"  {count} x {why}")
