"""How many machines are let in: each that has ever reported takes memory for good, so their number has a limit."""

from service.stores.base import Store


class Admission:
    """Lets machines in that are known, and new ones up to a limit. Everything here runs on the event loop."""

    def __init__(self, store: Store, max_users: int) -> None:
        self._store = store
        self._max_users = max_users
        self._joining: set[str] = set()
        """New ones whose first report may be on its way to the store."""
        self.refused = 0
        """Reports of machines that were too many."""

    def admits(self, user_id: str) -> bool:
        """Whether reports of this machine are taken; a new one is let in by asking."""
        store = self._store
        if store.has_user(user_id) or user_id in self._joining:
            return True
        if store.user_count + len(self._joining) >= self._max_users:
            # Some have arrived since; others never did, and make room.
            self._joining = {one for one in self._joining if not store.has_user(one)}
            if store.user_count + len(self._joining) >= self._max_users:
                self.refused += 1
                return False
        self._joining.add(user_id)
        return True

    def has_room(self, user_id: str, agents: int) -> bool:
        """Whether a machine may say of itself what `agents` of them said: if its reports are, or would be taken."""
        store = self._store
        return store.has_user(user_id) or max(store.user_count, agents) < self._max_users

    @property
    def reason(self) -> str:
        """What is said to those who are not let in."""
        return f"expected a machine that is known, got one more than the {self._max_users} of --max-users"

    @property
    def problem(self) -> str | None:
        """What to say while nobody new is let in; None otherwise."""
        count = self._store.user_count
        if count < self._max_users:
            return None
        return f"{count} machines are known, as many as --max-users lets in; reports of others get 429"
