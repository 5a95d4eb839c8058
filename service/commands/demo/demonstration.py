"""Loading a fleet while a person looks on."""

from datetime import UTC, datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from contract import times
from service.commands.demo.client import Client
from service.commands.demo.fleet import Fleet
from service.commands.demo.loading import Loaded, Plan, load, plan


def demonstrate(fleet: Fleet, client: Client, console: Console, *, again: bool) -> bool:
    """Load a fleet; True where nothing of it was refused.

    A fleet that is there already is sent `again` only where asked. Raises ClientError.
    """
    todo = plan(fleet, client.last_seen(), times.now_ms())
    if todo.complete and not again:
        console.print(
            f"The fleet of {len(fleet.users):,} machines is there already, up to {_moment(todo.fleet.last_ms)}."
        )
        return True
    console.print(_description(todo))
    with _progress(console) as progress:
        task = progress.add_task("Loading", total=len(todo.fleet))
        loaded = load(todo.fleet, client, lambda windows: progress.advance(task, windows))
    console.print(_summary(loaded))
    return not loaded.rejected


def _description(todo: Plan) -> str:
    fleet = todo.fleet
    size = f"{len(fleet.users):,} machines, {len(fleet):,} windows of five minutes, until {_moment(fleet.last_ms)}"
    if todo.continues_after_ms is not None:
        return f"The fleet, which ended {_moment(todo.continues_after_ms)}, goes on:\n{size}."
    return f"{size}.\nEach window is a recorded mean: one observation, no variance, no single cores."


def _summary(loaded: Loaded) -> str:
    rate = (loaded.accepted + loaded.duplicates) / max(loaded.seconds, 1e-3)
    text = f"Loaded {loaded.accepted:,} windows in {loaded.seconds:.1f} s ({rate:,.0f} a second)."
    if loaded.duplicates:
        text += f"\n{loaded.duplicates:,} were there already; they count once."
    if loaded.rejected:
        text += f"\n{loaded.rejected:,} were refused; the first for {loaded.reason}"
    return text


def _moment(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M} UTC"


class _Windows(ProgressColumn):
    """How many, and how fast."""

    def render(self, task: Task) -> Text:
        """Such as `912,384 / 2,035,584  41,200/s`."""
        speed = task.finished_speed or task.speed
        return Text(f"{task.completed:,.0f} / {task.total:,.0f}" + (f"  {speed:,.0f}/s" if speed else ""))


def _progress(console: Console) -> Progress:
    left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), _Windows(), left, console=console)
