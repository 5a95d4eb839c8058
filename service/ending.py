"""Word of the server's end while connections are still open: the server itself tells only when all are closed."""

import asyncio
import signal
import threading
from collections.abc import Callable
from types import FrameType

__all__ = ["Ending"]


class Ending:
    """Calls what was registered, on the event loop, as soon as the server is asked to end.

    Streams that stay open register how they end: the server waits for them, up to its patience.
    """

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []

    def on_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called once."""
        self._callbacks.append(callback)

    def watch(self) -> None:
        """Begin; called on the event loop once the server has set its signal handlers, which still get their turn."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            before = signal.getsignal(number)

            def on_signal(number: int, frame: FrameType | None, before: "signal._HANDLER" = before) -> None:
                loop.call_soon_threadsafe(self.ring)
                if callable(before):
                    before(number, frame)

            signal.signal(number, on_signal)

    def ring(self) -> None:
        """The server ends."""
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
