"""Where a database lies: made where it is missing, and in InfluxDB 2 the bucket that it is mapped to."""

import json
import logging
import re
from typing import Any, NamedTuple

from analytics.sources.influx_client import InfluxClient, Refused, Unreachable
from contract.influx import identifier
from contract.times import format_duration

_log = logging.getLogger("loadlens.service")
_JSON = {"Content-Type": "application/json"}
OLDEST_2 = (2, 4)
"""Before it, a bucket without a mapping of its own cannot be asked by InfluxQL."""
RETENTION_3 = (3, 2)
"""Since then a database of InfluxDB 3 has a retention period."""
_NAME_3 = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(/[A-Za-z0-9_-]+)?")
_LONGEST_NAME_3 = 511


class Place(NamedTuple):
    """A bucket of InfluxDB 2; of other generations the database."""

    bucket: str
    """Its id."""
    organization: str = ""
    """The id of the organization that it belongs to."""


def ensure_database(client: InfluxClient, kept_ms: int | None) -> Place:
    """Make the database or bucket where it is missing, to keep points for `kept_ms` (None: for ever); where it lies.

    Raises Unreachable, also where it is missing and may not be made; its words say what would be right.
    """
    try:
        server = client.server()
        if server.generation == 2 and server.number < OLDEST_2:
            raise Unreachable(f"{client.address}: expected InfluxDB 2.4 or newer, got {server.version}")
        if server.generation == 1:
            return _ensure_database(client, kept_ms)
        if server.generation == 2:
            return _ensure_bucket(client, kept_ms)
        _check_name_3(client)
        return _ensure_database_3(client, kept_ms)
    except Refused as error:
        if error.status == 401:
            asked = "a token (--store-token), or a user and password (--store-user, --store-password), that it knows"
            raise Unreachable(f"{client.address} asks for {asked}: {error}") from None
        raise Unreachable(
            f"{client.address}: the database {client.address.database} is not there and cannot be made: {error}"
        ) from None


def drop_database(client: InfluxClient) -> None:
    """Drop the database or bucket with all that is in it; nothing where there is none.

    Raises Unreachable or Refused.
    """
    name, generation = client.address.database, client.server().generation
    if generation == 1:
        client.execute(f"DROP DATABASE {identifier(name)}", change=True)
        return
    try:
        if generation > 2:
            # Otherwise its files stay for three days.
            client.request("DELETE", "/api/v3/configure/database", {"db": name, "hard_delete_at": "now"})
            return
        organization = client.credentials.organization
        named = {"org": organization} if organization else {}
        for found in _listed(client, "buckets", {"name": name, "limit": "1"} | named):
            client.request("DELETE", f"/api/v2/buckets/{found['id']}")
    except Refused as error:
        if error.status != 404:
            raise


def _ensure_database(client: InfluxClient, kept_ms: int | None) -> Place:
    name = client.address.database
    found = {row[0] for series in client.execute("SHOW DATABASES") for row in series.get("values", [])}
    if name not in found:
        # Without a duration its default retention policy keeps points for ever.
        duration = f" WITH DURATION {format_duration(kept_ms)}" if kept_ms else ""
        client.execute(f"CREATE DATABASE {identifier(name)}{duration}", change=True)
        _log.info("%s: made the database", client.address)
    return Place(name)


def _ensure_bucket(client: InfluxClient, kept_ms: int | None) -> Place:
    """The bucket that reads of the database go to: of its mapping, such as an upgrade from 1.x makes, or its own."""
    name, organization = client.address.database, client.credentials.organization
    named = {"org": organization} if organization else {}
    found = _listed(client, "buckets", {"name": name, "limit": "1"} | named)
    organizations = _listed(client, "orgs", named)
    of_bucket = str(found[0]["orgID"]) if found else ""
    mapped = [
        Place(str(mapping["bucketID"]), str(mapping["orgID"]))
        for one in ([of_bucket] if of_bucket else [str(one["id"]) for one in organizations])
        for mapping in _mappings(client, name, one)
    ]
    if mapped:
        return mapped[0]
    if found:
        return Place(str(found[0]["id"]), of_bucket)
    if len(organizations) != 1:
        raise Refused(404, f"there are {len(organizations)} organizations; --store-org names the right one")
    rules = [{"type": "expire", "everySeconds": kept_ms // 1000}] if kept_ms else []
    bucket = {"orgID": organizations[0]["id"], "name": name, "retentionRules": rules}
    made = json.loads(client.request("POST", "/api/v2/buckets", body=json.dumps(bucket).encode(), headers=_JSON).data)
    _log.info("%s: made the bucket", client.address)
    return Place(str(made["id"]), str(made["orgID"]))


def _mappings(client: InfluxClient, name: str, organization: str) -> list[dict[str, Any]]:
    """The mappings that InfluxQL takes for a database that is named without a retention policy."""
    found = _listed(client, "dbrps", {"orgID": organization, "db": name}, within="content")
    return [one for one in found if one.get("default") and not one.get("virtual")]


def _listed(
    client: InfluxClient, what: str, parameters: dict[str, str], within: str | None = None
) -> list[dict[str, Any]]:
    answer = json.loads(client.request("GET", f"/api/v2/{what}", parameters).data)
    found: list[dict[str, Any]] = answer.get(within or what) or []
    return found


def _check_name_3(client: InfluxClient) -> None:
    """Raises Unreachable where InfluxDB 3 takes no database of the name."""
    name = client.address.database
    if len(name) > _LONGEST_NAME_3 or not _NAME_3.fullmatch(name):
        raise Unreachable(
            f"{client.address}: expected a database whose name begins with a letter or a digit (ASCII) and has only "
            f"letters, digits, - and _ (and / before a retention policy), which is what InfluxDB 3 takes, got {name!r}"
        )


def _ensure_database_3(client: InfluxClient, kept_ms: int | None) -> Place:
    name = client.address.database
    wanted = {"db": name}
    if kept_ms and client.server().number >= RETENTION_3:
        wanted["retention_period"] = f"{kept_ms // 1000}s"
    try:
        body = json.dumps(wanted).encode()
        client.request("POST", "/api/v3/configure/database", body=body, headers=_JSON)
        _log.info("%s: made the database", client.address)
    except Refused as error:
        # 409: it is there. Without an admin's token it is made by the first write.
        if error.status not in (403, 404, 409):
            raise
    return Place(name)
