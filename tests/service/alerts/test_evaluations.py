"""Each kind of rule fires and is resolved at the windows that its condition says."""

import math
import random
from collections.abc import Iterable

import numpy as np
import pytest
from msgspec.structs import replace

from analytics.frames.standins import standins
from contract.histogram import LINEAR, quantile
from contract.metrics import Bursts, Distribution, Statistic
from contract.report import Report, decode_report
from contract.summary import Summary
from service.alerts.alarms import Transition
from service.alerts.engine import Engine
from service.alerts.evaluations.sliding import SlidingWindows, merge
from service.alerts.rules import InvalidRule, parse_rule
from service.journal.extractors import extractor
from tests.support.reports import as_json, original, small

START_MS = 1_700_000_000_000
Window = tuple[str, float, float]
"""User, second of the end, mean."""


def report(user: str, second: float, mean: float, **members: object) -> Report:
    return decode_report(as_json(small(user, START_MS + round(second * 1000), mean, 100, **members)))


def fired(windows: Iterable[Window], *, restarts: bool = False, **rule: object) -> list[tuple[str, str, float]]:
    """What a rule says of windows: user, state, second; with `restarts` in a new engine once the clock was set back."""
    parsed = parse_rule({"name": "it", **rule})
    engine = Engine()
    engine.use([parsed])
    transitions: list[Transition] = []
    latest_ms = 0
    for user, second, mean in windows:
        arrived_ms = START_MS + round(second * 1000)
        if restarts and arrived_ms < latest_ms:
            before = engine.evaluations["it"]
            kept = {one: before.saved(one) for one in [*before.alarms, *(before.changed - before.alarms.keys())]}
            engine = Engine()
            engine.use([parsed])
            engine.restore("it", kept)
        latest_ms = arrived_ms
        transitions += engine.tick(arrived_ms)
        transitions += engine.observe([report(user, second, mean)], arrived_ms)
    return [(one.user, one.state, (one.at_ms - START_MS) / 1000) for one in transitions]


def series(values: Iterable[float], user: str = "a", step: float = 5.0, start: float = 0.0) -> list[Window]:
    return [(user, start + place * step, value) for place, value in enumerate(values)]


BUSY = {"kind": "threshold", "metric": "cpuLoadAvg", "above": 0.8}


def test_a_threshold_fires_with_the_first_window_beyond_it_and_resolves_with_the_first_that_is_not() -> None:
    assert fired(series([0.5, 0.81, 0.9, 0.8, 0.9]), **BUSY) == [
        ("a", "firing", 5), ("a", "resolved", 15), ("a", "firing", 20),
    ]  # fmt: skip


def test_below_is_the_other_way_round() -> None:
    rule = {"kind": "threshold", "metric": "cpuLoadAvg", "below": 0.1, "clear": 0.2}
    assert fired(series([0.5, 0.05, 0.15, 0.2]), **rule) == [("a", "firing", 5), ("a", "resolved", 15)]


def test_for_waits_until_the_condition_has_held_so_long() -> None:
    assert fired(series([0.9] * 3 + [0.1] + [0.9] * 4), **BUSY, **{"for": "15s"}) == [("a", "firing", 35)]


def test_hysteresis_keeps_it_from_flapping() -> None:
    wobbling = series([0.85, 0.75] * 10 + [0.4])
    assert len(fired(wobbling, **BUSY)) == 20
    assert fired(wobbling, **BUSY, clear=0.5) == [("a", "firing", 0), ("a", "resolved", 100)]
    assert fired(wobbling, **BUSY, clear_for="10s") == [("a", "firing", 0)]


@pytest.mark.parametrize("over", [{}, {"over": "10s"}])
def test_a_run_at_full_load_is_a_threshold_as_any_other(over: dict[str, str]) -> None:
    engine = Engine()
    rule = {"name": "stuck", "kind": "threshold", "metric": "burstLongest", "stat": "max", "above": 2, **over}
    engine.use([parse_rule(rule)])
    states = []
    for place, longest in enumerate((0.4, 2.0, 2.05, 0.1, 0.1, 0.1)):
        one = Distribution(longest, 0.0, longest, longest, observations=100)
        share = Distribution(0.5)
        bursts = Bursts(share, one, share, share, one, share)
        sent = replace(report("a", 5.0 * place, 0.5), metrics=[bursts])
        states += [(place, found.state) for found in engine.observe([sent], START_MS + 5000 * place)]
    assert states == [(2, "firing"), (3 if not over else 4, "resolved")]


def test_each_user_has_its_own_alarm() -> None:
    windows = [("a", 0.0, 0.9), ("b", 0.0, 0.1), ("b", 5.0, 0.9), ("a", 5.0, 0.1)]
    assert fired(windows, **BUSY) == [("a", "firing", 0), ("b", "firing", 5), ("a", "resolved", 5)]


def test_only_users_and_systems_that_are_meant_are_looked_at() -> None:
    windows = [("web-1", 0.0, 0.9), ("db-1", 0.0, 0.9)]
    assert fired(windows, **BUSY, users=["web-*"]) == [("web-1", "firing", 0)]
    assert fired(windows, **BUSY, os=["Windows"]) == []
    assert fired(windows, **BUSY, enabled=False) == []


def test_rules_select_by_labels_and_let_go_of_hosts_that_lose_them() -> None:
    engine = Engine()
    absent = {"kind": "absence", "after": "1m"}
    engine.use(
        [parse_rule({"name": name, "users": ["role=web"], **rule}) for name, rule in (("busy", BUSY), ("gone", absent))]
    )

    def observed(user: str, second: float, **members: object) -> list[tuple[str, str, str]]:
        arrived_ms = START_MS + round(second * 1000)
        found = [*engine.tick(arrived_ms), *engine.observe([report(user, second, 0.9, **members)], arrived_ms)]
        return [(one.rule, one.user, one.state) for one in found]

    assert observed("a", 0.0) == observed("a", 1.0, labels={"role": "db"}) == []
    assert observed("a", 2.0, labels={"role": "web"}) == [("busy", "a", "firing")]
    # Who says nothing of labels has those that it had.
    assert observed("a", 3.0) == []
    assert observed("a", 4.0, labels={"role": "db"}) == [("busy", "a", "resolved")]
    assert [*engine.tick(START_MS + 600_000)] == []
    assert observed("web-1", 601.0, labels={"team": "web"}) == []


def test_late_and_repeated_windows_change_nothing_that_is_past() -> None:
    windows = [("a", 0.0, 0.9), ("a", 10.0, 0.9), ("a", 5.0, 0.1), ("a", 10.0, 0.1), ("a", 15.0, 0.1)]
    assert fired(windows, **BUSY) == [("a", "firing", 0), ("a", "resolved", 15)]


def test_what_is_pending_begins_anew_after_a_long_silence() -> None:
    windows = [("a", 0.0, 0.9), ("a", 3600.0, 0.9), ("a", 3660.0, 0.9), ("a", 3900.0, 0.9)]
    assert fired(windows, **BUSY, **{"for": "5m"}) == [("a", "firing", 3900)]


def test_over_looks_at_all_windows_of_a_time_merged() -> None:
    # Means over (t - 20 s, t]: 0.2, 0.2, 0.2, 0.2, 0.4, 0.6, 0.8, 1.0, 0.75, ...
    windows = series([0.2] * 4 + [1.0] * 4 + [0.0] * 4)
    assert fired(windows, **BUSY | {"above": 0.7}, over="20s") == [("a", "firing", 30), ("a", "resolved", 45)]


def test_a_late_window_counts_where_over_still_reaches_it() -> None:
    windows = [("a", 0.0, 0.5), ("a", 10.0, 0.5), ("a", 5.0, 1.0), ("a", -60.0, 1.0)]
    assert fired(windows, **BUSY | {"above": 0.6}, over="30s") == [("a", "firing", 10)]


@pytest.mark.parametrize("stat", ["mean", "var", "std", "min", "max", "p50", "p95", "p99", "count"])
def test_every_statistic_over_a_time_is_that_of_the_merged_samples(stat: str) -> None:
    """Beside a naive merge of all windows of the time, with windows late and missing."""
    rng = random.Random(1)
    over_ms = 60_000
    sliding = SlidingWindows(over_ms)
    kept: list[tuple[int, Summary]] = []
    newest = 0
    for place in range(300):
        end_ms = START_MS + place * 5000 - rng.choice([0, 0, 0, 12_000])
        summary = Summary.of([rng.random() for _ in range(20)], LINEAR)
        newest = max(newest, end_ms)
        if end_ms > newest - over_ms:
            kept.append((end_ms, summary))
            sliding.add(end_ms, (summary,))
        if place == 150:
            sliding = SlidingWindows.load(over_ms, sliding.dump())
        expected = Summary.empty()
        for when, one in kept:
            if newest - over_ms < when <= newest:
                expected = expected.merge(one)
        (total,) = sliding.total
        assert total.count == expected.count
        assert total.histogram == expected.histogram
        assert math.isclose(total.mean, expected.mean, rel_tol=1e-12)
        assert math.isclose(total.variance, expected.variance, rel_tol=1e-9)
        assert (total.minimum, total.maximum) == (expected.minimum, expected.maximum)


def test_memory_of_a_time_is_bounded() -> None:
    sliding = SlidingWindows(3_600_000)
    one = Summary(1, 0.5, 0.0, 0.5, 0.5)
    for place in range(20_000):
        sliding.add(START_MS + place * 200, (one,))
    assert len(sliding.dump()) <= 2 * 257
    assert sliding.total[0].count == pytest.approx(18_000, rel=0.01)


def test_parts_of_hosts_whose_cores_change_are_merged_by_core() -> None:
    one, two = Summary(1, 0.0, 0.0, 0.0, 0.0), Summary(1, 1.0, 0.0, 1.0, 1.0)
    assert [part.mean for part in merge((one, one), (two,))] == [0.5, 0.0]


def test_cores_are_compared_after_they_are_merged() -> None:
    engine = Engine()
    rule = {"name": "core", "kind": "threshold", "metric": "cpuCoreLoadAvgMax", "above": 0.6, "over": "1m"}
    engine.use([parse_rule(rule)])
    transitions: list[Transition] = []
    for place, cores in enumerate([[1.0, 0.0], [0.0, 1.0], [1.0, 0.9]]):
        metrics = [{"type": "CPU", "avg_utilization": sum(cores) / 2, "avg_utilization_by_core": cores}]
        one = decode_report(
            as_json(original("a", end_timestamp=START_MS + place * 5000, start_timestamp=START_MS, metrics=metrics))
        )
        transitions += engine.observe([one], 0)
    assert [(one.state, one.at_ms - START_MS, one.value) for one in transitions] == [
        ("firing", 0, 1.0), ("resolved", 5000, 0.5), ("firing", 10_000, pytest.approx(2 / 3)),
    ]  # fmt: skip


def test_a_change_is_the_difference_to_the_time_before() -> None:
    rule = {"kind": "change", "metric": "cpuLoadAvg", "over": "10s", "above": 0.3}
    assert fired(series([0.1, 0.1, 0.1, 0.5, 0.5, 0.5, 0.5]), **rule) == [("a", "firing", 15), ("a", "resolved", 25)]
    falling = rule | {"above": None, "below": -0.3}
    assert fired(series([0.9, 0.9, 0.9, 0.4, 0.4, 0.4]), **falling) == [("a", "firing", 15), ("a", "resolved", 25)]


def test_a_change_over_a_gap_is_not_known() -> None:
    rule = {"kind": "change", "metric": "cpuLoadAvg", "over": "10s", "above": 0.3}
    assert fired([("a", 0.0, 0.1), ("a", 100.0, 0.9)], **rule) == []


def test_absence_fires_when_nothing_comes_and_resolves_with_the_next_report() -> None:
    rule = {"kind": "absence", "after": "30s", "users": ["a"]}
    windows = [("a", 0.0, 0.5), ("a", 10.0, 0.5), ("b", 39.0, 0.5), ("b", 41.0, 0.5), ("a", 50.0, 0.5)]
    assert fired(windows, **rule) == [("a", "firing", 41), ("a", "resolved", 50)]


def test_who_is_absent_for_long_is_taken_to_be_gone() -> None:
    rule = {"kind": "absence", "after": "30s", "forget": "10m", "users": ["a"]}
    windows = [("a", 0.0, 0.5), ("b", 60.0, 0.5), ("b", 590.0, 0.5), ("b", 601.0, 0.5), ("b", 700.0, 0.5)]
    assert fired(windows, **rule) == [("a", "firing", 60), ("a", "resolved", 601)]


@pytest.mark.parametrize(
    "kind",
    [
        BUSY,
        BUSY | {"over": "1m"},
        {"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.8, "share": 0.9},
        {"kind": "anomaly", "metric": "cpuLoadAvg"},
        {"kind": "absence", "after": "300d"},
    ],
)
def test_memory_is_bounded_by_forgetting_who_is_silent_longest(kind: dict[str, object]) -> None:
    engine = Engine(max_alarms=50)
    engine.use([parse_rule({"name": "it"} | kind | ({"forget": "366d"} if "after" in kind else {}))])
    (evaluation,) = engine.evaluations.values()
    for place in range(500):
        assert not [*engine.observe([report(f"user-{place}", place, 0.1)], place)]
        assert len(evaluation.alarms) <= 51
    assert "user-499" in evaluation.alarms
    assert evaluation.refused == 0
    assert "user-0" in evaluation.forgotten
    assert not evaluation.forgotten & evaluation.alarms.keys()


def test_what_fires_of_who_has_gone_is_resolved_some_day() -> None:
    day = 86_400.0
    windows = [("a", 0.0, 0.9), *(("b", place * day, 0.1) for place in range(1, 20))]
    found = fired(windows, **BUSY)
    assert [(user, state) for user, state, _ in found] == [("a", "firing"), ("a", "resolved")]
    assert 7 * day <= found[1][2] <= 15 * day


def test_a_fleet_fires_when_a_share_of_those_that_report_is_beyond() -> None:
    rule = {"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.8, "share": 0.5, "clear_share": 0.25, "least": 3}
    users = "abcd"
    calm = [(user, 0.0, 0.1) for user in users]
    busy = [(user, 5.0, 0.9) for user in users[:3]]
    again = [("a", 10.0, 0.1), ("b", 10.0, 0.1), ("c", 10.0, 0.9)]
    assert fired(calm + busy + again, **rule) == [("", "firing", 5), ("", "resolved", 10)]
    assert fired(calm[:2] + busy[:2], **rule) == []


def test_who_has_gone_does_not_count_for_the_fleet() -> None:
    rule = {"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.8, "share": 0.5, "within": "1m"}
    windows = [("a", 0.0, 0.1), ("b", 0.0, 0.1), ("c", 0.0, 0.9), ("c", 90.0, 0.9)]
    assert fired(windows, **rule) == [("", "firing", 90)]


def test_an_anomaly_fires_when_a_user_is_unlike_its_own_past() -> None:
    rng = random.Random(3)
    usual = [0.3 + 0.02 * rng.random() for _ in range(1500)]
    strange = [*usual[:1000], *(0.95 for _ in range(6)), *usual[1006:]]
    rule = {"kind": "anomaly", "metric": "cpuLoadAvg", "every": "5m"}
    assert fired(series(usual, step=300.0), **rule) == []
    found = fired(series(strange, step=300.0), **rule)
    assert found[0][:2] == ("a", "firing")
    assert 1000 <= found[0][2] / 300 <= 1003
    assert found[-1][1] == "resolved"


AHEAD_S = 3 * 86_400.0


@pytest.mark.parametrize(
    ("rule", "before", "after", "expected"),
    [
        (BUSY, [0.1] * 3, [0.9] * 2, [("a", "firing", 0)]),
        (BUSY, [0.9] * 3, [0.1] * 2, [("a", "firing", AHEAD_S), ("a", "resolved", 0)]),
        (BUSY | {"for": "10s"}, [0.9] * 2, [0.9] * 3, [("a", "firing", 10)]),
        (BUSY | {"over": "10s"}, [0.1] * 3, [0.9] * 2, [("a", "firing", 0)]),
        (BUSY | {"over": "7d"}, [0.1] * 3, [0.9] * 2, [("a", "firing", 0)]),
        ({"kind": "change", "metric": "cpuLoadAvg", "over": "10s", "above": 0.3}, [0.9] * 3, [0.1, 0.1, 0.6], [
            ("a", "firing", 10),
        ]),
        ({"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.8, "share": 0.5}, [0.1] * 3, [0.9], [("", "firing", 0)]),
        ({"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.8, "share": 0.5, "over": "7d"}, [0.1] * 3, [0.9], [
            ("", "firing", 0),
        ]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("restarts", [False, True])
def test_a_rule_is_not_silent_until_a_time_comes_from_which_the_clock_was_set_back(
    rule: dict[str, object], before: list[float], after: list[float], expected: list[tuple[str, str, float]],
    restarts: bool,
) -> None:  # fmt: skip
    assert fired([*series(before, start=AHEAD_S), *series(after)], restarts=restarts, **rule) == expected


@pytest.mark.parametrize("restarts", [False, True])
def test_absence_counts_from_when_the_clock_was_set_back(restarts: bool) -> None:
    rule = {"kind": "absence", "after": "30s", "forget": "10m", "users": ["a", "b"]}
    ahead = [("a", AHEAD_S, 0.5), ("b", AHEAD_S + 1, 0.5)]
    windows = [*ahead, ("c", 0.0, 0.5), ("b", 20.0, 0.5), ("c", 29.0, 0.5), ("c", 31.0, 0.5), ("a", 40.0, 0.5)]
    found = fired(windows, restarts=restarts, **rule)
    assert found == [("a", "firing", 31), ("a", "resolved", 40)]


@pytest.mark.parametrize("restarts", [False, True])
def test_who_is_absent_while_the_clock_is_set_back_is_taken_to_be_gone_in_time(restarts: bool) -> None:
    rule = {"kind": "absence", "after": "30s", "forget": "10m", "users": ["a"]}
    windows = [("a", AHEAD_S, 0.5), ("b", AHEAD_S + 60, 0.5), ("b", 0.0, 0.5), ("b", 590.0, 0.5), ("b", 601.0, 0.5)]
    assert fired(windows, restarts=restarts, **rule) == [("a", "firing", AHEAD_S + 60), ("a", "resolved", 601)]


@pytest.mark.parametrize("restarts", [False, True])
def test_an_anomaly_is_found_again_after_the_clock_was_set_back(restarts: bool) -> None:
    rng = random.Random(3)
    usual = [0.3 + 0.02 * rng.random() for _ in range(1500)]
    strange = [*usual[:1000], *(0.95 for _ in range(6)), *usual[1006:]]
    rule = {"kind": "anomaly", "metric": "cpuLoadAvg", "every": "5m"}
    ahead = series(usual[:100], step=300.0, start=86_400 * 30.0)
    found = fired([*ahead, *series(strange, step=300.0)], restarts=restarts, **rule)
    assert found[0][:2] == ("a", "firing")
    assert 1000 <= found[0][2] / 300 <= 1003


@pytest.mark.parametrize(
    ("rule", "pointer"),
    [
        ({"kind": "threshold"}, ""),
        ({"kind": "treshold"}, "/kind"),
        (BUSY | {"name": "No Spaces"}, "/name"),
        (BUSY | {"metric": "cpu"}, "/metric"),
        (BUSY | {"stat": "p42"}, "/metric"),
        (BUSY | {"below": 0.1}, "/above"),
        (BUSY | {"above": "much"}, "/above"),
        (BUSY | {"clear": 0.9}, "/clear"),
        (BUSY | {"for": "soon"}, "/for"),
        (BUSY | {"over": "-1m"}, "/over"),
        (BUSY | {"colour": "red"}, ""),
        (BUSY | {"users": []}, "/users"),
        ({"kind": "change", "metric": "cpuLoadAvg", "above": 0.1, "over": "0s"}, "/over"),
        ({"kind": "absence", "after": "1ms"}, "/after"),
        ({"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.1, "share": 2}, "/share"),
        ({"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.1, "share": 80}, "/share"),
        ({"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.1, "share": 1}, "/share"),
        (BUSY | {"above": 90}, "/above"),
        (BUSY | {"above": 1}, "/above"),
        (BUSY | {"above": -0.1}, "/above"),
        (BUSY | {"clear": 70}, "/clear"),
        (BUSY | {"above": None, "below": 10}, "/below"),
        (BUSY | {"above": None, "below": 0}, "/below"),
        (BUSY | {"stat": "p95", "above": 95}, "/above"),
        (BUSY | {"stat": "std", "above": 0.5}, "/above"),
        (BUSY | {"stat": "var", "above": 0.3}, "/above"),
        ({"kind": "threshold", "metric": "diskReadBytes", "above": -1}, "/above"),
        ({"kind": "change", "metric": "cpuLoadAvg", "above": 40, "over": "10s"}, "/above"),
        ({"kind": "change", "metric": "cpuLoadAvg", "below": -40, "over": "10s"}, "/below"),
        ({"kind": "fleet", "metric": "cpuLoadAvg", "above": 0.1, "share": 0.1, "clear_share": 0.2}, "/clear_share"),
    ],
)
def test_what_is_wrong_with_a_rule_is_named(rule: dict[str, object], pointer: str) -> None:
    with pytest.raises(InvalidRule) as wrong:
        parse_rule({"name": "it"} | rule)
    assert [problem.pointer for problem in wrong.value.problems] == [pointer]


@pytest.mark.parametrize("stat", ["min", "max", "p50", "p95", "p99"])
@pytest.mark.parametrize("told", [{}, {"min_utilization": 0.1}, {"min_utilization": 0.1, "max_utilization": 0.6}])
def test_a_rule_sees_of_a_report_without_histogram_what_history_answers(
    stat: Statistic, told: dict[str, float]
) -> None:
    cpu = {"type": "CPU", "avg_utilization": 0.3, "var_utilization": 0.02, "avg_utilization_by_core": [0.3], **told}
    extremes = (told.get("min_utilization", math.nan), told.get("max_utilization", math.nan))
    low, high, made = standins(
        np.array([0.3]), np.array([0.02]), np.array([100]), True, tuple(np.array([extreme]) for extreme in extremes)
    )
    counts = dict(zip(made.bin.tolist(), made.count.tolist(), strict=True))
    simple = {"min": low[0], "max": high[0]}
    share = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
    expected = simple[stat] if stat in simple else quantile(counts, share[stat], LINEAR, low[0], high[0])
    assert extractor("cpuLoadAvg", stat).direct()(decode_report(as_json(original("a", metrics=[cpu])))) == expected
