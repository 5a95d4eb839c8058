"""The examples of docs/analytics.md run as they stand."""

import doctest
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]


def test_every_example_of_the_guide_answers_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    with pd.option_context("display.width", 120):
        page = str(ROOT / "docs" / "analytics.md")
        found = doctest.testfile(page, module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 15
    assert found.failed == 0
