"""The command line: flags made from settings, and a help that teaches them."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from contract import __version__
from contract.problems import did_you_mean
from contract.settings.commands import Command, SettingsError, listing
from contract.settings.fields import Setting
from contract.settings.sources import Value

PRECEDENCE = """\
A flag wins over the environment, the environment over the file, the file over the default.
The file is TOML; this program reads its table [{table}]."""

SELF_EVIDENT = ("text", "a path", "true or false")
"""What is expected of most settings, not worth a word in their help."""


@dataclass(frozen=True, slots=True)
class Given:
    """The values and the configuration file that a command line names."""

    values: dict[str, Value]
    config: str | None
    """The configuration file."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise SettingsError(message)


def parse(
    settings: Sequence[Setting],
    argv: Sequence[str],
    *,
    program: str,
    description: str,
    epilog: str,
    commands: Mapping[str, Command],
) -> Given:
    """What `argv` gives for `settings`. Raises SettingsError; ends the program for `--help` and `--version`."""
    parser = _parser(settings, program, description, epilog, commands)
    known, unknown = parser.parse_known_args(argv)
    if unknown:
        raise SettingsError(_unknown(unknown[0], settings, commands))
    given = vars(known)
    config = given.pop("config", None)
    return Given(
        {s.name: Value(s, given[s.name], _place(s, given[s.name])) for s in settings if s.name in given}, config
    )


def _place(setting: Setting, value: object) -> str:
    return "--no-" + setting.flag.removeprefix("--") if value is False else setting.flag


def _unknown(argument: str, settings: Sequence[Setting], commands: Mapping[str, Command]) -> str:
    if argument in commands:
        return f"{argument} is a command: write it first"
    flag = argument.partition("=")[0]
    flags = [setting.flag for setting in settings] + ["--config", "--help", "--version"]
    return f"unknown argument {flag}{did_you_mean(flag, flags)}"


def _parser(
    settings: Sequence[Setting], program: str, description: str, epilog: str, commands: Mapping[str, Command]
) -> _Parser:
    places = "".join(
        f" {setting.flag}{' ...' if setting.many else ''}" if setting.required else f" [{setting.flag}]"
        for setting in settings
        if setting.positional
    )
    table = ".".join(program.removeprefix("loadlens-").split())
    parser = _Parser(
        prog=program,
        # A program without settings does nothing of its own: a command is what it wants.
        usage=f"{program}{' COMMAND' if commands and not settings else ''} [settings]{places}"
        + (f"\n       {program} COMMAND --help" if commands else ""),
        description="\n\n".join([description, *([listing(commands)] if commands else [])]),
        epilog="\n\n".join([PRECEDENCE.format(table=table), *([epilog] if epilog else [])]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        # A prefix that is clear today is ambiguous, or means something else, once a setting is added.
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        add_help=False,
    )
    group = parser.add_argument_group("settings")
    for setting in settings:
        _add(group, setting)
    group = parser.add_argument_group("others")
    group.add_argument("--config", metavar="FILE", help="TOML file to read settings from. [LOADLENS_CONFIG]")
    group.add_argument("--version", action="version", version=f"{program} {__version__}", help="Print the version.")
    group.add_argument("-h", "--help", action="help", help="Print this help.")
    return parser


def _add(group: "argparse._ArgumentGroup", setting: Setting) -> None:
    # Every value stays text here: one place converts them all, so one wording says what is wrong.
    options: dict[str, Any] = {"help": _help(setting)}
    if setting.positional:
        if setting.many:
            options["nargs"] = "+" if setting.required else "*"
        elif not setting.required:
            options["nargs"] = "?"
        group.add_argument(setting.name, metavar=setting.flag, **options)
    elif setting.boolean:
        group.add_argument(setting.flag, dest=setting.name, action=argparse.BooleanOptionalAction, **options)
    else:
        metavar = setting.extra.get("metavar", setting.key.rpartition("_")[2].upper())
        if setting.repeatable:
            options["action"] = "append"
        group.add_argument(setting.flag, dest=setting.name, metavar=metavar, **options)


def _help(setting: Setting) -> str:
    facts = [] if setting.flag_only else [setting.variable]
    if setting.expected not in SELF_EVIDENT:
        facts.append(setting.expected)
    if not setting.required:
        facts.append(f"default: {setting.default_shown}")
    text = f"{setting.description} [{'; '.join(facts)}]" if facts else setting.description
    if examples := setting.extra.get("examples"):
        text += f" For example {', '.join(examples)}."
    if setting.secret:
        text += f" Better not as a flag, which other users can see: {setting.file_variable} names a file with it."
    return text.replace("%", "%%")
