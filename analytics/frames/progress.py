"""A progress bar for what takes over a second, on a terminal or in a notebook; elsewhere nothing is shown."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def progress(what: str, total: int, *, patience_s: float = 1.0) -> Iterator[Callable[[], None]]:
    """Gives a function that is called after each of `total` steps; the bar is gone when the context ends.

    `what` names the work beside the bar, which is shown after `patience_s` seconds.
    """
    bar: Progress | None = None
    task: TaskID | None = None
    done = 0
    began = time.monotonic()

    def step() -> None:
        nonlocal bar, task, done
        done += 1
        if bar is None and time.monotonic() - began > patience_s and done < total:
            bar = _bar()
            task = bar.add_task(what, total=total)
            bar.start()
        if bar is not None and task is not None:
            bar.update(task, completed=done)

    try:
        yield step
    finally:
        if bar is not None:
            bar.stop()


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn(),
        console=console, transient=True, disable=not (console.is_terminal or console.is_jupyter),
    )  # fmt: skip
