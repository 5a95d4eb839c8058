"""Windows that say who used the CPU, what each program really used, and what an answer must say of that."""

import random
from collections import Counter

import pytest
from msgspec.structs import replace

from contract.processes import Consumer, ProcessUse
from contract.report import Report, decode_report
from contract.times import DAY_MS, HOUR_MS
from service.stores.base import Store
from service.stores.process_use import UseQuestion
from tests.support.reports import as_json, small

START = 1_700_000_000_000 // HOUR_MS * HOUR_MS
WINDOW_MS = 120_000
WINDOWS = 90
NAMES = [f"program{number}" for number in range(60)]


def window(user: str, end_ms: int, used: dict[str, float], unseen_s: float = 0.0) -> Report:
    """A report whose host did this, of which it names the five that used most."""
    ranked = sorted(used.items(), key=lambda item: -item[1])
    consumers = [Consumer(name, cpu_s, user="root", unit="jobs.service") for name, cpu_s in ranked[:5]]
    use = ProcessUse(
        seconds=60.0, cores=4, busy_s=sum(used.values()) + unseen_s, unseen_s=unseen_s, processes=consumers,
        processes_beyond_s=ranked[5][1] if len(ranked) > 5 else 0.0,
        units=[Consumer("jobs.service", sum(used.values()))],
    )  # fmt: skip
    return replace(decode_report(as_json(small(user, end_ms))), processes=use)


def fill(store: Store, flush_each: int = 30) -> dict[str, Counter[str]]:
    """Windows of two hosts over three hours; what each program really used on each."""
    chance = random.Random(1)
    truth: dict[str, Counter[str]] = {"a": Counter(), "b": Counter()}
    for number in range(WINDOWS):
        for user, used_by in truth.items():
            used = {name: chance.random() ** 8 * 10 / (1 + rank) for rank, name in enumerate(NAMES)}
            used_by.update(used)
            store.add(2 * number + (user == "b") + 1, [window(user, START + number * WINDOW_MS, used, unseen_s=0.01)])
        if number % flush_each == flush_each - 1:
            store.flush()
    return truth


def check(store: Store, truth: Counter[str], user: str | None, named_at_least: int = 5) -> None:
    found = store.who(UseQuestion(START, START + DAY_MS, user_id=user, top=len(NAMES)))
    assert len(found.top) >= named_at_least
    busy = sum(truth.values()) + found.hosts * WINDOWS * 0.01
    assert found.busy_s == pytest.approx(busy)
    assert sum(one.cpu_s for one in found.top) <= busy + 1e-6
    for one in found.top:
        assert one.cpu_s - 1e-6 <= truth[one.name] <= one.at_most_s + 1e-6
    for name in truth.keys() - {one.name for one in found.top}:
        assert truth[name] <= found.beyond_s + 1e-6
