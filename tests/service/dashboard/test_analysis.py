"""What is said of the size of one host, wherever it is asked."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np

from analytics.commands.mcp_server import Tools
from analytics.commands.right_size import RightSizeSettings, sized
from contract import times
from contract.metrics import NAMES
from contract.times import DAY_MS, HOUR_MS
from service.annotations import Annotations
from service.control.audit import Audit
from service.control.database import ControlDatabase
from service.dashboard.analysis import Analyst, StoreSource, Subject
from service.stores.embedded.store import EmbeddedStore
from tests.support.recordings import Host, Recording

DAYS = 14


def recorded(folder: Path, end_ms: int) -> EmbeddedStore:
    """`grown` had 4 cores at 80 % for a week and then 8 at 40 %; `coreless` reported no cores, at 40 %."""
    recording = Recording()
    for hour in range(DAYS * 24):
        moment = end_ms - DAYS * DAY_MS + hour * HOUR_MS + HOUR_MS // 2
        load, cores = (0.8, 4) if hour < DAYS * 12 else (0.4, 8)
        recording.cpu(Host("grown", "Linux", "1"), moment, np.full(9, load), [np.full(9, load)] * cores)
        recording.cpu(Host("coreless", "Linux", "1"), moment, np.full(9, 0.4))
    store = EmbeddedStore(folder)
    store.add(1, recording.reports)
    return store


def test_a_host_whose_cores_changed_is_right_whoever_asks(tmp_path: Path) -> None:
    """It used 3.2 cores throughout: by the 8 that it has now it would have used 6.4."""
    end_ms = times.now_ms() // DAY_MS * DAY_MS
    store = recorded(tmp_path / "store", end_ms)
    source = StoreSource(store)
    page = size_on_page(tmp_path, store, "grown", end_ms)
    [row] = Tools(source).sizes("grown")["rows"]
    table, caveat = sized(source, RightSizeSettings(user_id="grown"))
    [told] = table.to_dict("records")
    for answer in (page, row, told):
        assert (answer["now"], answer["needed"], answer["verdict"]) == (8, 4, "too big")
    assert caveat is None
    assert page["unit"] == "cores"
    store.close()


def test_a_host_whose_cores_are_not_known_is_sized_in_times_what_it_has(tmp_path: Path) -> None:
    end_ms = times.now_ms() // DAY_MS * DAY_MS
    store = recorded(tmp_path / "store", end_ms)
    source = StoreSource(store)
    page = size_on_page(tmp_path, store, "coreless", end_ms)
    assert (page["unit"], page["needed"], page["verdict"]) == ("times the present size", 0.5, "too big")
    assert "used at most 40 % of what it has" in page["why"]
    document = Tools(source).sizes("coreless")
    assert "in times the present size" in document["what"]
    assert document["rows"][0]["needed"] == 0.5
    table, caveat = sized(source, RightSizeSettings(user_id="coreless"))
    assert table["needed"].tolist() == [0.5]
    assert caveat is not None
    assert "With --cores" in caveat
    store.close()


def size_on_page(folder: Path, store: EmbeddedStore, user: str, end_ms: int) -> dict[str, Any]:
    """What the page of a host says of its size."""
    control = ControlDatabase(folder / "control.db")
    subject = Subject(user, NAMES["cpuLoadAvg"], end_ms - DAY_MS, end_ms, "UTC")
    try:
        return asyncio.run(Analyst(store, Annotations(control, Audit(control))).analyse("size", subject))
    finally:
        control.close()
