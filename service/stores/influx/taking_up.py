"""The start: what this machine and the database know of users and rollups, and who goes on with whose."""

import logging
from typing import NamedTuple

from analytics.frames.tiers import Rolled
from analytics.sources.influx_client import InfluxClient
from analytics.sources.influx_state import State
from contract.influx import PROCESSES_THROUGH, SINCE, TIERS, through_field
from contract.report import FUTURE_MS
from contract.times import DAY_MS
from service.stores.base import StoreError
from service.stores.influx.checkpoint import Checkpoint
from service.stores.influx.database import taken_up
from service.stores.influx.noting import SCHEMA_NUMBER, Notes, values_of
from service.stores.influx.rollups import FINEST, over
from service.stores.influx.shared_checkpoint import SharedCheckpoint
from service.stores.influx.users import CatalogedUser

_log = logging.getLogger("loadlens.service")


class TakenUp(NamedTuple):
    """What a store that is opened finds of an earlier process."""

    users: list[CatalogedUser]
    rolled: Rolled
    is_adopted: bool
    """Whether another service had the database, and may have been cut short."""


def noted_rolled(checkpoint: Checkpoint | SharedCheckpoint) -> Rolled | None:
    """What the rollups have, as it was last noted in the folder."""
    since = checkpoint.value(SINCE)
    through = {tier: checkpoint.value(through_field(tier)) for tier in TIERS}
    known = {tier: time for tier, time in through.items() if time is not None}
    return None if since is None or len(known) < len(through) else Rolled(since, known)


def take_up(client: InfluxClient, checkpoint: Checkpoint | SharedCheckpoint, notes: Notes) -> TakenUp:
    """Ask the database, and note what this folder did not know.

    Raises Unreachable or Refused, and StoreError where the folder is older than what the database has from it.
    """
    users = {user.user_id: user for user in checkpoint.users()}
    rolled = noted_rolled(checkpoint)
    state, found = taken_up(client, notes.now_ms())
    notes.last_moment = state.time_ms if state else 0
    for user in found:
        users[user.user_id] = users[user.user_id].merged(user) if user.user_id in users else user
    known = [*users.values()]
    is_own = rolled is not None and (state is None or state.owner == checkpoint.owner)
    if not is_own:
        notes.processes_through_ms = state.processes_through_ms if state else 0
    if rolled is not None and is_own:
        if state is not None:
            _check_is_newest(client, checkpoint, rolled, state)
        checkpoint.put({}, known)
        return TakenUp(known, rolled, is_adopted=False)
    if checkpoint.has_noted:
        _log.warning("%s: another service went on with it; rows not yet written are left out", client.address)
        checkpoint.forget_noted()
    rolled = _adopted(state, notes.now_ms(), known=bool(found))
    notes.parts = state.parts if state else 0
    told = notes.news(known)
    values = values_of(rolled) | {"base": notes.parts, PROCESSES_THROUGH: notes.processes_through_ms}
    checkpoint.put(values, known, [*told, notes.state(rolled)])
    return TakenUp(known, rolled, is_adopted=state is not None and state.schema == SCHEMA_NUMBER)


def _check_is_newest(
    client: InfluxClient, checkpoint: Checkpoint | SharedCheckpoint, rolled: Rolled, state: State
) -> None:
    """Raises StoreError where InfluxDB has more of this folder's own than the folder knows: it is an older copy."""
    if any(time > rolled.through_ms[tier] for tier, time in state.rolled.through_ms.items()):
        raise StoreError(
            f"{checkpoint.path.parent} is older than what {client.address} has from it: restore the database as it was "
            "at the same time, or start with an empty folder, which goes on from the database"
        )


def _adopted(state: State | None, now_ms: int, *, known: bool) -> Rolled:
    """What the rollups of a database have that this folder does not know yet; `known` where it has points."""
    if state is not None and state.schema == SCHEMA_NUMBER:
        return state.rolled
    if state is not None:
        # An earlier version kept every bucket whole, also those that are not over. What comes into them counts as late,
        # and those of coarser tiers get rows beside their own when they are over.
        ready_ms = -(-(now_ms + FUTURE_MS) // FINEST) * FINEST
        since_ms = -(-state.rolled.since_ms // DAY_MS) * DAY_MS
    else:
        ready_ms = over(FINEST, now_ms)
        # The points of the original have no rollups, whatever day they are of.
        since_ms = now_ms // DAY_MS * DAY_MS + DAY_MS if known else 0
    return Rolled(since_ms, {tier: max(ready_ms // tier * tier, since_ms) for tier in TIERS})
