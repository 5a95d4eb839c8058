"""What the measurements print: Markdown, so that it can go into docs/benchmarks.md as it is."""

import os
import platform
from collections.abc import Sequence
from pathlib import Path


def machine() -> str:
    """A line on the machine that measures."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[0]
    return (
        f"{os.cpu_count()} cores ({model or platform.machine()}), {memory:.0f} GiB of memory, "
        f"{platform.system()} {platform.release().partition('-')[0]}, Python {platform.python_version()}; "
        f"load average {load:.1f} at the start."
    )


def number(value: float) -> str:
    """A figure with three digits that count, thousands set apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def ratio(value: float, beside: float | None) -> str:
    """How many times `beside` goes into `value`."""
    return "-" if not beside else f"{number(value / beside)} x"


def left_out(name: str, columns: int, why: str = "not installed") -> list[str]:
    """The row of what could not be measured, in a table with so many columns."""
    return [f"{name}: {why}", *["-"] * (columns - 1)]


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; every column but the first to the right."""
    widths = [max(len(row[place]) for row in (headers, *rows)) for place in range(len(headers))]
    marks = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = []
    for row in (headers, marks, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
