"""Files of windows that are not what the catalogue says: told apart at the start, found while they are read.

Nothing is removed that is not known to be garbage: a file that a crash left unfinished, one whose reports the journal
gives again, or one that the catalogue has noted as replaced or expired.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from contract.later import later
from service.journal.files import put_aside
from service.stores.base import StoreError
from service.stores.embedded import catalog
from service.stores.embedded.segment import Segment

if TYPE_CHECKING:
    import duckdb

    from service.stores.embedded import segments as files
else:
    files = later("service.stores.embedded.segments")

_log = logging.getLogger("loadlens.service")

SET_ASIDE = "set-aside"
"""The folder, beside the files of windows, for those that are kept though nothing lists them."""
_NAME = re.compile(r"([0-9]{9,})\.parquet")
Holds = Callable[[int, int], bool]
"""Whether the journal can give all reports behind an offset up to another."""


def set_aside(path: Path) -> Path:
    """Move a file of windows to where nothing reads or removes it; returns where it is."""
    return put_aside(path, path.parent / SET_ASIDE)


def refuse_without_catalogue(folder: Path, database: Path) -> None:
    """Raise StoreError where there are files of windows and no catalogue that could list them."""
    if not database.exists() and (files := window_files(folder)):
        raise StoreError(
            f"{database} is missing, but {folder} has {len(files)} files of windows, which it listed. Put it back, or "
            f"run `loadlens-service repair --data-dir {database.parent}`, which makes it from the files. Nothing was "
            "changed."
        )


def remove_garbage(
    connection: duckdb.DuckDBPyConnection, folder: Path, segments: Sequence[Segment], flushed: int, holds: Holds
) -> None:
    """Remove what crashes left behind, and nothing else.

    Raises StoreError where files are not known: the catalogue is older than they are.
    """
    listed = {segment.file: segment.id for segment in segments}
    garbage = catalog.garbage(connection)
    newest = catalog.newest_run(connection)
    remove, aside, unknown = [*folder.glob("*.new")], [], []
    for path in window_files(folder):
        if path.name in listed:
            continue
        if path.name in garbage or _is_given_again(path, {*listed.values()}, flushed, holds):
            remove.append(path)
        elif _number(path) <= newest and _says_nothing(path):
            # Of a release that did not note what it replaced: most likely that.
            aside.append(path)
        else:
            unknown.append(path)
    if unknown:
        raise StoreError(
            f"{folder} has {len(unknown)} files of windows that its catalogue does not know, {unknown[0].name} "
            "among them: the catalogue is older than they are, or another's. Put the right one back, or run "
            f"`loadlens-service repair --data-dir {folder.parent}`, which makes it from the files. Nothing was changed."
        )
    for path in remove:
        path.unlink()
    for path in aside:
        _log.warning("%s is not in the catalogue; it is put aside as %s", path, set_aside(path))
    catalog.forget_garbage(connection)


def window_files(folder: Path) -> list[Path]:
    """The files of windows in a folder, by number."""
    return sorted(path for path in folder.glob("*.parquet") if _NAME.fullmatch(path.name))


def _number(path: Path) -> int:
    return int(path.stem)


def _is_given_again(path: Path, listed: set[int], flushed: int, holds: Holds) -> bool:
    """Whether a file that was not listed any more holds nothing but what listed files or the journal hold."""
    try:
        origin = files.origin_of(path)
    except files.UNREADABLE:
        return False
    if origin is None:
        return False
    if origin.merged:
        return listed.issuperset(origin.merged)
    return origin.after >= flushed and holds(flushed, origin.through)


def _says_nothing(path: Path) -> bool:
    try:
        return files.origin_of(path) is None
    except files.UNREADABLE:
        return False


class DamagedFiles:
    """The files that cannot be read, and what is lost with them."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, folder: Path, segments: Iterable[Segment]) -> None:
        """Find files that are gone, or whose length is another; the rest is found when it is read."""
        self._folder = folder
        self._lost = catalog.lost(connection)
        self._faults: dict[str, tuple[Segment, str]] = {}
        for segment in segments:
            path = folder / segment.file
            if not path.exists():
                self._note(segment, "it is gone")
            elif (size := path.stat().st_size) != segment.bytes:
                self._note(segment, f"expected {segment.bytes} bytes, got {size}")

    def whole(self, segments: Sequence[Segment]) -> Sequence[Segment]:
        """Those that can be read, as far as is known."""
        return [one for one in segments if one.file not in self._faults] if self._faults else segments

    def is_found(self, segments: Iterable[Segment]) -> bool:
        """Read files to the end; whether one of them, which was taken to be whole, is damaged."""
        found = False
        for segment in segments:
            if segment.file not in self._faults and (
                fault := files.fault_of(self._folder / segment.file, segment.rows, segment.checksum)
            ):
                self._note(segment, fault)
                found = True
        return found

    def _note(self, segment: Segment, fault: str) -> None:
        self._faults[segment.file] = (segment, fault)
        _log.error("%s cannot be read, and is left out of answers: %s", self._folder / segment.file, fault)

    def damaged(self) -> list[Segment]:
        """The segments that cannot be read."""
        return [segment for segment, _ in list(self._faults.values())]

    @property
    def problem(self) -> str | None:
        """What is damaged, in words; None where nothing is."""
        faults = list(self._faults.values())
        if not faults:
            return None
        segment, fault = faults[0]
        more = f" and {len(faults) - 1} more" if len(faults) > 1 else ""
        name = f"{self._folder.name}/{segment.file}{more}"
        return f"{name} cannot be read ({fault}); `loadlens-service repair` puts it aside"

    def caveat(self, ranges: Iterable[tuple[int, int]]) -> str | None:
        """What answers from windows that end in these ranges lack; None where they lack nothing."""
        gone = [(one.file, one.first_ms, one.last_ms) for one in self.damaged()] + self._lost
        if not gone:
            return None
        asked = [*ranges]
        lacking = [one for one in gone if any(one[1] < end_ms and one[2] >= start_ms for start_ms, end_ms in asked)]
        if not lacking:
            return None
        names = ", ".join(file for file, _, _ in lacking[:3]) + (" ..." if len(lacking) > 3 else "")
        first, last = min(one[1] for one in lacking), max(one[2] for one in lacking)
        return f"windows from {_moment(first)} to {_moment(last)} are missing here and there: {names} is damaged"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
