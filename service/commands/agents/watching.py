"""`loadlens-service agents watch`: a roll-out, until all have in force what was asked."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from contract.settings import load
from contract.times import DAY_S, parse_timestamp
from service.commands.agents.calling import Caller, guarded
from service.commands.agents.settings import PROGRAM, TARGETS, WAIT, CallSettings

DEADLINE_S = 300.0
SEEN_S = 3600.0
_PROGRAM = f"{PROGRAM} watch"
_DESCRIPTION = f"""\
Shows how many agents have in force what was asked of them, until all have. Ends
with 0 then, and with 1 where the others have refused or the deadline is reached,
saying which have not and why.

{TARGETS}"""
_EPILOG = """examples:
  loadlens-service agents watch                         all agents
  loadlens-service agents watch user:web-* --deadline 1m
"""
_LOOK_EVERY_S = 0.5
_SHOWN = 20


class WatchSettings(CallSettings, frozen=True, kw_only=True):
    """What to follow, and how long."""

    target: Annotated[str, Meta(description="Which agents.", extra={"positional": True})] = "all"
    deadline: Annotated[
        Annotated[float, Meta(ge=1.0, le=DAY_S)], Meta(description="How long to follow at most.", extra=WAIT)
    ] = DEADLINE_S
    seen: Annotated[
        Annotated[float, Meta(ge=1.0, le=DAY_S)],
        Meta(description="Agents that were silent for longer are not waited for.", extra=WAIT),
    ] = SEEN_S


def main(argv: Sequence[str]) -> int:
    """Run the command; the exit code."""
    settings = load(WatchSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    with guarded(_PROGRAM), Caller(settings) as caller:
        return follow(
            caller, settings.target, deadline_s=settings.deadline, seen_s=settings.seen, as_json=settings.json
        )


def follow(caller: Caller, target: str, *, deadline_s: float, seen_s: float, as_json: bool) -> int:
    """Show a roll-out until its end or the deadline; 0 where all are in step, 1 otherwise."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from service.commands.agents import showing

    console = showing.console()
    end = time.monotonic() + deadline_s
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=as_json) as progress:
        task = progress.add_task("in step", total=None)
        while True:
            agents = [agent for agent in caller.agents(target) if _heard(agent, seen_s)]
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
        words = showing.agents_in_words(len(agents))
        console.print(f"{words}: what was asked is in force." if agents else "No agents.")
    return 1 if behind else 0


def _heard(agent: dict[str, Any], seen_s: float) -> bool:
    return agent["connected"] or time.time() - parse_timestamp(agent["last_seen"]) / 1000 <= seen_s


def _say_behind(behind: list[dict[str, Any]]) -> None:
    from service.commands.agents import showing

    console = showing.console()
    console.print(f"{showing.agents_in_words(len(behind))}: what was asked is not in force.")
    for agent in behind[:_SHOWN]:
        console.print(f"  {agent['user_id']}: {agent['why']}")
    if len(behind) > _SHOWN:
        console.print("  and others:")
        for why, count in Counter(agent["why"] for agent in behind[_SHOWN:]).most_common():
            console.print(f"  {count} x {why}")
