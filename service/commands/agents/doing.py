"""`loadlens-service agents report-now` and `diagnostics`."""

import sys
import time
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from contract.agent_protocol import CommandName
from contract.settings import load
from contract.times import DAY_S
from service.commands.agents.calling import Caller, CallError, agent_path, guarded
from service.commands.agents.settings import PROGRAM, TARGETS, WAIT, CallSettings

_DESCRIPTIONS: dict[CommandName, str] = {
    "report_now": f"""\
Has agents end the window that runs, and report it now.

{TARGETS}""",
    "diagnostics": f"""\
Has agents say what helps to find out what ails them: versions, machine, settings
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


class DoSettings(CallSettings, frozen=True, kw_only=True):
    """Who is to do it, and how long to wait."""

    target: Annotated[str, Meta(description="Which agents.", extra={"positional": True})]
    wait: Annotated[
        Annotated[float, Meta(ge=1.0, le=DAY_S)],
        Meta(description="How long to wait for the agents; then it is given up.", extra=WAIT),
    ] = 30.0


def report_now_main(argv: Sequence[str]) -> int:
    """Run `report-now`; the exit code."""
    return _main(argv, "report_now")


def diagnostics_main(argv: Sequence[str]) -> int:
    """Run `diagnostics`; the exit code."""
    return _main(argv, "diagnostics")


def _main(argv: Sequence[str], command: CommandName) -> int:
    program = f"{PROGRAM} {command.replace('_', '-')}"
    settings = load(DoSettings, argv, program=program, description=_DESCRIPTIONS[command], epilog=_EPILOGS[command])
    with guarded(program), Caller(settings) as caller:
        users = [agent["user_id"] for agent in caller.agents(settings.target)]
        if not users:
            raise CallError(f"no agent is meant by {settings.target}")
        waiting = _order(caller, users, command, settings.wait)
        done = _wait(caller, waiting, settings.wait)
        for outcome in done:
            _show(outcome, as_json=settings.json, indented=len(users) == 1)
    return 0 if len(done) == len(users) and all(outcome["status"] == "done" for outcome in done) else 1


def _order(caller: Caller, users: Sequence[str], command: CommandName, wait_s: float) -> list[str]:
    """Tell them; the ids of the commands that were taken."""
    ids = []
    for user in users:
        try:
            answer = caller.ask("POST", f"{agent_path(user)}/commands", json={"command": command, "expires_s": wait_s})
            ids.append(answer.json()["id"])
        except CallError as error:
            print(f"{user}: {error}", file=sys.stderr)
    return ids


def _wait(caller: Caller, ids: list[str], wait_s: float) -> list[dict[str, Any]]:
    """What became of commands, in their order, as far as it is known in time."""
    end = time.monotonic() + wait_s + 2.0
    done: dict[str, dict[str, Any]] = {}
    while True:
        for id_ in ids:
            if id_ not in done:
                outcome = caller.ask("GET", f"/commands/{id_}").json()
                if outcome["status"] != "waiting":
                    done[id_] = outcome
        if len(done) == len(ids) or time.monotonic() > end:
            return [done[id_] for id_ in ids if id_ in done]
        time.sleep(_LOOK_EVERY_S)


def _show(outcome: dict[str, Any], *, as_json: bool, indented: bool) -> None:
    if outcome["document"] is not None and not as_json:
        text = msgspec.json.encode({"user_id": outcome["user_id"]} | outcome["document"])
        print((msgspec.json.format(text) if indented else text).decode())
    elif as_json:
        print(msgspec.json.encode(outcome).decode())
    else:
        detail = f": {outcome['detail']}" if outcome["detail"] else ""
        print(f"{outcome['user_id']}: {outcome['status']}{detail}")
