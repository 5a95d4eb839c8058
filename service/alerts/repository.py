"""The rule repository: definitions made through the API, alarms, alerts and silences, in the control database."""

import json
import logging
import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import msgspec

from contract import times
from contract.processes import Named
from service.alerts.alarms import SavedAlarm, Transition
from service.alerts.rules import InvalidRule, Rule, parse_rule
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase, ReplicatedTable, SharedRecords

_STEPS = [
    """
    CREATE TABLE rules_rule (name TEXT PRIMARY KEY, document TEXT NOT NULL, version INTEGER NOT NULL) STRICT;
    CREATE TABLE rules_seen (rule TEXT PRIMARY KEY, fingerprint TEXT NOT NULL) STRICT;
    CREATE TABLE rules_alarm (
        rule TEXT NOT NULL, user TEXT NOT NULL, saved BLOB NOT NULL, PRIMARY KEY (rule, user)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE rules_progress (one INTEGER PRIMARY KEY CHECK (one = 1), offset INTEGER NOT NULL) STRICT;
    CREATE TABLE rules_alert (
        id INTEGER PRIMARY KEY, rule TEXT NOT NULL, user TEXT NOT NULL, severity TEXT NOT NULL, state TEXT NOT NULL,
        since_ms INTEGER NOT NULL, fired_ms INTEGER NOT NULL, resolved_ms INTEGER, value REAL NOT NULL,
        notified INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX rules_alert_by_state ON rules_alert (state, rule, user);
    CREATE TABLE rules_silence (
        id TEXT PRIMARY KEY, rule TEXT NOT NULL, user TEXT NOT NULL, until_ms INTEGER NOT NULL,
        comment TEXT NOT NULL, created_ms INTEGER NOT NULL
    ) STRICT;
    """,
    """
    DROP TABLE rules_progress;
    CREATE TABLE rules_progress (journal TEXT PRIMARY KEY, offset INTEGER NOT NULL) STRICT;
    """,
    """
    ALTER TABLE rules_alert ADD COLUMN notified_ms INTEGER NOT NULL DEFAULT 0;
    UPDATE rules_alert SET notified_ms = CAST(strftime('%s', 'now') AS INTEGER) * 1000;
    ALTER TABLE rules_silence ADD COLUMN start_ms INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE rules_file (
        root TEXT NOT NULL, path TEXT NOT NULL, text TEXT NOT NULL, PRIMARY KEY (root, path)
    ) STRICT;
    """,
    "ALTER TABLE rules_alert ADD COLUMN who TEXT NOT NULL DEFAULT '[]';",
]
_log = logging.getLogger("loadlens.service")
_ALERT = "id, rule, user, severity, state, since_ms, fired_ms, resolved_ms, value, notified, notified_ms, who"
_SILENCE = "id, rule, user, until_ms, comment, created_ms, start_ms"
_MAX_RESOLVED = 10_000
_MAX_SILENCES = 1000
_MAX_RULES = 1000
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(SavedAlarm, strict=False).decode
_used = msgspec.json.Decoder(list[Named]).decode


class TooMany(Exception):
    """As many as are allowed are kept; the message says of what."""


class Alert(NamedTuple):
    """An alarm that fired."""

    id: int
    rule: str
    user: str
    severity: str
    state: str
    since_ms: int
    fired_ms: int
    resolved_ms: int | None
    value: float
    notified: int
    """1 where somebody was notified, or would have been."""
    notified_ms: int
    """When that was last, by the service's clock."""
    who: Sequence[Named] = ()
    """Who used most of the host's CPU when it fired, the most first; empty where that is not known."""

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> "Alert":
        """The alert of a row of the columns `_ALERT`."""
        try:
            who = _used(row[-1])
        except msgspec.DecodeError:  # of a file that is damaged; the alert itself is whole
            who = []
        return cls._make((*row[:-1], who))


class Silence(NamedTuple):
    """Nobody is notified of alerts of these rules and users for a while."""

    id: str
    rule: str
    user: str
    until_ms: int
    comment: str
    created_ms: int
    start_ms: int
    """0 where it began when it was made."""


class RuleRepository:
    """Reads and writes. What belongs together is written in one transaction of `control`."""

    def __init__(self, control: ControlDatabase, audit: Audit, journal: str) -> None:
        """`journal` names the journal whose offsets are kept: each store has its own."""
        self.control = control
        self._audit = audit
        self._journal = journal
        control.migrate("rules", _STEPS)
        self.on_change: Callable[[], None] = lambda: None
        """Called in a thread where another process has changed definitions."""
        control.shared += [
            SharedRecords("rules_rule", "name", lambda names: self.on_change()),
            SharedRecords("rules_silence", "id", lambda ids: None),
        ]
        control.replicated += [
            ReplicatedTable("rules_seen", ("rule",)),
            ReplicatedTable("rules_alarm", ("rule", "user"), order="rule, user"),
            ReplicatedTable("rules_progress", ("journal",)),
            ReplicatedTable("rules_alert", ("id",)),
        ]

    # Definitions

    def rules(self) -> dict[str, tuple[Rule, int]]:
        """The rules made through the API, with their versions."""
        found = {}
        for name, document, version in self.control.read(
            "SELECT name, document, version FROM rules_rule ORDER BY name"
        ):
            try:
                found[name] = (parse_rule(json.loads(document)), version)
            except InvalidRule as error:
                # Of another version of this service; the others are good.
                _log.error("rule %s of the control database is left out: %s", name, error)
            except ValueError:
                self.control.note_wrong("a rule cannot be read, and is left out")
        return found

    def change_rule(self, name: str, rule: Rule | None, actor: Actor, check: Callable[[int], None]) -> int:
        """Keep a definition instead of the one of this name, or forget it; returns the new version.

        `check` is called with the version that is there, 0 for none, and raises where that is not the right one. Raises
        TooMany where there are too many.
        """
        return self.control.attempt(lambda: self._change_rule(name, rule, actor, check))

    def _change_rule(self, name: str, rule: Rule | None, actor: Actor, check: Callable[[int], None]) -> int:
        with self.control.transaction() as db:
            row = db.execute("SELECT document, version FROM rules_rule WHERE name = ?", (name,)).fetchone()
            check(row[1] if row else 0)
            (count,) = db.execute("SELECT count(*) FROM rules_rule").fetchone()
            if rule is not None and row is None and count >= _MAX_RULES:
                raise TooMany(f"There are {count} rules; no more are kept.")
            before = row[0].encode() if row else None
            after = None if rule is None else msgspec.json.encode(rule)
            version = self._audit.note(db, actor, "rule", f"rule:{name}", before=before, after=after)
            db.execute("DELETE FROM rules_rule WHERE name = ?", (name,))
            if after is not None:
                db.execute("INSERT INTO rules_rule VALUES (?, ?, ?)", (name, after.decode(), version))
            return version

    # Files

    def files(self, root: str) -> dict[str, str]:
        """The files under a root that were good when they were read last, by path; nothing where none ever were."""
        return dict(self.control.read("SELECT path, text FROM rules_file WHERE root = ?", (root,)))

    def put_files(self, root: str, files: Mapping[str, str]) -> None:
        """Keep the files of a root in place of what was kept; those of other roots are forgotten."""
        with self.control.transaction() as db:
            db.execute("DELETE FROM rules_file")
            db.executemany("INSERT INTO rules_file VALUES (?, ?, ?)", ((root, *file) for file in files.items()))

    # Progress

    def progress(self) -> int | None:
        """The journal offset up to which alarms are kept."""
        rows = self.control.read("SELECT offset FROM rules_progress WHERE journal = ?", (self._journal,))
        return rows[0][0] if rows else None

    def put_progress(self, offset: int | None) -> None:
        """Note how far the rules have come; None where there are none."""
        with self.control.transaction() as db:
            if offset is None:
                db.execute("DELETE FROM rules_progress WHERE journal = ?", (self._journal,))
            else:
                db.execute("INSERT OR REPLACE INTO rules_progress VALUES (?, ?)", (self._journal, offset))

    def alarms(self, rule: Rule) -> dict[str, SavedAlarm]:
        """The alarms of a rule, by user; none where the rule meant something else when they were kept."""
        if self.seen().get(rule.name) != rule.fingerprint:
            return {}
        rows = self.control.read("SELECT user, saved FROM rules_alarm WHERE rule = ?", (rule.name,))
        alarms = {}
        for user, saved in rows:
            try:
                alarms[user] = _unpack(saved)
            except msgspec.MsgspecError as error:
                _log.error("an alarm of rule %s, of %r, is left out: %s", rule.name, user, error)
        return alarms

    def put_alarms(self, rule: Rule, alarms: Mapping[str, SavedAlarm]) -> None:
        """Keep a rule's alarms."""
        with self.control.transaction() as db:
            db.execute("INSERT OR REPLACE INTO rules_seen VALUES (?, ?)", (rule.name, rule.fingerprint))
            db.executemany(
                "INSERT OR REPLACE INTO rules_alarm VALUES (?, ?, ?)",
                ((rule.name, user, _pack(saved)) for user, saved in alarms.items()),
            )

    def forget_alarms(self, rule: Rule, users: Collection[str]) -> None:
        """Forget the alarms of some users of a rule."""
        with self.control.transaction() as db:
            db.executemany("DELETE FROM rules_alarm WHERE rule = ? AND user = ?", ((rule.name, user) for user in users))

    def drop_alarms(self, rules: Iterable[str]) -> None:
        """Forget the alarms of rules that are gone, or mean something else."""
        with self.control.transaction() as db:
            for name in rules:
                db.execute("DELETE FROM rules_alarm WHERE rule = ?", (name,))
                db.execute("DELETE FROM rules_seen WHERE rule = ?", (name,))

    def seen(self) -> dict[str, str]:
        """The rules whose alarms are kept, with their fingerprints."""
        return dict(self.control.read("SELECT rule, fingerprint FROM rules_seen"))

    # Alerts

    def fire(self, transition: Transition, severity: str, *, notified: bool, who: Sequence[Named] = ()) -> None:
        """Note that an alarm fires, and who used most of the CPU then."""
        with self.control.transaction() as db:
            db.execute(
                "INSERT INTO rules_alert"
                " (rule, user, severity, state, since_ms, fired_ms, value, notified, notified_ms, who)"
                " VALUES (?, ?, ?, 'firing', ?, ?, ?, ?, ?, ?)",
                (
                    transition.rule, transition.user, severity, transition.since_ms, transition.at_ms,
                    transition.value, notified, times.now_ms(), msgspec.json.encode(who).decode(),
                ),
            )  # fmt: skip

    def resolve(self, transition: Transition) -> bool:
        """Note that an alarm does not fire any more; whether somebody was notified that it did."""
        with self.control.transaction() as db:
            row = db.execute(
                "SELECT id, notified FROM rules_alert WHERE state = 'firing' AND rule = ? AND user = ?",
                (transition.rule, transition.user),
            ).fetchone()
            if row is None:
                return False
            db.execute(
                "UPDATE rules_alert SET state = 'resolved', resolved_ms = ? WHERE id = ?", (transition.at_ms, row[0])
            )
            return bool(row[1])

    def trim_alerts(self) -> None:
        """Forget the oldest alerts that are resolved, where there are too many."""
        with self.control.transaction() as db:
            db.execute(
                "DELETE FROM rules_alert WHERE state = 'resolved' AND id <= "
                "(SELECT id FROM rules_alert WHERE state = 'resolved' ORDER BY id DESC LIMIT 1 OFFSET ?)",
                (_MAX_RESOLVED,),
            )

    def alerts(self, state: str | None = None, limit: int = 1000) -> list[Alert]:
        """Alerts, newest first."""
        rows = self.control.read(
            f"SELECT {_ALERT} FROM rules_alert WHERE ? IS NULL OR state = ? ORDER BY id DESC LIMIT ?",
            (state, state, limit),
        )
        return [Alert.of(row) for row in rows]

    def erase_alerts(self, user: str, before_ms: int) -> bool:
        """Forget the alerts of a user that fired before a moment, as soon as all are resolved; whether it is done."""
        with self.control.transaction() as db:
            where = "WHERE user = ? AND fired_ms <= ?"
            if db.execute(f"SELECT 1 FROM rules_alert {where} AND state = 'firing'", (user, before_ms)).fetchone():
                return False
            db.execute(f"DELETE FROM rules_alert {where}", (user, before_ms))
        return True

    def firing_of(self, rules: Collection[str]) -> list[Alert]:
        """The alerts of some rules that fire."""
        return [alert for alert in self.alerts("firing", -1) if alert.rule in rules]

    def unnotified(self) -> list[Alert]:
        """Alerts that fire and that nobody was notified of."""
        rows = self.control.read(f"SELECT {_ALERT} FROM rules_alert WHERE state = 'firing' AND notified = 0")
        return [Alert.of(row) for row in rows]

    def to_repeat(self, rule: str, repeat_ms: int, now_ms: int) -> list[Alert]:
        """Alerts of a rule that fire and that somebody was notified of, `repeat_ms` or longer ago for the last time.

        Or at a moment that has not come: the clock was set back since, and nobody is to wait for it.
        """
        rows = self.control.read(
            f"SELECT {_ALERT} FROM rules_alert WHERE state = 'firing' AND rule = ? AND notified"
            " AND (notified_ms <= ? OR notified_ms > ?)",
            (rule, now_ms - repeat_ms, now_ms),
        )
        return [Alert.of(row) for row in rows]

    def firing_users(self, rules: Collection[str]) -> dict[str, set[str]]:
        """The users for whom each of some rules fires; the empty one is the fleet."""
        found: dict[str, set[str]] = {}
        with self.control.transaction() as db:
            for rule in rules:
                rows = db.execute("SELECT user FROM rules_alert WHERE state = 'firing' AND rule = ?", (rule,))
                found[rule] = {user for (user,) in rows}
        return found

    def mark_notified(self, alert: Alert) -> None:
        """Note that somebody is notified of an alert."""
        with self.control.transaction() as db:
            db.execute("UPDATE rules_alert SET notified = 1, notified_ms = ? WHERE id = ?", (times.now_ms(), alert.id))

    # Silences

    def silences(self, now_ms: int) -> list[Silence]:
        """The silences that are not over, the next to end first; those that begin later are among them."""
        rows = self.control.read(
            f"SELECT {_SILENCE} FROM rules_silence WHERE until_ms > ? ORDER BY until_ms", (now_ms,)
        )
        return [Silence(*row) for row in rows]

    def add_silence(
        self, rule: str, user: str, until_ms: int, comment: str, actor: Actor, *, start_ms: int = 0
    ) -> Silence:
        """Notify nobody of some rules and users until a moment. `rule` and `user` are patterns. Raises TooMany."""
        adding = partial(self._add_silence, rule, user, until_ms, comment, actor, start_ms)
        return self.control.attempt(adding)

    def _add_silence(self, rule: str, user: str, until_ms: int, comment: str, actor: Actor, start_ms: int) -> Silence:
        now_ms = times.now_ms()
        silence = Silence(secrets.token_hex(8), rule, user, until_ms, comment, now_ms, start_ms)
        with self.control.transaction() as db:
            db.execute("DELETE FROM rules_silence WHERE until_ms <= ?", (now_ms,))
            (count,) = db.execute("SELECT count(*) FROM rules_silence").fetchone()
            if count >= _MAX_SILENCES:
                raise TooMany(f"There are {count} silences; no more are kept.")
            after = msgspec.json.encode(silence._asdict())
            self._audit.note(db, actor, "silence", f"silence:{silence.id}", after=after)
            db.execute(f"INSERT INTO rules_silence ({_SILENCE}) VALUES (?, ?, ?, ?, ?, ?, ?)", silence)
        return silence

    def end_silence(self, identity: str, actor: Actor) -> bool:
        """End a silence; False where there is none."""
        return self.control.attempt(lambda: self._end_silence(identity, actor))

    def _end_silence(self, identity: str, actor: Actor) -> bool:
        with self.control.transaction() as db:
            row = db.execute(f"DELETE FROM rules_silence WHERE id = ? RETURNING {_SILENCE}", (identity,)).fetchone()
            if row is not None:
                before = msgspec.json.encode(Silence(*row)._asdict())
                self._audit.note(db, actor, "silence", f"silence:{identity}", before=before)
            return row is not None
