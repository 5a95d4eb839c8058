"""The templates of pages: one environment, in which everything is escaped and nothing may be missing."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

PAGES = Path(__file__).parent
"""The folder of templates, and of what pages load."""


def environment() -> "jinja2.Environment":
    """A new environment of the templates in `PAGES`; whoever asks adds the filters and globals of its page."""
    # Imported when a page is first asked for, so that the service starts quickly.
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
