"""What `loadlens-service check` tries of an InfluxDB, each with what it finds in words."""

import re
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import msgspec

from analytics.sources.influx_address import Address, Credentials
from analytics.sources.influx_client import InfluxClient, InfluxError, Refused, Unreachable
from contract.checkup import CheckResult
from service.stores.influx.places import OLDEST_2
from service.stores.influx.trial import Trial
from service.stores.influx.writing import Writer

TIMEOUT_S = 30.0
"""So long InfluxDB may take for an answer."""
_TIMES = 5
_SLOW_S = 2.0
"""InfluxDB 3 answers a write when its write-ahead log is on disk, once a second."""
_LIMIT = re.compile(r"max-(select|series|values|row|concurrent-queries|body)|query-max-memory")
_CREDENTIALS = (
    "Give a token (LOADLENS_STORE_TOKEN), in 1.x a user and its password (LOADLENS_STORE_USER, "
    "LOADLENS_STORE_PASSWORD)."
)
_SEE = "Do not keep reports in it; please tell us its version and what this says."


def server(client: InfluxClient) -> CheckResult:
    """Whether an InfluxDB answers, and which."""
    try:
        found = client.server()
    except Unreachable as error:
        return CheckResult(
            "server", "fails", f"{error}.",
            "Start it, or mend the address; the port is 8086 where none is given, and InfluxDB 3 listens on 8181.",
        )  # fmt: skip
    except Refused as error:
        if error.status in (401, 403):
            return CheckResult("login", "fails", f"{client.address.url} does not let you in: {error}.", _CREDENTIALS)
        return CheckResult(
            "server", "fails", f"{client.address.url} answers, and not as an InfluxDB does (status {error.status}).",
            "Give the address of the InfluxDB, with its port.",
        )  # fmt: skip
    says = f"{client.address.url} is InfluxDB {found.version}."
    if found.generation not in (1, 2, 3):
        return CheckResult("server", "fails", says, "Loadlens knows InfluxDB 1, 2 and 3.")
    if found.generation == 2 and found.number < OLDEST_2:
        return CheckResult("server", "fails", says, "Of InfluxDB 2, take 2.4 or newer.")
    return CheckResult("server", "works", says)


def login(address: Address, credentials: Credentials) -> CheckResult:
    """Whether InfluxDB lets one in, and nobody else. Raises Unreachable."""
    error = _denial(address, credentials)
    if error:
        return CheckResult("login", "fails", f"It does not let you in: {error}.", _CREDENTIALS)
    if _denial(address, Credentials()):
        return CheckResult("login", "works", "It lets you in, and not just anybody.")
    return CheckResult(
        "login", "note", "It asks nobody who they are: whoever reaches it may read, change and drop everything.",
        "Where others reach it, turn its authentication on.",
    )  # fmt: skip


def _denial(address: Address, credentials: Credentials) -> Refused | None:
    try:
        InfluxClient(address, credentials, TIMEOUT_S).execute("SHOW DATABASES")
    except Refused as error:
        # Anything else is about the database, which is not there yet.
        return error if error.status in (401, 403) else None
    return None


class Bench(NamedTuple):
    """What the checks work with."""

    client: InfluxClient
    """Asks a database in which nothing else is."""
    writer: Writer
    trial: Trial

    @property
    def generation(self) -> int:
        """The generation of the InfluxDB."""
        return self.client.server().generation


def tried(bench: Bench) -> Iterator[CheckResult]:
    """All that needs a database; nothing more where nothing can be written."""
    for about, one in _CHECKS.items():
        try:
            finding = one(bench)
        except InfluxError as error:
            finding = CheckResult(about, "fails", f"{error}.", _SEE)
        except (TypeError, ValueError) as error:
            # Such as a number that is none.
            finding = CheckResult(about, "fails", f"Its answer cannot be read: {error}.", _SEE)
        yield finding
        if about == "writing" and finding.state == "fails":
            return


def _writing(bench: Bench) -> CheckResult:
    lines = [lines for kind in bench.trial.kinds() for lines in kind.lines]
    refused = bench.writer.try_write(lines)
    if refused:
        return CheckResult("writing", "fails", f"It refuses a line that is right: {refused[0].words}.", _SEE)
    return CheckResult("writing", "works", f"It takes {sum(len(one.text) for one in lines)} lines of all kinds.")


def _reading(bench: Bench) -> CheckResult:
    kinds = list(bench.trial.kinds())
    other = [kind.words for kind in kinds if not kind.is_same()]
    if other:
        return CheckResult("reading", "fails", f"What is read is not what was written: {', '.join(other)}.", _SEE)
    return CheckResult("reading", "works", f"Read back to the bit: {', '.join(kind.words for kind in kinds)}.")


def _overwriting(bench: Bench) -> CheckResult:
    bench.writer.try_write([bench.trial.lines((0.75, 0))])
    answer = bench.trial.loads().get(0)
    if answer == 0.75:
        return CheckResult("overwrite", "works", "A point that is written again answers its new value.")
    return CheckResult(
        "overwrite", "note", f"A point that is written again answers {'its old value' if answer == 0.5 else answer}. "
        "Loadlens writes each only once.",
    )  # fmt: skip


def _refusing(bench: Bench) -> CheckResult:
    trial = bench.trial
    refused = bench.writer.try_write([trial.lines((0.25, 1000), ("a text", 2000), (0.125, 3000))])
    found = trial.loads()
    if [one.row for one in refused] != [1] or found.get(1000) != 0.25 or found.get(3000) != 0.125 or 2000 in found:
        told = ", ".join(f"{one.row + 1}: {one.words}" for one in refused) or "none"
        return CheckResult("refusing", "fails", f"Of three lines the second is wrong; it refuses {told}.", _SEE)
    return CheckResult("refusing", "works", f"It says which line is wrong, and takes the others: {refused[0].words}.")


def _deleting(bench: Bench) -> CheckResult:
    if bench.generation > 2:
        return CheckResult(
            "deleting", "note", "InfluxDB 3 cannot delete points, so --keep-windows and its like have no effect.",
            "Give the service's database a retention period.",
        )  # fmt: skip
    if bench.trial.delete():
        return CheckResult("deleting", "works", "What is deleted is gone, and the rest is there.")
    return CheckResult("deleting", "fails", "After deleting, too much or too little is there.", _SEE)


def _limits(bench: Bench) -> CheckResult:
    if bench.generation > 2:
        return CheckResult(
            "limits", "note", "InfluxDB 3 does not show its limits. Core refuses a query of over 432 files "
            "(--query-file-limit).",
        )  # fmt: skip
    try:
        shown = _settings(bench.client)
    except Refused as error:
        return CheckResult("limits", "note", f"It does not show them to you: {error}.")
    limits = [f"{name} {value:,}" for name, value in sorted(shown.items()) if _LIMIT.search(name) and value]
    return CheckResult("limits", "note", f"It sets {', '.join(limits)}." if limits else "It shows none.")


def _settings(client: InfluxClient) -> dict[str, int]:
    """The numbers in the configuration of a server of 1.x or 2.x."""
    if client.server().generation == 2:
        shown: dict[str, Any] = msgspec.json.decode(client.request("GET", "/api/v2/config").data).get("config", {})
    else:
        shown = {}
        for series in client.execute("SHOW DIAGNOSTICS"):
            for row in series.get("values", []):
                shown |= dict(zip(series["columns"], row, strict=True))
    return {name: value for name, value in shown.items() if type(value) is int}


def _times(bench: Bench) -> CheckResult:
    writes, queries = [], []
    for number in range(_TIMES):
        line = bench.trial.lines((0.5, 10_000 + number))
        writes.append(_timed(partial(bench.writer.try_write, [line])))
        queries.append(_timed(bench.trial.ask))
    write_s, query_s = statistics.median(writes), statistics.median(queries)
    says = f"A write takes {write_s * 1000:,.1f} ms, a query {query_s * 1000:,.1f} ms (medians of {_TIMES})."
    if max(write_s, query_s) > _SLOW_S:
        return CheckResult("times", "note", says, "That is slow: see to its disk, its load and the network between.")
    return CheckResult("times", "works", says)


def _timed(call: Callable[[], object]) -> float:
    start_s = time.perf_counter()
    call()
    return time.perf_counter() - start_s


_CHECKS: dict[str, Callable[[Bench], CheckResult]] = {
    "writing": _writing,
    "reading": _reading,
    "overwrite": _overwriting,
    "refusing": _refusing,
    "deleting": _deleting,
    "limits": _limits,
    "times": _times,
}
"""In this order; none is made wrong by what those before it wrote."""
