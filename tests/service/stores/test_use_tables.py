"""Who used the CPU, of parts that are taken one by one: adding them up on the way changes nothing."""

import pytest
from msgspec import UNSET

from contract.times import HOUR_MS
from service.stores import use_tables
from service.stores.process_use import By, UseQuestion, UseTables, tables_of
from tests.support.process_uses import NAMES, START, window

NAMED = NAMES[:9]


def parts() -> list[UseTables]:
    """An hour and a half of two hosts, three minutes at a time."""
    found = []
    for minute in range(0, 90, 3):
        entries = []
        for user in ("a", "b"):
            used = {name: 0.1 + (minute * 7 + place * 3) % 11 + place / 100 for place, name in enumerate(NAMED)}
            report = window(user, START + 60_000 * minute, used, unseen_s=0.25)
            assert report.processes is not UNSET
            entries.append((user, report.end_timestamp, report.processes))
        found.append(tables_of(entries))
    return found


@pytest.mark.parametrize("rate_ms", [None, HOUR_MS, 7 * 60_000])
@pytest.mark.parametrize("by", ["process", "unit"])
def test_adding_up_on_the_way_changes_nothing(monkeypatch: pytest.MonkeyPatch, by: By, rate_ms: int | None) -> None:
    question = UseQuestion(START + 90_000, START + 80 * 60_000, by=by, top=20, rate_ms=rate_ms)
    within = [part.of(lambda _, time: question.start_ms <= time < question.end_ms) for part in parts()]
    expected = use_tables.answered(within, question)
    monkeypatch.setattr(use_tables, "_FOLDED_ROWS", 50)
    found = use_tables.answered(within, question)
    assert [one[:4] for one in found.top] == [one[:4] for one in expected.top]
    for one, other in zip(found.top, expected.top, strict=True):
        assert one[4:] == pytest.approx(other[4:])
    assert found[1:-1] == pytest.approx(expected[1:-1])
    assert [one.start_ms for one in found.buckets] == [one.start_ms for one in expected.buckets]
    for bucket, same in zip(found.buckets, expected.buckets, strict=True):
        assert (bucket.core_s, bucket.busy_s, *bucket.top_s) == pytest.approx((same.core_s, same.busy_s, *same.top_s))
