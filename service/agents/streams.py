"""Instruction streams: agents keep them open, and hear over them at once what is asked of them."""

import asyncio
import time
from collections.abc import AsyncIterator

import msgspec
from falcon.asgi import SSEvent

from service.agents.registry import Agent

HEARTBEAT_S = 15.0
_RETRY_MS = 2000


class InstructionStream:
    """What one agent listens to. It holds no queue: what is asked of the agent now is all there is to tell."""

    __slots__ = ("_awake", "_heartbeat_s", "agent", "ended", "said_at", "told", "version")

    def __init__(self, agent: Agent, version: str | None, heartbeat_s: float = HEARTBEAT_S) -> None:
        self.agent = agent
        self._heartbeat_s = heartbeat_s
        self.version = version
        """The version of the settings that were told last; None where it is not known which."""
        self.told: set[str] = set()
        """The ids of the commands that were told."""
        self.ended = ""
        """Why it was ended; empty while it is open."""
        self.said_at = 0.0
        self._awake = asyncio.Event()

    def wake(self) -> None:
        """Have it look whether there is something to tell."""
        self._awake.set()

    def end(self, why: str) -> None:
        """Have the stream end, and tell the agent why."""
        self.ended = why
        self._awake.set()

    async def events(self) -> AsyncIterator[SSEvent]:
        """What to send: at once what is asked of the agent, then each change, and a comment in every silence."""
        yield self._say(SSEvent(comment="Loadlens", retry=_RETRY_MS))
        while not self.ended:
            if self._due():
                yield self._say(self._instructions())
            elif time.monotonic() - self.said_at >= self._heartbeat_s:
                yield self._say(SSEvent(comment="still here"))
            else:
                self._awake.clear()
                await self._awake.wait()
        yield SSEvent(event="end", text=self.ended)

    def _due(self) -> bool:
        agent = self.agent
        if agent.commands.keys() - self.told:
            return True
        return agent.version != self.version if self.version is not None else agent.settings_due

    def _instructions(self) -> SSEvent:
        agent = self.agent
        self.version = agent.version
        self.told = set(agent.commands)
        return SSEvent(
            event="instructions", event_id=agent.version or "none", data=msgspec.json.encode(agent.instructions())
        )

    def _say(self, event: SSEvent) -> SSEvent:
        self.said_at = time.monotonic()
        return event


class InstructionStreams:
    """All open streams, at most `limit`, one an agent: an agent that connects anew takes the place of its old one."""

    def __init__(self, limit: int, *, heartbeat_s: float = HEARTBEAT_S) -> None:
        """No stream is silent for over `heartbeat_s`: an agent that hears nothing for much longer connects anew."""
        self.limit = limit
        self._heartbeat_s = heartbeat_s
        self.refused = 0
        self._streams: dict[str, InstructionStream] = {}
        self._closing = False

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, agent: Agent, last_event_id: str | None) -> InstructionStream | None:
        """A stream for an agent, which has heard up to `last_event_id`; None where there are too many."""
        if self._closing or (agent.user_id not in self._streams and len(self._streams) >= self.limit):
            self.refused += 1
            return None
        return InstructionStream(agent, "" if last_event_id == "none" else last_event_id, self._heartbeat_s)

    async def serve(self, stream: InstructionStream) -> AsyncIterator[SSEvent]:
        """The events of a stream, until its end or the client's; only while they are read does it count."""
        agent = stream.agent
        older = self._streams.get(agent.user_id)
        if older is not None:
            older.end("replaced")
        self._streams[agent.user_id] = stream
        agent.connected = True
        if self._closing:
            stream.end("the service ends")
        try:
            async for event in stream.events():
                yield event
        finally:
            if self._streams.get(agent.user_id) is stream:
                del self._streams[agent.user_id]
                agent.connected = False

    def end(self, user_id: str, why: str) -> None:
        """End an agent's stream, where it has one open; it may open another."""
        stream = self._streams.get(user_id)
        if stream is not None:
            stream.end(why)

    def wake(self, agent: Agent) -> None:
        """Have an agent's stream look whether there is something to tell."""
        stream = self._streams.get(agent.user_id)
        if stream is not None:
            stream.wake()

    def send_heartbeats(self) -> None:
        """Wake the streams that have been silent for so long that a heartbeat is due; called about once a second."""
        limit = time.monotonic() - self._heartbeat_s
        for stream in self._streams.values():
            if stream.said_at < limit:
                stream.wake()

    def close(self) -> None:
        """End all of them, so that the server can end."""
        self._closing = True
        for stream in self._streams.values():
            stream.end("the service ends")
