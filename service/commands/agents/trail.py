"""`loadlens-service agents audit`: who changed what."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from contract.settings import load
from service.commands.agents.calling import Caller, guarded, selector_of
from service.commands.agents.settings import PROGRAM, TARGETS, CallSettings

_PROGRAM = f"{PROGRAM} audit"
_DESCRIPTION = f"""\
Lists who changed what, newest first.

{TARGETS}"""
_EPILOG = """examples:
  loadlens-service agents audit                  everything
  loadlens-service agents audit user:web-*       what was changed for this selection
"""


class AuditSettings(CallSettings, frozen=True, kw_only=True):
    """Which entries."""

    target: Annotated[
        str | None, Meta(description="Which target's entries.", extra={"positional": True, "default": "all entries"})
    ] = None
    most: Annotated[int, Meta(ge=1, le=1000, description="Most entries.", extra={"metavar": "N"})] = 50


def main(argv: Sequence[str]) -> int:
    """Run the command; the exit code."""
    settings = load(AuditSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    query: dict[str, Any] = {"limit": settings.most}
    if settings.target is not None:
        query["target"] = selector_of(settings.target)
    with guarded(_PROGRAM), Caller(settings) as caller:
        entries = caller.ask("GET", "/audit", params=query).json()["entries"]
    if settings.json:
        print(msgspec.json.encode(entries).decode())
        return 0
    from rich.table import Table
    from rich.text import Text

    from service.commands.agents import showing

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("when", no_wrap=True)
    for name in ("who", "what", "target", "before", "after"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        who = f"{entry['actor'] or '-'} ({entry['token']}, {entry['address']})"
        values = (_short(entry["before"]), _short(entry["after"]))
        table.add_row(entry["at"], Text(who), entry["action"], Text(entry["target"]), *map(Text, values))
    showing.console().print(table)
    return 0


def _short(document: object) -> str:
    return "-" if document is None else msgspec.json.encode(document).decode()
