"""Which stores are copied, from their addresses, opened as the service opens them."""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from analytics.sources.influx_address import Address, Credentials, is_influx
from analytics.sources.influx_client import Client, InfluxError
from service.ingest.maintenance import replay
from service.journal.journal import Journal
from service.stores.base import StoreError
from service.stores.dump import PortableStore
from service.stores.embedded.catalog import StoreInUse
from service.stores.embedded.dump import PortableEmbeddedStore
from service.stores.opening import influx_folder

_EMBEDDED = "embedded:"
_FILE = "loadlens.duckdb"
_JOURNAL_BYTES = 1 << 40
"""What is in a journal is taken, however much it is; nothing is put into it."""

Place = Path | Address
"""The folder of an embedded store, or the address of an InfluxDB."""


class AddressError(ValueError):
    """An address of no store; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A store with the reports of its journal, all on its own disk."""

    store: PortableStore
    offset: int
    """The journal offset through which it holds everything."""
    replayed: int = 0
    """Reports that were in the journal only."""


def place_of(address: str, *, new: bool) -> Place:
    """The place that an address such as `embedded:var/loadlens` names; a folder alone will do.

    Raises AddressError where it is wrong, and where there is no store that need not be `new`.
    """
    if is_influx(address):
        try:
            return Address.parse(address)
        except ValueError as error:
            # The address may have a password in it.
            raise AddressError(f"the address of an InfluxDB: {error}") from None
    if "://" in address:
        raise AddressError(f"{address}: no such kind of store; embedded:FOLDER or influx://HOST:PORT/DATABASE is right")
    text = address.removeprefix(_EMBEDDED)
    if not text:
        raise AddressError(f"{address}: the folder is missing; embedded:var/loadlens is right")
    folder = Path(text).expanduser().resolve()
    if not new and not (folder / _FILE).exists():
        raise AddressError(f"{address}: holds no store; the --data-dir of a service, with {_FILE} in it, is right")
    return folder


@contextlib.contextmanager
def open_store(
    place: Place, credentials: Credentials, memory: str, *, new: bool, data_dir: Path | None = None
) -> Iterator[Opened]:
    """The store of a place, made where there is none and it may be `new`, with what its service's journal still has.

    The journal of an embedded store lies in its folder, that of an InfluxDB in `data_dir`, if anywhere. Raises
    StoreError where the store cannot be used.
    """
    with contextlib.ExitStack() as stack:
        store: PortableStore
        if isinstance(place, Address):
            # What a service remembers of a database on its own machine is its own, unless it is asked for.
            home = influx_folder(data_dir, place) if data_dir else Path()
            if not data_dir or not home.exists():
                home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadlens-copy-")))
            store = _influx(place, credentials, home, new=new)
        else:
            home, store = place, _embedded(place, memory)
        journal = Journal(home / "journal", _JOURNAL_BYTES)
        try:
            journal.advance_to(store.flushed)
            replayed = replay(journal, store)
            store.flush()
            yield Opened(store, journal.last, replayed)
        finally:
            # What the journal has is left to the service, whose rules and streams may still read it.
            store.close()
            journal.close()


def _embedded(folder: Path, memory: str) -> PortableStore:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return PortableEmbeddedStore(folder, memory)
    except StoreInUse:
        raise StoreError(
            f"{folder} is in use by a running service, which alone can read it. "
            "Stop the service, give this command again, and start the service when it is done."
        ) from None
    except OSError as error:
        raise StoreError(f"{folder} cannot be used: {error.strerror or error}") from None


def _influx(address: Address, credentials: Credentials, home: Path, *, new: bool) -> PortableStore:
    from service.stores.influx.dump import PortableInfluxStore

    if not new:
        try:
            found = Client(address, credentials).execute("SHOW DATABASES")
        except InfluxError as error:
            raise StoreError(str(error)) from None
        if address.database not in {row[0] for series in found for row in series.get("values", [])}:
            raise StoreError(
                f"{address}: there is no database {address.database}, or it is not to be seen by this user"
            )
    store = PortableInfluxStore(address, credentials, home)
    if store.problem:
        store.close()
        raise StoreError(store.problem)
    return store
