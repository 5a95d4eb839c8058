"""Adding, flushing, compacting, reopening and crashing in any order never change an answer."""

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from contract.metrics import Cpu, Memory
from contract.report import Report
from contract.times import DAY_MS, HOUR_MS
from service.stores.base import Key, Question
from tests.support.recordings import CPU, Host, Recording, Window, assert_quantiles, assert_same_moments
from tests.support.stores import Place

T0_MS = 1_717_200_000_000 // DAY_MS * DAY_MS
HOSTS = (Host("a", "Linux", "12"), Host("b", "Windows", "11"))
# Few values, so that windows meet in buckets, and edges of buckets meet the edges of ranges.
MOMENTS = st.builds(
    lambda hours, minutes, ms: T0_MS + hours * HOUR_MS + minutes * 60_000 + ms,
    st.sampled_from([-25, -1, 0, 1, 23, 24, 49]), st.sampled_from([0, 1, 5, 59]), st.sampled_from([-1, 0, 1, 500]),
)  # fmt: skip
SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=5).map(np.array)
RATES_MS = st.sampled_from([1000, 7000, 300_000, HOUR_MS, 3 * HOUR_MS, 24 * HOUR_MS])


class AnyOrder(RuleBasedStateMachine):
    """A store beside a list of all that it was given."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place = place
        self.store = place.open()
        self.recording = Recording()
        self.journal: list[Report] = []

    @rule(
        windows=st.lists(st.tuples(st.sampled_from(HOSTS), MOMENTS, SHARES, st.integers(0, 3)), min_size=1, max_size=4)
    )
    def add(self, windows: list[tuple[Host, int, np.ndarray, int]]) -> None:
        """Reports that are new; that is the caller's duty."""
        taken = {(report.user_id, report.end_timestamp) for report in self.journal}
        reports = []
        for host, end, samples, cores in windows:
            if (host.user_id, end) not in taken:
                taken.add((host.user_id, end))
                reports.append(self.recording.cpu(host, end, samples, [samples] * cores))
        if reports:
            self.journal += reports
            self.store.add(len(self.journal), reports)

    @precondition(lambda self: len(self.journal) < 40)
    @rule(end=MOMENTS, samples=SHARES)
    def add_and_flush_often(self, end: int, samples: np.ndarray) -> None:
        """Makes enough small runs to be merged."""
        for step in range(4):
            self.add([(HOSTS[step % 2], end + step * 10, samples, 1)])
            self.store.flush()

    @rule()
    def flush(self) -> None:
        self.store.flush()
        assert self.store.flushed == len(self.journal)

    @rule()
    def compact(self) -> None:
        self.store.compact()

    @rule()
    def reopen(self) -> None:
        self.store.close()
        self.store = self.place.open()
        assert self.store.flushed == len(self.journal)

    @rule()
    def crash(self) -> None:
        """The service replays its journal from where the store's disk ends."""
        flushed = self.store.flushed
        self.store = self.place.crash(self.store)
        assert self.store.flushed == flushed
        if self.journal[flushed:]:
            self.store.add(len(self.journal), self.journal[flushed:])

    @rule(start=MOMENTS, end=MOMENTS, rate_ms=RATES_MS, host=st.sampled_from(HOSTS), core=st.integers(-1, 2))
    def ask_one(self, start: int, end: int, rate_ms: int, host: Host, core: int) -> None:
        wanted = None if core < 0 else core
        name = "" if core < 0 else str(core)
        expected = self.recording.buckets(
            CPU, start, end, rate_ms, lambda one: name if (one.host, one.core) == (host, wanted) else None
        )
        self._compare(
            Question(CPU, start, end, rate_ms, host.user_id, "whole" if core < 0 else core, histograms=True),
            expected,
        )

    @rule(start=MOMENTS, end=MOMENTS, rate_ms=RATES_MS)
    def ask_fleet(self, start: int, end: int, rate_ms: int) -> None:
        def group_of(one: Window) -> str | None:
            return one.host.user_id if one.core is None else None

        expected = self.recording.buckets(CPU, start, end, rate_ms, group_of)
        self._compare(Question(CPU, start, end, rate_ms, by="user", histograms=True), expected)

    def _compare(self, question: Question, expected: dict[tuple[str, int], np.ndarray]) -> None:
        windows = self.store.answer(question)
        assert_same_moments(windows, expected)
        assert_quantiles(windows, CPU, expected)

    @invariant()
    def each_window_is_known_and_no_other(self) -> None:
        stored = {Key(report.user_id, Cpu, report.end_timestamp) for report in self.journal}
        others = {Key(key.user_id, Memory, key.end_ms) for key in stored} | {Key("a", Cpu, T0_MS + 2)}
        assert asyncio.run(self.store.known(stored | others)) == stored

    def teardown(self) -> None:
        self.store.close()


@pytest.mark.slow
def test_no_order_of_steps_changes_an_answer(new_place: Callable[[], Place]) -> None:
    run_state_machine_as_test(
        lambda: AnyOrder(new_place()),  # type: ignore[arg-type]  # anything that makes one will do
        settings=settings(
            max_examples=15, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
