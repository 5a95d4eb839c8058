"""The embedded store's own file: made, upgraded, or refused with a word on what to do."""

import subprocess
import sys
from base64 import b64decode, b64encode
from contextlib import closing
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.times import DAY_MS, HOUR_MS
from service.stores.base import Question, StoreError
from service.stores.embedded import catalog, forms
from service.stores.embedded.catalog import MIGRATIONS
from service.stores.embedded.segments import UNREADABLE, origin_of
from service.stores.embedded.store import EmbeddedStore
from service.stores.systems import NOT_RECORDED
from tests.support.five_weeks import END_MS, START_MS
from tests.support.recordings import CPU, Host, Recording
from tests.support.running import ROOT

NEWER = (*MIGRATIONS, "CREATE TABLE made_up (number INTEGER NOT NULL); INSERT INTO made_up VALUES (7)")
FILE = "loadlens.duckdb"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a store of one window."""
    recording = Recording()
    recording.cpu(Host("one"), START_MS, np.array([0.25, 0.75]))
    store = EmbeddedStore(tmp_path)
    store.add(1, recording.reports)
    store.close()
    return tmp_path


def mean(store: EmbeddedStore, rate_ms: int = DAY_MS) -> list[float]:
    windows = store.answer(Question(CPU, START_MS, END_MS, rate_ms, "one"))
    values: list[float] = windows["mean"].tolist()
    return values


@pytest.mark.parametrize("name", ["a/b", "o'brien; DROP TABLE state --", "with space % \u00fc", "{braces}*[a]"])
def test_a_folder_may_have_any_name_and_is_made(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    recording = Recording()
    recording.cpu(Host("one"), START_MS, np.array([0.25, 0.75]))
    store = EmbeddedStore(folder)
    for last in range(1, 5):
        store.add(last, recording.reports)
        store.flush()
    assert store.compact()
    assert mean(store) == mean(store, rate_ms=1000) == [0.5]
    store.close()
    assert (folder / FILE).is_file()


def test_a_file_whose_footer_is_damaged_holds_no_compaction_up(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    for last in range(1, 9):
        recording = Recording()
        recording.cpu(Host("one"), START_MS + last * HOUR_MS, np.array([0.25, 0.75]))
        store.add(last, recording.reports)
        store.flush()
    first, *_ = sorted((tmp_path / "raw").glob("*.parquet"))
    whole = first.read_bytes()
    # What it was made of is said as JSON, within Arrow's schema; all pages are whole.
    schema = pq.read_metadata(first).metadata[b"ARROW:schema"]
    wrong = b64encode(b64decode(schema).replace(b'{"after"', b'["after"'))
    assert len(wrong) == len(schema) and wrong != schema
    first.write_bytes(whole.replace(schema, wrong))
    with pytest.raises(UNREADABLE):
        origin_of(first)
    while store.compact():
        pass
    assert store.problem is not None and first.name in store.problem
    assert len([*(tmp_path / "raw").glob("*.parquet")]) < 8
    store.close()


def test_a_file_of_an_older_version_is_upgraded_and_keeps_its_content(folder: Path) -> None:
    for _ in range(2):
        store = EmbeddedStore(folder, migrations=NEWER)
        assert mean(store) == [0.5]
        store.close()
    connection = catalog.open_catalog(folder / FILE, "256MB", NEWER)
    assert connection.execute("FROM made_up").fetchall() == [(7,)]
    connection.close()


def test_a_file_of_a_newer_version_is_refused_and_not_touched(folder: Path) -> None:
    EmbeddedStore(folder, migrations=NEWER).close()
    content = (folder / FILE).read_bytes()
    with pytest.raises(
        StoreError, match=rf"{FILE} has format {len(NEWER)}; .* up to {len(MIGRATIONS)}\. Use the newer"
    ):
        EmbeddedStore(folder)
    assert (folder / FILE).read_bytes() == content
    store = EmbeddedStore(folder, migrations=NEWER)
    assert mean(store) == [0.5]
    store.close()


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(folder: Path) -> None:
    broken = (*NEWER[:-1], "DROP TABLE machine; DROP TABLE not_there")
    with pytest.raises(Exception, match="not_there"):
        EmbeddedStore(folder, migrations=broken)
    store = EmbeddedStore(folder)
    assert mean(store) == [0.5]
    assert store.has_user("one")
    store.close()


def test_a_second_process_is_refused_while_the_first_goes_on(folder: Path) -> None:
    store = EmbeddedStore(folder)
    script = (
        "import sys; from pathlib import Path\n"
        "from service.stores.base import StoreError\n"
        "from service.stores.embedded.store import EmbeddedStore\n"
        "try: EmbeddedStore(Path(sys.argv[1]))\n"
        "except StoreError as error: sys.exit(str(error))"
    )
    second = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert second.returncode == 1
    assert "in use by another process" in second.stderr
    assert "--data-dir" in second.stderr
    assert mean(store) == [0.5]
    store.close()


@pytest.mark.parametrize("content", [b"not a database at all\n" * 1000, b"SQLite format 3\0" + bytes(5000)])
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(StoreError, match=FILE):
        EmbeddedStore(tmp_path)
    assert (tmp_path / FILE).read_bytes() == content


def test_a_closed_store_can_be_opened_again_in_the_same_process(folder: Path) -> None:
    for _ in range(3):
        store = EmbeddedStore(folder)
        assert mean(store) == [0.5]
        store.close()


def test_what_ran_before_it_was_recorded_is_not_made_up(tmp_path: Path) -> None:
    """A file of the first format knows what a host said last, and no more."""
    recording = Recording()
    for place in range(3):
        recording.cpu(Host("old", "Linux", "20.04"), START_MS + place * HOUR_MS, np.array([0.2]))
    with closing(EmbeddedStore(tmp_path)) as store:
        store.add(3, recording.reports)
    with closing(duckdb.connect(str(tmp_path / "loadlens.duckdb"))) as file:
        for path in (tmp_path / "raw").glob("*.parquet"):
            pq.write_table(pa.Table.from_batches([forms.read(pq.read_table(path))]), path)
            file.execute("UPDATE segment SET bytes = ?", [path.stat().st_size])
        file.execute(
            "DROP TABLE system; DROP TABLE garbage; DROP TABLE lost;"
            "DROP TABLE process_window; DROP TABLE process_use; ALTER TABLE segment DROP COLUMN has_names;"
            "ALTER TABLE segment DROP COLUMN checksum; ALTER TABLE segment DROP COLUMN form;"
            "ALTER TABLE segment DROP COLUMN settled;"
            "ALTER TABLE run DROP COLUMN has_fleet; ALTER TABLE machine DROP COLUMN labels;"
            "ALTER TABLE machine DROP COLUMN devices;"
            "UPDATE version SET number = 1"
        )
    with closing(EmbeddedStore(tmp_path)) as store:
        newer = Recording()
        newer.cpu(Host("old", "Linux", "22.04"), START_MS + 3 * HOUR_MS, np.array([0.6]))
        store.add(4, newer.reports)
        windows = store.answer(Question(CPU, 0, 1 << 45, 52 * 7 * DAY_MS, by="os_version"))
    assert dict(zip(windows["os_version"], windows["count"].tolist(), strict=True)) == {
        NOT_RECORDED: 2, "20.04": 1, "22.04": 1,
    }  # fmt: skip
