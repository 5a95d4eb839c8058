"""Desired settings in layers: the fleet's, those of selections in the order of their ranks, one agent's own."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from contract import times
from contract.agent_protocol import DesiredSettings, merged, version_of
from contract.problems import decode_json, shortened
from contract.report import OS_TYPES
from contract.selectors import MAX_PATTERN, host_matcher, matcher, names_labels
from service.control.audit import Actor, Audit
from service.control.database import ControlDatabase, RecordKey, SharedRecords

_EXPECTED = (
    "expected all, os:Linux, os:MacOS, os:Windows, a label such as label:role=web or a pattern such as user:web-*"
)


@dataclass(frozen=True, slots=True)
class Selector:
    """A condition on agents, written `all`, `os:Linux`, `label:role=web` or `user:web-*`."""

    text: str
    os_type: str | None = None
    takes_host: Callable[[str, Mapping[str, str]], bool] | None = field(default=None, compare=False)
    rank: int = 0
    """Where its settings stand unless they are given another place: the higher wins."""

    def matches(self, user_id: str, os_type: str, labels: Mapping[str, str]) -> bool:
        """Whether it means this agent."""
        if self.takes_host is not None:
            return self.takes_host(user_id, labels)
        return self.os_type in (None, os_type)


ALL = Selector("all")


def parse_selector(text: str) -> Selector:
    """The selector of a text; raises ValueError, which says what is expected.

    Patterns are those of `contract.selectors`.
    """
    kind, colon, rest = text.partition(":")
    if text == ALL.text:
        return ALL
    if kind == "os" and colon:
        for known in OS_TYPES:
            if known.lower() == rest.lower():
                return Selector(f"os:{known}", os_type=known, rank=100)
    if rest and len(rest) <= MAX_PATTERN and rest.isprintable():
        if kind == "label" and names_labels([rest]):
            takes = host_matcher([rest])
            return Selector(text, takes_host=lambda _, labels: takes("", labels), rank=150)
        if kind == "user":
            is_meant = matcher([rest])
            return Selector(text, takes_host=lambda user_id, _: is_meant(user_id), rank=200)
    raise ValueError(f"{_EXPECTED}, got {shortened(ascii(text))}")


AGENT = "agent:"
"""What stands before the user id in the target of an agent's own settings."""
MAX_SELECTIONS = 200
MAX_AGENT_LAYERS = 100_000
"""Agents with settings of their own."""
_AGENT_RANK = 1_000_000
_STEPS = [
    """
    CREATE TABLE agents_layer (
        target TEXT PRIMARY KEY,
        rank INTEGER NOT NULL,
        settings BLOB NOT NULL,
        revision INTEGER NOT NULL,
        changed_ms INTEGER NOT NULL
    ) STRICT;
    """
]
_NOTHING = DesiredSettings()


class TooManyLayers(Exception):
    """No more layers are kept; the message says how many are."""


@dataclass(frozen=True, slots=True)
class Layer:
    """The desired settings of the agents that a target means."""

    target: str
    """A selector, or `agent:` and a user id."""
    rank: int
    """Where several layers set a member, the one of the highest rank holds; equal ones go by the target's text."""
    settings: DesiredSettings = _NOTHING
    revision: int = 0
    """The number of the audit entry of its last change; 0 where nobody has set it."""
    changed_ms: int = 0


class Layers:
    """All layers, in memory and in the control database. `change` blocks; the rest is quick and reads memory.

    The processes of a cluster have the same layers.
    """

    def __init__(self, control: ControlDatabase, audit: Audit) -> None:
        self._control = control
        self._audit = audit
        control.migrate("agents.layers", _STEPS)
        control.shared.append(SharedRecords("agents_layer", "target", self._changed_elsewhere))
        self.on_change: Callable[[Collection[str]], None] = lambda targets: None
        """Called in a thread with the targets that another process has changed."""
        self._layers: dict[str, Layer] = {}
        for row in control.read("SELECT * FROM agents_layer"):
            try:
                self._layers[row[0]] = _layer(row)
            except (msgspec.DecodeError, ValueError):
                control.note_wrong("settings of agents cannot be read, and are left out")
        self._selections: list[tuple[Selector, Layer]] = []
        self._merged: dict[tuple[tuple[str, int], ...], tuple[DesiredSettings, str]] = {}
        self._sort()

    def get(self, target: str) -> Layer:
        """The layer of a target; one without settings where nobody has set it."""
        layer = self._layers.get(target)
        return layer or Layer(target, _AGENT_RANK if target.startswith(AGENT) else parse_selector(target).rank)

    def selections(self) -> Iterator[tuple[Selector, Layer]]:
        """The layers of the fleet and of selections, in the order in which they are laid over each other."""
        return iter(self._selections)

    def of(self, user_id: str, os_type: str, labels: Mapping[str, str]) -> list[Layer]:
        """The layers that an agent stands under, the strongest last."""
        found = [layer for selector, layer in self._selections if selector.matches(user_id, os_type, labels)]
        own = self._layers.get(AGENT + user_id)
        return [*found, own] if own else found

    def desired(self, user_id: str, os_type: str, labels: Mapping[str, str]) -> tuple[DesiredSettings, str]:
        """What is asked of an agent, its layers merged, and the version of that."""
        layers = self.of(user_id, os_type, labels)
        key = tuple((layer.target, layer.revision) for layer in layers)
        found = self._merged.get(key)
        if found is None:
            settings = merged(layer.settings for layer in layers)
            # Most agents stand under the same layers. Those with settings of their own would fill the memory.
            found = settings, version_of(settings)
            if not (layers and layers[-1].target.startswith(AGENT)):
                self._merged[key] = found
        return found

    def change(self, target: str, actor: Actor, edit: Callable[[Layer], Layer | None]) -> Layer:
        """Put what `edit` makes of a layer in its place, on disk and noted in the audit trail; None removes it.

        `edit` sees the layer as it is at that moment, and may raise; it is called again where another process has
        changed the layer at the same moment. Raises TooManyLayers, and ControlError where it cannot be kept. Called in
        a thread; several take turns.
        """
        return self._control.attempt(lambda: self._change(target, actor, edit))

    def _change(self, target: str, actor: Actor, edit: Callable[[Layer], Layer | None]) -> Layer:
        before = self.get(target)
        after = edit(before)
        if after is not None:
            self._check_room(target)
        elif not before.revision:
            return before
        with self._control.transaction() as db:
            number = self._audit.note(
                db, actor, "settings", target,
                before=_document(before) if before.revision else None,
                after=None if after is None else _document(after),
            )  # fmt: skip
            if after is None:
                db.execute("DELETE FROM agents_layer WHERE target = ?", (target,))
            else:
                after = replace(after, revision=number, changed_ms=times.now_ms())
                db.execute(
                    "INSERT OR REPLACE INTO agents_layer VALUES (?, ?, ?, ?, ?)",
                    (target, after.rank, msgspec.json.encode(after.settings), after.revision, after.changed_ms),
                )
        self._remember(target, after)
        return self.get(target)

    def _changed_elsewhere(self, keys: Iterable[RecordKey]) -> None:
        targets = [*map(str, keys)]
        for target in targets:
            rows = self._control.read("SELECT * FROM agents_layer WHERE target = ?", (target,))
            self._keep(target, _layer(rows[0]) if rows else None)
        self._sort()
        self.on_change(targets)

    def _remember(self, target: str, layer: Layer | None) -> None:
        self._keep(target, layer)
        if not target.startswith(AGENT):
            self._sort()

    def _keep(self, target: str, layer: Layer | None) -> None:
        # One step each for whoever reads on another thread.
        if layer is None:
            self._layers.pop(target, None)
        else:
            self._layers[target] = layer

    def _sort(self) -> None:
        chosen = [layer for layer in list(self._layers.values()) if not layer.target.startswith(AGENT)]
        chosen.sort(key=lambda layer: (layer.target != ALL.text, layer.rank, layer.target))
        self._selections = [(parse_selector(layer.target), layer) for layer in chosen]
        self._merged = {}

    def _check_room(self, target: str) -> None:
        if target in self._layers:
            return
        own = target.startswith(AGENT)
        count = len(self._layers) - len(self._selections) if own else len(self._selections)
        limit = MAX_AGENT_LAYERS if own else MAX_SELECTIONS
        if count >= limit:
            raise TooManyLayers(f"{limit} {'agents' if own else 'selections'} have settings of their own; no more fit")


def _layer(row: tuple[str, int, bytes, int, int]) -> Layer:
    target, rank, settings, revision, changed_ms = row
    if not target.startswith(AGENT):
        parse_selector(target)
    return Layer(target, rank, decode_json(settings, DesiredSettings), revision, changed_ms)


def _document(layer: Layer) -> bytes:
    """A layer as the audit trail shows it."""
    if layer.target.startswith(AGENT) or layer.target == ALL.text:
        return msgspec.json.encode(layer.settings)
    return msgspec.json.encode({"rank": layer.rank, "settings": layer.settings})
