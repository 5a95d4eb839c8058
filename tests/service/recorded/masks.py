"""What of an answer depends on the clock, on chance or on versions of others: hidden before answers are compared.

Each rule names the paths it is for, what it finds there and what stands for it. Nothing else may differ.
"""

import re
from typing import NamedTuple

__all__ = ["masked"]


class Mask(NamedTuple):
    """One rule, for answers of the paths that match in full; it looks at `name: value` of headers, and at the body."""

    paths: str
    finds: str
    shows: str


_INSTANT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3})?Z"
_AGENTS = r"/api/v1/agents(/.*)?"
_COMMANDS = r"/api/v1/(agents/.*/commands|commands/.*)"
_REPORTS = r"/reports/.*"

MASKS = (
    # The service's clock.
    Mask(r"/api/v1/metrics", r"is [0-9]+ s ahead", "is <so many> s ahead"),
    Mask(r"/api/v1/metrics", r"expected 1[789][0-9]{11} or later", "expected <what is kept> or later"),
    Mask(_AGENTS, rf'"last_seen":"{_INSTANT}"', '"last_seen":"<now>"'),
    Mask(_COMMANDS, rf'"(created|expires|finished)":"{_INSTANT}"', r'"\1":"<now>"'),
    Mask(r"/api/v1/audit", rf'"at":"{_INSTANT}"', '"at":"<now>"'),
    Mask(r"/api/v1/audit", r'"(until_ms|created_ms)":[0-9]+', r'"\1":"<now>"'),
    Mask(r"/api/v1/silences", rf'"(start|until|created)":"{_INSTANT}"', r'"\1":"<now>"'),
    Mask(r"/api/v1/notifications(/.*)?", rf'"(created|due)":"{_INSTANT}"', r'"\1":"<now>"'),
    # What fired at a fixed time is resolved now where its rule is taken away.
    Mask(r"/api/v1/alerts", rf'"resolved":"(?!2025-03){_INSTANT}"', '"resolved":"<now>"'),
    # When a report was made, its ETag, which is a hash of it, and for how much longer it is kept.
    Mask(_REPORTS, r"^cache-control: private, max-age=[0-9]+$", "cache-control: private, max-age=<so long>"),
    Mask(_REPORTS, r'^etag: "[0-9a-f]{32}"$', 'etag: "<hash>"'),
    Mask(_REPORTS, rf'^ "made": "{_INSTANT}"', ' "made": "<now>"'),
    Mask(_REPORTS, r"^Made [0-9-]+ [0-9:]+ UTC by ", "Made <now> UTC by "),
    # Ids made by chance.
    Mask(_COMMANDS, r'"id": ?"[0-9a-f]{16}"', '"id":"<command>"'),
    Mask(_COMMANDS, r"^location: /api/v1/commands/[0-9a-f]{16}$", "location: /api/v1/commands/<command>"),
    Mask(r"/api/v1/(agents/.*/state|metrics)", r'"id":"[0-9a-f]{16}"', '"id":"<command>"'),
    Mask(r"/api/v1/(audit|silences)", r'"id":"[0-9a-f]{16}"', '"id":"<chance>"'),
    Mask(r"/api/v1/audit", r'"target":"silence:[0-9a-f]{16}"', '"target":"silence:<chance>"'),
    Mask(r"/api/v1/notifications(/.*)?", r'"id":"msg_[0-9a-f]{32}"', '"id":"<message>"'),
    # The start of the service that a version of an answer is counted from.
    Mask(r"/api/v1/(metrics/.*|windows/.*|query)", r'^etag: "[0-9a-f]{8}[.]', 'etag: "<start>.'),
    # Documents that have tests of their own, and names of files by their content.
    Mask(r"/(openapi[.]json|docs)", r"(?s)\A[{<].*\Z", "<document>"),
    Mask(r"/(openapi[.]json|docs|machines)", r'^etag: ".*"$', 'etag: "<hash>"'),
    Mask(r"/", r"/static/[0-9a-f]{16}/", "/static/<hash>/"),
    # Versions of others.
    Mask(r"/readyz", r"DuckDB [0-9.]+", "DuckDB <version>"),
    # Of the service's own numbers the names and what they mean: values and Python's own labels change by themselves.
    Mask(r"/metrics", r"^[^#].*\n", ""),
)


def masked(path: str, text: str) -> str:
    """The text of an answer of a path, without its query, as it is compared."""
    for mask in MASKS:
        if re.fullmatch(mask.paths, path):
            text = re.sub(mask.finds, mask.shows, text, flags=re.MULTILINE)
    return text
