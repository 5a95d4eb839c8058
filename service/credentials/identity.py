"""Who makes a request, and what a role allows it."""

from collections.abc import Callable
from functools import cached_property
from typing import Literal

from msgspec import Struct

from contract.selectors import matcher

Role = Literal["agent", "reader", "operator", "admin", "enrolment"]
"""`agent`: reports, states and the stream of instructions of one user id. `reader`: asks. `operator`: changes settings,
rules and the like too. `admin`: tokens too. `enrolment`: an agent gets its own token with it, and nothing else."""
EVERYONE = "*"
"""The scope of all user ids."""
_SHARED = frozenset(("none", "token", "operator"))
"""What stands for the id of a token where none was shown, or one of the settings'."""


class Identity(Struct, frozen=True, dict=True):
    """Who makes a request."""

    role: Role
    scope: str = EVERYONE
    """The user ids that it is about: an id for an agent, else a pattern."""
    token: str = "none"  # noqa: S105 - its id
    """The id of the token that was shown; `token` or `operator` for those of the settings, `none` without any."""
    session: str = ""
    """The id of the session, where a browser has signed in."""
    text: str = ""
    """Which text of the token was shown, as `Secret.name` says; empty for what has none, and where it is not known."""

    @cached_property
    def is_counted(self) -> bool:
        """Whether what it takes is counted: not where many share it, as the settings' tokens and enrolments'."""
        return self.token not in _SHARED and self.role != "enrolment"

    @property
    def is_scoped(self) -> bool:
        """Whether it is about some user ids only."""
        return self.scope != EVERYONE

    @cached_property
    def covers(self) -> Callable[[str], bool]:
        """Whether a user id is in its scope. An agent's scope is an id, whatever characters it has."""
        if self.role == "agent" and self.is_scoped:
            return self.scope.__eq__
        return matcher([self.scope])


ANYBODY = Identity("admin")
"""Who asks a service that asks for no token."""
