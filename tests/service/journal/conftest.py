"""Journals to begin with."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.journal.journal import Journal

LIMIT = 1 << 40


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a journal can be made."""
    return tmp_path / "journal"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """An empty journal."""
    journal = Journal(path, LIMIT)
    yield journal
    journal.close()


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
