"""Users that are to be forgotten: noted first, taken out of everything that knows them, over crashes too.

A user is taken out of all answers in one step, by the store. What is left of it in files goes afterwards: files of
windows by compaction, the journal's as soon as the rules have seen what is in them and no backup reads them.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

from contract import times
from contract.problems import display
from service.agents.remote_configuration import RemoteConfiguration
from service.alerts.repository import RuleRepository
from service.alerts.runner import Runner
from service.annotations import Annotations
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase, ControlError
from service.ingest.acknowledgement import Ingest
from service.journal.journal import Journal
from service.reporting.schedules import Schedules
from service.stores.base import CannotForget, Store, StoreUnavailable

_log = logging.getLogger("loadlens.service")
_LOOK_EVERY_S = 1.0
_RETRY_EVERY_S = 10.0
_STEPS = [
    """
    CREATE TABLE forgetting_user (
        journal TEXT NOT NULL,
        user TEXT NOT NULL,
        asked_ms INTEGER NOT NULL,
        token TEXT NOT NULL,
        address TEXT NOT NULL,
        actor TEXT NOT NULL,
        through INTEGER,
        PRIMARY KEY (journal, user)
    ) STRICT;
    """
]


class _Asked(NamedTuple):
    """A user that is to be forgotten."""

    asked_ms: int
    actor: Actor
    through: int | None
    """None while the store knows the user; afterwards the offset up to which the journal may have reports of it."""


@dataclass(frozen=True, kw_only=True)
class Knowing:
    """Everything that knows users."""

    store: Store
    journal: Journal
    ingest: Ingest
    agents: RemoteConfiguration
    rules: Runner
    alerts: RuleRepository
    annotations: Annotations
    schedules: Schedules
    clear: Callable[[], Awaitable[None]]
    """Forgets answers that are kept to be given again."""


class Forgetting:
    """Forgets users. Everything here runs on the event loop, but what says otherwise."""

    def __init__(self, control: ControlDatabase, audit: Audit, knowing: Knowing, journal: str) -> None:
        """Take up what was noted, and have the store forget it before anything is answered.

        `journal` names the journal whose offsets are kept.
        """
        self._control = control
        self._audit = audit
        self._knowing = knowing
        self._journal = journal
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.problem: str | None = None
        """Why a user is not forgotten yet, though it is noted; None where there is none.

        It is told without a token, and does not say which: the log does.
        """
        control.migrate("forgetting", _STEPS)
        rows = control.read(
            "SELECT user, asked_ms, token, address, actor, through FROM forgetting_user WHERE journal = ?", (journal,)
        )
        self._asked = {row[0]: _Asked(row[1], Actor(*row[2:5]), row[5]) for row in rows}
        for user, asked in self._asked.items():
            if asked.through is None:
                self._begin(user)

    def _begin(self, user: str) -> None:
        self._knowing.ingest.leaving.add(user)
        try:
            self._knowing.store.forget(user)
        except Exception as error:  # noqa: BLE001 - it is tried again while the service runs
            self._say(user, error)

    def start(self) -> None:
        """Begin to finish what is noted."""
        self._task = asyncio.create_task(self._look_after())

    async def stop(self) -> None:
        """End; what is not finished is taken up at the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def forget(self, user: str, actor: Actor) -> bool:
        """Forget a user; False where none is known under this id. What it sends afterwards is a new user's.

        Raises CannotForget where the store cannot; and StoreUnavailable, ControlError and OSError: where it was noted
        by then, it is tried again until it is done, and nothing is taken of the user meanwhile.
        """
        knowing = self._knowing
        if not knowing.store.has_user(user) and user not in knowing.ingest.leaving:
            return False
        await asyncio.to_thread(knowing.store.check_can_forget)
        asked = _Asked(times.now_ms(), actor, None)
        await asyncio.to_thread(self._note, user, asked)
        knowing.ingest.leaving.add(user)
        self._asked[user] = asked
        await self._finish(user)
        return True

    def _note(self, user: str, asked: _Asked) -> None:
        with self._control.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO forgetting_user VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (self._journal, user, asked.asked_ms, *asked.actor),
            )
            self._audit.note(db, asked.actor, "forget", f"user:{user}")

    async def _finish(self, user: str) -> None:
        """Take a user that is noted out of everything."""
        async with self._lock:
            asked = self._asked.get(user)
            if asked is None or asked.through is not None:
                return  # somebody else was first
            knowing = self._knowing
            try:
                through = await knowing.ingest.settle(user, knowing.journal.turn_over)
                await asyncio.to_thread(knowing.store.forget, user)
                knowing.ingest.forget(user)
                await knowing.agents.forget(user, asked.actor)
                knowing.rules.forget(user)
                await asyncio.to_thread(self._note_gone, user, through)
            except (StoreUnavailable, CannotForget, ControlError, OSError) as error:
                self._say(user, error)
                raise
            self._asked[user] = asked._replace(through=through)
            await knowing.clear()
            knowing.ingest.leaving.discard(user)
            self.problem = None
            _log.info("%s is forgotten", display(user))

    def _note_gone(self, user: str, through: int) -> None:
        with self._control.transaction() as db:
            self._knowing.annotations.drop(user)
            self._knowing.schedules.drop(user)
            db.execute(
                "UPDATE forgetting_user SET through = ? WHERE journal = ? AND user = ?", (through, self._journal, user)
            )

    def _say(self, user: str, error: Exception) -> None:
        self.problem = f"A host is to be forgotten, and is not yet (the log says which): {error}"
        _log.warning("%s is to be forgotten, and is not yet: %s", display(user), error)

    async def _look_after(self) -> None:
        pause_s = 0.0
        while True:
            await asyncio.sleep(pause_s)
            pause_s = _LOOK_EVERY_S
            for user, asked in list(self._asked.items()):
                try:
                    if asked.through is None:
                        await self._finish(user)
                        continue
                    is_erased = await asyncio.to_thread(self._erase, user, asked.asked_ms, asked.through)
                    if is_erased and self._asked.get(user) == asked:
                        del self._asked[user]
                except Exception as error:  # noqa: BLE001 - it is tried again
                    self._say(user, error)
                    pause_s = _RETRY_EVERY_S

    def _erase(self, user: str, asked_ms: int, through: int) -> bool:
        """Remove what is left of a user in files; False where something is still needed. Called in a thread."""
        knowing = self._knowing
        evaluated = knowing.alerts.progress()
        if evaluated is not None and evaluated < through:
            return False
        knowing.journal.prune(knowing.store.flushed)
        if not (knowing.store.is_erased and knowing.journal.erase(through)):
            return False
        if not knowing.alerts.erase_alerts(user, asked_ms):
            return False
        with self._control.transaction() as db:
            db.execute(
                "DELETE FROM forgetting_user WHERE journal = ? AND user = ? AND asked_ms = ?",
                (self._journal, user, asked_ms),
            )
        _log.info("nothing of %s is left in files", display(user))
        return True
