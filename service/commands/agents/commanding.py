"""`loadlens-service agents report-now` and `diagnostics`: commands to agents, and what became of them."""

import json
import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from analytics.sources.service_api import ServiceError
from contract.agent_protocol import CommandName
from contract.problems import display
from contract.settings import SettingsError, load
from contract.times import DAY_S
from service.commands.agents.calling import (
    PROGRAM,
    TARGETS,
    WAIT,
    AgentsApi,
    CallSettings,
    agent_path,
    one_line,
    one_line_errors,
    selector_of,
    user_path,
)

_DESCRIPTIONS: dict[CommandName, str] = {
    "report_now": f"""\
Has agents end the window that runs, and report it now.

{TARGETS}""",
    "diagnostics": f"""\
Has agents say what helps to find out what ails them: versions, host, settings
in force, spool, threads, the last warnings; no secrets. Printed as JSON, one
agent a line where there are several.

{TARGETS}""",
}
_EPILOGS: dict[CommandName, str] = {
    "report_now": """examples:
  loadlens-service agents report-now 6a:d6:96:d3:45:35
  loadlens-service agents report-now user:web-*
""",
    "diagnostics": """examples:
  loadlens-service agents diagnostics 6a:d6:96:d3:45:35
  loadlens-service agents diagnostics all --wait 2m >fleet.ndjson
""",
}
_LOOK_EVERY_S = 0.1


_FORGET = f"{PROGRAM} forget"
_FORGET_DESCRIPTION = """\
Forgets agents that are gone: what they said, their own settings, their commands,
their alerts. Their windows stay, unless --windows says otherwise. One that still
reports is listed again."""
_FORGET_EPILOG = """examples:
  loadlens-service agents forget 6a:d6:96:d3:45:35
  loadlens-service agents forget web-1 web-2
  loadlens-service agents forget --windows web-3
"""


class ForgetSettings(CallSettings, frozen=True, kw_only=True):
    """The hosts that are forgotten."""

    users: Annotated[
        tuple[str, ...], Meta(min_length=1, description="User ids.", extra={"positional": True, "metavar": "ID"})
    ]
    windows: Annotated[
        bool,
        Meta(description="Forget their windows too, for good: all that they ever reported.", extra={"flag_only": True}),
    ] = False
    yes: Annotated[
        bool, Meta(description="Do not ask on a terminal before windows are forgotten.", extra={"flag_only": True})
    ] = False


class CommandSettings(CallSettings, frozen=True, kw_only=True):
    """Who is to do it, and how long to wait."""

    target: Annotated[str, Meta(description="Which agents.", extra={"positional": True})]
    wait: Annotated[
        Annotated[float, Meta(ge=1.0, le=DAY_S)],
        Meta(description="How long to wait for the agents; then it is given up.", extra=WAIT),
    ] = 30.0


def forget(argv: Sequence[str]) -> int:
    """Run `forget`; returns the exit code."""
    settings = load(ForgetSettings, argv, program=_FORGET, description=_FORGET_DESCRIPTION, epilog=_FORGET_EPILOG)
    targets = []
    with one_line_errors(_FORGET):
        for user in settings.users:
            selector = selector_of(user)
            if not selector.startswith("agent:"):
                raise SettingsError(f"expected user ids, got the selection {user}; agent:{user} is the id {user}")
            targets.append(selector.removeprefix("agent:"))
        if settings.windows and not _confirmed(settings):
            raise SettingsError("nothing is forgotten")
        with AgentsApi(settings) as api:
            for target in targets:
                api.call("DELETE", user_path(target) if settings.windows else agent_path(target))
    if not settings.json:
        print(f"{len(targets)} forgotten.")
    return 0


def _confirmed(settings: ForgetSettings) -> bool:
    """Whether somebody at a terminal agrees; where nobody is at one, the flag has said it."""
    if settings.yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return True
    names = ", ".join(map(display, settings.users))
    sys.stderr.write(f"All that {names} ever reported is forgotten, and there is no way back. Go on? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def report_now(argv: Sequence[str]) -> int:
    """Run `report-now`; returns the exit code."""
    return _command(argv, "report_now")


def diagnostics(argv: Sequence[str]) -> int:
    """Run `diagnostics`; returns the exit code."""
    return _command(argv, "diagnostics")


def _command(argv: Sequence[str], command: CommandName) -> int:
    program = f"{PROGRAM} {command.replace('_', '-')}"
    settings = load(
        CommandSettings, argv, program=program, description=_DESCRIPTIONS[command], epilog=_EPILOGS[command]
    )
    with one_line_errors(program), AgentsApi(settings) as api:
        users = [agent["user_id"] for agent in api.agents(settings.target)]
        if not users:
            raise ServiceError(f"no agent is meant by {settings.target}")
        waiting = _send(api, users, command, settings.wait)
        done = _wait(api, waiting, settings.wait)
        for outcome in done:
            _show(outcome, as_json=settings.json, indented=len(users) == 1)
    return 0 if len(done) == len(users) and all(outcome["status"] == "done" for outcome in done) else 1


def _send(api: AgentsApi, users: Sequence[str], command: CommandName, wait_s: float) -> list[str]:
    """Send a command to each user; returns the ids of the commands that were taken, and says which were not."""
    ids = []
    for user in users:
        try:
            asked = {"command": command, "expires_s": wait_s}
            ids.append(api.call("POST", f"{agent_path(user)}/commands", asked).document()["id"])
        except ServiceError as error:
            print(f"{user}: {one_line(error)}", file=sys.stderr)
    return ids


def _wait(api: AgentsApi, ids: list[str], wait_s: float) -> list[dict[str, Any]]:
    """What became of commands, in their order, as far as it is known in time."""
    end = time.monotonic() + wait_s + 2.0
    done: dict[str, dict[str, Any]] = {}
    while True:
        for id_ in ids:
            if id_ not in done:
                outcome = api.call("GET", f"commands/{id_}").document()
                if outcome["status"] != "waiting":
                    done[id_] = outcome
        if len(done) == len(ids) or time.monotonic() > end:
            return [done[id_] for id_ in ids if id_ in done]
        time.sleep(_LOOK_EVERY_S)


def _show(outcome: dict[str, Any], *, as_json: bool, indented: bool) -> None:
    if outcome["document"] is not None and not as_json:
        # ASCII alone: what an agent says must not steer the terminal.
        told = outcome["document"]
        document = {"user_id": outcome["user_id"]} | (told if isinstance(told, dict) else {"document": told})
        print(json.dumps(document, indent=2) if indented else json.dumps(document, separators=(",", ":")))
    elif as_json:
        print(msgspec.json.encode(outcome).decode())
    else:
        detail = f": {display(outcome['detail'])}" if outcome["detail"] else ""
        print(f"{display(outcome['user_id'])}: {outcome['status']}{detail}")
