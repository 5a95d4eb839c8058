"""`loadlens-service rules list`, `test` and `silence`: rules of a service or of files as tables; silences."""

import ipaddress
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from contract.problems import did_you_mean
from contract.selectors import exact_names, matcher
from contract.service_address import ServiceAddress
from contract.settings import Settings, SettingsError, load
from contract.times import format_instant, parse_timestamp
from service.alerts.rules import InvalidRule, Rule, parse_rule
from service.alerts.wording import condition
from service.commands import failed

if TYPE_CHECKING:
    from analytics.sources.service_api import ServiceApi
    from service.notifications.targets import Target

_LIST = "loadlens-service rules list"
_LIST_DESCRIPTION = "Lists the rules of a running service, where they are from, and how many of their alerts fire."
_LIST_EPILOG = """examples:
  loadlens-service rules list
  loadlens-service rules list --url https://collector.example.org"""
_TEST = "loadlens-service rules test"
_TEST_DESCRIPTION = "Reads rules and targets as the service would, and says what is wrong with which line."
_TEST_EPILOG = """examples:
  loadlens-service rules test rules.toml
  loadlens-service rules test /etc/loadlens/rules"""
_SILENCE = "loadlens-service rules silence"
_SILENCE_DESCRIPTION = """\
Tells nobody of some alerts for a while; they are still listed. Those that fire
when the silence is over are told then. Without --duration it lists the silences."""
_SILENCE_EPILOG = """examples:
  loadlens-service rules silence --rule busy --duration 2h
  loadlens-service rules silence --user "lab-*" --duration 1d --comment "moving house"
  loadlens-service rules silence --start 2026-03-01T22:00Z --duration 4h
  loadlens-service rules silence                      which are in force, or will be
  loadlens-service rules silence --end 1f0c2a7be4d0a6c3"""
_TIMEOUT_S = 30.0
_MAX_ALERTS = 10_000
"""As many as the service lists at once."""


class RulesFileSettings(Settings, frozen=True, kw_only=True):
    """The file or folder of rules that is read."""

    path: Annotated[
        Path,
        Meta(description="A TOML or YAML file with rules, or a folder of them.", extra={"positional": True}),
    ]


class SilenceSettings(ServiceAddress, frozen=True, kw_only=True):
    """The alerts that are silenced, for how long, and why."""

    rule: Annotated[
        str, Meta(description="Of which rules: a name or a pattern.", extra={"metavar": "PATTERN", "flag_only": True})
    ] = "*"
    user: Annotated[
        str, Meta(description="Of which users: a name or a pattern.", extra={"metavar": "PATTERN", "flag_only": True})
    ] = "*"
    duration: Annotated[
        str | None,
        Meta(
            description="How long, such as 2h.",
            extra={"metavar": "DURATION", "default": "list the silences", "flag_only": True},
        ),
    ] = None
    start: Annotated[
        int | None,
        Meta(
            description="From this moment on.",
            extra={"metavar": "TIME", "default": "now", "flag_only": True, "parse": parse_timestamp,
                   "format": format_instant, "expected": "ISO 8601 or epoch milliseconds"},
        ),
    ] = None  # fmt: skip
    comment: Annotated[str, Meta(max_length=500, description="Why.", extra={"metavar": "TEXT"})] = ""
    end: Annotated[
        str | None,
        Meta(
            description="End the silence with this id.", extra={"metavar": "ID", "default": "none", "flag_only": True}
        ),
    ] = None


def list_rules(argv: Sequence[str]) -> int:
    """Run `list`; returns the exit code."""
    settings = load(ServiceAddress, argv, program=_LIST, description=_LIST_DESCRIPTION, epilog=_LIST_EPILOG)
    from rich.console import Console

    from analytics.commands.tables import fitting_table, keep_whole, plain
    from analytics.sources.service_api import ServiceApi, ServiceError

    try:
        with ServiceApi(settings.url, settings.token, timeout_s=_TIMEOUT_S, ca_file=settings.ca_file) as api:
            page = api.call("GET", "rules").document()
            alerts = api.call("GET", "alerts", params={"limit": _MAX_ALERTS}).document()["alerts"]
        rules = [(parse_rule(one["rule"]), one["source"]) for one in page["rules"]]
    except (ServiceError, InvalidRule) as error:
        return failed(_LIST, error)
    counts = Counter((alert["rule"], alert["state"]) for alert in alerts)
    counted = ("pending", "firing")
    table = fitting_table("rule", "when", "whose", "targets", "from", *counted, numbers=counted)
    for rule, source in rules:
        firing, pending = counts[rule.name, "firing"], counts[rule.name, "pending"]
        name = rule.name if rule.enabled else f"{rule.name} (disabled)"
        shown = f"[bold red]{firing}[/]" if firing else "0"
        targets = ", ".join(rule.targets or page["routes"].get(rule.severity, ())) or "-"
        cells = (name, condition(rule), _whose(rule), targets, source, str(pending))
        table.add_row(*map(plain, cells), shown)
    console = Console(highlight=False)
    console.print(keep_whole(table, "rule") if rules else "There are no rules; --rules FILE or the API brings some.")
    if page["problem"]:
        console.print("These rules stay in force: the files have a mistake.", style="bold red")
        console.print(plain(page["problem"]), soft_wrap=True)
    return 0


def test_files(argv: Sequence[str]) -> int:
    """Run `test`; returns the exit code."""
    settings = load(RulesFileSettings, argv, program=_TEST, description=_TEST_DESCRIPTION, epilog=_TEST_EPILOG)
    from rich.console import Console

    from analytics.commands.tables import fitting_table, keep_whole, plain
    from service.alerts.rule_set import RuleFileError, read_rule_set

    try:
        rule_set = read_rule_set(settings.path)
    except RuleFileError as error:
        return failed(_TEST, error)
    table = fitting_table("rule", "kind", "when", "whose", "targets", "file")
    for name, rule in rule_set.rules.items():
        kind = str(type(rule).__struct_config__.tag)
        cells = (name, kind, condition(rule), _whose(rule), ", ".join(rule.targets) or "-", rule_set.files[name].name)
        table.add_row(*map(plain, cells))
    console = Console(highlight=False)
    console.print(keep_whole(table, "rule"))
    for name, target in rule_set.targets.items():
        hint = " (a private address: the service needs --notify-private)" if _is_private(target) else ""
        console.print(plain(f"target {name}: {target.shown}{hint}"), soft_wrap=True)
    return 0


def _is_private(target: "Target") -> bool:
    """Whether a webhook's host is an address that is not public; names are looked up by the service alone."""
    host = urlsplit(target.url).hostname or ""
    try:
        return target.is_webhook and not ipaddress.ip_address(host).is_global
    except ValueError:
        return target.is_webhook and host == "localhost"


def silence(argv: Sequence[str]) -> int:
    """Run `silence`; returns the exit code."""
    settings = load(SilenceSettings, argv, program=_SILENCE, description=_SILENCE_DESCRIPTION, epilog=_SILENCE_EPILOG)
    from rich.console import Console

    from analytics.commands.tables import fitting_table, plain
    from analytics.sources.service_api import ServiceApi, ServiceError, path_segment

    try:
        with ServiceApi(settings.url, settings.token, timeout_s=_TIMEOUT_S, ca_file=settings.ca_file) as api:
            if settings.end is not None:
                api.call("DELETE", f"silences/{path_segment(settings.end)}")
            elif settings.duration is not None:
                _check_meant(api, settings)
                names = ("rule", "user", "start", "duration", "comment")
                api.call("POST", "silences", {name: getattr(settings, name) for name in names})
            page = api.call("GET", "silences").document()
    except ServiceError as error:
        return failed(_SILENCE, error)
    table = fitting_table("id", "rule", "user", "until", "comment", whole=("id", "until"))
    for one in page["silences"]:
        until = f"{one['start']} to {one['until']}" if one["start"] > one["created"] else one["until"]
        table.add_row(*map(plain, (one["id"], one["rule"], one["user"], until, one["comment"])))
    for weekly in page["weekly"]:
        one = weekly["silence"]
        when = f"{' '.join(one['days'])} {one['from']} to {one['to']} {one['zone']}"
        named = "weekly, now" if weekly["in_force"] else "weekly"
        table.add_row(*map(plain, (named, one["rule"], one["user"], when, one["comment"])))
    Console(highlight=False).print(table if table.row_count else "Nothing is silenced.")
    return 0


def _check_meant(api: "ServiceApi", settings: SilenceSettings) -> None:
    """Raise SettingsError where a rule is named that is not there; say so where a pattern means nobody yet."""
    rules = [one["rule"]["name"] for one in api.call("GET", "rules").document()["rules"]]
    if not any(map(matcher([settings.rule]), rules)):
        if exact_names([settings.rule]) is not None:
            raise SettingsError(
                f"--rule: expected a rule that is there, got {settings.rule!r}{did_you_mean(settings.rule, rules)};"
                " `loadlens-service rules` lists them"
            )
        print(f"{_SILENCE}: no rule is called like {settings.rule} now", file=sys.stderr)
    if settings.user == "*":
        return
    selector = f"{'user' if exact_names([settings.user]) is None else 'agent'}:{settings.user}"
    if not api.call("GET", "agents", params={"selector": selector, "limit": 1}).document()["agents"]:
        print(f"{_SILENCE}: no host is called {settings.user} now", file=sys.stderr)


def _whose(rule: Rule) -> str:
    """Whose reports it looks at."""
    return ", ".join([*rule.users, *rule.os])
