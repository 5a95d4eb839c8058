"""`loadlens-service status`: whether a service and all that hangs on it works, and what to do where it does not."""

import re
import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from analytics.sources.service_api import ApiResponse, ProblemError, ServiceError, UnreachableError
from contract.checkup import CheckResult, as_document, exit_code, in_words
from contract.settings import load
from contract.times import format_seconds, parse_timestamp
from service.commands.agents.calling import AgentsApi, CallSettings, agents_in_words, one_line

_PROGRAM = "loadlens-service status"
_DESCRIPTION = """\
Says in plain words whether a service takes reports, keeps them and answers,
whether its agents report, what fires, and what to do about what does not work.
Changes nothing.

The exit code is 0 where all works, 1 where something fails."""
_EPILOG = """examples:
  loadlens-service status
  LOADLENS_OPERATOR_TOKEN=... loadlens-service status --url https://loadlens.example.org
  loadlens-service status --json | jq '.findings[] | select(.state == "fails")'"""
_SILENT_S = 15 * 60.0
"""An agent makes a report every ten minutes at least."""
_CLOCK_S = 5.0
"""So far may a clock be off: the service tells whole seconds, and a slow answer takes one or two."""
_MAX_NAMED = 3
_REMEDIES = (
    ("was taken over at", "Stop one of the two services, and restart the other."),
    (
        "was dropped or emptied",
        "See who did it. What comes since is kept; a restart ends this word.",
    ),
    ("keeps points for", "Give the database a retention period as long as --keep-1d, or shorten the settings."),
    ("stands still", "See what holds InfluxDB up; it is tried again by itself, and reports wait in the journal."),
    (
        "InfluxDB refused",
        "Read InfluxDB's words in that file; docs/influxdb.md says what to do with it.",
    ),
    ("limit; the store is behind", "See whether the store's disk is full or slow; --journal-bytes gives more room."),
    ("cannot be put on disk", "Free space on the disk of --data-dir, and see that the service may write there."),
    ("cannot be flushed", "Free space on the disk; the service's log has the reason, and it tries again by itself."),
    ("Rules stay as they were", "Mend the file of --rules; `loadlens-service rules test FILE` says how."),
    ("Rules are not evaluated", "The service's log has the reason; `loadlens-service rules` lists the rules."),
    ("be lost", "docs/operations.md says what to do about a damaged journal. Nothing else is touched by it."),
    ("are lost", "docs/operations.md says what to do about a damaged journal. Nothing else is touched by it."),
    ("--max-series", "Raise --max-series if they are yours, or find out who makes up cores."),
    ("--max-users", "Raise --max-users if they are yours, or find out who sends under ever new names."),
    ("InfluxDB", "See that the database runs and takes the token; reports wait in the journal meanwhile."),
)
"""What to do about a problem of /readyz that has these words."""
_ANY_REMEDY = "The service's log says more; docs/operations.md has what to do when something is damaged."


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0 where all works, 1 where something fails, 2 for a wrong setting."""
    settings = load(CallSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    with AgentsApi(settings) as api:
        findings = list(look(api))
    if settings.json:
        print(msgspec.json.encode(as_document(findings)).decode())
    else:
        print(in_words(findings))
    return exit_code(findings)


def look(api: AgentsApi) -> Iterator[CheckResult]:
    """What there is to say of a service, from whether it answers to what it tells of others."""
    before_s = time.time()
    try:
        health = api.call("GET", "/healthz")
        if health.document().get("status") != "ok":
            raise ServiceError("it answers, and not as a Loadlens service does")
        ready = api.call("GET", "/readyz", expected=(200, 503))
    except UnreachableError as error:
        yield CheckResult(
            "service", "fails", f"{error}.", "Start it (`loadlens-service`), or say with --url where it listens."
        )
        return
    except ServiceError as error:
        yield CheckResult("service", "fails", f"{api.url}: {error}", "Set --url to where the service is.")
        return
    yield from _readiness(api.url, ready)
    yield from _clock(health, (before_s + time.time()) / 2)
    try:
        agents = list(api.agents("all"))
        yield CheckResult("token", "works", "The service takes it, or asks for none.")
        yield from _agents(agents)
        yield from _alerts(api)
    except ProblemError as error:
        if error.status in (401, 403):
            yield CheckResult(
                "token", "fails", f"The service does not take it: {error.detail}",
                "Give the operator's token: LOADLENS_OPERATOR_TOKEN, or LOADLENS_TOKEN where there is only one.",
            )  # fmt: skip
        else:
            yield CheckResult("service", "fails", one_line(error), _ANY_REMEDY)
    except ServiceError as error:
        yield CheckResult("service", "fails", str(error), _ANY_REMEDY)


def _readiness(url: str, ready: ApiResponse) -> Iterator[CheckResult]:
    document = ready.document()
    kept = f"its store is {document['store']}"
    problems: list[str] = document.get("problems", [])
    if ready.status == 200:
        yield CheckResult("service", "works", f"{url} answers, and takes reports; {kept}.")
    else:
        yield CheckResult(
            "service", "fails", f"{url} answers, but turns reports away; agents keep them meanwhile; {kept}.",
            "The next lines say why.",
        )  # fmt: skip
    for problem in problems:
        yield CheckResult("service", "fails", problem, _remedy(problem))


def _remedy(problem: str) -> str:
    return next((remedy for words, remedy in _REMEDIES if words in problem), _ANY_REMEDY)


def _clock(answer: ApiResponse, own_s: float) -> Iterator[CheckResult]:
    date = answer.headers.get("Date")
    if date is None:
        return
    off_s = own_s - parsedate_to_datetime(date).timestamp()
    if abs(off_s) > _CLOCK_S:
        side = "behind" if off_s > 0 else "ahead of"
        yield CheckResult(
            "clock", "fails", f"The service's is {format_seconds(round(abs(off_s)))} {side} this machine's.",
            "Set the clocks of both by NTP (`timedatectl status` shows whether they are).",
        )  # fmt: skip


def _agents(agents: Sequence[dict[str, Any]]) -> Iterator[CheckResult]:
    if not agents:
        yield CheckResult(
            "agents", "note", "No agent has reported yet.",
            "Start `loadlens-agent --url ...` on a host, or see demo data: `loadlens-service demo`.",
        )  # fmt: skip
        return
    now_s = time.time()
    paused = [agent for agent in agents if (agent["reported"] or {}).get("paused")]
    silent = [
        agent
        for agent in agents
        if now_s - parse_timestamp(agent["last_seen"]) / 1000 > _SILENT_S and agent not in paused
    ]
    heard = len(agents) - len(silent)
    if heard:
        yield CheckResult(
            "agents", "works", f"{agents_in_words(heard)} of {len(agents):,} reported in the last 15 minutes."
        )
    if silent:
        yield CheckResult(
            "agents", "fails", f"{agents_in_words(len(silent))} silent for over 15 minutes: {_named(silent)}.",
            "On the host `loadlens-agent status` says why.",
        )  # fmt: skip
    if paused:
        yield CheckResult("agents", "note", f"{agents_in_words(len(paused))} paused on purpose: {_named(paused)}.")
    behind = [agent for agent in agents if not agent["in_step"]]
    if behind:
        yield CheckResult(
            "settings", "note", f"{agents_in_words(len(behind))} not in sync with what was asked: {_named(behind)}.",
            "`loadlens-service agents list --no-in-step` says why.",
        )  # fmt: skip
    yield from _spools(agents)
    shared = [agent for agent in agents if agent["shared_at"]]
    if shared:
        yield CheckResult(
            "agents", "fails", f"Several hosts report as one, their numbers are mixed: {_named(shared)}.",
            "Give each host a --user-id of its own.",
        )  # fmt: skip


def _spools(agents: Sequence[dict[str, Any]]) -> Iterator[CheckResult]:
    spools = {agent["user_id"]: agent["spool"] for agent in agents if agent["spool"]}
    for word, state, remedy in (
        ("refused", "fails", "refused.ndjson in the agent's spool has them, with what is wrong."),
        ("dropped", "note", "They were too many or too old; give the agent more --spool-bytes."),
    ):
        lost = {name: spool[word] for name, spool in spools.items() if spool[word]}
        if lost:
            said = f"{sum(lost.values()):,} reports of {agents_in_words(len(lost))} were {word}: {_shown(list(lost))}."
            yield CheckResult("spools", "fails" if state == "fails" else "note", said, remedy)
    waiting = sum(spool["waiting"] for spool in spools.values())
    if waiting > 2 * len(spools):
        yield CheckResult("spools", "note", f"{waiting:,} reports wait with the agents, and come in by and by.")


def _alerts(api: AgentsApi) -> Iterator[CheckResult]:
    firing = api.call("GET", "alerts", params={"state": "firing", "limit": _MAX_NAMED}).document()
    if firing["total"]:
        named = ", ".join(f"{alert['rule']} ({alert['user']})" for alert in firing["alerts"])
        more = f" and {firing['total'] - _MAX_NAMED} more" if firing["total"] > _MAX_NAMED else ""
        yield CheckResult(
            "alerts", "note", f"{firing['total']:,} firing: {named}{more}.", f"{api.url}/alerts shows them."
        )
    dead = api.call("GET", "notifications", params={"state": "dead", "limit": 1}).document()["notifications"]
    if dead:
        target, error = dead[0]["target"], re.sub(r"\s+", " ", dead[0]["error"])
        yield CheckResult(
            "alerts", "fails", f"Notifications were given up; the last one to {target}: {error}",
            "Mend the target in --rules; `loadlens-service rules redeliver --dead` tries each again.",
        )  # fmt: skip


def _named(agents: Sequence[dict[str, Any]]) -> str:
    return _shown([agent["user_id"] for agent in agents])


def _shown(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more:,} more" if more > 0 else "")
