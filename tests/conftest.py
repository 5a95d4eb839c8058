"""How all tests run, and a browser for those that look at pages."""

import os
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Machines that share their cores miss deadlines that say nothing about the code. A failure in CI repeats itself.
settings.register_profile("loadlens", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("loadlens")


# No longer than a module: while it is there, its event loop keeps tests from running one of their own.
@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """Chromium as it is installed."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--headless", "--no-sandbox"])
        yield browser
        browser.close()
