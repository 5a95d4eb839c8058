"""How many hosts and cores are let in: what has ever reported takes memory for good, so its number has a limit."""

from collections.abc import Collection, Iterable

from contract.problems import plural
from contract.report import Report
from service.stores.base import Store

NewSeries = tuple[str, str, int]
"""Host, quantity and core of a series."""


class NotLetInError(Exception):
    """A report is of a host, or of cores, that are too many; says what was expected and what came."""


class Admission:
    """Lets hosts in that are known, and new ones up to a limit; their cores likewise, by the number of all series.

    Everything here runs on the event loop.
    """

    def __init__(self, store: Store, max_users: int, max_series: int) -> None:
        self._store = store
        self._max_users, self._max_series = max_users, max_series
        self._joining: set[str] = set()
        """New ones whose first report may be on its way to the store."""
        self._coming: set[NewSeries] = set()
        """Series that reports on their way add."""
        self._too_many = 1
        """The fewest new series that a report was refused for."""
        self.refused = 0
        """Reports of hosts and cores that were too many."""

    def admit(self, report: Report) -> Collection[NewSeries]:
        """Let a report in; returns the series that it adds, for `arrived` when the store has it, or never will.

        Raises NotLetInError where its host, or its cores, are too many.
        """
        lacking = self._store.lacking(report)
        if not lacking:
            return ()  # so the host is known as well, as that of nearly every report is
        user, coming = report.user_id, self._coming
        added = [(user, *one) for one in lacking if (user, *one) not in coming]
        if added and self._store.series_count + len(coming) + len(added) > self._max_series:
            self.refused += 1
            self._too_many = min(len(added), self._too_many) if self._is_full else len(added)
            raise NotLetInError(
                f"expected a report within the {self._max_series} series of --max-series, got {len(added)} new ones"
                f" beside {self._store.series_count + len(coming)}"
            )
        if not self._admits(report.user_id):
            self.refused += 1
            raise NotLetInError(
                f"expected a host that is known, got one more than the {self._max_users} of --max-users"
            )
        coming.update(added)
        return added

    def arrived(self, added: Iterable[NewSeries]) -> None:
        """These series are on their way no longer."""
        self._coming.difference_update(added)

    def _admits(self, user_id: str) -> bool:
        store = self._store
        if store.has_user(user_id) or user_id in self._joining:
            return True
        if store.user_count + len(self._joining) >= self._max_users:
            # Some have arrived since; others never did, and make room.
            self._joining = {one for one in self._joining if not store.has_user(one)}
            if store.user_count + len(self._joining) >= self._max_users:
                return False
        self._joining.add(user_id)
        return True

    def check_room(self, user_id: str, agents: int) -> None:
        """Let a host say of itself what `agents` of them said: if its reports are, or would be taken.

        Raises NotLetInError otherwise.
        """
        store = self._store
        if not store.has_user(user_id) and max(store.user_count, agents) >= self._max_users:
            raise NotLetInError(
                f"expected a host that is known, got one more than the {self._max_users} of --max-users"
            )

    @property
    def _is_full(self) -> bool:
        """Whether a report that was refused for its new series would be again."""
        return self._store.series_count + self._too_many > self._max_series

    @property
    def problem(self) -> str | None:
        """What to say while nobody new is let in; None otherwise."""
        count = self._store.user_count
        if count >= self._max_users:
            known = f"{plural(count, 'host')} {'is' if count == 1 else 'are'} known"
            return f"{known}, as many as --max-users lets in; reports of others get 429"
        if self._is_full:
            return (
                f"{self._store.series_count} series of hosts and cores are known, and --max-series lets in"
                f" {self._max_series}; reports with new ones get 429"
            )
        return None
