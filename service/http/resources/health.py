"""Whether the process answers, and whether the service does all that it is there for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from typing import TYPE_CHECKING, Protocol

import falcon
from falcon.asgi import Request, Response

from contract.problems import shortened
from service.agents.registry import Registry
from service.alerts.runner import Runner
from service.control.database import ControlDatabase
from service.ingest.admission import Admission
from service.ingest.maintenance import Maintenance
from service.journal.base import Log
from service.journal.files import Damage
from service.stores.base import Store

if TYPE_CHECKING:
    from service.cluster.partitions import Waiting

_MAX_CHARACTERS = 300
Look = Callable[[], str | None]
"""Says what is wrong now; None where nothing is."""


class Health:
    """Says that the process answers."""

    async def on_get(self, req: Request, resp: Response) -> None:
        """200 while the event loop runs."""
        resp.media = {"status": "ok"}


class Ready:
    """Says whether reports are taken now, and everything that somebody should look at."""

    def __init__(
        self,
        store: Store,
        refusing: Iterable[Look],
        others: Iterable[Look],
        lag: Callable[[], Iterable[Waiting]] | None = None,
    ) -> None:
        """Where one of `refusing` says something, reports are turned away; `others` are told beside.

        `lag` says what waits in each partition of a cluster's log, in a process of one.
        """
        self._lag = lag
        self._store = store
        self._refusing = [*refusing]
        self._others = [*others]

    async def on_get(self, req: Request, resp: Response) -> None:
        """200, or 503 with the reason while reports are turned away.

        `problems` are all that is wrong, in words; most of them are no reason to turn reports away: the journal takes
        them.
        """
        store = self._store
        refusing = [*_found(self._refusing)]
        problems = [*refusing, *_found(self._others)]
        about: dict[str, object] = {"store": store.description}
        if store.problem:
            about["problem"] = store.problem
        if problems:
            about["problems"] = [shortened(problem, _MAX_CHARACTERS) for problem in problems]
        if self._lag is not None:
            about["lag"] = _lag_document(self._lag())
        if refusing:
            resp.status = falcon.HTTP_503
            resp.media = {"status": "full", "detail": refusing[0]} | about
        else:
            resp.media = {"status": "ready"} | about


def _lag_document(lag: Iterable[Waiting]) -> dict[str, object]:
    """What waits for the store: reports, how long the oldest has waited, and the reports of each partition."""
    waiting = [one for one in lag if one.reports]
    return {
        "reports": sum(one.reports for one in waiting),
        "seconds": round(max((one.seconds for one in waiting), default=0.0), 3),
        "partitions": {str(one.partition): one.reports for one in waiting},
    }


def _found(looks: Iterable[Look]) -> Iterator[str]:
    for look in looks:
        problem = look()
        if problem:
            yield problem


def refusing_looks(journal: Log) -> list[Look]:
    """What turns reports away."""
    return [
        lambda: "The journal is at its limit; the store is behind." if journal.size >= journal.limit_bytes else None,
        lambda: journal.problem and f"Reports cannot be put on disk: {journal.problem}",
    ]


class MemberOfCluster(Protocol):
    """What a process is in a cluster."""

    @property
    def problems(self) -> Sequence[str]:
        """What is wrong with the cluster, as far as this process can tell."""


def member_looks(member: MemberOfCluster | None) -> list[Look]:
    """What is wrong with the cluster that a process is a member of, if it is."""
    return [] if member is None else [lambda: " ".join(member.problems) or None]


def unasked_tokens_look(tokens: Sized, asks_for_token: bool) -> Look:
    """Whether others have made tokens since this process was started without any, and so asks for none."""
    said = (
        "Other processes ask for tokens, and this one does not, as there were none when it was started; start it again."
    )
    return lambda: said if not asks_for_token and len(tokens) else None


def other_looks(
    store: Store,
    admission: Admission,
    maintenance: Maintenance,
    rules: Runner,
    agents: Registry,
    control: ControlDatabase,
    lost: Iterable[Damage],
) -> list[Look]:
    """What is wrong beside that."""
    losses = [one.words for one in lost]
    return [
        lambda: store.problem,
        lambda: admission.problem,
        lambda: maintenance.problem and f"The store cannot be flushed: {maintenance.problem}",
        lambda: rules.reload_problem and f"Rules stay as they were: {rules.reload_problem}",
        lambda: rules.problem and f"Rules are not evaluated: {rules.problem}",
        lambda: agents.clock_problem,
        lambda: control.problem,
        *((lambda loss=loss: loss) for loss in losses),
    ]
