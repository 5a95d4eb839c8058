"""`loadlens-service agents set` and `unset`."""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import httpx
import msgspec
from msgspec import Meta

from contract.agent_settings import InvalidSettings, parse_settings
from contract.problems import shortened
from contract.settings import fail, load
from contract.times import parse_seconds
from service.commands.agents.calling import Caller, guarded
from service.commands.agents.settings import PROGRAM, TARGETS, CallSettings

_SET = f"{PROGRAM} set"
_UNSET = f"{PROGRAM} unset"
_SET_DESCRIPTION = f"""\
Asks agents to sample differently. Those that listen change within a second, the
others with their next report; each at the edge of a window.

  interval=100ms             time between two samples, 10ms to 60s
  samples=50                 samples in one report, 1 to 10000
  metrics=cpu,memory         of cpu, memory, swap, disk, network, load
  paused=true                sample nothing
  log_level=debug            debug, info, warning or error

What is set for one agent wins over a selection, and a selection over all; of
selections the higher rank wins (os: 100, user: 200 unless given).

{TARGETS}"""
_SET_EPILOG = """examples:
  loadlens-service agents set all interval=1s samples=10
  loadlens-service agents set user:web-* metrics=cpu,memory,network --watch
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
_MERGE_PATCH = {"Content-Type": "application/merge-patch+json"}
_CONVERT: Mapping[str, Callable[[str], object]] = {
    "interval": parse_seconds,
    "samples": int,
    "metrics": lambda text: [name.strip() for name in text.split(",") if name.strip()],
    "paused": lambda text: {"true": True, "false": False}.get(text.lower(), text),
}


class SetSettings(CallSettings, frozen=True, kw_only=True):
    """What to set, where."""

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
    """What to take back, where."""

    target: Annotated[str, Meta(description="Which agents.", extra={"positional": True})]
    names: Annotated[
        tuple[str, ...], Meta(description="Names of settings.", extra={"positional": True, "metavar": "NAME"})
    ] = ()


def assignments(changes: Sequence[str]) -> dict[str, Any]:
    """The settings of `name=value` texts; raises InvalidSettings or ValueError, saying what is right."""
    values: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise ValueError(f"{change}: name=value is right, such as interval=100ms")
        try:
            values[name] = _CONVERT.get(name, str)(text)
        except ValueError:
            values[name] = text
        if name == "interval" and not _is_interval(values[name]):
            raise ValueError(f"interval: 10ms to 60s, not {shortened(text)}")
    parse_settings(values)
    return values


def _is_interval(value: Any) -> bool:
    return isinstance(value, float | int) and 0.01 <= value <= 60


def set_main(argv: Sequence[str]) -> int:
    """Run `set`; the exit code."""
    settings = load(SetSettings, argv, program=_SET, description=_SET_DESCRIPTION, epilog=_SET_EPILOG)
    try:
        values = assignments(settings.changes)
    except (InvalidSettings, ValueError) as error:
        fail(_SET, str(error))

    def send(path: str, options: dict[str, Any]) -> httpx.Response:
        query = options["params"] | ({"rank": settings.rank} if settings.rank else {})
        headers = options["headers"] | _MERGE_PATCH
        return caller.ask("PATCH", path, params=query, headers=headers, content=msgspec.json.encode(values))

    with guarded(_SET), Caller(settings) as caller:
        answer = caller.change(settings.target, send)
        _say(settings, answer.json())
        if not settings.json and next(caller.agents(settings.target), None) is None:
            print(f"No agent that {settings.target} means has reported yet; one that does is told then.")
        if settings.watch:
            from service.commands.agents.watching import DEADLINE_S, SEEN_S, follow

            return follow(caller, settings.target, deadline_s=DEADLINE_S, seen_s=SEEN_S, as_json=settings.json)
    return 0


def unset_main(argv: Sequence[str]) -> int:
    """Run `unset`; the exit code."""
    settings = load(UnsetSettings, argv, program=_UNSET, description=_UNSET_DESCRIPTION, epilog=_UNSET_EPILOG)

    def send(path: str, options: dict[str, Any]) -> httpx.Response:
        if not settings.names:
            return caller.ask("DELETE", path, **options)
        options["headers"] |= _MERGE_PATCH
        return caller.ask("PATCH", path, content=msgspec.json.encode(dict.fromkeys(settings.names)), **options)

    with guarded(_UNSET), Caller(settings) as caller:
        answer = caller.change(settings.target, send)
        _say(settings, answer.json() if settings.names else {})
    return 0


def _say(settings: SetSettings | UnsetSettings, layer: dict[str, Any]) -> None:
    if settings.json:
        print(msgspec.json.encode(layer).decode())
        return
    from service.commands.agents import showing

    console = showing.console()
    if not layer:
        console.print(f"Nothing is set for {settings.target} now.")
        return
    console.print(f"Set for {settings.target} now: {showing.settings_in_words(layer)}.")
    if not getattr(settings, "watch", False):
        console.print(f"`{PROGRAM} watch '{settings.target}'` shows which have it in force.")
