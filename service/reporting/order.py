"""What a report is to be of, as the service tells it to the process that makes it, and what comes back."""

from typing import Literal

from msgspec import Struct

__all__ = ["Form", "Made", "Order", "Refused"]

Form = Literal["html", "md", "json"]


class Order(Struct, frozen=True, kw_only=True):
    """A report to make. Moments and durations are milliseconds; None leaves the choice to the report."""

    user_id: str | None
    """None for the fleet."""
    form: Form
    start_ms: int | None = None
    end_ms: int | None = None
    last_ms: int | None = None
    compare_ms: int | None = None
    target: float = 0.8


class Refused(Struct, frozen=True, tag=True):
    """There is no such report."""

    status: int
    detail: str


class Made(Struct, frozen=True, tag=True):
    """A finished report."""

    content: bytes
    policy: str = ""
    """The Content-Security-Policy of a page."""
