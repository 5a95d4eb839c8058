"""`loadlens-service rules test`: read rules from files, and say what is wrong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from contract.settings import Settings, load
from service.rules.commands.asking import failed
from service.rules.commands.words import condition, whose

__all__ = ["RulesFileSettings", "run"]

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

    from service.rules.files import RuleFileError, read_book

    try:
        book = read_book(settings.path)
    except RuleFileError as error:
        return failed(_PROGRAM, error)
    table = Table("rule", "kind", "when", "whose", "targets", "file")
    for name, rule in book.rules.items():
        kind = type(rule).__name__.lower()
        cells = (name, kind, condition(rule), whose(rule), ", ".join(rule.targets) or "-", book.files[name].name)
        table.add_row(*map(escape, cells))
    console = Console(highlight=False)
    console.print(table)
    for name, target in book.targets.items():
        console.print(f"target {name}: {target.shown}", markup=False)
    return 0
