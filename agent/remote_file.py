"""What the service asked for last, kept beside the spool, so that a restart goes on with it."""

import logging
import os
from pathlib import Path

import msgspec
from msgspec import Struct

from contract.agent_settings import DesiredSettings, InvalidSettings, parse_settings
from contract.decoding import decode_json

__all__ = ["RemoteFile"]

MOST_COMMANDS = 64
"""So many ids of commands are remembered."""
_MOST_BYTES = 64 * 1024

_log = logging.getLogger(__name__)


class _Content(Struct, omit_defaults=True):
    url: str
    """Where it came from: another service's wishes count for nothing."""
    version: str = ""
    settings: msgspec.Raw = msgspec.Raw(b"{}")
    commands: list[str] = []
    """The ids of commands that were begun, oldest first."""


class RemoteFile:
    """Settings and the ids of commands, written as a whole, with a sync. No failure of the disk raises."""

    def __init__(self, directory: Path, url: str) -> None:
        self._path = directory / "remote.json"
        self._content = _Content(url)
        self._read(url)

    @property
    def version(self) -> str:
        """Of the settings."""
        return self._content.version

    @property
    def settings(self) -> DesiredSettings:
        """The settings; none where they cannot be read."""
        try:
            return parse_settings(decode_json(self._content.settings))
        except (InvalidSettings, msgspec.DecodeError) as error:
            _log.warning("%s is passed over: %s", self._path, error)
            return DesiredSettings()

    def keep(self, version: str, settings: DesiredSettings) -> None:
        """Put settings in the place of those before."""
        self._content.version, self._content.settings = version, msgspec.Raw(msgspec.json.encode(settings))
        self._write()

    def begun(self, command_id: str) -> bool:
        """Whether a command was begun before; if not, it is from now on."""
        if command_id in self._content.commands:
            return True
        self._content.commands = [*self._content.commands, command_id][-MOST_COMMANDS:]
        self._write()
        return False

    def _read(self, url: str) -> None:
        try:
            with self._path.open("rb") as file:
                content = decode_json(file.read(_MOST_BYTES), _Content)
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError) as error:
            _log.warning("%s is passed over: %s", self._path, error)
            return
        if content.url == url:
            self._content = content

    def _write(self) -> None:
        unfinished = self._path.with_suffix(".new")
        try:
            with unfinished.open("wb") as file:
                file.write(msgspec.json.encode(self._content))
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path)
        except OSError as error:
            _log.warning("%s cannot be written: %s; a restart will not know of it", self._path, error)
