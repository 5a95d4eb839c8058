"""`loadlens-service repair`: makes the embedded store's catalogue and rollups from its files of windows."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from contract.problems import plural
from contract.settings import Settings, load
from service.commands import failed
from service.settings import StoreMemory

_PROGRAM = "loadlens-service repair"
_DESCRIPTION = """Makes a data folder of the embedded store whole again, while no service uses it: the catalogue and the
rollups from the files of windows where loadlens.duckdb is missing, damaged or older than they are; files that are
damaged are put aside. Nothing is removed."""
_EPILOG = """examples:
  loadlens-service repair --data-dir /srv/loadlens
"""


class RepairSettings(Settings, frozen=True, kw_only=True):
    """What `loadlens-service repair` can be told."""

    data_dir: Annotated[
        str, Meta(min_length=1, description="Folder of the journal and the embedded store.", extra={"metavar": "DIR"})
    ] = "var/loadlens"
    store_memory: StoreMemory = "1GB"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code: 0, 1 for a failure, 2 for a wrong setting."""
    settings = load(RepairSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    # What repairs is imported only when it is wanted: --help answers at once.
    import duckdb

    from service.control.data_lock import DataFolderError, lock_data_folder
    from service.stores.base import StoreError
    from service.stores.embedded.repair import repair
    from service.stores.embedded.segments import UNREADABLE
    from service.stores.embedded.store import DATABASE

    folder = Path(settings.data_dir)
    if not (folder / "raw").is_dir():
        return failed(_PROGRAM, f"expected the --data-dir of a service with an embedded store, got {folder}")
    try:
        with lock_data_folder(folder):
            done = repair(folder / "raw", folder / DATABASE, settings.store_memory, say=print)
    except (StoreError, DataFolderError, duckdb.Error, *UNREADABLE) as error:
        return failed(_PROGRAM, error)
    made = "was made anew and lists" if done.was_made else "lists"
    print(f"The catalogue {made} {plural(done.files, 'file')} with {plural(done.windows, 'window')}.")
    for path in done.put_aside:
        print(f"Put aside: {path}")
    return 0
