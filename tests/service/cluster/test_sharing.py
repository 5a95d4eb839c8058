"""What operators decide, kept alike by several processes: joining, being away, NATS that is away or another copy.

What holds of one process too is in `tests/service/control/test_contract*.py`.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from contract import times
from contract.agent_protocol import AgentState
from contract.report import Report, decode_report
from service.agents.layers import ALL
from service.agents.remote_configuration import RemoteConfiguration
from service.cluster.connection import Cluster
from service.control import database, sharing
from service.control.database import ControlError
from service.credentials.token import Made
from service.credentials.tokens import TokenRefused
from service.http.resources.health import unasked_tokens_look
from tests.support.agent_states import state
from tests.support.deciding import OPERATOR, DecidingProcesses, any_version, at_once, count_at_once, rule_of
from tests.support.deciding import DecidingProcess as Process
from tests.support.nats_cluster import RunningNats
from tests.support.nats_copies import renumber
from tests.support.reports import as_json, small
from tests.support.running import wait_until

pytestmark = pytest.mark.server
MINUTE_MS = 60_000


def saying(**members: Any) -> AgentState:
    """What an agent says of its state."""
    return msgspec.convert(state(**members), AgentState)


def reporting(user: str) -> Report:
    """A report with what its agent says of itself."""
    status = {"version": "0.1.0", "remote": True, "cpu_seconds": 1.0, "resident_bytes": 1 << 24}
    return decode_report(as_json(small(user, times.now_ms(), agent=status)))


@pytest.fixture
def new_process(one_node: RunningNats, name: str, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Makes processes of one cluster, each with a folder and a connection of its own; None for one that is alone."""
    processes = DecidingProcesses(tmp_path)

    def new(folder: str, address: str | None = one_node.address(name)) -> Process:
        return processes.open(folder, address)

    new.end = processes.end  # type: ignore[attr-defined]
    yield new
    processes.end_all()


@pytest.fixture
def two(new_process: Callable[..., Process]) -> SimpleNamespace:
    """Two processes of a cluster."""
    return SimpleNamespace(a=new_process("a"), b=new_process("b"))


# Several processes


def test_what_one_process_decides_all_have(two: SimpleNamespace) -> None:
    """With the entry of the audit trail that says who did."""
    two.a.set(ALL.text, samples=20)
    two.a.set("agent:web-1", samples=30)
    two.a.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    silence = two.a.repository.add_silence("busy", "*", times.now_ms() + MINUTE_MS, "", OPERATOR)
    note = two.a.annotate("a deploy")
    made = two.a.tokens.create("anna", "operator", "all", expires_ms=None, actor=OPERATOR)
    wait_until(lambda: bool(two.b.opens(made.text)), "the token")
    assert two.b.layers.desired("web-1", "Linux", {}) == two.a.layers.desired("web-1", "Linux", {})
    assert two.b.layers.get(ALL.text) == two.a.layers.get(ALL.text)
    assert two.b.repository.rules() == two.a.repository.rules()
    assert (two.b.silences, two.b.annotated) == ([silence], [note])
    assert two.b.audit.entries(target=None, before=None, limit=10) == two.a.audit.entries(
        target=None, before=None, limit=10
    )


def test_what_one_process_takes_back_no_other_has(two: SimpleNamespace) -> None:
    two.a.set(ALL.text, samples=20)
    note = two.a.annotate("a deploy")
    made = two.a.tokens.create("anna", "reader", "all", expires_ms=None, actor=OPERATOR)
    wait_until(lambda: bool(two.b.opens(made.text)), "the token")
    two.b.layers.change(ALL.text, OPERATOR, lambda layer: None)
    two.b.annotations.delete(note.id, OPERATOR)
    two.b.tokens.revoke(made.token.id, actor=OPERATOR)
    wait_until(lambda: not two.a.opens(made.text), "the end of the token")
    assert two.a.layers.get(ALL.text).revision == 0
    assert two.a.annotated == []
    assert two.a.trail == two.b.trail


def test_processes_that_change_the_same_at_once_lose_nothing(two: SimpleNamespace) -> None:
    count_at_once([two.a, two.b], ALL.text, 20)
    for process in (two.a, two.b):
        wait_until(lambda process=process: process.layers.get(ALL.text).settings.samples == 40, "all that was counted")  # type: ignore[misc]


def test_processes_that_make_something_at_once_give_it_different_numbers(two: SimpleNamespace) -> None:
    def make(process: Process) -> None:
        for number in range(20):
            process.annotate(f"deploy {number}")

    threads = [threading.Thread(target=make, args=(process,)) for process in (two.a, two.b)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: two.a.annotated == two.b.annotated and len(two.a.annotated) == 40, "all annotations")


@pytest.mark.parametrize("is_known", [True, False])
def test_two_enrolment_tokens_give_one_host_one_token(
    two: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """Also where one process has not heard yet of what the other did, and where the host had one before."""
    monkeypatch.setattr(sharing, "_CATCH_UP_S", 0.2)
    monkeypatch.setattr(database, "_ATTEMPT_S", 0.2)
    first, second = (
        two.a.tokens.create(name, "enrolment", "all", expires_ms=None, actor=OPERATOR, uses=5) for name in "ab"
    )
    if is_known:
        before = two.a.tokens.enrol(first.token.identity, "web-1", actor=OPERATOR)
        two.a.tokens.revoke(before.token.id, actor=OPERATOR)
    two.b.catch_up()
    with two.b.control.alone():
        # Whoever changes nothing here hears nothing of others meanwhile.
        enrolled = two.a.tokens.enrol(first.token.identity, "web-1", actor=OPERATOR)
        with pytest.raises(ControlError):
            two.b.tokens.enrol(second.token.identity, "web-1", actor=OPERATOR)
    two.b.catch_up()
    with pytest.raises(TokenRefused, match="has a token already"):
        two.b.tokens.enrol(second.token.identity, "web-1", actor=OPERATOR)
    for process in (two.a, two.b):
        valid = [one.id for one in process.tokens.all() if one.role == "agent" and one.is_valid(times.now_ms())]
        assert valid == [enrolled.token.id]
        assert process.opens(enrolled.text)


def test_many_hosts_that_enrol_twice_at_once_get_one_token_each(two: SimpleNamespace) -> None:
    first, second = (
        two.a.tokens.create(name, "enrolment", "all", expires_ms=None, actor=OPERATOR, uses=100) for name in "ab"
    )
    two.b.catch_up()
    texts: list[str] = []

    def enrol(process: Process, by: Made) -> None:
        for number in range(20):
            with contextlib.suppress(TokenRefused):
                texts.append(process.tokens.enrol(by.token.identity, f"web-{number}", actor=OPERATOR).text)

    assert at_once(lambda: enrol(two.a, first), lambda: enrol(two.b, second)) == []
    for process in (two.a, two.b):
        process.catch_up()
        agents = [one for one in process.tokens.all() if one.role == "agent"]
        assert sorted(one.scope for one in agents) == sorted(f"web-{number}" for number in range(20))
        assert all(process.opens(text) for text in texts)
    assert len(texts) == 20


def test_an_enrolment_token_is_used_up_once_whoever_is_asked(two: SimpleNamespace) -> None:
    made = two.a.tokens.create("fleet", "enrolment", "all", expires_ms=None, actor=OPERATOR, uses=10)
    wait_until(lambda: two.b.tokens.get(made.token.id) is not None, "the token")
    texts: list[str] = []

    def enrol(process: Process, place: str) -> None:
        for number in range(10):
            try:
                texts.append(process.tokens.enrol(made.token.identity, f"{place}-{number}", actor=OPERATOR).text)
            except TokenRefused:
                break

    threads = [threading.Thread(target=enrol, args=(process, place)) for place, process in vars(two).items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(texts) == 10
    for process in (two.a, two.b):
        wait_until(lambda process=process: all(process.opens(text) for text in texts), "all tokens")  # type: ignore[misc]


def test_a_rule_of_another_process_is_put_in_force(two: SimpleNamespace) -> None:
    told = threading.Event()
    two.b.repository.on_change = told.set
    two.a.repository.change_rule("busy", rule_of(), OPERATOR, any_version)
    assert told.wait(60)
    assert two.b.repository.rules()["busy"][0] == rule_of()


def test_when_a_token_was_used_is_not_told_to_others(two: SimpleNamespace) -> None:
    """Each process says when it saw a token; what is changed of it later keeps that."""
    made = two.a.tokens.create("anna", "reader", "all", expires_ms=None, actor=OPERATOR)
    wait_until(lambda: bool(two.b.opens(made.text)), "the token")
    newest = two.a.bucket.newest()
    two.b.tokens.write_uses()
    assert two.a.bucket.newest() == newest
    two.a.tokens.change(made.token.id, name="berta", actor=OPERATOR)
    wait_until(lambda: two.b.tokens.get(made.token.id).name == "berta", "the name")
    assert two.b.tokens.get(made.token.id).last_used_ms is not None
    assert two.a.tokens.get(made.token.id).last_used_ms is None


def test_an_agent_hears_what_was_changed_at_another_process(two: SimpleNamespace) -> None:
    async def listen() -> list[bytes]:
        agents: RemoteConfiguration = two.b.agents
        agents.start()
        assert await agents.exchange("web-1", saying()) is not None
        agent = agents.registry.get("web-1")
        assert agent is not None
        events = agents.listen(agent, None)
        assert events is not None
        heard = []
        await anext(events)
        for target, samples in (("agent:web-1", 10), (ALL.text, 20), ("agent:web-1", 30)):
            await asyncio.to_thread(two.a.set, target, samples=samples)
            if target == ALL.text:
                continue  # its own settings stand over those of all
            event = await asyncio.wait_for(anext(events), 60)
            heard.append(event.data or b"")
        await agents.stop()
        return heard

    first, second = asyncio.run(listen())
    assert b'"samples":10' in first
    assert b'"samples":30' in second


def test_a_process_that_asks_for_no_token_says_so_when_others_do(two: SimpleNamespace) -> None:
    look = unasked_tokens_look(two.b.tokens, asks_for_token=False)
    assert look() is None
    two.a.tokens.create("anna", "admin", "all", expires_ms=None, actor=OPERATOR)
    wait_until(lambda: look() is not None, "the word of it")
    assert unasked_tokens_look(two.b.tokens, asks_for_token=True)() is None


def test_a_command_reaches_an_agent_that_listens_to_another_process(two: SimpleNamespace) -> None:
    """And what the agent says of it is known where it was given."""

    async def command() -> tuple[bytes, dict[str, Any]]:
        for process in (two.a, two.b):
            process.agents.start()
            # What an agent reports to one process all have by the log; it connects to one.
            process.agents.follow([reporting("web-1")])
        assert await two.b.agents.exchange("web-1", saying()) is not None
        events = two.b.agents.listen(two.b.agents.registry.get("web-1"), None)
        await anext(events)
        id_ = await two.a.agents.command(two.a.agents.registry.get("web-1"), "report_now", 600.0, OPERATOR)
        event = await asyncio.wait_for(anext(events), 60)
        await two.b.agents.exchange("web-1", saying(outcomes=[{"id": id_, "status": "done"}]))
        await asyncio.to_thread(wait_until, lambda: two.a.agents.commands.get(id_)["status"] == "done", "the outcome")
        for process in (two.a, two.b):
            agent = process.agents.registry.get("web-1")
            await asyncio.to_thread(wait_until, lambda agent=agent: not agent.commands, "the end of the command")  # type: ignore[misc]
            await process.agents.stop()
        return event.data or b"", two.a.agents.commands.get(id_)

    told, kept = asyncio.run(command())
    assert b"report_now" in told
    assert kept == two.b.agents.commands.get(kept["id"])


def test_a_command_waits_for_an_agent_that_no_process_but_one_knows(two: SimpleNamespace) -> None:
    async def command() -> None:
        assert await two.a.agents.exchange("web-1", saying()) is not None
        id_ = await two.a.agents.command(two.a.agents.registry.get("web-1"), "report_now", 600.0, OPERATOR)
        await asyncio.to_thread(wait_until, lambda: two.b.agents.commands.get(id_) is not None, "the command")
        instructions = await two.b.agents.exchange("web-1", saying())
        assert instructions is not None
        assert [one.id for one in instructions.commands] == [id_]

    asyncio.run(command())


def test_a_session_is_good_at_all_processes_until_it_ends_at_one(two: SimpleNamespace) -> None:
    made = two.a.tokens.create("anna", "operator", "all", expires_ms=None, actor=OPERATOR)
    begun, cookie = two.a.sessions.begin(made.token.identity, address="127.0.0.1", browser="", actor=OPERATOR)

    def is_good(process: Process) -> bool:
        return process.sessions.identity(cookie, times.now_ms()) is not None

    wait_until(lambda: is_good(two.b), "the session")
    assert two.b.sessions.end(begun.id, actor=OPERATOR)
    wait_until(lambda: not is_good(two.a), "its end")


# Joining


def test_who_joins_brings_what_it_has_and_takes_what_is_there(new_process: Callable[..., Process]) -> None:
    """A process that was alone, and has been in use."""
    alone = new_process("b", None)
    brought = alone.tokens.create("anna", "admin", "all", expires_ms=None, actor=OPERATOR)
    alone.set("user:web-*", samples=10)
    alone.set(ALL.text, samples=15)
    new_process.end(alone)  # type: ignore[attr-defined]
    a = new_process("a")
    a.set(ALL.text, samples=20)
    a.annotate("a deploy")
    b = new_process("b")
    assert b.layers.desired("db-1", "Linux", {})[0].samples == 20
    assert b.annotated == a.annotated
    wait_until(lambda: bool(a.opens(brought.text)), "the token")
    wait_until(lambda: a.layers.desired("web-1", "Linux", {})[0].samples == 10, "the settings")


def test_who_was_away_learns_what_was_changed_meanwhile(new_process: Callable[..., Process]) -> None:
    a, b = new_process("a"), new_process("b")
    a.set(ALL.text, samples=20)
    a.set("user:web-*", samples=30)
    note = a.annotate("a deploy")
    wait_until(lambda: b.annotated == [note], "the annotation")
    new_process.end(b)  # type: ignore[attr-defined]
    a.annotations.delete(note.id, OPERATOR)
    deleted = a.bucket.newest()
    a.layers.change(ALL.text, OPERATOR, lambda layer: None)
    a.set("user:web-*", samples=40)
    a.bucket.purge("annotations_annotation.MQ", deleted)
    b = new_process("b")
    assert b.layers.desired("web-1", "Linux", {}) == a.layers.desired("web-1", "Linux", {})
    assert b.layers.get(ALL.text).revision == 0
    assert b.annotated == []


def test_what_a_process_deletes_while_it_is_alone_is_deleted_for_all(new_process: Callable[..., Process]) -> None:
    """As long as nobody has changed it meanwhile."""
    a = new_process("a")
    kept, deleted = a.annotate("kept"), a.annotate("deleted")
    b = new_process("b")
    assert b.annotated == [kept, deleted]
    new_process.end(a)  # type: ignore[attr-defined]
    alone = new_process("a", None)
    alone.annotations.delete(deleted.id, OPERATOR)
    new_process.end(alone)  # type: ignore[attr-defined]
    assert new_process("a").annotated == [kept]
    wait_until(lambda: b.annotated == [kept], "the deletion")


def test_a_bucket_that_was_lost_is_filled_by_who_has_a_copy(
    new_process: Callable[..., Process], cluster: Cluster
) -> None:
    a = new_process("a")
    a.set(ALL.text, samples=20)
    made = a.tokens.create("anna", "admin", "all", expires_ms=None, actor=OPERATOR)
    new_process.end(a)  # type: ignore[attr-defined]
    cluster.call(cluster.jetstream.delete_stream(f"KV_{cluster.address.name}-control"))
    a, b = new_process("a"), new_process("b")
    assert a.opens(made.text)
    assert b.opens(made.text)
    assert b.layers.get(ALL.text).settings.samples == 20


def test_while_nats_is_away_nothing_is_changed_and_all_is_answered(
    new_process: Callable[..., Process], tmp_path: Path
) -> None:
    with RunningNats(tmp_path / "nats", 1) as nats:
        a, b = new_process("a", nats.address()), new_process("b", nats.address())
        a.set(ALL.text, samples=20)
        wait_until(lambda: b.layers.get(ALL.text).settings.samples == 20, "the setting")
        nats.nodes[0].kill()
        with pytest.raises(ControlError):
            a.set(ALL.text, samples=30)
        assert a.layers.get(ALL.text).settings.samples == 20
        assert a.annotated == []
        nats.nodes[0].start()
        nats.wait()

        def is_changed() -> bool:
            try:
                a.set(ALL.text, samples=40)
            except ControlError:
                return False
            return True

        wait_until(is_changed, "NATS")
        wait_until(lambda: b.layers.get(ALL.text).settings.samples == 40, "the setting")
        for process in (a, b):
            new_process.end(process)  # type: ignore[attr-defined]


def test_another_copy_of_the_bucket_with_other_revisions_is_gone_on_with(two: SimpleNamespace, name: str) -> None:
    """What was decided before can be changed by all, and is in each trail once."""
    two.a.set("agent:web-1", samples=20)
    two.a.set("agent:web-2", samples=20)
    wait_until(lambda: two.b.trail == two.a.trail, "the first settings")
    for samples, sequence in ((30, 9), (40, 1)):
        renumber(two.a.bucket._cluster, f"KV_{name}-control", sequence)
        for process, other, wanted in ((two.b, two.a, samples), (two.a, two.b, samples + 1)):
            wait_until(partial(changed, process, wanted), "the bucket to take something")
            wait_until(partial(has, other, wanted), "the change")
    wait_until(lambda: len(two.a.trail) == len(two.b.trail) == 6, "six entries")
    assert two.a.layers.desired("web-2", "Linux", {})[0].samples == 20


def has(process: Process, samples: int) -> bool:
    """Whether a process knows of a change."""
    return process.layers.desired("web-1", "Linux", {})[0].samples == samples


def changed(process: Process, samples: int) -> bool:
    """Whether settings could be changed."""
    try:
        process.set("agent:web-1", samples=samples)
    except ControlError:
        return False
    return True
