"""Whatever the order in which reports come, are forgotten and are read: each consumer is told of each exactly once."""

import asyncio
import random
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from contract.report import Report, decode_report
from service.journal.extractors import extractor
from service.journal.journal import FILE_BYTES, Journal
from service.stream.broker import Broker, BrokerLimits, TooManyConsumers
from service.stream.consumer import StreamConsumer
from service.stream.subscription import Subscription
from tests.support.reports import END_MS, small

USERS = ("web-1", "web-2", "db-1")
SUBSCRIPTIONS = (
    Subscription(),
    Subscription(users=("web-*",)),
    Subscription(users=("db-1",), fields=("user_id", "end_timestamp")),
    Subscription(systems=("Linux",)),
)


LIMITS = BrokerLimits(consumers=20, live_bytes=1 << 20)


class World:
    """A journal with a broker, fed with reports of changing users."""

    def __init__(
        self, folder: Path, keep_bytes: int, limits: BrokerLimits = LIMITS, file_bytes: int = FILE_BYTES
    ) -> None:
        self.journal = Journal(folder, 1 << 30, keep_bytes, file_bytes=file_bytes, mark_bytes=300)
        self.broker = Broker(self.journal, limits)
        self.users: list[str] = []

    def report(self, rng: random.Random, count: int) -> None:
        """Commit some reports and hand them on, as ingest does."""
        reports: list[Report] = []
        texts: list[bytes] = []
        for _ in range(count):
            user = rng.choice(USERS)
            texts.append(msgspec.json.encode(small(user, END_MS + len(self.users))))
            reports.append(decode_report(texts[-1]))
            self.users.append(user)
        self.broker.publish(self.journal.append(texts), texts, reports)


class Follower:
    """A consumer that reads when it is told to, comes back after it has left, and notes what it was told."""

    def __init__(self, world: World, subscription: Subscription) -> None:
        self.world = world
        self.subscription = subscription
        self.next = world.broker.routed + 1
        """The offset of the first report that it was told nothing of."""
        self.consumer: StreamConsumer | None = None
        self.chunks: AsyncGenerator[bytes] | None = None
        self.got = 0

    async def read(self) -> None:
        """Take what is there, or a heartbeat."""
        if self.chunks is None:
            self.consumer = StreamConsumer(self.world.broker, self.subscription, "lines", self.next - 1)
            self.chunks = self.consumer.chunks()
        for line in (await anext(self.chunks)).splitlines():
            self._take(msgspec.json.decode(line))

    def _take(self, event: dict[str, object]) -> None:
        id_ = event["id"]
        assert isinstance(id_, int)
        if "report" in event:
            assert self._wanted(id_)
            assert id_ >= self.next, "a report came twice"
            assert not any(map(self._wanted, range(self.next, id_))), "a report was left out"
            self.got += 1
        elif event["event"] in ("gap", "missed"):
            assert isinstance(event["from"], int)
            assert not any(map(self._wanted, range(self.next, event["from"])))
            assert event["to"] == id_
        else:
            assert not any(map(self._wanted, range(self.next, id_ + 1))), "a heartbeat went ahead"
        assert id_ >= self.next - 1, "it went back"
        self.next = id_ + 1

    def _wanted(self, offset: int) -> bool:
        return self.subscription.takes_user(self.world.users[offset - 1])

    async def leave(self) -> None:
        """Hang up."""
        if self.chunks is not None and self.consumer is not None:
            await self.chunks.aclose()
            self.consumer.leave()
            self.chunks = self.consumer = None


@pytest.mark.parametrize("seed", range(12))
def test_no_order_of_steps_leaves_out_or_doubles_a_report(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    limits = BrokerLimits(
        consumers=20,
        live_bytes=rng.choice([1000, 4000, 1 << 20]),
        pending=rng.choice([10, 100, 20_000]),
        min_pause_s=rng.choice([0.0002, 0.003]),
        round_s=rng.choice([0, 0.0001, 0.05]),
        heartbeat_s=0.005,
        batch_bytes=700,
        page_bytes=rng.choice([500, 3000]),
    )

    async def run() -> None:
        world = World(tmp_path / "journal", rng.choice([0, 3000, 20_000]), limits, rng.choice([1000, 5000]))
        followers = [Follower(world, subscription) for subscription in (SUBSCRIPTIONS * 2)[: rng.choice([1, 2, 8])]]
        for _ in range(600):
            step = rng.random()
            follower = rng.choice(followers)
            if step < 0.4:
                world.report(rng, rng.choice([1, 2, 5, 20]))
            elif step < 0.8:
                await asyncio.wait_for(follower.read(), 10)
            elif step < 0.87:
                await follower.leave()
            elif step < 0.95:
                world.journal.prune(rng.randint(0, world.journal.last))
                world.journal.prepare()
            else:
                await asyncio.sleep(0.001)
        for follower in followers:
            while follower.next <= len(world.users):
                await asyncio.wait_for(follower.read(), 10)
            await follower.leave()
        assert world.broker.consumers == 0
        assert sum(follower.got for follower in followers) > 0
        world.broker.close()
        world.broker.end()
        world.journal.close()

    asyncio.run(run())


@pytest.mark.slow
def test_many_different_selections_do_not_hold_up_the_event_loop(tmp_path: Path) -> None:
    # A round has no time at all: it ends with the first report. The events of all at once would take over a second.
    limits = BrokerLimits(consumers=150, live_bytes=1 << 24, min_pause_s=0.0, pause_per_consumer_s=0.0, round_s=0.0)

    async def run() -> None:
        world = World(tmp_path / "journal", 1 << 24, limits)
        load = extractor("cpuLoadAvg", "p95")
        subscriptions = [
            Subscription(metric=extractor("cpuLoadAvg", None), above=place * 1e-6, fields=("user_id", load))
            for place in range(150)
        ]
        followers = [Follower(world, subscription) for subscription in subscriptions]
        for follower in followers:
            await follower.read()
        world.report(random.Random(1), 60)
        assert world.broker.pending == 60
        for left in reversed(range(60)):
            while world.broker.pending > left:  # noqa: ASYNC110 - it looks at each turn of the loop
                await asyncio.sleep(0)
            assert world.broker.pending == left, "two reports were encoded between two turns of the loop"
        for follower in followers[::15]:
            while follower.next <= 60:
                await follower.read()
            assert follower.got == 60
        for follower in followers:
            await follower.leave()
        world.broker.close()
        world.broker.end()
        world.journal.close()

    asyncio.run(run())


def test_what_there_is_no_time_for_comes_from_the_journal(tmp_path: Path) -> None:
    limits = BrokerLimits(consumers=20, live_bytes=1 << 20, pending=50, round_s=0.0)

    async def run() -> None:
        world = World(tmp_path / "journal", 1 << 20, limits)
        follower = Follower(world, Subscription())
        await follower.read()
        for _ in range(10):
            world.report(random.Random(1), 20)
        while follower.next <= 200:
            await follower.read()
        assert follower.got == 200
        assert 0 < world.broker.left < 200
        assert world.broker.pending == 0
        await follower.leave()
        world.broker.close()
        world.broker.end()
        world.journal.close()

    asyncio.run(run())


def test_consumers_of_the_same_share_what_is_encoded(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path / "journal", 1 << 20)
        followers = [Follower(world, Subscription()) for _ in range(10)]
        for follower in followers:
            await follower.read()
        world.report(random.Random(1), 7)
        for follower in followers:
            while follower.next <= 7:
                await follower.read()
        assert world.broker.encoded == 7
        assert world.broker.delivered == 70
        for follower in followers:
            await follower.leave()
        world.broker.close()
        world.broker.end()
        world.journal.close()

    asyncio.run(run())


def test_more_consumers_than_allowed_are_refused(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path / "journal", 0, BrokerLimits(consumers=20, live_bytes=0))
        consumers = [StreamConsumer(world.broker, Subscription(), "events", None) for _ in range(20)]
        with pytest.raises(TooManyConsumers):
            StreamConsumer(world.broker, Subscription(), "events", None)
        for consumer in consumers:
            consumer.leave()
        world.broker.close()
        world.broker.end()
        world.journal.close()

    asyncio.run(run())


@pytest.mark.parametrize("catches_up_s", [0.0, 60.0])
def test_who_comes_back_to_a_process_that_is_behind_is_told_of_each_report_once(
    tmp_path: Path, catches_up_s: float
) -> None:
    """Of two that read the same log, which the client cannot tell apart."""

    async def run() -> list[dict[str, object]]:
        limits = BrokerLimits(consumers=20, live_bytes=1 << 20, heartbeat_s=0.01, catches_up_s=catches_up_s)
        world = World(tmp_path / "journal", 1 << 20, limits)
        world.report(random.Random(1), 3)
        consumer = StreamConsumer(world.broker, Subscription(), "lines", 5)
        chunks = consumer.chunks()
        first = asyncio.ensure_future(anext(chunks))
        for _ in range(5):
            await asyncio.sleep(0)
        world.report(random.Random(1), 4)
        found: list[dict[str, object]] = []
        async with asyncio.timeout(60):
            found += map(msgspec.json.decode, (await first).splitlines())
            while found[-1]["id"] != 7:
                found += map(msgspec.json.decode, (await anext(chunks)).splitlines())
        consumer.leave()
        await chunks.aclose()
        world.broker.close()
        world.broker.end()
        world.journal.close()
        return found

    found = asyncio.run(run())
    told = [one["id"] for one in found if "report" in one]
    assert told == ([6, 7] if catches_up_s else [4, 5, 6, 7])
    assert any(one.get("event") == "gap" for one in found) == (not catches_up_s), "where nobody else is, 5 never was"


def test_what_is_on_its_way_when_the_last_consumer_leaves_is_not_lost_to_the_next(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path / "journal", 1 << 20)
        follower = Follower(world, Subscription())
        await follower.read()
        world.report(random.Random(1), 2)
        await follower.leave()
        world.report(random.Random(1), 2)
        await follower.read()
        world.report(random.Random(1), 2)
        while follower.next <= 6:
            await follower.read()
        assert follower.got == 6
        await follower.leave()
        world.broker.close()
        world.broker.end()
        world.journal.close()

    asyncio.run(run())
