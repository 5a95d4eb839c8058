"""What a store answers of all machines together, or of groups of them."""

from collections.abc import Callable
from dataclasses import replace
from itertools import product

import numpy as np

from contract.metrics import QUANTITIES
from contract.times import DAY_MS, parse_duration
from service.stores.base import Grouping, Question
from tests.service.stores.conftest import Filled
from tests.support.five_weeks import END_MS, START_MS
from tests.support.recordings import CPU, Machine, Recording, Window, assert_quantiles, assert_same_moments
from tests.support.stores import Place

GROUPINGS: dict[Grouping | None, Callable[[Machine], str]] = {
    None: lambda _: "",
    "user": lambda machine: machine.user_id,
    "os_type": lambda machine: machine.os_type,
    "os_version": lambda machine: machine.os_version,
}


def test_a_group_is_all_its_machines_together(filled: Filled) -> None:
    start, end = START_MS + 123_457, END_MS - 3 * DAY_MS - 1
    quantities = (CPU, QUANTITIES["disk.written_bytes"])
    for (by, name_of), quantity, rate in product(GROUPINGS.items(), quantities, ("1m", "1h", "1w")):
        rate_ms = parse_duration(rate)

        def group_of(window: Window, name_of: Callable[[Machine], str] = name_of) -> str | None:
            return name_of(window.machine) if window.core is None else None

        expected = filled.recording.buckets(quantity, start, end, rate_ms, group_of)
        for histograms in (False, True):
            question = Question(quantity, start, end, rate_ms, by=by, histograms=histograms)
            windows = filled.store.answer(question)
            assert_same_moments(windows, expected)
            if histograms:
                assert_quantiles(windows, quantity, expected)


def test_the_groups_are_named_in_order(filled: Filled) -> None:
    by_version = filled.store.answer(Question(CPU, START_MS, END_MS, DAY_MS, by="os_version"))
    assert by_version["os_version"].unique().tolist() == ["11", "12", "13"]
    by_type = filled.store.answer(Question(CPU, START_MS, END_MS, DAY_MS, by="os_type"))
    assert by_type["os_type"].unique().tolist() == ["Linux", "MacOS", "Windows"]


def test_a_machine_counts_with_the_system_it_said_last(place: Place) -> None:
    machine = Machine("upgraded", "Linux", "12")
    recording = Recording()
    recording.cpu(machine, START_MS, np.array([0.1]))
    recording.cpu(replace(machine, os_version="13"), START_MS + 2000, np.array([0.2]))
    recording.cpu(machine, START_MS + 1000, np.array([0.3]))  # late
    store = place.open()
    for last, report in enumerate(recording.reports, 1):
        store.add(last, [report])
        windows = store.answer(Question(CPU, START_MS, END_MS, DAY_MS, by="os_version"))
        assert windows["os_version"].tolist() == ["12" if last == 1 else "13"]
        assert windows["count"].tolist() == [last]
    store.close()


def test_a_fleet_of_hundreds_is_answered_exactly(place: Place) -> None:
    """More machines than a query names one by one."""
    random = np.random.default_rng(11)
    recording = Recording()
    for number in range(600):
        for end in (START_MS + number, START_MS + DAY_MS - 7 * number):
            recording.cpu(Machine(f"m{number:03}", "Linux", str(number % 7)), end, random.random(3))
    store = place.open()
    store.add(700, recording.reports[:700])
    store.flush()
    store.add(1200, recording.reports[700:])
    for by, group_of in GROUPINGS.items():
        for rate_ms in (60_000, 3_600_000):
            question = Question(CPU, START_MS, END_MS, rate_ms, by=by, histograms=True)
            windows = store.answer(question)
            expected = recording.buckets(
                CPU,
                START_MS,
                END_MS,
                rate_ms,
                lambda window, of=group_of: of(window.machine),  # type: ignore[misc]
            )
            assert_same_moments(windows, expected)
            assert_quantiles(windows, CPU, expected)
    store.close()
