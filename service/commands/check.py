"""`loadlens-service check`: whether an InfluxDB does what the store needs, tried in a database of its own."""

import os
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from analytics.sources.influx_address import Address, Credentials
from analytics.sources.influx_client import InfluxClient, InfluxError, Unreachable
from contract.checkup import CheckResult, as_document, exit_code, in_words
from contract.settings import Settings, load
from contract.times import DAY_MS, now_ms
from service.settings import StoreOrg, StorePassword, StoreToken, StoreUser, check_influx

_PROGRAM = "loadlens-service check"
_DESCRIPTION = """\
Tries whether an InfluxDB does what Loadlens needs, before you trust it with
your reports: writing, reading back to the bit, refusing, deleting. All of it
happens in a database (in 2.x a bucket) with a name of its own, which is
dropped at the end; nothing else is touched. It takes a few seconds.

The exit code is 0 where all works, 1 where something fails."""
_EPILOG = """examples:
  loadlens-service check influx://localhost:8086
  LOADLENS_STORE_TOKEN=... loadlens-service check influxs://influx.example.org:8181
  loadlens-service check influx://localhost:8086 --json | jq '.findings[] | select(.state == "fails")'"""
_KEPT_MS = 2 * DAY_MS
"""Longer ago than the start of a day, where the bucket of a day lies."""
_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CheckSettings(Settings, frozen=True, kw_only=True):
    """What `loadlens-service check` can be told."""

    store: Annotated[
        str,
        Meta(
            min_length=1,
            description="The InfluxDB; a database in the address is left alone.",
            extra={"metavar": "STORE", "positional": True, "expected": "influx://HOST:PORT, or influxs:// for TLS"},
        ),
    ]
    store_token: StoreToken = ""
    store_user: StoreUser = ""
    store_password: StorePassword = ""
    store_org: StoreOrg = ""
    json: Annotated[bool, Meta(description="Print JSON instead of words.")] = False

    def __post_init__(self) -> None:
        check_influx(self.store, self.store_token, self.store_user, self.store_password)


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0 where all works, 1 where something fails, 2 for a wrong setting."""
    settings = load(CheckSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    who = Credentials(settings.store_token, settings.store_user, settings.store_password, settings.store_org)
    with _at_signals(signal.default_int_handler):
        findings = check(Address.parse(settings.store), who)
    if settings.json:
        print(msgspec.json.encode(as_document(findings)).decode())
    else:
        print(in_words(findings))
    return exit_code(findings)


def check(address: Address, credentials: Credentials) -> list[CheckResult]:
    """What there is to say of an InfluxDB; where it is interrupted, of what was looked at until then."""
    # What it takes is imported only when it is wanted: --help answers at once.
    from service.commands import influx_checks

    findings: list[CheckResult] = []
    own = replace(address, database=f"loadlens_check_{secrets.token_hex(6)}")
    client = InfluxClient(own, credentials, influx_checks.TIMEOUT_S)
    try:
        findings.append(influx_checks.server(InfluxClient(address, credentials, influx_checks.TIMEOUT_S)))
        if exit_code(findings) == 0:
            findings.append(influx_checks.login(own, credentials))
        if exit_code(findings) == 0:
            _in_own_database(client, findings)
    except InfluxError as error:
        findings.append(CheckResult("server", "fails", f"{error}."))
    except KeyboardInterrupt:
        findings.append(CheckResult("check", "fails", "It was interrupted: what is not listed was not looked at."))
    return findings


def _in_own_database(client: InfluxClient, findings: list[CheckResult]) -> None:
    """Make a database, look at all that needs one, and drop it whatever happens."""
    from service.commands import influx_checks
    from service.stores.influx.places import ensure_database
    from service.stores.influx.trial import Trial
    from service.stores.influx.writing import Writer

    may_be_there = True
    try:
        place = ensure_database(client, _KEPT_MS)
        findings.append(CheckResult("database", "works", f"One may be made: {client.address.database}."))
        # `try_write` puts nothing aside, so there is no file.
        writer = Writer(client, Path(os.devnull), influx_checks.TIMEOUT_S, lambda: place)
        findings.extend(influx_checks.tried(influx_checks.Bench(client, writer, Trial(client, now_ms()))))
    except InfluxError as error:
        may_be_there = False
        findings.append(
            CheckResult(
                "database", "fails", f"{error}. Nothing else was looked at.",
                "Ask as somebody who may make and drop databases, such as an administrator; the service itself needs "
                "to read and write its own only.",
            )
        )  # fmt: skip
    finally:
        with _at_signals(signal.SIG_IGN):
            findings.extend(_dropped(client, may_be_there=may_be_there))


def _dropped(client: InfluxClient, *, may_be_there: bool) -> Iterator[CheckResult]:
    from service.stores.influx.places import drop_database

    name = client.address.database
    try:
        drop_database(client)
    except InfluxError as error:
        # Where making it failed, InfluxDB may have done it, and only its answer was lost.
        if may_be_there or isinstance(error, Unreachable):
            yield CheckResult("cleanup", "fails", f"{name} may be left behind: {error}.", "Drop it yourself.")
    else:
        if may_be_there:
            yield CheckResult("cleanup", "works", f"{name} is dropped, and nothing is left behind.")


@contextmanager
def _at_signals(handler: "signal._HANDLER") -> Iterator[None]:
    """What the signals that end a program do meanwhile."""
    before = {number: signal.signal(number, handler) for number in _END}
    try:
        yield
    finally:
        for number, one in before.items():
            signal.signal(number, one)
