"""Progress is shown to people who wait, and to nobody else."""

import io
import sys

import pytest

from analytics.frames.progress import progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, patience_s: float, stream: io.StringIO) -> str:
    """What three steps write to standard error, where a bar is shown to those who waited so long."""
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    with progress("trend of [red] users", 3, patience_s=patience_s) as step:
        for _ in range(3):
            step()
    return stream.getvalue()


def test_who_waits_at_a_terminal_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, -1.0, _Terminal())
    assert "trend of [red] users" in text
    assert "100%" in text


def test_what_is_quick_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, 60.0, _Terminal()) == ""


def test_files_and_pipes_are_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, -1.0, io.StringIO()).strip() == ""
