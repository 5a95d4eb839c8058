"""`loadlens-agent status`: whether the agent of this machine runs and its reports arrive; if not, what to do."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent.clock import CLOCK_LIMIT_S
from agent.connection import Connection, ServiceAnswer, ServiceUnreachable
from agent.enrolment import TOKEN_FILE, kept
from agent.heartbeat import Heartbeat, is_late, read_heartbeat
from agent.settings import MIB, AgentAddress, check_proxy
from contract.checkup import CheckResult, as_document, exit_code, in_words
from contract.problems import decode_json, display, shortened
from contract.service_address import SERVICE_URL
from contract.settings import SettingsError, load
from contract.times import format_instant, format_seconds

_PROGRAM = "loadlens-agent status"
_DESCRIPTION = """\
Says in plain words whether the agent of this machine runs, whether its reports
arrive, and what to do where they do not. Changes nothing.

The exit code is 0 where all works, 1 where something fails."""
_EPILOG = """\
examples:
  loadlens-agent status
  loadlens-agent status --spool-dir var/loadlens/agent    an agent that `loadlens-service up` started
  loadlens-agent status --json | jq '.findings[] | select(.state == "fails")'"""
_TIMEOUT_S = 10.0
_FULL_SHARE = 0.5
_CLOCK_S = 5.0
"""So far may a clock be off: the service tells whole seconds, and a slow answer takes one or two."""


class StatusSettings(AgentAddress, frozen=True, kw_only=True):
    """Which agent, and how to answer."""

    url: Annotated[
        str | None,
        Meta(description="The service.", extra={"default": "where the agent sends, else " + SERVICE_URL}),
    ] = None  # type: ignore[assignment]
    json: Annotated[bool, Meta(description="Print JSON instead of words and tables.")] = False

    def __post_init__(self) -> None:
        if self.url is not None:
            super().__post_init__()
        check_proxy(self.proxy_to(self.url or SERVICE_URL))


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0 where all works, 1 where something fails, 2 for a wrong setting."""
    settings = load(StatusSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    findings = list(look(settings))
    if settings.json:
        print(msgspec.json.encode(as_document(findings)).decode())
    else:
        print(in_words(findings))
    return exit_code(findings)


def look(settings: StatusSettings) -> Iterator[CheckResult]:
    """What there is to say, the agent first, then the service, then what lies between them."""
    directory = settings.directory
    heartbeat = None
    try:
        heartbeat = read_heartbeat(directory)
    except OSError as error:
        reason = error.strerror or error
        yield CheckResult("agent", "fails", f"{directory}: {reason}", "Run this as the user that the agent runs as.")
    except msgspec.DecodeError as error:
        yield CheckResult("agent", "fails", f"{directory}: its heartbeat cannot be read: {error}", "Restart the agent.")
    else:
        yield from _agent(heartbeat, directory)
    url = settings.url or (heartbeat.url if heartbeat else SERVICE_URL)
    if heartbeat is not None and settings.url not in (None, heartbeat.url):
        yield CheckResult("url", "note", f"The agent sends to {heartbeat.url}; {url} is looked at.")
    token, whose = settings.token, "The token given to this command"
    if token is None:
        whose = f"The token in {directory / TOKEN_FILE}"
        with contextlib.suppress(OSError):
            token = kept(directory)
    try:
        tls = settings.tls(url)
    except SettingsError as error:
        yield CheckResult("service", "fails", str(error), "Name the files of certificates that are there.")
    else:
        shown = None if token is None else whose
        yield from _service(Connection(url, token, settings.proxy_to(url), tls), shown, heartbeat)
    if heartbeat is not None:
        yield from _spool(heartbeat, directory)


def _agent(heartbeat: Heartbeat | None, directory: Path) -> Iterator[CheckResult]:
    if heartbeat is None:
        yield CheckResult(
            "agent", "fails", f"No agent has run with the spool in {directory}.",
            "Start `loadlens-agent`, or name the spool of the one that runs with --spool-dir.",
        )  # fmt: skip
        return
    settings = heartbeat.settings
    seen = format_instant(heartbeat.at)
    if not heartbeat.runs:
        yield CheckResult(
            "agent", "fails", f"It does not run. It was last seen at {seen}, as process {heartbeat.pid}.",
            "Start it; its log says why it ended. Reports that wait are sent then.",
        )  # fmt: skip
        return
    period_s = settings.interval * settings.samples
    name = f"Process {heartbeat.pid} reports as {heartbeat.user_id}"
    if settings.paused:
        yield CheckResult(
            "agent", "note", f"{name}, and is paused by the service: it samples nothing.",
            f"`loadlens-service agents set {heartbeat.user_id} paused=false` lets it go on.",
        )  # fmt: skip
    elif is_late(heartbeat):
        yield CheckResult(
            "agent", "fails", f"{name}, but has made no report since {seen}; one is due every {_seconds(period_s)}.",
            "Its log says why; restart it.",
        )  # fmt: skip
    else:
        yield CheckResult(
            "agent", "works",
            f"{name}, and samples {', '.join(settings.metrics)} every {_seconds(settings.interval)}: a report every"
            f" {_seconds(period_s)}.",
        )  # fmt: skip
    for metric, reason in heartbeat.not_sampled.items():
        yield CheckResult("metrics", "fails", f"{metric} cannot be sampled: {reason}", "Leave it out of --metrics.")


def _service(connection: Connection, shown: str | None, heartbeat: Heartbeat | None) -> Iterator[CheckResult]:
    """What there is to say of the service; `shown` says which token is shown to it, None where there is none."""
    url = connection.url.removesuffix("/api/v1/metrics")
    before_s = time.time()
    try:
        health, ready = connection.get("/healthz", _TIMEOUT_S), connection.get("/readyz", _TIMEOUT_S)
        taken = connection.post([b"[]"], _TIMEOUT_S)
        who = connection.get("/api/v1/identity", _TIMEOUT_S)
    except ServiceUnreachable as error:
        yield CheckResult(
            "service", "fails", f"{url} cannot be reached: {error}. Reports wait in the spool meanwhile.",
            "Start the service there, or set --url to where it is.",
        )  # fmt: skip
        return
    finally:
        connection.close()
    if health.status != 200 or _document(health).get("status") != "ok":
        yield CheckResult(
            "service", "fails", f"{url} answers {health.status}, and not as a Loadlens service does.",
            "Set --url to where the service is; a proxy on the way may answer in its place.",
        )  # fmt: skip
        return
    yield _readiness(url, ready)
    yield from _token(taken, _document(who) if who.status == 200 else {}, shown, heartbeat)
    yield from _clock(health, (before_s + time.time()) / 2)


def _readiness(url: str, ready: ServiceAnswer) -> CheckResult:
    if ready.status == 200:
        return CheckResult("service", "works", f"{url} answers, and takes reports.")
    detail = _document(ready).get("detail") or f"it answers {ready.status}"
    return CheckResult(
        "service", "fails", f"{url} turns reports away: {detail}",
        "On the service's host `loadlens-service status` says what to do. Reports wait in the spool.",
    )  # fmt: skip


def _token(
    taken: ServiceAnswer, who: dict[str, Any], shown: str | None, heartbeat: Heartbeat | None
) -> Iterator[CheckResult]:
    # An empty list changes nothing, and is turned away like reports where the token is wrong.
    if taken.status not in (401, 403):
        if shown is None or who.get("token") == "none":
            yield CheckResult("token", "works", "None is asked.")
        elif heartbeat is not None and who.get("role") == "agent" and who.get("scope") not in ("*", heartbeat.user_id):
            yield CheckResult(
                "token", "fails",
                f"{shown} is {_whose(who)}, and the agent reports as {display(heartbeat.user_id)}: that is refused.",
                f"Get it a token of its own: `loadlens-service tokens create --role agent --scope"
                f" {display(heartbeat.user_id)} NAME`, or `loadlens-agent enrol`.",
            )  # fmt: skip
        else:
            yield CheckResult("token", "works", f"The service takes it. {shown} is {_whose(who)}.")
    elif shown is None and heartbeat is not None and heartbeat.runs and heartbeat.problem is None:
        yield CheckResult("token", "works", "The service takes the token that the agent sends.")
    else:
        given = "with this token" if shown else "without a token"
        yield CheckResult(
            "token", "fails", f"The service takes no reports {given}: it answers {taken.status}.",
            "Give the agent, and this command, the service's token: --token or LOADLENS_TOKEN.",
        )  # fmt: skip


def _whose(who: dict[str, Any]) -> str:
    """Whose token the service says that one is."""
    scope, number = (display(str(who.get(name, "?"))) for name in ("scope", "token"))
    if number in ("token", "operator"):
        return f"the one of the service's --{'operator-' if number == 'operator' else ''}token, which many may share"
    role = display(str(who.get("role", "?")))
    return f"{number}, which has the role {role} for {'all hosts' if scope == '*' else scope}"


def _clock(answer: ServiceAnswer, own_s: float) -> Iterator[CheckResult]:
    try:
        off_s = own_s - parsedate_to_datetime(answer.date).timestamp()
    except ValueError:
        return
    if abs(off_s) <= _CLOCK_S:
        yield CheckResult("clock", "works", "It agrees with the service's to a few seconds.")
        return
    side = "ahead of" if off_s > 0 else "behind"
    stamped = " Reports are stamped by the service's." if abs(off_s) > CLOCK_LIMIT_S else ""
    yield CheckResult(
        "clock", "fails", f"This machine's is {_seconds(abs(off_s))} {side} the service's.{stamped}",
        "Set the clocks of both by NTP (`timedatectl status` shows whether they are).",
    )  # fmt: skip


def _spool(heartbeat: Heartbeat, directory: Path) -> Iterator[CheckResult]:
    share = heartbeat.waiting_bytes / heartbeat.spool_limit_bytes
    waiting = (
        f"{_count(heartbeat.waiting, 'report')} ({heartbeat.waiting_bytes / MIB:.1f} of"
        f" {heartbeat.spool_limit_bytes / MIB:.0f} MiB)"
    )
    if heartbeat.runs and heartbeat.problem is not None:
        yield CheckResult(
            "reports", "fails", f"They are not taken: {shortened(heartbeat.problem, 300)}.",
            "They wait, and go out by themselves once the service takes them.",
        )  # fmt: skip
    if share >= _FULL_SHARE:
        yield CheckResult(
            "spool", "fails", f"It fills: {waiting}. When it is full the oldest reports are dropped.",
            "Let the service take reports soon, or give more room with --spool-bytes.",
        )  # fmt: skip
    else:
        yield CheckResult("spool", "note" if heartbeat.problem else "works", f"Waiting in {directory}: {waiting}.")
    if heartbeat.dropped:
        yield CheckResult(
            "spool", "note", f"{_count(heartbeat.dropped, 'report')} dropped since it was made: full or too old."
        )
    if heartbeat.refused:
        yield CheckResult(
            "reports", "fails", f"The service refused {_count(heartbeat.refused, 'report')} since the agent started.",
            f"{directory / 'refused.ndjson'} has them, with what is wrong with each.",
        )  # fmt: skip


def _document(answer: ServiceAnswer) -> dict[str, Any]:
    try:
        return decode_json(answer.body, dict[str, Any])
    except msgspec.DecodeError:
        return {}


def _seconds(seconds: float) -> str:
    """`50ms`, `5s`, `3h`: whole seconds from ten on."""
    return format_seconds(seconds if seconds < 10 else round(seconds))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
