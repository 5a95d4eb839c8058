"""Labels of hosts: kept over everything that happens to a store, and what windows are grouped by."""

import numpy as np
import pytest
from msgspec.structs import replace

from contract.report import Report
from contract.selectors import NOT_LABELLED
from service.stores.base import Question, Store
from tests.support.five_weeks import START_MS
from tests.support.recordings import CPU, Host, Recording
from tests.support.stores import Place

MINUTE_MS = 60_000
ROLES = {"a": "web", "b": "web", "c": "db"}


def report(user: str, minute: int, load: float = 0.5, labels: dict[str, str] | None = None) -> Report:
    """A window of one sample; without `labels` as one who knows of none sends it."""
    recording = Recording()
    recording.cpu(Host(user, "Linux", "12"), START_MS + minute * MINUTE_MS, np.array([load]))
    (made,) = recording.reports
    return made if labels is None else replace(made, labels=labels)


def by_role(store: Store, label: str = "role", rate_ms: int = 60 * MINUTE_MS) -> dict[str, tuple[int, float]]:
    """Samples and mean of each group, of all time."""
    question = Question(CPU, START_MS, START_MS + 60 * MINUTE_MS, rate_ms, by=f"label:{label}")
    windows = store.answer(question)
    numbers = zip(windows["count"].tolist(), windows["mean"].round(9).tolist(), strict=True)
    return dict(zip(windows["label"].tolist(), numbers, strict=True))


def labels_of(store: Store) -> dict[str, dict[str, str]]:
    users = store.users()
    return dict(zip(users["user_id"], users["labels"], strict=True))


@pytest.mark.parametrize("state", ["in memory", "on disk", "reopened", "crashed"])
def test_windows_are_grouped_by_what_hosts_are_labelled(place: Place, state: str) -> None:
    store = place.open()
    given = [report(user, 1, 0.2 * (1 + place), {"role": role}) for place, (user, role) in enumerate(ROLES.items())]
    given.append(report("original", 1, 0.8))
    store.add(1, given)
    if state != "in memory":
        store.flush()
    if state == "reopened":
        store.close()
        store = place.open()
    if state == "crashed":
        store = place.crash(store)
    assert by_role(store) == {"db": (1, 0.6), NOT_LABELLED: (1, 0.8), "web": (2, 0.3)}
    assert by_role(store, "zone") == {NOT_LABELLED: (4, 0.5)}
    assert labels_of(store) == {user: {"role": role} for user, role in ROLES.items()} | {"original": {}}
    store.close()


def test_a_host_has_the_labels_that_it_said_last_in_all_its_history(place: Place) -> None:
    store = place.open()
    store.add(1, [report("a", 1, 0.2, {"role": "web", "zone": "x"})])
    store.flush()
    store.add(2, [report("a", 5, 0.4, {"role": "db"}), report("a", 3, 0.6, {"role": "web"})])
    store.flush()
    store.close()
    store = place.open()
    assert labels_of(store) == {"a": {"role": "db"}}
    assert by_role(store) == {"db": (3, 0.4)}
    # Who knows of no labels says nothing of them; who knows of them and has none takes them back.
    store.add(3, [report("a", 6)])
    assert labels_of(store) == {"a": {"role": "db"}}
    store.add(4, [report("a", 7, labels={})])
    store.flush()
    store.close()
    store = place.open()
    assert labels_of(store) == {"a": {}}
    store.close()


def test_groups_may_be_of_chosen_users_only(place: Place) -> None:
    store = place.open()
    store.add(1, [report(user, 1, 0.5, {"role": role}) for user, role in ROLES.items()])
    question = Question(CPU, START_MS, START_MS + 60 * MINUTE_MS, MINUTE_MS, by="label:role", users=frozenset("ab"))
    assert store.answer(question)["label"].tolist() == ["web"]
    each = store.answer(Question(CPU, START_MS, START_MS + 60 * MINUTE_MS, MINUTE_MS, by="label:role", each_user=True))
    assert each[["user", "label"]].astype(str).to_numpy().tolist() == [["a", "web"], ["b", "web"], ["c", "db"]]
    store.close()


def test_dumped_windows_bring_the_labels_along(place: Place) -> None:
    store = place.open()
    store.add(1, [report("a", 1, labels={"role": "web"}), report("b", 1)])
    store.flush()
    dumped = [one for page in store.reports(["a", "b"], START_MS, START_MS + 60 * MINUTE_MS) for one in page]
    assert {one.user_id: one.labels for one in dumped} == {"a": {"role": "web"}, "b": dumped[-1].labels}
    assert not dumped[-1].labels
    store.close()
