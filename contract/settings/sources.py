"""Where values come from besides the command line: the environment and a TOML file."""

import math
import os
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import msgspec

from contract.problems import did_you_mean, shortened, utf8
from contract.settings.commands import SettingsError
from contract.settings.fields import HIDDEN, Setting

TABLES = ("agent", "service", "analytics")
"""The tables of a configuration file, one for each program."""
_LONGEST_SECRET = 64 * 1024


@dataclass(frozen=True, slots=True)
class Value:
    """What was given for a setting, and where."""

    setting: Setting
    raw: object
    place: str
    """Such as `--samples` or `LOADLENS_SAMPLES in the environment`."""
    typed: bool = False
    """True for a value of the file, which has a type of its own; others are text."""

    def converted(self) -> object:
        """The value as the setting's type; raises SettingsError."""
        setting, raw = self.setting, self.raw
        try:
            if setting.parse is not None and isinstance(raw, str):
                raw = setting.parse(raw)
            elif setting.many and isinstance(raw, str) and not self.typed:
                raw = _items(raw)
            elif setting.repeatable and isinstance(raw, list) and not self.typed:
                raw = [item for text in raw for item in _items(text)]
            value = msgspec.convert(raw, setting.hint, strict=self.typed, dec_hook=_custom)
        except msgspec.ValidationError:
            raise self._unexpected() from None
        except ValueError as error:
            if setting.secret:  # its own words may quote the value
                raise self._unexpected() from None
            raise SettingsError(f"{self.place}: {error}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise self._unexpected()
        return value

    def _unexpected(self) -> SettingsError:
        shown = msgspec.json.encode(self.raw).decode() if self.typed else str(self.raw)
        if self.setting.secret:
            shown = HIDDEN
        elif not shown.isprintable():
            shown = ascii(shown)
        return SettingsError(f"{self.place}: expected {self.setting.expected}, got {shortened(shown) or 'nothing'}")


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _custom(kind: type, value: object) -> object:
    if not issubclass(kind, PurePath):
        raise TypeError(f"a setting of type {kind.__name__} needs `parse`")
    if not isinstance(value, str) or not value:
        raise ValueError("expected a path")
    # Neither the environment nor a file has a shell to expand `~`.
    return kind(os.path.expanduser(value))


_PREFIX = "LOADLENS_"
_TYPING_ERROR = 0.85
"""How alike (difflib's ratio) two names are when one is the other with a letter wrong, and not another setting's."""


def misspelled_variables(environ: Mapping[str, str], known: Iterable[str]) -> list[str]:
    """A line for each `LOADLENS_` variable that is not among `known`, but differs from one of them in little.

    What is like none of them may be meant for another program: all share one environment.
    """
    names = {name.removeprefix(_PREFIX) for name in known}
    unknown = {name[len(_PREFIX) :] for name in environ if name.startswith(_PREFIX)} - names
    return [
        f"{_PREFIX}{name} in the environment is no setting{hint}"
        for name in sorted(unknown)
        if (hint := did_you_mean(name, names, cutoff=_TYPING_ERROR).replace("mean ", f"mean {_PREFIX}"))
    ]


def from_environment(settings: Sequence[Setting], environ: Mapping[str, str]) -> dict[str, Value]:
    """What the environment sets. An empty variable counts as not set, as compose files leave them.

    A secret may stand in a file that `LOADLENS_..._FILE` names, as containers get it. Raises SettingsError.
    """
    values = {
        setting.name: Value(setting, environ[setting.variable], f"{setting.variable} in the environment")
        for setting in settings
        if not setting.flag_only and environ.get(setting.variable)
    }
    for setting in settings:
        path = environ.get(setting.file_variable) if setting.secret else None
        if path:
            if setting.name in values:
                raise SettingsError(f"expected one of {setting.variable} and {setting.file_variable}, got both")
            values[setting.name] = Value(setting, _secret(path, setting), f"{path} ({setting.file_variable})")
    return values


def _secret(path: str, setting: Setting) -> str:
    """The secret in a file, without the blanks around it: a newline at the end is an editor's. Raises SettingsError."""
    try:
        with open(path, "rb") as file:
            text = utf8(file.read(_LONGEST_SECRET)).strip()
    except OSError as error:
        raise SettingsError(f"{setting.file_variable}: cannot read {path}: {error.strerror or error}") from None
    except UnicodeError as error:
        raise SettingsError(f"{setting.file_variable}: {path}: {error}") from None
    if not text or not text.isprintable():
        got = "nothing" if not text else "text that is not one line"
        raise SettingsError(f"{setting.file_variable}: expected the secret and nothing else in {path}, got {got}")
    return text


def from_file(
    settings: Sequence[Setting], path: str | None, program: str, commands: Container[str]
) -> dict[str, Value]:
    """What the TOML file at `path` sets for `program`; nothing without a path. Raises SettingsError.

    The tables named in `commands` belong to subcommands and are passed over.
    """
    if not path:
        return {}
    name, *command = program.removeprefix("loadlens-").split()
    document = _read(path)
    for key, value in document.items():
        if key not in TABLES:
            raise SettingsError(f"{path}: unknown table [{key}]{did_you_mean(key, TABLES)}; expected [{name}]")
        if not isinstance(value, dict):
            raise SettingsError(f"{path}: {key} = ... stands where the table [{key}] is expected")
    table = document.get(name, {})
    if not command:
        own = {key: value for key, value in table.items() if not (isinstance(value, dict) and key in commands)}
        return _values(settings, own, path, name)
    # The program's own table was written for the program: the subcommand takes what it knows of it.
    declared = {setting.key for setting in settings if not setting.flag_only}
    shared = {key: value for key, value in table.items() if key in declared}
    place = ".".join([name, *command])
    found: Any = table
    for word in command:
        # A setting of the program may have the name of its command, such as `rules`.
        found = found.get(word, {}) if isinstance(found, dict) else {}
    if not isinstance(found, dict):
        raise SettingsError(f"{path}: {command[-1]} = ... stands where the table [{place}] is expected")
    return _values(settings, shared, path, name) | _values(settings, found, path, place)


def _read(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as file:
            return tomllib.loads(utf8(file.read()))
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the configuration: {error.strerror or error}") from None
    except UnicodeError as error:
        raise SettingsError(f"{path}: {error}") from None
    except ValueError as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from None


def _values(settings: Sequence[Setting], table: Mapping[str, object], path: str, name: str) -> dict[str, Value]:
    declared = {setting.key: setting for setting in settings}
    values = {}
    for key, value in table.items():
        if key not in declared:
            raise SettingsError(f"{path}: unknown setting {key} in [{name}]{did_you_mean(key, declared)}")
        values[declared[key].name] = Value(declared[key], value, f"{path}: {key} in [{name}]", typed=True)
    return values
