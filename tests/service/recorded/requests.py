"""All recorded requests, in the order in which they are sent."""

from tests.service.recorded.asking import of
from tests.service.recorded.changes import AGENTS, GUARDED, RULES
from tests.service.recorded.dashboards import DASHBOARDS, DEVICES
from tests.service.recorded.questions import QUESTIONS, STREAMS
from tests.service.recorded.reporting import FIRST, MAIN, REFUSED, SECOND

__all__ = ["REQUESTS"]

REQUESTS = [
    *of("first", FIRST),
    *of("second", SECOND),
    *of("main", [*MAIN, *QUESTIONS, *STREAMS, *REFUSED, *AGENTS, *RULES, *DASHBOARDS, *DEVICES]),
    *of("guarded", GUARDED),
]
"""What each member means, `replay` says."""
