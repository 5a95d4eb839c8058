"""Agents on a terminal."""

import io
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from contract.times import format_seconds, parse_timestamp

_WIDE = 200
"""Characters of a line where there is no terminal to fit into."""
_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def console() -> Console:
    """Standard output; a name that the terminal has no characters for is no reason to show nothing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    width = None if sys.stdout.isatty() else _WIDE
    return Console(highlight=False, markup=False, soft_wrap=width is not None, width=width)


def listing(agents: Iterable[Mapping[str, Any]]) -> Table:
    """A row for each agent."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("agent", "os", "seen", "stream", "in force", "in step"):
        table.add_column(name, overflow="fold")
    for name in ("CPU %", "MB", "spool"):
        table.add_column(name, justify="right")
    for agent in agents:
        overhead, spool = agent["overhead"], agent["spool"] or {}
        share, resident = overhead["cpu_share"], overhead["resident_bytes"]
        table.add_row(
            Text(agent["user_id"]),
            agent["os_type"],
            ago(agent["last_seen"]),
            "open" if agent["connected"] else "-",
            short_settings(agent["reported"] or {}),
            Text("yes", "green") if agent["in_step"] else Text(f"no: {agent['why']}", "yellow"),
            "-" if share is None else f"{share * 100:.2f}",
            "-" if resident is None else f"{resident / 1e6:.1f}",
            str(spool.get("waiting", "-")),
        )
    return table


def short_settings(settings: Mapping[str, Any]) -> str:
    """What is in force, in few characters: `50ms x 100 cpu`."""
    if settings.get("paused"):
        return "paused"
    if not {"interval", "samples"} <= settings.keys():
        return "-"
    return f"{format_seconds(settings['interval'])} x {settings['samples']} {','.join(settings.get('metrics', ()))}"


def settings_in_words(settings: Mapping[str, Any]) -> str:
    """Settings as they are typed: `interval=100ms samples=50`."""
    return " ".join(f"{name}={_typed(name, value)}" for name, value in settings.items()) or "nothing"


def agents_in_words(count: int) -> str:
    """`1 agent`, `2 agents`."""
    return f"{count} agent{'' if count == 1 else 's'}"


def ago(instant: str) -> str:
    """How long ago that was: `3s`, `5m`, `2d`."""
    seconds = max(0, round(time.time() - parse_timestamp(instant) / 1000))
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), ("s", 1))
    return f"{seconds // size}{unit} ago"


def _typed(name: str, value: Any) -> str:
    if name == "interval":
        return format_seconds(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, list) else str(value)
