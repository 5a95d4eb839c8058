"""Routes: which channels the reports of a user and operating system go to."""

from collections import defaultdict

from contract.patterns import exact_names
from contract.report import OS_TYPES
from service.stream.channel import Channel

__all__ = ["Routes", "Stream"]

Stream = tuple[str, str]
"""User and operating system."""
_MOST = 100_000


class Routes:
    """Finds the channels of a stream; those that name their users cost nothing to anybody else's reports."""

    def __init__(self) -> None:
        self.known: dict[Stream, list[Channel]] = {}
        """The channels of streams that were asked for; to look at, not to change."""
        self._named: defaultdict[str, list[Channel]] = defaultdict(list)
        """Channels that name their users, by user."""
        self._wide: list[Channel] = []
        """Channels with patterns."""

    def find(self, stream: Stream) -> list[Channel]:
        """The channels whose selection takes a stream; remembered in `known`."""
        if stream not in self.known:
            if len(self.known) >= _MOST:
                self.known.clear()
            candidates = self._named.get(stream[0], []) + self._wide
            self.known[stream] = [one for one in candidates if one.selection.takes_stream(*stream)]
        return self.known[stream]

    def add(self, channel: Channel) -> None:
        """Have a channel found from now on."""
        for group in self._groups(channel):
            group.append(channel)
        for stream in self._touched(channel):
            if channel.selection.takes_stream(*stream):
                self.known[stream].append(channel)

    def remove(self, channel: Channel) -> None:
        """Have a channel, which was added, found no more."""
        for group in self._groups(channel):
            group.remove(channel)
        for name in exact_names(channel.selection.users) or ():
            if not self._named[name]:
                del self._named[name]
        for stream in self._touched(channel):
            if channel in self.known[stream]:
                self.known[stream].remove(channel)

    def _groups(self, channel: Channel) -> list[list[Channel]]:
        names = exact_names(channel.selection.users)
        return [self._wide] if names is None else [self._named[name] for name in names]

    def _touched(self, channel: Channel) -> list[Stream]:
        """The known streams that a channel may take."""
        names = exact_names(channel.selection.users)
        if names is None:
            return list(self.known)
        return [(name, system) for name in names for system in OS_TYPES if (name, system) in self.known]
