"""Remote configuration: what the service asks for is checked, applied or refused, kept on disk, and reported."""

import logging
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from agent.connection import Connection, ServiceUnreachable
from agent.identity import HostIdentity
from agent.plan import CommandBox, Probes, SamplingPlan, checked_plan, sampling_plan
from agent.probes import PROBES
from contract import __version__, times
from contract.agent_protocol import (
    COMMANDS,
    MAX_DOCUMENT,
    AgentCommand,
    AgentState,
    DesiredSettings,
    Instructions,
    InvalidSettings,
    Outcome,
    Refusal,
    SettingsInForce,
    overlaid,
    parse_settings,
)
from contract.problems import Problem, decode_json, problem_of
from contract.retry import Backoff

MAX_COMMANDS = 64
"""How many ids of commands are remembered."""
_MAX_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


class _Content(Struct, omit_defaults=True):
    url: str
    """The service that it came from: what another one asks counts for nothing."""
    version: str = ""
    settings: msgspec.Raw = msgspec.Raw(b"{}")
    commands: list[str] = []
    """The ids of commands that were begun, oldest first."""


class RemoteStateFile:
    """Settings and the ids of commands, written as a whole, with a sync. No failure of the disk raises."""

    def __init__(self, directory: Path, url: str) -> None:
        self._path = directory / "remote.json"
        self._content = _Content(url)
        self._read(url)

    @property
    def version(self) -> str:
        """The version of the settings; empty without any."""
        return self._content.version

    @property
    def settings(self) -> DesiredSettings:
        """The desired settings that were kept last; none where they cannot be read."""
        try:
            return parse_settings(decode_json(self._content.settings))
        except (InvalidSettings, msgspec.DecodeError) as error:
            _log.warning("%s is passed over: %s", self._path, error)
            return DesiredSettings()

    def keep(self, version: str, settings: DesiredSettings) -> None:
        """Write settings in the place of those before."""
        self._content.version, self._content.settings = version, msgspec.Raw(msgspec.json.encode(settings))
        self._write()

    def begin(self, command_id: str) -> bool:
        """Whether a command was begun before; notes it as begun."""
        if command_id in self._content.commands:
            return True
        self._content.commands = [*self._content.commands, command_id][-MAX_COMMANDS:]
        self._write()
        return False

    def _read(self, url: str) -> None:
        try:
            with self._path.open("rb") as file:
                content = decode_json(file.read(_MAX_BYTES), _Content)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s is passed over: %s", self._path, error)
            return
        if content.url == url:
            self._content = content

    def _write(self) -> None:
        unfinished = self._path.with_suffix(".new")
        try:
            with unfinished.open("wb") as file:
                file.write(msgspec.json.encode(self._content))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
        except OSError as error:
            _log.warning("%s cannot be written: %s; a restart will not know of it", self._path, error)


TIMEOUT_S = 20.0
SAMPLER_TIMEOUT_S = 5.0
"""How long the sampler may take to carry out a command; it is amid a sample at most."""
POLL_S = 30.0
"""How often an agent that listens to no stream, and has few reports to be answered, asks what it is to do."""
REPEAT_S = 300.0
"""How often any other sends its state again while it sends no reports."""
SPARSE_S = 60.0
"""Reports further apart than this are too few to hear of changes by their answers."""

_TRANSIENT = (429, 500, 502, 503, 504)
"""Answers that will soon be others."""

_REFUSED = (400, 413, 422)


class RemoteConfigurationClient:
    """Applies what comes by the stream or with answers, whichever comes first. Runs in a thread of its own.

    Settings are applied whole or not at all. A command is begun once, known by its id, over restarts too.
    """

    def __init__(
        self,
        own: SettingsInForce,
        identity: HostIdentity,
        file: RemoteStateFile,
        connection: Connection,
        commands: CommandBox,
        *,
        backoff: Backoff | None = None,
        poll_s: float = POLL_S,
        probes: Probes = PROBES,
    ) -> None:
        """`own` are the settings that the agent was started with; `commands` is the sampler's box."""
        self.registered = Event()
        """Set while the service knows this agent, so that it may listen."""
        self.listening = False
        """Whether a stream is open."""
        self.diagnose: Callable[[], dict[str, Any]] = dict
        """Makes the document that the command `diagnostics` answers."""
        self.on_change: Callable[[], object] | None = None
        """Called when other settings are in force."""
        self.in_force = self._own = own
        self.version = ""
        """The version of the desired settings that are in force; empty for the agent's own."""
        self.refusal: Refusal | UnsetType = UNSET
        self._identity = identity
        self._file = file
        self._connection = connection
        self._commands = commands
        self._backoff = backoff or Backoff()
        self._poll_s = poll_s
        self._probes = probes
        self._wake = Event()
        self._lock = Lock()
        self._received: Instructions | None = None
        self._outcomes: list[Outcome] = []
        self._answered: deque[str] = deque(maxlen=MAX_COMMANDS)
        """Commands of which the outcome was found in this run."""
        self._state_is_due = True
        self._not_understood = False

    @property
    def refused_version(self) -> str:
        """The version of settings that was refused; empty without."""
        return "" if self.refusal is UNSET else self.refusal.version

    @property
    def newest_version(self) -> str:
        """The version of the desired settings that came last, in force or refused."""
        return self.refused_version or self.version

    def first_plan(self) -> SamplingPlan:
        """The plan to begin with: what was asked before the restart, where it still goes with the own settings."""
        version, settings = self._file.version, self._file.settings
        try:
            in_force = overlaid(self._own, settings)
            plan = checked_plan(in_force, self._own, version, self._probes)
        except InvalidSettings as error:
            self._refuse(version, error)
            return sampling_plan(self._own, probes=self._probes)
        logging.getLogger().setLevel(in_force.log_level.upper())
        self.in_force, self.version = in_force, version
        return plan

    def receive(self, document: msgspec.Raw | bytes) -> bool:
        """Take instructions as JSON; of settings the newest count. Called from any thread.

        False where they cannot be understood, which is said once until something is.
        """
        try:
            instructions = decode_json(document, Instructions)
        except msgspec.DecodeError as error:
            level = logging.DEBUG if self._not_understood else logging.WARNING
            self._not_understood = True
            _log.log(level, "what the service asks cannot be understood: %s", error)
            return False
        self._not_understood = False
        with self._lock:
            # An answer may have been on its way when a command was given: it takes none back.
            waiting = self._received.commands if self._received is not None else []
            commands = [*waiting, *instructions.commands][-MAX_COMMANDS:]
            self._received = msgspec.structs.replace(instructions, commands=commands)
        self._wake.set()
        return True

    def register_again(self) -> None:
        """Send the state again before anything else: the service does not know this agent."""
        self.registered.clear()
        self._state_is_due = True
        self._wake.set()

    def run(self) -> None:
        """Apply what comes, until the agent ends."""
        wait_s: float | None = 0.0
        while not self._commands.stopping:
            self._wake.wait(wait_s)
            self._wake.clear()
            with self._lock:
                instructions, self._received = self._received, None
            if instructions is not None:
                self._carry_out(instructions)
                wait_s = 0.0 if self._state_is_due or self._outcomes else self._idle_wait_s()
            else:
                # Nothing came in time: an outcome or the state is due, or it is time to ask.
                wait_s = self._send_state()

    def _idle_wait_s(self) -> float | None:
        """How long to wait before the state is sent unasked; None where answers to reports bring instructions."""
        if not self.in_force.paused and self.in_force.interval * self.in_force.samples <= SPARSE_S:
            return None
        return REPEAT_S if self.listening else self._poll_s

    def _carry_out(self, instructions: Instructions) -> None:
        if instructions.version == self.version:
            # What was refused in between is not asked any more.
            self._state_is_due |= self.refusal is not UNSET
            self.refusal = UNSET
        elif instructions.version != self.refused_version or not instructions.version:
            self._apply(instructions)
        for command in instructions.commands:
            if command.id in self._answered:
                continue
            self._answered.append(command.id)
            if self._file.begin(command.id):
                lost = "it was begun before; what came of it is not known"
                self._outcomes.append(Outcome(command.id, "interrupted", lost))
            else:
                self._outcomes.append(self._execute(command))

    def _apply(self, instructions: Instructions) -> None:
        self._state_is_due = True
        try:
            desired = parse_settings(decode_json(instructions.settings))
            in_force = overlaid(self._own, desired)
            plan = checked_plan(in_force, self.in_force, instructions.version, self._probes)
        except InvalidSettings as error:
            self._refuse(instructions.version, error)
            return
        except msgspec.DecodeError as error:
            self._refuse(instructions.version, InvalidSettings([problem_of(error)]))
            return
        self._file.keep(instructions.version, desired)
        command = self._commands.put(plan)
        logging.getLogger().setLevel(in_force.log_level.upper())
        if not command.wait(SAMPLER_TIMEOUT_S):
            _log.warning("the sampler has not changed its plan within %.0f s; it will", SAMPLER_TIMEOUT_S)
        self.in_force, self.version, self.refusal = in_force, instructions.version, UNSET
        _log.info("the service has set: %s", _in_words(desired))
        if self.on_change is not None:
            self.on_change()

    def _refuse(self, version: str, error: InvalidSettings) -> None:
        self.refusal = Refusal(version, [_shortened(problem) for problem in error.problems[:32]])
        _log.warning("what the service asks for is refused: %s", error)

    def _execute(self, command: AgentCommand) -> Outcome:
        if command.command == "report_now":
            if self.in_force.paused:
                return Outcome(command.id, "refused", "the agent is paused: there is nothing to report")
            done = self._commands.put(None).wait(SAMPLER_TIMEOUT_S)
            return Outcome(command.id, "done", "" if done else "the sampler is late; it will")
        if command.command == "diagnostics":
            try:
                document = msgspec.json.encode(self.diagnose())
            except Exception as error:  # noqa: BLE001 - psutil raises KeyError and more where a system is unusual
                return Outcome(command.id, "refused", f"the system does not tell: {error!r}"[:1000])
            if len(document) > MAX_DOCUMENT:
                return Outcome(command.id, "refused", f"its {len(document)} bytes are more than {MAX_DOCUMENT}")
            return Outcome(command.id, "done", document=msgspec.Raw(document))
        _log.warning("the service asks for %r, which this agent does not do", command.command)
        return Outcome(command.id, "refused", f"this agent knows {' and '.join(COMMANDS)}, and nothing else")

    def _send_state(self) -> float | None:
        """Send what is in force and the outcome of one command; returns how long to wait before the next step."""
        outcomes = self._outcomes[:1]
        state = AgentState(
            at=times.now_ms(),
            os_type=self._identity.os_type,
            os_version=self._identity.os_version,
            agent_version=__version__,
            settings=self.in_force,
            settings_version=self.version,
            refused=self.refusal,
            outcomes=outcomes,
            labels=dict(self._identity.labels),
        )
        try:
            answer = self._connection.post_state(self._identity.user_id, msgspec.json.encode(state), TIMEOUT_S)
        except ServiceUnreachable as error:
            _log.debug("the service does not hear the agent's state: %s", error)
            return self._backoff.next_s()
        finally:
            # Sent seldom: no connection is kept for it.
            self._connection.close()
        if answer.status in _REFUSED:
            # Sent again it would be refused again.
            del self._outcomes[: len(outcomes)]
        if answer.status != 200:
            _log.debug("the service does not take the agent's state: it answered %d", answer.status)
            least_s = 0.0 if answer.status in _TRANSIENT else self._poll_s
            return self._backoff.next_s(max(answer.retry_after_s, least_s))
        if not self.receive(answer.body):
            # Not the service, whatever the status: a sign-in page, or a wrong address.
            return self._backoff.next_s(self._poll_s)
        self._backoff.reset()
        del self._outcomes[: len(outcomes)]
        self._state_is_due = False
        self.registered.set()
        return 0.0


def _in_words(desired: DesiredSettings) -> str:
    given = msgspec.to_builtins(desired)
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "nothing; the agent's own settings hold"


def _shortened(problem: Problem) -> Problem:
    return Problem(problem.pointer[:200], problem.detail[:400])
