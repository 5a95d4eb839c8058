"""What is told of single cores beside the CPU itself: kept, answered and given again by every store."""

from typing import Literal

import numpy as np
import pytest
from msgspec.structs import replace

from contract.metrics import QUANTITIES, Bursts, whole_window
from contract.report import Report, decode_report
from service.stores.base import Question, Store
from tests.support.reports import as_json, small
from tests.support.stores import Place

START_MS = 1_700_000_100_000
SAMPLES = 100


def report(window: int, *, cores: tuple[int, ...] = (0, 1, 3)) -> Report:
    """A window of five seconds, whose cores were at 100 % for `window`, `window` + 1, ... seconds in a row."""
    runs = [float(window + place) for place in range(len(cores))]
    shares = [run / 100 for run in runs]
    told = {
        quantity.attribute: whole_window(quantity, 0.01 if quantity.bounded else 2.0, SAMPLES)
        for quantity in Bursts.quantities
    }
    bursts = Bursts(**told, cores=[*cores], saturated_by_core=shares, longest_by_core=runs, begun_by_core=runs)
    one = decode_report(as_json(small("a", START_MS + 5000 * window, observations=SAMPLES)))
    return replace(
        one, start_timestamp=one.end_timestamp - 5000, metrics=[*one.metrics, bursts if cores else Bursts(**told)]
    )


WINDOWS = [report(window) for window in range(1, 7)]
END_MS = START_MS + 60_000


def longest(store: Store, core: int | Literal["each", "whole"], name: str = "burst.longest") -> dict[int | None, float]:
    question = Question(QUANTITIES[name], START_MS, END_MS, 60_000, "a", core, histograms=True)
    found = store.answer(question)
    of = [None] * len(found) if core == "whole" else found["core"].tolist() if "core" in found else [core] * len(found)
    assert np.allclose(found["count"], SAMPLES * len(WINDOWS))
    return dict(zip(of, found["max"].tolist(), strict=True))


def test_each_core_has_its_own_runs_in_memory_flushed_and_after_a_start(place: Place) -> None:
    store = place.open()
    for number, one in enumerate(WINDOWS):
        store.add(number + 1, [one])
        if number == 2:
            store.flush()
    for _ in range(2):
        assert longest(store, "each") == {0: 6.0, 1: 7.0, 3: 8.0}
        assert longest(store, 3) == {3: 8.0}
        assert longest(store, "whole") == {None: 2.0}
        assert longest(store, 1, "burst.saturated") == {1: pytest.approx(0.07)}
        assert store.cores("a", QUANTITIES["burst.begun"]) == [0, 1, 3]
        store.flush()
    store.close()
    store = place.open()
    assert longest(store, "each") == {0: 6.0, 1: 7.0, 3: 8.0}
    again = [one for page in store.reports(["a"], START_MS, END_MS) for one in page]
    assert [one.metrics[1] for one in again] == [one.metrics[1] for one in WINDOWS]
    store.close()


def test_what_older_agents_send_goes_on_to_be_taken_and_answered(place: Place) -> None:
    store = place.open()
    for number in range(len(WINDOWS)):
        store.add(number + 1, [report(number + 1, cores=())])
    store.flush()
    assert longest(store, "whole") == {None: 2.0}
    assert store.cores("a", QUANTITIES["burst.longest"]) == []
    store.close()
