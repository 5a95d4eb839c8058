"""`loadlens-service rules silence`: tell nobody for a while."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta

from contract.service_address import ServiceAddress
from contract.settings import load
from service.commands.rules.asking import AskError, ask, failed

_PROGRAM = "loadlens-service rules silence"
_DESCRIPTION = """\
Tells nobody of some alerts for a while; they are still listed. Those that fire
when the silence is over are told then. Without --duration it lists the silences."""
_EPILOG = """examples:
  loadlens-service rules silence --rule busy --duration 2h
  loadlens-service rules silence --user "lab-*" --duration 1d --comment "moving house"
  loadlens-service rules silence                      which are in force
  loadlens-service rules silence --end 1f0c2a7be4d0a6c3"""


class SilenceSettings(ServiceAddress, frozen=True, kw_only=True):
    """What is not to be told."""

    rule: Annotated[str, Meta(description="Of which rules: a name or a pattern.", extra={"metavar": "PATTERN"})] = "*"
    user: Annotated[str, Meta(description="Of which users: a name or a pattern.", extra={"metavar": "PATTERN"})] = "*"
    duration: Annotated[
        str | None,
        Meta(description="How long, such as 2h.", extra={"metavar": "DURATION", "default": "list the silences"}),
    ] = None
    comment: Annotated[str, Meta(max_length=500, description="Why.", extra={"metavar": "TEXT"})] = ""
    end: Annotated[
        str | None, Meta(description="End the silence with this id.", extra={"metavar": "ID", "default": "none"})
    ] = None


def run(argv: Sequence[str]) -> int:
    """Run the command with `argv`; returns the exit code."""
    settings = load(SilenceSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    try:
        if settings.end is not None:
            ask(settings, "DELETE", f"silences/{settings.end}")
        elif settings.duration is not None:
            names = ("rule", "user", "duration", "comment")
            ask(settings, "POST", "silences", {name: getattr(settings, name) for name in names})
        silences = ask(settings, "GET", "silences")["silences"]
    except AskError as error:
        return failed(_PROGRAM, error)
    table = Table("id", "rule", "user", "until", "comment")
    for silence in silences:
        table.add_row(*(escape(str(silence[name])) for name in ("id", "rule", "user", "until", "comment")))
    Console(highlight=False).print(table if silences else "Nothing is silenced.")
    return 0
