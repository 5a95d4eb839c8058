"""Settings of the three programs: declared once as a typed struct, given by flag, environment or file.

A program declares what can be set:

    class AgentSettings(Settings, frozen=True, kw_only=True):
        samples: Annotated[int, Meta(ge=1, le=10_000, description="Samples in one report.")] = 100
        token: Annotated[str | None, Meta(description="Sent to the service.", extra={"secret": True})] = None

and asks for it once, at its edge: `settings = load(AgentSettings, argv, program="loadlens-agent", ...)`.
A value is taken from the flag (`--samples`), else the environment (`LOADLENS_SAMPLES`), else the file that
`--config` or `LOADLENS_CONFIG` names (`samples` in its table `[agent]`), else the default. A wrong value
ends the program with one line that names its place, and exit code 2.

argparse and tomllib are imported where they are used, so that importing this costs next to nothing.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from contract.settings import sources
from contract.settings.commands import Command, SettingsError, dispatch, fail
from contract.settings.fields import Setting, Settings, settings_of

__all__ = ["Command", "Settings", "SettingsError", "dispatch", "fail", "load"]

S = TypeVar("S", bound=Struct)


def variables_of(settings: Sequence[Setting]) -> set[str]:
    """The names of all variables that `load` looks at for `settings`."""
    return {"LOADLENS_CONFIG"} | {
        name for one in settings if not one.flag_only for name in (one.variable, one.file_variable)
    }


def load(
    kind: type[S],
    argv: Sequence[str] | None = None,
    *,
    program: str,
    description: str,
    epilog: str = "",
    environ: Mapping[str, str] | None = None,
    commands: Mapping[str, Command] | None = None,
) -> S:
    """The settings of `program`, from `argv`, `environ` and the configuration file.

    `argv` and `environ` are the process's own where they are None. `program` names the table of the file:
    `[service]` for `loadlens-service`; a subcommand, `loadlens-service copy`, reads `[service.copy]` and
    then whatever of `[service]` it declares too. `commands` are the program's subcommands, for its help.

    A variable that is almost the name of a setting is said on standard error: a typing error changes nothing otherwise.
    Does not return where a setting is wrong (exit code 2), and for `--help` and `--version` (0).
    """
    from contract.settings import flags

    settings = settings_of(kind)
    commands = commands or {}
    environ = os.environ if environ is None else environ
    try:
        given = flags.parse(
            settings,
            sys.argv[1:] if argv is None else argv,
            program=program,
            description=description,
            epilog=epilog,
            commands=commands,
        )
        values = sources.from_file(settings, given.config or environ.get("LOADLENS_CONFIG"), program, commands)
        values |= sources.from_environment(settings, environ)
        values |= given.values
        for line in sources.misspelled_variables(environ, variables_of(settings)):
            sys.stderr.write(f"{program}: {line}\n")
        missing = [setting for setting in settings if setting.required and setting.name not in values]
        if missing:
            elsewhere = "" if missing[0].flag_only else f", or {missing[0].variable} in the environment"
            raise SettingsError(f"{missing[0].flag} is missing: give it{elsewhere}")
        return kind(**{name: value.converted() for name, value in values.items()})
    except ValueError as error:
        # A struct's own __post_init__ speaks of settings that do not go together by a plain ValueError.
        fail(program, str(error))
