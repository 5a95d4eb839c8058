"""A copy while a person looks on."""

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from contract.times import format_duration
from service.commands.copy.counts import Span, day_name, spans
from service.commands.copy.opening import Opened
from service.commands.copy.transfer import Copied, Transfer
from service.commands.copy.verifying import Verdict, verify

_MAX_NAMED = 20


def show_copy(source: Opened, target: Opened, console: Console) -> bool:
    """Copy what `target` lacks of `source`, and compare them; True where nothing differs."""
    if source.replayed:
        console.print(f"{source.replayed:,} windows were in the source's journal only; they are copied too.")
    todo = spans(source.store)
    total = sum(span.samples for span in todo)
    users, days = len(source.store.users()), sum(span.days for span in todo)
    console.print(f"Machines: {users:,}. Days with data: {days:,}. Samples: {total:,}.")
    if not todo:
        console.print("There is nothing to copy.")
        return True
    copied = _transfer(source, target, todo, total, console)
    console.print(_done(copied))
    verdict = _verify(source, target, todo, total, console)
    console.print(_found(verdict))
    return not verdict.differences


def _transfer(source: Opened, target: Opened, todo: list[Span], total: int, console: Console) -> Copied:
    with _progress(console, _Windows()) as progress:
        task = progress.add_task("Copying", total=total, windows=0)

        def advance(samples: int, windows: int) -> None:
            progress.update(task, advance=samples, windows=progress.tasks[task].fields["windows"] + windows)

        transfer = Transfer(source.store, target.store, target.offset, advance)
        for span in todo:
            transfer.run(span)
    return transfer.copied


def _verify(source: Opened, target: Opened, todo: list[Span], total: int, console: Console) -> Verdict:
    verdict = Verdict()
    with _progress(console) as progress:
        task = progress.add_task("Comparing", total=total)
        for span in todo:
            verify(source.store, target.store, span, verdict, lambda samples: progress.advance(task, samples))
    return verdict


def _done(copied: Copied) -> str:
    lines = [f"Windows copied: {copied.windows:,}."]
    if copied.there:
        lines.append(f"{copied.there:,} samples were there already; they count once.")
    for tier, buckets in sorted(copied.rollups.items()):
        lines.append(
            f"{buckets:,} rollups of {format_duration(tier)} stand for days whose windows the source has no more."
        )
    for user, day in copied.conflicts[:_MAX_NAMED]:
        lines.append(f"{user}, {day_name(day)}: only rollups are left, and the target has other windows of that day.")
    return "\n".join(lines)


def _found(verdict: Verdict) -> str:
    compared = f"{verdict.sums:,} sums of a user, quantity, core and day; {verdict.samples:,} samples"
    if not verdict.differences:
        return (
            f"Verified: {compared}.\nCounts, means, variances, extremes and histograms are those of the source "
            f"(checksum {verdict.checksum:016x})."
        )
    lines = [f"DIFFERENT: {verdict.differences:,} of {compared}."]
    lines += [f"  {words}" for words in verdict.named]
    if verdict.differences > len(verdict.named):
        lines.append(f"  and {verdict.differences - len(verdict.named):,} more")
    return "\n".join(lines)


class _Windows(ProgressColumn):
    """How many windows, and how fast."""

    def render(self, task: Task) -> Text:
        """Such as `912,384 windows  41,200/s`."""
        windows = task.fields["windows"]
        elapsed = task.finished_time or task.elapsed
        return Text(f"{windows:,} windows" + (f"  {windows / elapsed:,.0f}/s" if elapsed and windows else ""))


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    share = TextColumn("{task.percentage:>3.0f} %")
    left = TimeRemainingColumn(compact=True, elapsed_when_finished=True)
    return Progress(TextColumn("{task.description}"), BarColumn(), share, *columns, left, console=console)
