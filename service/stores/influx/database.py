"""The database itself: made where it is missing, what it knows of users and rollups, and rollups of older points."""

import logging
from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from analytics.frames.columns import Windows, concatenate, merge
from analytics.sources.influx_client import InfluxClient, Refused, Unreachable
from contract.influx import (
    MEASUREMENTS,
    OS_TYPE,
    OS_VERSION,
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
from service.stores.engine import RAW, Retention
from service.stores.influx.lines import Lines, bucket_lines, lines_of
from service.stores.influx.reading import Reader, Wanted
from service.stores.influx.users import KnownUser
from service.stores.series import WHOLE, SeriesIndex

_log = logging.getLogger("loadlens.service")
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


def taken_up(client: InfluxClient) -> tuple[int | None, list[KnownUser]]:
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


def _known_users(client: InfluxClient) -> list[KnownUser]:
    """What the database says of each user: its newest point."""
    kinds = {newest_field(kind): type_name(kind) for kind in TYPES}
    types = {name: pa.string() for name in ("user", OS_TYPE, OS_VERSION, "coreNumbers")}
    types |= {name: pa.int64() for name in (*_NUMBERS, *kinds)}
    columns = ", ".join(map(identifier, types))
    rows = client.select(
        f"SELECT {columns} FROM {identifier(USERS)} GROUP BY {identifier(USER_ID)} ORDER BY time DESC LIMIT 1", types
    )
    return [
        KnownUser(
            row["user"], row[OS_TYPE], row[OS_VERSION] or "", row["cores"],
            [int(number) for number in (row["coreNumbers"] or "").split()],
            row["firstSeen"], row["lastSeen"],
            {kind: row[name] for name, kind in kinds.items() if row[name] is not None},
        )
        for row in rows.to_pylist()
    ]  # fmt: skip


def user_lines(users: list[KnownUser]) -> Iterator[Lines]:
    """The points of users, each at the day of its newest window."""
    yield lines_of([_user_line(user) for user in users])


def _user_line(user: KnownUser) -> str:
    numbers = " ".join(map(str, user.core_numbers))
    fields = [
        f"user={string_field(user.user_id)}",
        f"{OS_TYPE}={string_field(user.os_type)}",
        f"{OS_VERSION}={string_field(user.os_version)}",
        f"coreNumbers={string_field(numbers)}",
        f"cores={user.cores}i,firstSeen={user.first_seen}i,lastSeen={user.last_seen}i",
        *(f"{newest_field(kind)}={user.newest[type_name(kind)]}i" for kind in TYPES if type_name(kind) in user.newest),
    ]
    return f"{USERS}{tag(USER_ID, user.user_id)} {','.join(fields)} {max(user.last_seen, 0) // DAY_MS * DAY_MS}\n"


def _original_users(client: InfluxClient) -> list[KnownUser]:
    """The users of points that the original wrote: whoever has a CPU mean."""
    mean = identifier(fields_of(Cpu.quantities[0]).mean)
    labels = ", ".join(map(identifier, (USER_ID, OS_TYPE, OS_VERSION)))
    types = {"time": pa.int64()} | {name: pa.string() for name in (USER_ID, OS_TYPE, OS_VERSION)}
    found: dict[str, KnownUser] = {}
    for order in ("ASC", "DESC"):
        rows = client.select(
            f"SELECT {mean}, {labels} FROM {identifier(MEASUREMENTS)}"
            f" GROUP BY {identifier(USER_ID)} ORDER BY time {order} LIMIT 1", types,
        )  # fmt: skip
        for row in rows.filter(pc.is_valid(rows[USER_ID])).to_pylist():
            name, end = tag_value(row[USER_ID]), row["time"]
            user = KnownUser(
                name, row[OS_TYPE] or "Linux", row[OS_VERSION] or "", 0, [], end, end, {type_name(Cpu): end}
            )
            found[name] = found[name].merged(user) if name in found else user
    return list(found.values())


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
                wanted = Wanted(quantity, RAW, day_ms, day_ms + DAY_MS, some, kind)
                yield from _tiers(reader, index, wanted)


def _tiers(reader: Reader, index: SeriesIndex, wanted: Wanted) -> Iterator[Lines]:
    finest = next(iter(TIERS))
    parts = [merge(part, rate_ms=finest) for part in reader.windows(wanted, histograms=True)]
    buckets: Windows = concatenate(parts)
    for tier in TIERS if len(buckets) else ():
        buckets = merge(buckets, rate_ms=tier)
        yield from bucket_lines(tier, buckets, index)
