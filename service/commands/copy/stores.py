"""The stores of a copy: opened from their addresses as the service opens them, and what they hold of each day."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from analytics.sources.influx_address import Address, Credentials, is_influx
from analytics.sources.influx_client import InfluxClient, InfluxError
from contract.metrics import QUANTITIES, Cpu
from contract.times import DAY_MS
from service.control.data_lock import DataFolderError, DataFolderInUse, DataLock, lock_data_folder
from service.ingest.maintenance import replay
from service.journal.journal import Journal
from service.stores.base import Question, Store, StoreError
from service.stores.embedded.catalog import StoreInUse
from service.stores.embedded.store import EmbeddedStore
from service.stores.influx.checkpoint import refuse_without_checkpoint
from service.stores.opening import influx_folder

_EMBEDDED = "embedded:"
_FILE = "loadlens.duckdb"
_DAYS_AT_ONCE = 30
_JOURNAL_BYTES = 1 << 40
"""What is in a journal is taken, however much it is; nothing is put into it."""

StoreAddress = Path | Address
"""The folder of an embedded store, or the address of an InfluxDB."""


class FolderInUse(StoreError):
    """A running service has the folder."""


class AddressError(ValueError):
    """An address of no store; the message says what was expected."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A store with the reports of its journal, all on its own disk."""

    store: Store
    offset: int
    """The journal offset through which it holds everything."""
    replayed: int = 0
    """Reports that were in the journal only."""
    is_running: bool = False
    """Whether the service of an InfluxDB's journal runs, which alone can read that."""


def parse_store_address(address: str, *, new: bool) -> StoreAddress:
    """What an address such as `embedded:var/loadlens` means; a folder alone will do.

    Raises AddressError where it is wrong, and where there is no store that need not be `new`.
    """
    if is_influx(address):
        try:
            return Address.parse(address)
        except ValueError as error:
            # The address may have a password in it.
            raise AddressError(f"the address of an InfluxDB: {error}") from None
    if "://" in address:
        raise AddressError(f"expected embedded:FOLDER or influx://HOST:PORT/DATABASE, got {address}")
    text = address.removeprefix(_EMBEDDED)
    if not text:
        raise AddressError(f"expected a folder as in embedded:var/loadlens, got {address}")
    folder = Path(text).expanduser().resolve()
    if not new and not (folder / _FILE).exists():
        raise AddressError(f"expected the --data-dir of a service, with {_FILE} in it, got {address}")
    return folder


@contextlib.contextmanager
def open_store(
    address: StoreAddress, credentials: Credentials, memory: str, *, new: bool, data_dir: Path | None = None
) -> Iterator[Opened]:
    """The store at an address, made where there is none and it may be `new`, with what its service's journal still has.

    The journal of an embedded store lies in its folder, that of an InfluxDB in `data_dir`, if anywhere. An InfluxDB
    that need not be `new` is read only, whoever has it. Raises StoreError where the store cannot be used.
    """
    with contextlib.ExitStack() as stack:
        store: Store
        is_running = False
        if isinstance(address, Address):
            # What a service remembers of a database on its own host is its own, unless it is asked for.
            home = influx_folder(data_dir, address) if data_dir else Path()
            is_services = data_dir is not None and home.exists()
            if data_dir is not None and is_services:
                try:
                    stack.enter_context(_locked(data_dir))
                except FolderInUse:
                    is_services, is_running = False, True
            if not is_services:
                home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="loadlens-copy-")))
        else:
            stack.enter_context(_locked(address))
            home = address
        journal = Journal(home / "journal", _JOURNAL_BYTES)
        if isinstance(address, Address):
            refuse_without_checkpoint(home, has_reports=not journal.is_empty)
            store = _influx(address, credentials, home, new=new, read_only=not new and not is_services)
        else:
            store = _embedded(address, memory, journal)
        try:
            journal.advance_to(store.flushed)
            replayed = replay(journal, store)
            store.flush()
            yield Opened(store, journal.last, replayed, is_running)
        finally:
            # What the journal has is left to the service, whose rules and streams may still read it.
            store.close()
            journal.close()


def _locked(folder: Path) -> DataLock:
    try:
        return lock_data_folder(folder)
    except DataFolderInUse:
        raise _in_use(folder) from None
    except DataFolderError as error:
        raise StoreError(str(error)) from None
    except OSError as error:
        raise StoreError(f"{folder} cannot be used: {error.strerror or error}") from None


def _embedded(folder: Path, memory: str, journal: Journal) -> Store:
    try:
        return EmbeddedStore(folder, memory, holds=journal.holds, notes_files=True)
    except StoreInUse:  # by a program that does not know the lock
        raise _in_use(folder) from None
    except OSError as error:
        raise StoreError(f"{folder} cannot be used: {error.strerror or error}") from None


def _in_use(folder: Path) -> FolderInUse:
    return FolderInUse(
        f"{folder} is in use by a running service, which alone can read it. "
        "Stop the service, give this command again, and start the service when it is done."
    )


def _influx(address: Address, credentials: Credentials, home: Path, *, new: bool, read_only: bool) -> Store:
    from service.stores.influx.store import InfluxStore

    if not new:
        try:
            found = InfluxClient(address, credentials).execute("SHOW DATABASES")
        except InfluxError as error:
            raise StoreError(str(error)) from None
        if address.database not in {row[0] for series in found for row in series.get("values", [])}:
            raise StoreError(
                f"{address}: there is no database {address.database}, or it is not to be seen by this user"
            )
    store = InfluxStore(address, credentials, home, read_only=read_only)
    if store.problem:
        store.close()
        raise StoreError(store.problem)
    return store


class DayRange(NamedTuple):
    """A range of days, of which some have data."""

    start_ms: int
    end_ms: int
    samples: int
    """Of whole hosts, of all quantities."""
    days: int
    """How many days have data."""


def day_name(day_ms: int) -> str:
    """Such as `2024-01-30`."""
    return f"{datetime.fromtimestamp(day_ms / 1000, UTC):%Y-%m-%d}"


def day_ranges(store: Store) -> list[DayRange]:
    """The days that have data, a month of them at a time, oldest first."""
    users = store.users()
    if users.empty:
        return []
    start_ms, end_ms = (int(time.timestamp() * 1000) // DAY_MS for time in _seen(users))
    days: dict[int, int] = {}
    for quantity in store.quantities:
        windows = store.answer(Question(quantity, start_ms * DAY_MS, (end_ms + 1) * DAY_MS, DAY_MS))
        for day, count in zip(_days(windows).tolist(), windows["count"].tolist(), strict=True):
            days[day] = days.get(day, 0) + count
    return [*_months(sorted(days.items()))]


def _seen(users: pd.DataFrame) -> tuple[pd.Timestamp, pd.Timestamp]:
    return users["first_seen"].min(), users["last_seen"].max()


def _months(days: Sequence[tuple[int, int]]) -> Iterator[DayRange]:
    for first in range(0, len(days), _DAYS_AT_ONCE):
        some = days[first : first + _DAYS_AT_ONCE]
        yield DayRange(some[0][0], some[-1][0] + DAY_MS, sum(count for _, count in some), len(some))


def counts(store: Store, span: DayRange) -> pd.DataFrame:
    """The samples of whole hosts in a span: a row for each `day` (its start) and `user`, a column a quantity."""
    columns = [pd.Series(0, pd.MultiIndex.from_arrays([[], []], names=["day", "user"]), name="")]
    for quantity in store.quantities:
        windows = store.answer(Question(quantity, span.start_ms, span.end_ms, DAY_MS, by="user"))
        index = pd.MultiIndex.from_arrays([_days(windows), windows["user"].astype(object)], names=["day", "user"])
        columns.append(pd.Series(windows["count"].to_numpy(), index, name=quantity.name))
    found = pd.concat(columns, axis=1).reindex(columns=[*QUANTITIES])
    return found.fillna(0).astype("int64").sort_index()


def with_cores(store: Store) -> list[str]:
    """The users of whom single cores were ever reported, by name."""
    cpu = Cpu.quantities[0]
    return [user for user in store.users()["user_id"] if store.cores(user, cpu)]


def core_counts(store: Store, user_id: str, span: DayRange) -> pd.DataFrame:
    """The samples of each core of a user: a row for each `day`, a column for each core."""
    question = Question(Cpu.quantities[0], span.start_ms, span.end_ms, DAY_MS, user_id=user_id, cores="each")
    windows = store.answer(question)
    index = pd.MultiIndex.from_arrays([_days(windows), windows["core"].astype("str")], names=["day", "core"])
    return pd.Series(windows["count"].to_numpy(), index).unstack("core", fill_value=0)


def _days(windows: pd.DataFrame) -> npt.NDArray[np.int64]:
    """The start of each window's day, epoch ms."""
    return pd.DatetimeIndex(windows.index).asi8
