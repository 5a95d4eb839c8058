"""Which stores are copied, from their addresses, opened as the service opens them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from service.app import replay
from service.journal import Journal
from service.stores.base import StoreError
from service.stores.embedded.catalog import StoreInUse
from service.stores.embedded.portable import PortableEmbeddedStore
from service.stores.portable import PortableStore

__all__ = ["AddressError", "Opened", "check", "open_store"]

_EMBEDDED = "embedded:"
_FILE = "loadlens.duckdb"
_JOURNAL_BYTES = 1 << 40
"""What is in a journal is taken, however much it is; nothing is put into it."""


class AddressError(ValueError):
    """An address of no store; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A store with the reports of its journal, all on its own disk."""

    store: PortableStore
    journal: Journal
    replayed: int
    """Reports that were in the journal only."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()
        self.journal.close()
        self.journal.prune(self.store.flushed)


def folder_of(address: str) -> Path:
    """The folder of an embedded store; raises AddressError for an address of another kind."""
    if "://" in address:
        raise AddressError(f"{address}: no such kind of store; embedded:FOLDER is right")
    text = address.removeprefix(_EMBEDDED)
    if not text:
        raise AddressError(f"{address}: the folder is missing; embedded:var/loadlens is right")
    return Path(text).expanduser()


def check(source: str, target: str) -> None:
    """Raise AddressError where one of two addresses is wrong, or both are of the same store."""
    folder, other = folder_of(source), folder_of(target)
    if folder.resolve() == other.resolve():
        raise AddressError(f"{source} and {target} are the same store")
    if not (folder / _FILE).exists():
        raise AddressError(f"{source}: holds no store; the --data-dir of a service, with {_FILE} in it, is right")


def open_store(address: str, memory: str) -> Opened:
    """The store at an address such as `embedded:var/loadlens`, made where there is none; a folder alone will do.

    Raises AddressError, and StoreError where it cannot be used.
    """
    folder = folder_of(address)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        store = PortableEmbeddedStore(folder, memory)
    except StoreInUse:
        raise StoreError(
            f"{address} is in use by a running service, which alone can read it. "
            "Stop the service, give this command again, and start the service when it is done."
        ) from None
    except OSError as error:
        raise StoreError(f"{address} cannot be used: {error.strerror or error}") from None
    journal = Journal(folder / "journal", _JOURNAL_BYTES)
    journal.advance_to(store.flushed)
    replayed = replay(journal, store)
    store.flush()
    return Opened(store, journal, replayed)
