"""The replicated log, on a real server of NATS."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from contract.report import Report, decode_report
from service.cluster import ClusterError
from service.cluster.connection import Cluster, ClusterAddress
from service.cluster.log import ReplicatedLog
from service.cluster.partitions import PARTITIONS, PartitionLag, message_id, partition_of
from service.journal.journal import JournalFull
from service.journal.reader import JournalReader
from tests.support.evaluating import evaluating
from tests.support.nats_cluster import RunningNats
from tests.support.nats_copies import renumber
from tests.support.reports import END_MS, as_json, small
from tests.support.running import wait_until

pytestmark = pytest.mark.server
LIMIT = 16 * 1024 * 1024


@pytest.fixture
def log(cluster: Cluster) -> Iterator[ReplicatedLog]:
    """An empty log."""
    log = ReplicatedLog(cluster, LIMIT, 0)
    yield log
    log.close()


def reports(number: int, first: int = 0, user: str = "web-1") -> tuple[list[bytes], list[Report]]:
    """Reports of a host, as text and decoded."""
    texts = [as_json(small(user, END_MS + 1000 * (first + place))) for place in range(number)]
    return texts, [decode_report(text) for text in texts]


def texts_of(log: ReplicatedLog, after: int = 0) -> list[bytes]:
    """Everything that can be read behind an offset."""
    return [bytes(raw) for one in log.read(after) for raw in msgspec.json.decode(one.body, type=list[msgspec.Raw])]


def test_what_is_appended_is_read_in_order_by_whoever_joins(log: ReplicatedLog, cluster: Cluster) -> None:
    """Offsets count reports, from 1."""
    texts, decoded = reports(2500)
    assert log.append(texts[:5], decoded[:5]) == 5
    assert log.append(texts[5:], decoded[5:]) == 2500
    other = ReplicatedLog(cluster, LIMIT, 0)
    assert (other.first, other.last) == (1, 2500)
    assert texts_of(other) == texts
    assert texts_of(other, after=2490) == texts[2490:]
    other.close()


def test_a_report_that_is_sent_again_is_in_the_log_once(log: ReplicatedLog, cluster: Cluster) -> None:
    """Whichever process it is sent to."""
    texts, decoded = reports(10)
    log.append(texts, decoded)
    other = ReplicatedLog(cluster, LIMIT, 0)
    assert other.append(texts[3:], decoded[3:]) == 10
    assert other.duplicates == 7
    assert texts_of(log) == texts
    other.close()


def test_reports_are_followed_without_end(log: ReplicatedLog) -> None:
    """From any offset; whoever appends waits until its own process has seen it."""
    seen: list[bytes] = []

    async def take(last: int, texts: Sequence[bytes], decoded: Sequence[Report]) -> None:
        seen.extend(texts)
        assert [report.end_timestamp for report in decoded] == sorted(report.end_timestamp for report in decoded)

    texts, decoded = reports(40)
    log.append(texts[:20], decoded[:20])
    log.follow(10, take)
    log.append(texts[20:], decoded[20:])
    wait_until(lambda: seen == texts[10:], "the reports")
    wait_until(lambda: log.behind == 0, "nothing behind")
    assert log.following_problem is None


def test_what_the_store_has_is_forgotten_but_for_what_is_kept_for_readers(cluster: Cluster) -> None:
    """The offsets stay."""
    log = ReplicatedLog(cluster, LIMIT, keep_bytes=0)
    texts, decoded = reports(100)
    log.append(texts, decoded)
    log.prune(60)
    assert texts_of(log) == texts[60:]
    assert log.first == 61
    page = JournalReader(log).page(0, 100)
    assert page is not None
    assert (page.first, page.last) == (61, 100)
    log.close()


def test_at_the_streams_limit_reports_are_turned_away(cluster: Cluster) -> None:
    """Until the store has what is there."""
    log = ReplicatedLog(cluster, 30_000, 0)
    with pytest.raises(JournalFull, match="the store is behind"):
        log.append(*reports(200))
    wait_until(lambda: log.size > 20_000, "the size")
    log.prune(log.last)
    log.append(*reports(20, first=200))
    log.close()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"storage": StorageType.MEMORY}, "expected storage file, got memory"),
        ({"discard": DiscardPolicy.OLD}, "expected discard new, got old"),
        ({"max_age": 3600}, "expected max_age 0"),
        ({"duplicate_window": 10}, "expected duplicate_window of 120 s or longer, got 10 s"),
    ],
)
def test_a_stream_that_would_lose_reports_is_refused(
    cluster: Cluster, name: str, wrong: dict[str, object], words: str
) -> None:
    """With what is wrong, in words."""
    right = {"storage": StorageType.FILE, "discard": DiscardPolicy.NEW, "duplicate_window": 120}
    config = StreamConfig(name=f"{name}-reports", subjects=[f"{name}.reports.*"], **(right | wrong))  # type: ignore[arg-type]
    cluster.call(cluster.jetstream.add_stream(config))
    with pytest.raises(ClusterError, match=words):
        ReplicatedLog(cluster, LIMIT, 0)


def test_one_node_is_said_to_be_one(cluster: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """What is acknowledged is lost with its disk."""
    ReplicatedLog(cluster, LIMIT, 0).close()
    assert "is on one node" in caplog.text


def test_a_cluster_of_three_keeps_reports_on_three_nodes(three_nodes: RunningNats, name: str) -> None:
    """And goes on with two."""
    cluster = Cluster(ClusterAddress.parse(three_nodes.address(name)))
    log = ReplicatedLog(cluster, LIMIT, 0)
    info = cluster.call(cluster.jetstream.stream_info(log.stream))
    assert info.config.num_replicas == 3
    texts, decoded = reports(30)
    log.append(texts[:10], decoded[:10])
    three_nodes.nodes[0].kill()
    assert log.append(texts[10:], decoded[10:]) == 30
    three_nodes.nodes[0].start()
    three_nodes.wait()
    assert texts_of(log) == texts
    log.close()
    cluster.close()


def test_a_log_that_was_made_anew_is_not_taken_for_the_old_one(log: ReplicatedLog) -> None:
    """Its offsets would be those of other reports."""
    log.append(*reports(3))
    log.check(3)
    with pytest.raises(ClusterError, match="ends at 3, but the store has its reports up to 4"):
        log.check(4)


def test_while_a_stream_begins_anew_reports_are_refused(log: ReplicatedLog) -> None:
    """They would be taken for others, which the store has."""
    log.append(*reports(3))
    log.prune(3)
    log.cluster.call(log.cluster.jetstream.delete_stream(log.stream))
    config = StreamConfig(name=log.stream, subjects=[f"{log.cluster.address.name}.reports.*"])
    log.cluster.call(log.cluster.jetstream.add_stream(config))
    wait_until(lambda: log.following_problem is not None, "notice")
    with pytest.raises(OSError, match="was made anew"):
        log.append(*reports(1))


def test_a_host_is_always_in_the_same_partition() -> None:
    """So its reports stay in order."""
    assert {partition_of(f"host-{number}") for number in range(2000)} == set(range(PARTITIONS))
    assert partition_of("web-1") == partition_of("web-1")


def test_reports_of_other_windows_hosts_or_metrics_have_other_ids() -> None:
    """And an id is one word, whatever a host is called."""
    ids = [message_id(one) for user in ("a", "a b\r\nc:1", "ä") for one in reports(3, user=user)[1]]
    assert len(set(ids)) == len(ids)
    assert all(one.isascii() and one.isprintable() and " " not in one for one in ids)


@pytest.mark.parametrize("text", ["nats://", "http://a", "nats://a/b c", "nats://a:0", "nats://a:x"])
def test_an_address_that_is_none_is_refused_without_showing_it(text: str) -> None:
    """It may hold a password."""
    with pytest.raises(ValueError, match="not shown"):
        ClusterAddress.parse(text)


def test_an_address_is_shown_without_its_password() -> None:
    """Each server is asked with it."""
    address = ClusterAddress.parse("nats://me:secret@a:4222,b/fleet")
    assert address.servers == ("nats://me:secret@a:4222", "nats://me:secret@b")
    assert str(address) == "nats://a:4222,b/fleet"


def test_a_nats_that_is_not_there_is_said() -> None:
    """At once."""
    with pytest.raises(ClusterError, match="cannot be reached"):
        Cluster(ClusterAddress.parse("nats://127.0.0.1:1"))


def test_what_waits_is_known_of_each_partition() -> None:
    """Reports that the store has do not wait, also where it has some of a commit only."""
    flushed, now_s = 0, 0.0
    lag = PartitionLag(lambda: flushed, lambda: now_s)
    one, other = partition_of("web-1"), partition_of("db-1")
    lag.note(3, reports(3)[1])
    now_s = 5.0
    lag.note(7, reports(2)[1] + reports(2, user="db-1")[1])
    now_s = 8.0

    def waiting() -> dict[int, tuple[int, float]]:
        return {found.partition: (found.reports, found.seconds) for found in lag.waiting() if found.reports}

    assert waiting() == {one: (5, 8.0), other: (2, 3.0)}
    flushed = 4
    assert waiting() == {one: (1, 3.0), other: (2, 3.0)}
    flushed = 6
    assert waiting() == {other: (1, 3.0)}
    flushed = 7
    assert waiting() == {}
    assert len(lag.waiting()) == PARTITIONS


def test_a_report_comes_back_to_its_process_as_it_was_decoded(log: ReplicatedLog) -> None:
    """Not decoded again; where the log had another text of the same window, as that one says."""
    came: list[Report] = []

    async def take(last: int, texts: Sequence[bytes], decoded: Sequence[Report]) -> None:
        came.extend(decoded)

    log.follow(0, take)
    texts, decoded = reports(3)
    log.append(texts, decoded)
    assert all(one is sent for one, sent in zip(came, decoded, strict=True))
    log.append(*reports(1, first=3))
    other = decode_report(texts[0].replace(b'"18.04 LTS"', b'"20.04 LTS"'))
    fresh = msgspec.structs.replace(other, end_timestamp=END_MS + 4000)
    elsewhere = ReplicatedLog(log.cluster, LIMIT, 0)
    elsewhere.append([msgspec.json.encode(fresh)], [fresh])
    late = msgspec.structs.replace(fresh, os_version="22.04 LTS")
    log.append([msgspec.json.encode(late)], [late])
    wait_until(lambda: len(came) == 5, "the report of the other process")
    assert came[-1] == fresh
    elsewhere.close()


@pytest.mark.parametrize(("first", "flushed"), [(4, 3), (4, 6), (1, 3), (1, 0)])
def test_a_copy_with_other_offsets_leaves_nothing_to_wait_for(log: ReplicatedLog, first: int, flushed: int) -> None:
    """A store that has all of the log is not behind, wherever the copy ends that is read; one that lacks some is."""

    came: list[bytes] = []

    async def take(last: int, texts: Sequence[bytes], decoded: Sequence[Report]) -> None:
        came.extend(texts)

    log.append(*reports(3))
    log.follow(0, take)
    writing = log.hand_out(0, take)
    wait_until(lambda: log.behind == 0 and len(came) == 6, "all of the first copy, twice")
    renumber(log.cluster, log.stream, first)
    end = first + 2
    wait_until(lambda: log.last == end and log.behind == 0, "all of the other copy")
    lacking = 3 - flushed if flushed < 3 else 0
    wait_until(lambda: (log.waiting(flushed), log.unwritten(flushed)) == (lacking, lacking), "the same by both")
    writing.cancel()


@pytest.mark.parametrize("first", [4, 1])
def test_rules_are_not_behind_a_copy_with_other_offsets(log: ReplicatedLog, tmp_path: Path, first: int) -> None:
    """What was evaluated of one copy of the log is evaluated of all, wherever the copy ends that is read."""
    with evaluating(log, tmp_path) as runner:

        async def take(last: int, texts: Sequence[bytes], decoded: Sequence[Report]) -> None:
            runner.publish(last, decoded)

        wait_until(lambda: bool(runner.engine.evaluations), "the rules")
        log.follow(0, take)
        log.append(*reports(3))
        wait_until(lambda: runner.evaluated == 3, "all of the first copy")
        renumber(log.cluster, log.stream, first)
        wait_until(lambda: log.last == first + 2 and log.behind == 0, "all of the other copy")
        assert runner.behind == 0
        elsewhere = ReplicatedLog(log.cluster, LIMIT, 0)
        elsewhere.append(*reports(2, first=3))
        wait_until(lambda: runner.evaluated >= 5 and log.last == first + 4, "what came behind it")
        wait_until(lambda: runner.behind == 0, "nothing to be left")
        assert runner.evaluated == 5
        elsewhere.close()
