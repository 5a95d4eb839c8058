"""The database itself: made where it is missing, what it knows of users and rollups, and rollups of older points."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from analytics.frames.columns import Windows, concatenate, merge
from analytics.frames.tiers import RAW
from analytics.sources.influx_client import InfluxClient, Refused
from analytics.sources.influx_points import Points, condition
from analytics.sources.influx_state import State, state_of
from contract.influx import (
    CLAIM,
    MEASUREMENTS,
    OS_TYPE,
    OS_VERSION,
    OWNER,
    PARTS,
    PROCESSES,
    PROCESSES_1H,
    PROCESSES_THROUGH,
    SCHEMA,
    SINCE,
    STAND_IN_CORES,
    STATE,
    TIERS,
    USER_ID,
    USERS,
    fields_of,
    identifier,
    measurement_of,
    newest_field,
    string_field,
    tag,
    tag_literal,
    tag_value,
    through_field,
)
from contract.metrics import QUANTITIES, TYPES, Cpu, type_name
from contract.times import DAY_MS
from service.stores.influx.lines import Lines, bucket_lines, lines_of
from service.stores.influx.reading import Reader
from service.stores.influx.users import CatalogedUser
from service.stores.retention import Retention
from service.stores.series import WHOLE, SeriesIndex

_log = logging.getLogger("loadlens.service")
_SYSTEMS = msgspec.json.Decoder(list[tuple[int, str, str]])
_LABELS = msgspec.json.Decoder(dict[str, str])
_DEVICES = msgspec.json.Decoder(dict[str, dict[str, int]])
_NUMBERS = ("cores", "firstSeen", "lastSeen")


def taken_up(client: InfluxClient, now_ms: int) -> tuple[State | None, list[CatalogedUser]]:
    """What the database says of itself, and the users that are known: where it says nothing, those of the original."""
    try:
        state = state_of(client, now_ms)
        return (state, _known_users(client, state)) if state else (None, original_users(client))
    except Refused as error:
        # In 3.x the first write makes the database.
        if client.server().generation < 3 or "not found" not in str(error):
            raise
        return None, []


def state_lines(state: State) -> Lines:
    """The point that says so."""
    through = "".join(f",{through_field(tier)}={time}i" for tier, time in state.rolled.through_ms.items())
    through += f",{PROCESSES_THROUGH}={state.processes_through_ms}i"
    numbers = f"{SCHEMA}={state.schema}i,{SINCE}={state.rolled.since_ms}i,{PARTS}={state.parts}i{through}"
    return lines_of([f"{STATE} {numbers},{OWNER}={string_field(state.owner)} {state.time_ms}\n"])


def _known_users(client: InfluxClient, state: State) -> list[CatalogedUser]:
    """What the database says of each user: its newest point, and its windows since."""
    # All users are told of once a day.
    since_ms = state.time_ms - 2 * DAY_MS if state.schema > 1 else None
    where = "" if since_ms is None else f" WHERE time >= {since_ms}ms"
    kinds = {newest_field(kind): type_name(kind) for kind in TYPES}
    types = {name: pa.string() for name in ("user", OS_TYPE, OS_VERSION, "coreNumbers", "systems", "labels", "devices")}
    types |= {name: pa.int64() for name in (*_NUMBERS, *kinds)}
    columns = ", ".join(map(identifier, types))
    rows = client.select(
        f"SELECT {columns} FROM {identifier(USERS)}{where} GROUP BY {identifier(USER_ID)} ORDER BY time DESC LIMIT 1",
        types,
    )
    users = [
        CatalogedUser(
            row["user"], row[OS_TYPE], row[OS_VERSION] or "", row["cores"],
            [int(number) for number in (row["coreNumbers"] or "").split()],
            row["firstSeen"], row["lastSeen"],
            {kind: row[name] for name, kind in kinds.items() if row[name] is not None},
            _SYSTEMS.decode(row["systems"] or "[]"),
            _LABELS.decode(row["labels"] or "{}"),
            _DEVICES.decode(row["devices"] or "{}"),
        )
        for row in rows.to_pylist()
    ]  # fmt: skip
    if since_ms is None and not all(user.systems and user.core_numbers for user in users):
        found = {user.user_id: user for user in original_users(client)}
        users = [_completed(user, found[user.user_id]) if user.user_id in found else user for user in users]
    return _with_newest(client, users, since_ms)


def _with_newest(client: InfluxClient, users: list[CatalogedUser], since_ms: int | None) -> list[CatalogedUser]:
    """The users, with the ends of the newest windows that InfluxDB has of them."""
    # What comes late is no newest window, unless all of its host's are: then they lie anywhere.
    bounded = since_ms is not None and client.server().generation > 2
    where = f" WHERE time >= {since_ms}ms" if bounded else ""
    newest: dict[str, dict[str, int]] = defaultdict(dict)
    for kind in TYPES:
        mean = fields_of(kind.quantities[0]).mean
        rows = client.select(
            f"SELECT {identifier(mean)}, {identifier(USER_ID)} FROM {identifier(MEASUREMENTS)}{where}"
            f" GROUP BY {identifier(USER_ID)} ORDER BY time DESC LIMIT 1",
            {"time": pa.int64(), USER_ID: pa.string()},
        )
        for row in rows.filter(pc.is_valid(rows[USER_ID])).to_pylist():
            newest[tag_value(row[USER_ID])][type_name(kind)] = row["time"]
    return [
        replace(
            user,
            last_seen=max(user.last_seen, *newest[user.user_id].values()),
            newest={name: max(end, newest[user.user_id].get(name, end)) for name, end in user.newest.items()},
        )
        if newest[user.user_id]
        else user
        for user in users
    ]


def _completed(user: CatalogedUser, found: CatalogedUser) -> CatalogedUser:
    """A user as an earlier version told it, with what its points say."""
    return replace(user, systems=user.systems or found.systems, core_numbers=user.core_numbers or found.core_numbers)


def user_lines(users: Sequence[CatalogedUser], told_ms: int) -> Lines:
    """The points of users, told at a moment at which nothing else is told of any."""
    return lines_of([_user_line(user, told_ms) for user in users])


def _user_line(user: CatalogedUser, told_ms: int) -> str:
    numbers = " ".join(map(str, user.core_numbers))
    fields = [
        f"user={string_field(user.user_id)}",
        f"{OS_TYPE}={string_field(user.os_type)}",
        f"{OS_VERSION}={string_field(user.os_version)}",
        f"coreNumbers={string_field(numbers)}",
        f"labels={string_field(msgspec.json.encode(user.labels).decode())}",
        f"devices={string_field(msgspec.json.encode(user.devices).decode())}",
        f"systems={string_field(msgspec.json.encode(user.systems).decode())}",
        f"cores={user.cores}i,firstSeen={user.first_seen}i,lastSeen={user.last_seen}i",
        *(f"{newest_field(kind)}={user.newest[type_name(kind)]}i" for kind in TYPES if type_name(kind) in user.newest),
    ]
    return f"{USERS}{tag(USER_ID, user.user_id)} {','.join(fields)} {told_ms}\n"


def original_users(client: InfluxClient, where: str = "") -> list[CatalogedUser]:
    """The users of points, the original's among them: whoever has a CPU mean; and what they ran when.

    `where` is a condition of the points that are looked at.

    The first and the last window of each system are asked for: where one comes again after another, it counts as back
    behind the last of that.
    """
    labels = ", ".join(map(identifier, (USER_ID, OS_TYPE, OS_VERSION)))
    fields = fields_of(Cpu.quantities[0])
    shown = [fields.mean, fields.count, *(mean for mean, _ in STAND_IN_CORES.values())]
    types = {"time": pa.int64()} | {name: pa.string() for name in (USER_ID, OS_TYPE, OS_VERSION)}
    types |= {name: pa.float64() for name in shown}
    asked = ", ".join(map(identifier, shown))
    found: dict[str, CatalogedUser] = {}
    spans: dict[str, dict[tuple[str, str], list[int]]] = defaultdict(dict)
    for order in ("ASC", "DESC"):
        rows = client.select(
            f"SELECT {asked}, {labels} FROM {identifier(MEASUREMENTS)}{where and f' WHERE {where}'}"
            f" GROUP BY {labels} ORDER BY time {order} LIMIT 1",
            types,
        )
        for row in rows.filter(pc.and_(pc.is_valid(rows[USER_ID]), pc.is_valid(rows[fields.mean]))).to_pylist():
            name, end = tag_value(row[USER_ID]), row["time"]
            system = tag_value(row[OS_TYPE] or "Linux"), tag_value(row[OS_VERSION] or "")
            stand_ins = [core for core, (field, _) in STAND_IN_CORES.items() if row[field] is not None]
            cores = [] if row[fields.count] is not None else sorted(stand_ins)
            user = CatalogedUser(name, *system, 0, cores, end, end, {type_name(Cpu): end})
            found[name] = found[name].merged(user) if name in found else user
            spans[name].setdefault(system, []).append(end)
    return [replace(user, systems=_systems(spans[name])) for name, user in found.items()]


def _systems(spans: Mapping[tuple[str, str], Sequence[int]]) -> list[tuple[int, str, str]]:
    """What ran since when, of the moments of the first and the last window of each system."""
    told: list[tuple[int, tuple[str, str]]] = []
    running: list[tuple[int, tuple[str, str]]] = []
    for first, last, system in sorted((min(ends), max(ends), system) for system, ends in spans.items()):
        told.append((first, system))
        running.append((last, system))
    for place, (last, system) in enumerate(running):
        behind = [end for end, _ in running[place + 1 :] if end < last]
        if behind and max(behind) == max(end for end, _ in running[place + 1 :]):
            told.append((max(behind) + 1, system))
    return [(since, *system) for since, system in sorted(told)]


def expire(client: InfluxClient, retention: Retention, now_ms: int) -> None:
    """Delete the points of each tier that have been kept long enough, whole days of them, and old claims."""
    for tier in (RAW, *TIERS):
        before = retention.since(tier, now_ms) // DAY_MS * DAY_MS
        if before <= 0:
            continue
        if client.server().generation > 2:
            _log.warning("InfluxDB 3 cannot delete points: set a retention period for the database instead")
            return
        for cores in (False, True):
            measurement = identifier(measurement_of(tier, cores=cores))
            client.execute(f"DELETE FROM {measurement} WHERE time < {before}ms", change=True)
    if client.server().generation < 3:
        client.execute(f"DELETE FROM {identifier(CLAIM)} WHERE time < now() - 2d", change=True)


def delete_rollups(client: InfluxClient, user_ids: Sequence[str], start_ms: int, end_ms: int) -> None:
    """Delete the buckets of some users that start in a range, in all tiers, the coarsest first.

    So whoever is cut short leaves no day that is there, while some of what it is made of is not.
    """
    for start in range(0, len(user_ids), _NAMED):
        where = condition(user_ids[start : start + _NAMED], start_ms, end_ms)
        for tier in reversed(TIERS):
            for cores in (False, True):
                client.execute(
                    f"DELETE FROM {identifier(measurement_of(tier, cores=cores))} WHERE {where}", change=True
                )


def delete_user(client: InfluxClient, user_id: str) -> None:
    """Delete all points of a user: what is known of it last, so that it is known until nothing else is there."""
    tiers = [measurement_of(tier, cores=cores) for cores in (False, True) for tier in (RAW, *TIERS)]
    for measurement in (*tiers, PROCESSES, PROCESSES_1H, USERS):
        where = f"{identifier(USER_ID)} = {tag_literal(user_id)}"
        client.execute(f"DELETE FROM {identifier(measurement)} WHERE {where}", change=True)


_NAMED = 100
_USERS = 20
"""So many users' windows of a day are merged at once: some 350,000."""


def oldest_ms(index: SeriesIndex) -> int:
    """The start of the day of the oldest window of any user, epoch ms."""
    # A copy, here and below, because users and cores may join meanwhile.
    return min((user.first_seen for user in list(index.users.values())), default=0) // DAY_MS * DAY_MS


def day_lines(reader: Reader, index: SeriesIndex, day_ms: int) -> Iterator[Lines]:
    """The buckets of every tier in the day from `day_ms`, made of all windows that InfluxDB has of it.

    Points of the original are not among them (`service.stores.influx.originals`).

    Raises Unreachable where they cannot be read.
    """
    users = sorted(index.users)
    for name, quantity in QUANTITIES.items():
        for start in range(0, len(users), _USERS):
            some = users[start : start + _USERS]
            cores = [core for user in some for core in list(index.cores(user, name))]
            if not cores:
                continue
            for kind in ("whole", "each") if set(cores) != {WHOLE} else ("whole",):
                wanted = Points(quantity, RAW, day_ms, day_ms + DAY_MS, some, kind, foreign=False)
                yield from _tiers(reader, index, wanted)


def _tiers(reader: Reader, index: SeriesIndex, wanted: Points) -> Iterator[Lines]:
    finest = next(iter(TIERS))
    parts = [merge(part, rate_ms=finest) for part in reader.windows(wanted)]
    buckets: Windows = concatenate(parts)
    for tier in TIERS if len(buckets) else ():
        buckets = merge(buckets, rate_ms=tier)
        yield from bucket_lines(tier, buckets, index, np.zeros(len(buckets), np.int64))
