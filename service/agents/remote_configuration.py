"""Remote configuration of agents: what the HTTP resources ask of it, and what is done in the background."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence

from falcon.asgi import SSEvent
from msgspec import UNSET

from contract import times
from contract.agent_protocol import AgentState, Instructions
from contract.report import Report
from service.agents.commands import Change, Commands
from service.agents.layers import AGENT, Layer, Layers, parse_selector
from service.agents.registry import Agent, AgentStateRepository, Registry
from service.agents.shared_ids import SharedIds
from service.agents.streams import InstructionStreams
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase, ControlError

_log = logging.getLogger("loadlens.service")
_LOOK_EVERY_S = 1.0
_SILENT_EVERY_S = 10.0
_SLICE = 500
"""Agents that are looked at before requests get their turn: a few milliseconds."""


class RemoteConfiguration:
    """Desired and reported state of agents. Everything here runs on the event loop, but what says otherwise."""

    def __init__(self, control: ControlDatabase, audit: Audit, stream_limit: int, keep_ms: int | None = None) -> None:
        """Agents that are silent for over `keep_ms` are listed no more; None for ever."""
        self._control = control
        self._audit = audit
        self._keep_ms = keep_ms
        self._looked_s = time.monotonic()
        self.layers = Layers(control, audit)
        self.registry = Registry(self.layers)
        self.commands = Commands(control, audit, self.registry)
        self.streams = InstructionStreams(stream_limit)
        self.shared_ids = SharedIds(control)
        self._states = AgentStateRepository(control)
        self._states.load(self.registry)
        self.commands.load()
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.layers.on_change = self._changed_elsewhere
        self.commands.on_change = self._commanded_elsewhere

    def start(self) -> None:
        """Begin to roll out changes, send heartbeats, expire commands and write states; called on the event loop."""
        self._loop = asyncio.get_running_loop()
        self._tasks = [asyncio.create_task(self._look_after()), asyncio.create_task(self._roll_out())]

    async def stop(self) -> None:
        """End that work, and write the states that are not written yet."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for repository in (self._states, self.shared_ids):
            if repository.waiting:
                await asyncio.to_thread(repository.write)

    def is_paused(self, user_id: str) -> bool:
        """Whether an agent is meant not to report now. Any thread may ask."""
        agent = self.registry.get(user_id)
        return agent is not None and agent.paused

    def observe(self, reports: Sequence[Report]) -> None:
        """Note reports that are new, of whichever agents; ids that hosts turn out to share are logged."""
        for user_id in self.shared_ids.observe(reports):
            _log.warning("more than one host reports as %r: their windows overlap; give each a --user-id", user_id)

    def follow(self, reports: Sequence[Report]) -> None:
        """Note what agents say of themselves to other processes of a cluster, in reports that come by its log."""
        now_ms = times.now_ms()
        for report in {report.user_id: report for report in reports}.values():
            agent = self.registry.get(report.user_id)
            if report.agent is not UNSET and (agent is None or agent.status_ms < report.end_timestamp):
                self.registry.heard(report, report.agent, now_ms)
                if agent is None and (added := self.registry.get(report.user_id)) is not None:
                    self.commands.give(added)

    def heard(self, report: Report, now_ms: int) -> Instructions | None:
        """Note a report that was taken; what its answer is to tell the agent, if anything."""
        status = report.agent
        if status is UNSET:
            return None
        agent = self.registry.heard(report, status, now_ms)
        return None if agent is None else agent.instructions()

    def heard_all(self, reports: list[Report], now_ms: int) -> Instructions | None:
        """As `heard`, of a batch: what to tell the agent where all of them are of one."""
        told = None
        last = {report.user_id: report for report in reports}
        for report in last.values():
            told = self.heard(report, now_ms)
        # An agent sends its own reports; whoever sends those of many is not one that could obey.
        return told if len(last) == 1 else None

    async def exchange(self, user_id: str, state: AgentState) -> Instructions | None:
        """Take what an agent says of its state; what is asked of it. None where there are too many agents."""
        is_new = self.registry.get(user_id) is None
        agent = self.registry.add(user_id, state.os_type, state.os_version)
        if agent is None:
            return None
        if is_new:
            self.commands.give(agent)
        selected_by = agent.os_type, agent.labels
        self.registry.heard_state(agent, state)
        if selected_by != (state.os_type, state.labels):
            self.registry.refresh(agent)
        self._states.note(agent)
        if state.outcomes:
            await self.commands.finish(agent, state.outcomes)
        return agent.instructions()

    async def change(self, target: str, actor: Actor, edit: Callable[[Layer], Layer | None]) -> Layer:
        """Change the settings of a target, as `Layers.change`; agents that listen hear of it at once."""
        layer = await asyncio.to_thread(self.layers.change, target, actor, edit)
        self._tell([target])
        return layer

    def _changed_elsewhere(self, targets: Collection[str]) -> None:
        """Tell agents that listen here what another process has changed. Called in a thread."""
        if self._loop is None:
            self._changed.set()  # before the event loop runs there is nobody else
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody listens
            self._loop.call_soon_threadsafe(self._tell, targets)

    def _commanded_elsewhere(self, changes: Sequence[Change]) -> None:
        """Tell agents that listen here of commands that another process was given. Called in a thread."""
        if self._loop is None:
            self.commands.take(changes)
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._pass_on, changes)

    def _pass_on(self, changes: Sequence[Change]) -> None:
        for agent in self.commands.take(changes):
            self.streams.wake(agent)

    def _tell(self, targets: Collection[str]) -> None:
        """Have agents hear of changes to targets."""
        for target in targets:
            if target.startswith(AGENT):
                agent = self.registry.get(target.removeprefix(AGENT))
                if agent is not None:
                    self._refresh(agent)
            else:
                self._changed.set()

    async def forget(self, user_id: str, actor: Actor) -> bool:
        """Forget an agent: what it said, its own settings, its commands; noted in the audit trail.

        False where nothing is known of it. One that still runs is heard of again. Raises ControlError.
        """
        known = self.registry.get(user_id) is not None or self.layers.get(AGENT + user_id).revision > 0
        if not known and user_id not in self.shared_ids.found:
            return False
        await asyncio.to_thread(self._drop, user_id, actor)
        self.registry.remove(user_id)
        self.streams.end(user_id, "forgotten")
        return True

    def _drop(self, user_id: str, actor: Actor) -> None:
        self.layers.change(AGENT + user_id, actor, lambda layer: None)
        with self._control.transaction() as db:
            self._audit.note(db, actor, "forget", AGENT + user_id)
            self.commands.drop(user_id)
            self._states.drop([user_id])
            self.shared_ids.drop(user_id)

    async def command(self, agent: Agent, command: str, expires_s: float, actor: Actor) -> str:
        """Have an agent do something once, as `Commands.add`; it hears of it at once where it listens."""
        id_ = await self.commands.add(agent, command, expires_s, actor)
        self.streams.wake(agent)
        return id_

    def listen(self, agent: Agent, last_event_id: str | None, instance: str = "") -> AsyncIterator[SSEvent] | None:
        """The events for an agent that has heard up to `last_event_id`; None where too many listen.

        `instance` names the run of the agent, where it says so.
        """
        stream = self.streams.open(agent, last_event_id)
        if instance and self.shared_ids.listened(agent.user_id, instance, times.now_ms()):
            _log.warning("more than one host listens as %r, in turn; give each a --user-id", agent.user_id)
        return None if stream is None else self.streams.serve(stream)

    def chosen(self, selector: str) -> tuple[list[Agent], Callable[[Agent], bool]]:
        """Agents, and which of them are meant by a selector or by `agent:` and a user id; raises ValueError."""
        if selector.startswith(AGENT):
            agent = self.registry.get(selector.removeprefix(AGENT))
            return [agent] if agent else [], lambda agent: True
        chosen = parse_selector(selector)
        return list(self.registry), lambda agent: chosen.matches(agent.user_id, agent.os_type, agent.labels)

    def _refresh(self, agent: Agent) -> None:
        if self.registry.refresh(agent):
            self.streams.wake(agent)

    async def _roll_out(self) -> None:
        """Work out anew what is asked of all agents, whenever the fleet's or a selection's settings change."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                for place, agent in enumerate(list(self.registry)):
                    self._refresh(agent)
                    if place % _SLICE == _SLICE - 1:
                        await asyncio.sleep(0)
            except Exception:  # noqa: BLE001 - the next change must not find nobody at work
                _log.exception("not all agents were told of a change; the next one tells them")

    async def _leave_out_silent(self) -> None:
        """List those no more who have been silent for long; their own settings stay, should they come back."""
        if time.monotonic() - self._looked_s < _SILENT_EVERY_S:
            return
        self._looked_s, now_ms = time.monotonic(), times.now_ms()
        self.registry.settle(now_ms)
        silent = [] if self._keep_ms is None else self.registry.silent(now_ms - self._keep_ms)
        if silent:
            await asyncio.to_thread(self._states.drop, silent)
            for user_id in silent:
                self.registry.remove(user_id)
            _log.info("%d agents are listed no more: they were silent for too long", len(silent))

    async def _look_after(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.streams.send_heartbeats()
            try:
                await self.commands.expire()
                await self._leave_out_silent()
                for repository in (self._states, self.shared_ids):
                    if repository.waiting:
                        await asyncio.to_thread(repository.write)
            except ControlError as error:
                _log.warning("the state of agents has to wait: %s", error)
            except Exception:  # noqa: BLE001 - heartbeats go on, and what could not be written stays to be written
                _log.exception("the state of agents could not be written")
