"""Questions to the store, in threads of their own: where it stands still, nothing else waits behind them."""

import asyncio
import contextvars
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from falcon.asgi import Request

P = ParamSpec("P")
T = TypeVar("T")
_THREADS = min(32, (os.cpu_count() or 1) + 4)
"""As asyncio has for all else; more answers at once only take memory."""
_pool = ThreadPoolExecutor(_THREADS, "ask")


async def ask(work: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """The outcome of `work`, which asks the store and blocks."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_pool, lambda: context.run(work, *arguments, **options))


async def gone(req: Request) -> None:
    """Returns when the client has gone: servers take what is sent to it then, and say nothing."""
    while (await req._receive())["type"] != "http.disconnect":
        pass
