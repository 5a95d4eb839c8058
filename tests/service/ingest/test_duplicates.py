"""A report sent twice counts once, however it is sent."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.support.load import Connection
from tests.support.reports import (
    END_MS,
    METRICS,
    JsonObject,
    as_json,
    entries,
    history,
    original,
    post,
    small,
    wait_for_flush,
)
from tests.support.running import RunningService, wait_until

pytestmark = pytest.mark.server

MEMORY = {"type": "MEMORY", "utilization": {"avg": 0.25}}


def counts(client: httpx.Client, user: str, metric: str = "cpuLoadAvg") -> list[float]:
    """The observations in each second."""
    query = {"start": END_MS - 50_000_000, "end": END_MS + 50_000_000, "resample_rate": "1s", "stat": "count"}
    return [value for _, value in entries(history(client, user, metric, **query))]


def receipt(answer: httpx.Response) -> tuple[int, int]:
    assert answer.status_code == 202
    return answer.json()["accepted"], answer.json()["duplicates"]


def changed(client: httpx.Client) -> float:
    """How many known reports came with another value."""
    (line,) = [
        one for one in client.get("/metrics").text.splitlines() if one.startswith("loadlens_reports_changed_total ")
    ]
    return float(line.split()[1])


def test_a_report_sent_again_is_acknowledged_and_counts_once(client: httpx.Client, user: str) -> None:
    assert receipt(post(client, original(user))) == (1, 0)
    for _ in range(3):
        assert receipt(post(client, original(user))) == (0, 1)
    assert counts(client, user) == [100]


def test_a_report_on_disk_is_recognised(client: httpx.Client, user: str) -> None:
    reports = [small(user, END_MS + number * 1000) for number in range(5)]
    assert receipt(post(client, *reports)) == (5, 0)
    wait_for_flush(client)
    assert receipt(post(client, *reports)) == (0, 5)
    assert receipt(post(client, reports[2])) == (0, 1)
    assert counts(client, user) == [1] * 5


def test_a_report_sent_again_with_other_values_keeps_the_first(client: httpx.Client, user: str) -> None:
    post(client, small(user, END_MS, mean=0.25))
    assert receipt(post(client, small(user, END_MS, mean=0.75))) == (0, 1)
    assert [value for _, value in entries(history(client, user))] == [0.25]


@pytest.mark.parametrize("on_disk", [False, True])
def test_another_value_of_a_known_report_is_counted_and_told_once(
    service: RunningService, client: httpx.Client, user: str, on_disk: bool
) -> None:
    reports = [small(user, END_MS + number * 1000, mean=0.25) for number in range(3)]
    post(client, *reports)
    if on_disk:
        wait_for_flush(client)
    # Reports are compared in turn: those of other tests are counted once this one is told of.
    post(client, small(f"{user}-first", END_MS, mean=0.25), small(f"{user}-first", END_MS, mean=0.75))
    wait_until(lambda: f"{user}-first sent" in service.log, "what came before is compared")
    before = changed(client)
    assert receipt(post(client, *reports, *reports)) == (0, 6)
    assert receipt(post(client, *(small(user, END_MS + number * 1000, mean=0.75) for number in range(2)))) == (0, 2)
    wait_until(lambda: changed(client) >= before + 2, "both are counted")
    assert changed(client) == before + 2
    [line] = [line for line in service.log.splitlines() if f"{user} sent" in line]
    assert "CPU utilization 0.75, kept is 0.25" in line


def test_another_value_in_the_same_batch_is_counted(client: httpx.Client, user: str) -> None:
    before = changed(client)
    assert receipt(post(client, small(user, END_MS, mean=0.25), small(user, END_MS, mean=0.75))) == (1, 1)
    wait_until(lambda: changed(client) > before, "it is counted")


def test_the_same_report_twice_in_a_batch_counts_once(client: httpx.Client, user: str) -> None:
    one, other = small(user, END_MS), small(user, END_MS + 1000)
    assert receipt(post(client, one, other, one, other, one)) == (2, 3)
    assert counts(client, user) == [1, 1]


def test_late_reports_are_no_duplicates(client: httpx.Client, user: str) -> None:
    for number in (9, 3, 6, 1, 8):
        assert receipt(post(client, small(user, END_MS + number * 1000))) == (1, 0)
    wait_for_flush(client)
    for number in (2, 7, 4, 5):
        assert receipt(post(client, small(user, END_MS + number * 1000))) == (1, 0)
    assert counts(client, user) == [1] * 9


def test_users_and_metric_types_do_not_hide_each_other(client: httpx.Client, user: str) -> None:
    assert receipt(post(client, original(user))) == (1, 0)
    assert receipt(post(client, original(user, metrics=[MEMORY]))) == (1, 0)
    assert receipt(post(client, original(user + "-other"))) == (1, 0)
    assert receipt(post(client, original(user.upper()))) == (1, 0)


def test_of_a_report_known_in_part_the_rest_is_kept(client: httpx.Client, user: str) -> None:
    both = original(user)
    both["metrics"].append(MEMORY)
    assert receipt(post(client, original(user))) == (1, 0)
    assert receipt(post(client, both)) == (1, 0)
    assert receipt(post(client, both)) == (0, 1)
    assert counts(client, user) == [100]
    assert counts(client, user, "memoryUtilization") == [100]
    wait_for_flush(client)
    assert receipt(post(client, both)) == (0, 1)


def test_one_report_sent_over_64_connections_at_once_counts_once(service: RunningService, user: str) -> None:
    async def send_all(report: JsonObject) -> list[int]:
        async def send() -> int:
            async with Connection(service.port) as connection:
                status, answer = await connection.post(METRICS, as_json(report))
                assert status == 202
                return int(answer["accepted"])

        return await asyncio.gather(*(send() for _ in range(64)))

    with service.client() as client:
        # The newest window of its stream, then a late one, which goes another way.
        for number, end in enumerate((END_MS, END_MS - 1000, END_MS - 2000), 1):
            assert sum(asyncio.run(send_all(small(user, end)))) == 1
            assert counts(client, user) == [1] * number


@pytest.mark.parametrize("seed", range(3))
def test_batches_that_overlap_at_once_count_each_report_once(service: RunningService, user: str, seed: int) -> None:
    """As agents do that send again what was not acknowledged in time."""
    draw = random.Random(seed)
    last = 0
    batches = []
    for _ in range(60):
        last += draw.randint(0, 3)
        batches.append(
            [small(user, END_MS + number * 1000) for number in range(max(0, last - draw.randint(0, 4)), last + 1)]
        )

    def send(batch: list[JsonObject]) -> int:
        return receipt(post(client, *batch))[0]

    with service.client() as client, ThreadPoolExecutor(8) as pool:
        accepted = sum(pool.map(send, batches))
        sent = {report["end_timestamp"] for batch in batches for report in batch}
        assert counts(client, user) == [1] * len(sent)
        assert accepted == len(sent)


def test_a_new_report_at_once_alone_and_behind_a_known_one_counts_once(service: RunningService, user: str) -> None:
    async def race() -> None:
        async with Connection(service.port) as one, Connection(service.port) as other:
            await one.post(METRICS, as_json(small(user, END_MS)))
            for number in range(1, 200):
                known, new = (as_json(small(user, END_MS + second * 1000)) for second in (0, number))
                answers = await asyncio.gather(
                    one.post(METRICS, b"[" + known + b"," + new + b"]"), other.post(METRICS, new)
                )
                assert sum(int(answer["accepted"]) for _, answer in answers) == 1

    asyncio.run(race())
    with service.client() as client:
        assert counts(client, user) == [1] * 200


def test_a_sender_that_hangs_up_before_the_answer_may_send_again(service: RunningService, user: str) -> None:
    async def send_and_leave() -> None:
        for number in range(100):
            async with Connection(service.port) as connection:
                await connection.send(METRICS, as_json(small(user, END_MS + number * 1000)))

    asyncio.run(send_and_leave())
    with service.client() as client:
        for number in range(100):
            post(client, small(user, END_MS + number * 1000))
        assert counts(client, user) == [1] * 100
