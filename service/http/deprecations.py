"""What is going to go, said in the answers that use it: Deprecation (RFC 9745), Sunset (RFC 8594).

docs/api.md has the policy.
"""

from datetime import UTC, datetime
from email.utils import format_datetime
from typing import NamedTuple

from falcon.asgi import Response


class Deprecated(NamedTuple):
    """Something that has a better successor."""

    what: str
    instead: str
    since: datetime
    until: datetime
    """It may be gone from then on."""


AUDIT_BEFORE = Deprecated(
    "the parameter before of /api/v1/audit",
    "after",
    datetime(2026, 12, 1, tzinfo=UTC),
    datetime(2027, 12, 1, tzinfo=UTC),
)
ALL = (AUDIT_BEFORE,)
"""Everything that is deprecated."""


def warn(resp: Response, deprecated: Deprecated) -> None:
    """Say in an answer that what was used is deprecated."""
    resp.set_header("Deprecation", f"@{deprecated.since.timestamp():.0f}")
    resp.set_header("Sunset", format_datetime(deprecated.until, usegmt=True))
