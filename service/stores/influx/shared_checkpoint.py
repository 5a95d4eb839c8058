"""The checkpoint that the writers of a cluster share: whoever has the lease goes on where the one before was."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from service.stores.influx.lines import Lines, lines_of
from service.stores.influx.users import CatalogedUser

if TYPE_CHECKING:
    from service.cluster.ledger import WriterLedger


class SharedCheckpoint:
    """A ledger as a checkpoint (`service.stores.influx.checkpoint.Checkpoint`), with the same methods.

    Of users it keeps nothing: InfluxDB has what it was told of them, and nobody writes without it.
    """

    def __init__(self, ledger: "WriterLedger") -> None:
        self._ledger = ledger
        self.path = Path(ledger.name)
        self.owner = ledger.owner
        """One name for all writers of a cluster."""
        self.problem = None
        self.value = ledger.value
        self.done = ledger.done
        self.forget_noted = ledger.forget_noted
        self.next_parts = ledger.next_parts
        self.forget_parts = ledger.forget_parts

    def users(self) -> list[CatalogedUser]:
        """No users: this process keeps none by itself."""
        return []

    def forget(self, user_id: str) -> None:
        """Nothing is kept of any user."""

    def put(
        self,
        values: Mapping[str, int],
        users: Iterable[CatalogedUser] = (),
        noted: Iterable[Lines] = (),
        parts: Iterable[tuple[int, int, int]] = (),
    ) -> None:
        """Keep numbers, rows to be written and the numbers of parts, all or nothing, where a quorum has them."""
        self._ledger.put(values, (_texts(lines) for lines in noted), parts)

    def begin(self, offset: int, noted: Iterable[Lines], batch: Callable[[], bytes]) -> None:
        """Keep that a flush begins, through a journal offset, and of which windows it is."""
        self._ledger.put({"begun": offset}, (_texts(lines) for lines in noted), batch=batch())

    def noted(self) -> Iterator[tuple[int, Lines]]:
        """What is noted and not done, oldest first, each with its number."""
        return ((number, lines_of(texts)) for number, texts in self._ledger.noted())

    @property
    def has_noted(self) -> bool:
        """Whether anything noted is not done."""
        return self._ledger.has_noted

    def close(self) -> None:
        """Nothing: the connection is another's."""


def _texts(lines: Lines) -> Sequence[str]:
    texts: list[str] = lines.text.to_pylist()
    return texts
