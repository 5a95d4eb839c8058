"""Copies of a store hold what the source held: each window once, exactly, wherever the copy was cut short."""

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import duckdb
import numpy as np
import pytest

from analytics.frames.columns import NUMBERS
from analytics.frames.frame import unpacked
from contract.metrics import QUANTITIES, Cpu
from contract.report import Report, encode
from contract.times import DAY_MS, HOUR_MS
from service.commands.copy import main
from service.journal.journal import Journal
from service.stores.base import Question, Store
from service.stores.embedded.store import EmbeddedStore
from tests.support import process_uses
from tests.support.five_weeks import END_MS, HOSTS, START_MS, batches, record
from tests.support.recordings import CPU, Host, Recording, assert_quantiles, assert_same_moments, times_of
from tests.support.running import ROOT, wait_until

pytestmark = pytest.mark.slow

BEGIN_MS, UNTIL_MS = START_MS - DAY_MS, END_MS + 10 * DAY_MS


def fill(folder: Path, recording: Recording, *, flushes: int = 6) -> None:
    """An embedded store that holds a recording."""
    store = EmbeddedStore(folder, "256MB")
    last = 0
    for part in batches(recording.reports, flushes):
        last += len(part)
        store.add(last, part)
        store.flush()
    store.close()


def copy(source: Path, target: Path) -> int:
    """The exit code of the command."""
    return main(["--from", f"embedded:{source}", "--to", str(target), "--store-memory", "256MB"])


def assert_holds(store: Store, recording: Recording) -> None:
    """The store answers as the raw samples say, from windows and from every tier."""
    for quantity in QUANTITIES.values():
        if not any(one.quantity == quantity for one in recording.windows):
            continue
        for rate_ms in (1000, 300_000, HOUR_MS, DAY_MS):
            windows = store.answer(Question(quantity, BEGIN_MS, UNTIL_MS, rate_ms, by="user", histograms=True))
            expected = recording.buckets(
                quantity, BEGIN_MS, UNTIL_MS, rate_ms, lambda one: one.host.user_id if one.core is None else None
            )
            assert_same_moments(windows, expected)
            assert_quantiles(windows, quantity, expected)
    for host in {one.host for one in recording.windows}:
        windows = store.answer(Question(CPU, BEGIN_MS, UNTIL_MS, HOUR_MS, host.user_id, cores="each", histograms=True))
        expected = recording.buckets(
            CPU, BEGIN_MS, UNTIL_MS, HOUR_MS, lambda one, host=host: _core(one.host == host, one.core)
        )
        assert_same_moments(windows, expected)
        assert_quantiles(windows, CPU, expected)


def _core(ours: bool, core: int | None) -> str | None:
    return str(core) if ours and core is not None else None


@pytest.fixture(scope="module")
def recording() -> Recording:
    """A fleet of five weeks with hostile names, several metrics, cores that come and go."""
    return record()


@pytest.fixture(scope="module")
def source(recording: Recording, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with that fleet."""
    folder = tmp_path_factory.mktemp("copied") / "source"
    fill(folder, recording)
    return folder


def test_a_copy_holds_every_window_of_every_series_exactly(
    source: Path, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert copy(source, tmp_path / "target") == 0
    said = capsys.readouterr().out
    assert "Verified: " in said
    original, copied = EmbeddedStore(source, "256MB"), EmbeddedStore(tmp_path / "target", "256MB")
    assert_holds(copied, recording)
    assert copied.users().equals(original.users())
    assert copied.newest() == original.newest()
    original.close()
    copied.close()


def test_copying_again_adds_nothing(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert copy(source, tmp_path / "target") == 0
    files = {path.name for path in (tmp_path / "target" / "raw").iterdir()}
    capsys.readouterr()
    assert copy(source, tmp_path / "target") == 0
    assert "Windows copied: 0." in capsys.readouterr().out
    assert {path.name for path in (tmp_path / "target" / "raw").iterdir()} == files


@pytest.mark.parametrize("steps", [2, 15])
def test_a_copy_that_is_killed_goes_on_where_it_was(
    source: Path, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str], steps: int
) -> None:
    target = tmp_path / "target"
    command = [sys.executable, "-m", "tests.support.copier", "--from", str(source), "--to", str(target)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        # Each flush gives the next number to a file.
        wait_until(lambda: _newest(target) >= steps or process.poll() is not None, f"{steps} flushes")
        process.kill()
    assert process.returncode == -signal.SIGKILL, "it was killed in the middle"
    half = EmbeddedStore(target, "256MB")
    already = int(half.answer(Question(CPU, BEGIN_MS, UNTIL_MS, DAY_MS))["count"].sum())
    half.close()
    assert already > 0
    assert copy(source, target) == 0
    assert "were there already" in capsys.readouterr().out
    copied = EmbeddedStore(target, "256MB")
    assert_holds(copied, recording)
    copied.close()


def _newest(target: Path) -> int:
    return max((int(path.stem) for path in (target / "raw").glob("*.parquet")), default=0)


def test_a_day_that_is_there_in_part_is_made_whole_and_other_windows_stay(
    source: Path, recording: Recording, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    store = EmbeddedStore(target, "256MB")
    # Some of the same windows, and some that only the target has: on days of the source and after them.
    own = Recording()
    for place in range(20):
        own.cpu(HOSTS[0], START_MS + place * DAY_MS // 2 + 77, np.full(3, place / 20))
        own.cpu(Host("only here"), END_MS + place * HOUR_MS, np.full(3, place / 20))
    store.add(40, [*recording.reports[::3], *own.reports])
    store.close()
    assert copy(source, target) == 0
    copied = EmbeddedStore(target, "256MB")
    both = Recording(recording.windows + own.windows)
    assert_holds(copied, both)
    assert copied.flushed > 40, "the journal of the target goes on behind what was copied"
    copied.close()


def test_windows_of_the_original_client_stay_approximations(tmp_path: Path) -> None:
    recording = Recording()
    for place in range(5):
        cores = [np.array([0.1, 0.3]), np.array([0.2, 0.2])]
        recording.cpu(Host("original"), START_MS + place * 1000, np.array([0.2, 0.4]), cores, detailed=False)
    fill(tmp_path / "source", recording, flushes=1)
    assert copy(tmp_path / "source", tmp_path / "target") == 0
    copied = EmbeddedStore(tmp_path / "target", "256MB")
    windows = copied.answer(Question(CPU, BEGIN_MS, UNTIL_MS, DAY_MS, "original", histograms=True))
    assert windows["approximated"].tolist() == windows["count"].tolist() == [10]
    copied.close()


KEPT = (2 * DAY_MS, 10 * DAY_MS, None, None)
"""Windows for two days, rollups of 5 minutes for ten."""


@pytest.fixture
def expired(tmp_path: Path) -> tuple[Path, Recording]:
    """A store of 20 days that holds windows of the last days only, rollups of 5 min of more, of 1 h of all."""
    recording = Recording()
    random = np.random.default_rng(5)
    store = EmbeddedStore(tmp_path / "source", "256MB", KEPT)
    for day in range(20):
        for host in (Host("one"), Host("two", "Windows", "11")):
            for place in range(6):
                end = START_MS + day * DAY_MS + place * 4000
                recording.cpu(host, end, random.random(3), [random.random(3), random.random(3)])
        store.add(len(recording.reports), recording.reports[-12:])
        store.flush()
    store.expire(START_MS + 20 * DAY_MS)
    store.close()
    return tmp_path / "source", recording


def answers(store: Store, rate_ms: int) -> list[np.ndarray]:
    """What a store says of each user and core, as columns."""
    found = []
    for user in ("one", "two"):
        for cores in ("whole", 0, 1):
            windows = store.answer(Question(CPU, BEGIN_MS, UNTIL_MS, rate_ms, user, cores, histograms=True))
            histograms, _ = unpacked(windows)
            found += [np.array(times_of(windows)), *(windows[name].to_numpy() for name in NUMBERS)]
            found += [histograms.row, histograms.bin, histograms.count]
    return found


def test_what_is_left_as_rollups_only_is_copied_as_rollups_and_said(
    expired: tuple[Path, Recording], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = expired
    assert copy(source, tmp_path / "target") == 0
    said = capsys.readouterr().out
    assert "rollups of 5m stand for days whose windows the source has no more" in said
    assert "rollups of 1h stand for days" in said
    original, copied = EmbeddedStore(source, "256MB"), EmbeddedStore(tmp_path / "target", "256MB")
    # Finer data than is kept throughout would answer from whatever happens to be left of it.
    for rate_ms in (HOUR_MS, DAY_MS, 7 * DAY_MS):
        for mine, theirs in zip(answers(original, rate_ms), answers(copied, rate_ms), strict=True):
            np.testing.assert_allclose(theirs, mine, rtol=1e-12)
    assert copied.users().equals(original.users())
    original.close()
    copied.close()
    assert copy(source, tmp_path / "target") == 0
    assert "Windows copied: 0." in capsys.readouterr().out


def test_a_difference_is_named_and_is_a_failure(
    expired: tuple[Path, Recording], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, _ = expired
    target = EmbeddedStore(tmp_path / "target", "256MB")
    # On a day of which the source has rollups only: nobody can tell which of its windows this is.
    other = Recording()
    other.cpu(Host("one"), START_MS + 3 * DAY_MS, np.array([0.5]))
    target.add(1, other.reports)
    target.close()
    assert copy(source, tmp_path / "target") == 1
    said = capsys.readouterr().out
    assert "one, 2024-02-02: only rollups are left, and the target has other windows of that day" in said
    assert "DIFFERENT: 3 of " in said
    assert "one, cpu.utilization, 2024-02-02: 18 samples in the source, 1 in the target" in said
    assert "one, cpu.utilization of core 1, 2024-02-02: 18 samples are missing" in said


def test_windows_that_are_missing_behind_right_rollups_are_named(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "target"
    assert copy(source, target) == 0
    with duckdb.connect(str(target / "loadlens.duckdb")) as catalog:
        catalog.execute("DELETE FROM segment WHERE id = (SELECT max(id) FROM segment)")
    max((target / "raw").glob("*.parquet")).unlink()
    capsys.readouterr()
    assert copy(source, target) == 1
    assert re.search(
        r"2024-\d\d-\d\d.*: windows of \d+ samples in the source, of \d+ in the target", capsys.readouterr().out
    )


def test_reports_that_only_the_journal_has_are_copied(
    source: Path, recording: Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "source"
    first, rest = recording.reports[:300], recording.reports[300:]
    store = EmbeddedStore(folder, "256MB")
    store.add(300, first)
    store.close()
    journal = Journal(folder / "journal", 1 << 30)
    journal.advance_to(300)
    journal.append([encode(report) for report in rest])
    journal.close()
    assert copy(folder, tmp_path / "target") == 0
    assert f"{len(rest)} windows were in the source's journal only" in capsys.readouterr().out
    journal = Journal(folder / "journal", 1 << 30)
    assert len(list(journal.read(after=300))) == 1, "rules and streams may still read it"
    journal.close()
    copied = EmbeddedStore(tmp_path / "target", "256MB")
    assert_holds(copied, recording)
    copied.close()


def test_an_empty_store_is_copied_too(tmp_path: Path) -> None:
    EmbeddedStore(tmp_path / "source").close()
    assert copy(tmp_path / "source", tmp_path / "target") == 0


def test_the_store_of_a_running_service_is_refused_with_what_to_do(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = (
        "import sys, pathlib; from service.stores.embedded.store import EmbeddedStore\n"
        "store = EmbeddedStore(pathlib.Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(source)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "open\n"
        assert copy(source, tmp_path / "target") == 1
        holder.communicate("")
    error = capsys.readouterr().err
    assert f"{source} is in use by a running service" in error
    assert "Stop the service" in error
    assert copy(source, tmp_path / "target") == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--from is missing: give it, or LOADLENS_FROM in the environment"),
        (["--from", "a"], "--to is missing"),
        (
            ["--from", "nothing-here", "--to", "b"],
            "expected the --data-dir of a service, with loadlens.duckdb in it, got nothing-here",
        ),
        (["--from", "embedded:", "--to", "b"], "expected a folder as in embedded:var/loadlens, got embedded:"),
        (
            ["--from", "ftp://host/x", "--to", "b"],
            "expected embedded:FOLDER or influx://HOST:PORT/DATABASE, got ftp://host/x",
        ),
        (
            ["--from", "influx://localhost", "--to", "ftp://host/x"],
            "expected embedded:FOLDER or influx://HOST:PORT/DATABASE, got ftp://host/x",
        ),
    ],
)
def test_a_wrong_address_is_refused_before_anything_is_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: Sequence[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert f"loadlens-service copy: error: {said}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_same_folder_under_two_names_is_refused(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--from", str(source), "--to", f"embedded:{source.parent}/./{source.name}"])
    assert "are the same store" in capsys.readouterr().err


def test_memory_is_bounded_by_the_page(source: Path) -> None:
    store = EmbeddedStore(source)
    store.page_rows = 64
    users = [host.user_id for host in HOSTS]
    pages = [sum(map(windows_of, page)) for page in store.reports(users, BEGIN_MS, UNTIL_MS)]
    store.close()
    assert sum(pages) > 20 * 64
    assert max(pages) <= 2 * 64


def windows_of(report: Report) -> int:
    """How many windows of series a report has."""
    cores = sum(len(metric.avg_utilization_by_core) for metric in report.metrics if isinstance(metric, Cpu))
    return cores + sum(len(metric.quantities) for metric in report.metrics)


def test_who_used_the_cpu_is_copied_once(tmp_path: Path) -> None:
    source = EmbeddedStore(tmp_path / "source", "256MB")
    truth = process_uses.fill(source)
    for turn in range(2):
        if turn:
            # The second copy finds hours in the place of windows that are there already.
            source = EmbeddedStore(tmp_path / "source", "256MB")
            source.expire(process_uses.START + 30 * DAY_MS)
        source.close()
        assert copy(tmp_path / "source", tmp_path / "target") == 0
        target = EmbeddedStore(tmp_path / "target", "256MB")
        process_uses.check(target, truth["a"] + truth["b"], None)
        target.close()
