"""The client of a service for programs that run an event loop."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Self

from analytics.sources.service import Client


class AsyncClient:
    """Every method of `Client`, to be awaited: `await service.fleet(rate="1h")`. An asynchronous context manager.

    Each call runs in a thread of its own, on the connections that all of them share, so the event loop goes on while an
    answer comes and is made a DataFrame; a call whose task is cancelled ends by itself, and what it brings is dropped.
    `audit`, which reads page by page, gives all entries at once.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        """A method of `Client`; raises AttributeError for what it does not have."""
        method = getattr(self._client, name)
        if name.startswith("_") or not callable(method):
            raise AttributeError(f"'AsyncClient' has no method {name!r}")

        @functools.wraps(method)
        async def awaited(*arguments: Any, **options: Any) -> Any:
            return await asyncio.to_thread(_whole, method, arguments, options)

        return awaited

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.to_thread(self._client.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _whole(method: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
    answer = method(*arguments, **options)
    return [*answer] if hasattr(answer, "__next__") else answer
