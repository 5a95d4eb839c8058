"""`loadlens-service rules test`: read rules from files, and say what is wrong."""

import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from msgspec import Meta

from contract.settings import Settings, load
from service.commands.rules.asking import failed
from service.commands.rules.words import condition, whose

if TYPE_CHECKING:
    from service.notifications.targets import Target


_PROGRAM = "loadlens-service rules test"
_DESCRIPTION = "Reads rules and targets as the service would, and says what is wrong with which line."
_EPILOG = """examples:
  loadlens-service rules test rules.toml
  loadlens-service rules test /etc/loadlens/rules"""


class RulesFileSettings(Settings, frozen=True, kw_only=True):
    """What to read."""

    path: Annotated[
        Path,
        Meta(description="A TOML or YAML file with rules, or a folder of them.", extra={"positional": True}),
    ]


def run(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(RulesFileSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from service.alerts.rule_set import RuleFileError, read_rule_set

    try:
        rule_set = read_rule_set(settings.path)
    except RuleFileError as error:
        return failed(_PROGRAM, error)
    table = Table("rule", "kind", "when", "whose", "targets", "file")
    for name, rule in rule_set.rules.items():
        kind = type(rule).__name__.lower()
        cells = (name, kind, condition(rule), whose(rule), ", ".join(rule.targets) or "-", rule_set.files[name].name)
        table.add_row(*map(escape, cells))
    console = Console(highlight=False)
    console.print(table)
    for name, target in rule_set.targets.items():
        hint = " (a private address: the service needs --notify-private)" if _is_private(target) else ""
        console.print(f"target {name}: {target.shown}{hint}", markup=False, soft_wrap=True)
    return 0


def _is_private(target: "Target") -> bool:
    """Whether a webhook's host is an address that is not public; names are looked up by the service alone."""
    host = urlsplit(target.url).hostname or ""
    try:
        return target.is_webhook and not ipaddress.ip_address(host).is_global
    except ValueError:
        return target.is_webhook and host == "localhost"
