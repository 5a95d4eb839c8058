"""`loadlens-service rules list`: the rules of a running service, and what fires."""

from collections import Counter
from collections.abc import Sequence

from contract.service_address import ServiceAddress
from contract.settings import load
from service.alerts.rules import InvalidRule, parse_rule
from service.commands.rules.asking import AskError, ask, failed
from service.commands.rules.words import condition, whose

_PROGRAM = "loadlens-service rules list"
_DESCRIPTION = "Lists the rules of a running service, where they are from, and how many of their alerts fire."
_EPILOG = """examples:
  loadlens-service rules list
  loadlens-service rules list --url https://collector.example.org"""


def run(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(ServiceAddress, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    try:
        listed = ask(settings, "GET", "rules")["rules"]
        alerts = ask(settings, "GET", "alerts?limit=10000")["alerts"]
        rules = [(parse_rule(one["rule"]), one["source"]) for one in listed]
    except (AskError, InvalidRule) as error:
        return failed(_PROGRAM, error)
    counts = Counter((alert["rule"], alert["state"]) for alert in alerts)
    table = Table("rule", "when", "whose", "targets", "from", "pending", "firing")
    for rule, source in rules:
        firing, pending = counts[rule.name, "firing"], counts[rule.name, "pending"]
        name = rule.name if rule.enabled else f"{rule.name} (disabled)"
        shown = f"[bold red]{firing}[/]" if firing else "0"
        cells = (name, condition(rule), whose(rule), ", ".join(rule.targets) or "-", source, str(pending))
        table.add_row(*map(escape, cells), shown)
    Console(highlight=False).print(table if rules else "There are no rules; --rules FILE or the API brings some.")
    return 0
