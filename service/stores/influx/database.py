"""The database itself: made where it is missing, what it knows of users and rollups, and rollups of older points."""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import replace

from analytics.frames.columns import Windows, concatenate, merge
from analytics.frames.tiers import RAW
from analytics.sources.influx_client import InfluxClient, Refused, Unreachable
from analytics.sources.influx_points import Points
from contract.influx import (
    MEASUREMENTS,
    OS_TYPE,
    OS_VERSION,
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
    tag_value,
)
from contract.metrics import QUANTITIES, TYPES, Cpu, type_name
from contract.times import DAY_MS, format_duration
from service.stores.engine import Retention
from service.stores.influx.lines import Lines, bucket_lines, lines_of
from service.stores.influx.reading import Reader
from service.stores.influx.users import CatalogedUser
from service.stores.series import WHOLE, SeriesIndex

_log = logging.getLogger("loadlens.service")
_SYSTEMS = msgspec.json.Decoder(list[tuple[int, str, str]])
_NUMBERS = ("cores", "firstSeen", "lastSeen")


def ensure_database(client: InfluxClient, kept_ms: int | None) -> None:
    """Make the database or bucket where it is missing, to keep points for `kept_ms` (None: for ever).

    Raises Unreachable, also where it is missing and may not be made; its words say what would be right.
    """
    generation = client.server().generation
    try:
        if generation == 1:
            _ensure_database(client, kept_ms)
        elif generation == 2:
            _ensure_bucket(client, kept_ms)
        else:
            _ensure_table_space(client)
    except Refused as error:
        if error.status == 401:
            asked = "a token (--store-token), or a user and password (--store-user, --store-password), that it knows"
            raise Unreachable(f"{client.address} asks for {asked}: {error}") from None
        raise Unreachable(
            f"{client.address}: the database {client.address.database} is not there and cannot be made: {error}"
        ) from None


def _ensure_database(client: InfluxClient, kept_ms: int | None) -> None:
    name = client.address.database
    found = {row[0] for series in client.execute("SHOW DATABASES") for row in series.get("values", [])}
    if name not in found:
        # Without a duration its default retention policy keeps points for ever.
        duration = f" WITH DURATION {format_duration(kept_ms)}" if kept_ms else ""
        client.execute(f"CREATE DATABASE {identifier(name)}{duration}", change=True)
        _log.info("%s: made the database", client.address)


def _ensure_bucket(client: InfluxClient, kept_ms: int | None) -> None:
    import json

    name, organization = client.address.database, client.credentials.organization
    found = json.loads(client.request("GET", "/api/v2/buckets", {"name": name, "limit": "1"}).data)
    if found.get("buckets"):
        return
    named = {"org": organization} if organization else {}
    organizations = json.loads(client.request("GET", "/api/v2/orgs", named).data).get("orgs") or []
    if len(organizations) != 1:
        raise Refused(404, f"there are {len(organizations)} organizations; --store-org names the right one")
    rules = [{"type": "expire", "everySeconds": kept_ms // 1000}] if kept_ms else []
    bucket = {"orgID": organizations[0]["id"], "name": name, "retentionRules": rules}
    body = json.dumps(bucket).encode()
    client.request("POST", "/api/v2/buckets", body=body, headers={"Content-Type": "application/json"})
    _log.info("%s: made the bucket", client.address)


def _ensure_table_space(client: InfluxClient) -> None:
    import json

    body = json.dumps({"db": client.address.database}).encode()
    headers = {"Content-Type": "application/json"}
    try:
        client.request("POST", "/api/v3/configure/database", body=body, headers=headers)
        _log.info("%s: made the database", client.address)
    except Refused as error:
        # 409: it is there. Without an admin's token it is made by the first write.
        if error.status not in (401, 403, 404, 409):
            raise


def taken_up(client: InfluxClient) -> tuple[int | None, list[CatalogedUser]]:
    """The time from which the rollups are whole, epoch ms, and the users that are known.

    The time is None where no Loadlens has written to the database yet; its users are then those of the original.
    """
    since = identifier("since")
    try:
        rows = client.select(f"SELECT last({since}) AS {since} FROM {identifier(STATE)}", {"since": pa.int64()})
        return (rows["since"][0].as_py(), _known_users(client)) if len(rows) else (None, _original_users(client))
    except Refused as error:
        # In 3.x the first write makes the database.
        if client.server().generation < 3 or "not found" not in str(error):
            raise
        return None, []


def since_lines(since_ms: int, now_ms: int) -> Iterator[Lines]:
    """The point that says so; one a day, so that it is not lost where points expire."""
    yield lines_of([f"{STATE} schema=1i,since={since_ms}i {now_ms // DAY_MS * DAY_MS}\n"])


def _known_users(client: InfluxClient) -> list[CatalogedUser]:
    """What the database says of each user: its newest point."""
    kinds = {newest_field(kind): type_name(kind) for kind in TYPES}
    types = {name: pa.string() for name in ("user", OS_TYPE, OS_VERSION, "coreNumbers", "systems")}
    types |= {name: pa.int64() for name in (*_NUMBERS, *kinds)}
    columns = ", ".join(map(identifier, types))
    rows = client.select(
        f"SELECT {columns} FROM {identifier(USERS)} GROUP BY {identifier(USER_ID)} ORDER BY time DESC LIMIT 1", types
    )
    users = [
        CatalogedUser(
            row["user"], row[OS_TYPE], row[OS_VERSION] or "", row["cores"],
            [int(number) for number in (row["coreNumbers"] or "").split()],
            row["firstSeen"], row["lastSeen"],
            {kind: row[name] for name, kind in kinds.items() if row[name] is not None},
            _SYSTEMS.decode(row["systems"] or "[]"),
        )
        for row in rows.to_pylist()
    ]  # fmt: skip
    if not all(user.systems and user.core_numbers for user in users):
        found = {user.user_id: user for user in _original_users(client)}
        users = [_completed(user, found[user.user_id]) if user.user_id in found else user for user in users]
    return users


def _completed(user: CatalogedUser, found: CatalogedUser) -> CatalogedUser:
    """A user as an earlier version told it, with what its points say."""
    return replace(user, systems=user.systems or found.systems, core_numbers=user.core_numbers or found.core_numbers)


def user_lines(users: list[CatalogedUser]) -> Iterator[Lines]:
    """The points of users, each at the day of its newest window."""
    yield lines_of([_user_line(user) for user in users])


def _user_line(user: CatalogedUser) -> str:
    numbers = " ".join(map(str, user.core_numbers))
    fields = [
        f"user={string_field(user.user_id)}",
        f"{OS_TYPE}={string_field(user.os_type)}",
        f"{OS_VERSION}={string_field(user.os_version)}",
        f"coreNumbers={string_field(numbers)}",
        f"systems={string_field(msgspec.json.encode(user.systems).decode())}",
        f"cores={user.cores}i,firstSeen={user.first_seen}i,lastSeen={user.last_seen}i",
        *(f"{newest_field(kind)}={user.newest[type_name(kind)]}i" for kind in TYPES if type_name(kind) in user.newest),
    ]
    return f"{USERS}{tag(USER_ID, user.user_id)} {','.join(fields)} {max(user.last_seen, 0) // DAY_MS * DAY_MS}\n"


def _original_users(client: InfluxClient) -> list[CatalogedUser]:
    """The users of points, the original's among them: whoever has a CPU mean; and what they ran when.

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
            f"SELECT {asked}, {labels} FROM {identifier(MEASUREMENTS)} GROUP BY {labels} ORDER BY time {order} LIMIT 1",
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
    """Delete the points of each tier that have been kept long enough, whole days of them."""
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


_USERS = 20
"""So many users' windows of a day are merged at once: some 350,000."""


def oldest_ms(index: SeriesIndex) -> int:
    """The start of the day of the oldest window of any user, epoch ms."""
    # A copy, here and below, because users and cores may join meanwhile.
    return min((user.first_seen for user in list(index.users.values())), default=0) // DAY_MS * DAY_MS


def day_lines(reader: Reader, index: SeriesIndex, day_ms: int) -> Iterator[Lines]:
    """The buckets of every tier in the day from `day_ms`, made of all windows that InfluxDB has of it.

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
                wanted = Points(quantity, RAW, day_ms, day_ms + DAY_MS, some, kind)
                yield from _tiers(reader, index, wanted)


def _tiers(reader: Reader, index: SeriesIndex, wanted: Points) -> Iterator[Lines]:
    finest = next(iter(TIERS))
    parts = [merge(part, rate_ms=finest) for part in reader.windows(wanted)]
    buckets: Windows = concatenate(parts)
    for tier in TIERS if len(buckets) else ():
        buckets = merge(buckets, rate_ms=tier)
        yield from bucket_lines(tier, buckets, index)
