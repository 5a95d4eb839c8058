"""What a report is, whatever it is written as: findings, figures and tables, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import plotly.graph_objects as go


Severity = Literal["act", "watch", "note"]
"""Something to do now; something to keep an eye on; something to know."""
Kind = Literal["text", "user", "share", "number", "time", "change"]
"""How a cell reads: as it is, as the name of a host, a share in percent, a number, a moment in UTC (epoch
milliseconds), a difference of shares in percentage points."""
Cell = str | float | int | None
ReportForm = Literal["html", "pdf", "png", "md", "json"]
"""What a report can be written as."""


Numbers = Mapping[str, Cell | Sequence[str]]
"""What a sentence rests on. Shares in [0, 1], moments as ISO 8601."""


@dataclass(frozen=True, slots=True)
class ReportColumn:
    """A column of a table."""

    name: str
    kind: Kind = "text"


@dataclass(frozen=True, slots=True)
class ReportTable:
    """Rows of cells; what a person may want to sort."""

    name: str
    """For programs, and as an anchor: letters and hyphens."""
    title: str
    columns: Sequence[ReportColumn]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    folded: bool = False
    """Shown only to who asks for it, and never printed."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the reader should know, in a plain sentence."""

    severity: Severity
    kind: str
    """What it is about, for programs: `level`, `trend`, `change`, `hot`, `idle`, `load`, `cores`, `week`, `anomaly`,
    `forecast`, `size`, `pairs`, `peers`, `coverage`, `identity` or `who`."""
    sentence: str
    action: str = ""
    """What to do about it; nothing where there is nothing to do."""
    numbers: Numbers = field(default_factory=dict)
    everyone: ReportTable | None = None
    """All hosts that it is about, where it names only some."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure with a sentence on how to read it."""

    name: str
    figure: "go.Figure"
    note: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report with a heading of its own."""

    name: str
    title: str
    intro: str = ""
    parts: Sequence[Picture | ReportTable] = ()


@dataclass(frozen=True, slots=True)
class ReportDocument:
    """A whole report."""

    title: str
    subject: str
    """Of what, over which time."""
    made_ms: int
    start_ms: int
    end_ms: int
    findings: Sequence[Finding]
    facts: Sequence[tuple[str, str]]
    """On the data: what, and how much of it. Names and texts."""
    caveats: Sequence[str]
    """What is approximate, missing, or not to be read into it; a sentence each."""
    sections: Sequence[Section]

    def tables(self) -> list[ReportTable]:
        """All tables, in order."""
        return [part for section in self.sections for part in section.parts if isinstance(part, ReportTable)]

    def pictures(self) -> list[Picture]:
        """All figures, in order."""
        return [part for section in self.sections for part in section.parts if isinstance(part, Picture)]
