"""`loadlens-service agents`: the agents as a table."""

import itertools
import sys
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from contract.settings import load
from service.commands.agents.calling import Caller, guarded
from service.commands.agents.settings import PROGRAM, TARGETS, CallSettings

_PROGRAM = f"{PROGRAM} list"
_DESCRIPTION = f"""\
Lists agents: what is in force at each, whether that is what was asked of it and
if not why, what it costs, and how many reports wait in its spool.

{TARGETS}"""
_EPILOG = """examples:
  loadlens-service agents                     all agents
  loadlens-service agents list user:web-*     some of them
  loadlens-service agents list --no-in-step   those that have not in force what was asked
  loadlens-service agents list --json | jq '.[].overhead'
"""


class ListSettings(CallSettings, frozen=True, kw_only=True):
    """Which agents to list."""

    target: Annotated[str, Meta(description="Which agents.", extra={"positional": True})] = "all"
    in_step: Annotated[
        bool | None,
        Meta(description="Only those that have in force what was asked, or have not.", extra={"default": "both"}),
    ] = None
    most: Annotated[int, Meta(ge=1, description="Most agents in a table.", extra={"metavar": "N"})] = 200


def main(argv: Sequence[str]) -> int:
    """Run the command; the exit code."""
    settings = load(ListSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    conditions = {} if settings.in_step is None else {"in_step": str(settings.in_step).lower()}
    with guarded(_PROGRAM), Caller(settings) as caller:
        agents = caller.agents(settings.target, **conditions)
        if settings.json:
            print(msgspec.json.encode(list(agents)).decode())
            return 0
        from service.commands.agents import showing

        shown = list(itertools.islice(agents, settings.most))
        if not shown:
            print("No agents.", file=sys.stderr)
            return 0
        console = showing.console()
        console.print(showing.listing(shown))
        left = sum(1 for _ in agents)
        behind = sum(not agent["in_step"] for agent in shown)
        more = f"; {left} more are not shown: --most {len(shown) + left} shows them" if left else ""
        console.print(f"\n{showing.agents_in_words(len(shown))}, {behind} not in step{more}.")
    return 0
