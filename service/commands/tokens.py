"""`loadlens-service tokens`: who may do what; tokens are made, listed, renamed, ended, rotated and revoked."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from analytics.sources.operations import Operations
from contract.selectors import MAX_PATTERN
from contract.settings import SettingsError, load
from service.commands import failed, lazy_command, run_one_of
from service.commands.agents.calling import CallSettings, PersonalApi, console, one_line_errors, person
from service.control.audit import Actor
from service.credentials.identity import EVERYONE, Role

if TYPE_CHECKING:
    from rich.table import Table

PROGRAM = "loadlens-service tokens"
_CREATE = f"{PROGRAM} create"
_CREATE_DESCRIPTION = """\
Makes a token, and prints it: the one time that anybody sees it.

Roles: reader asks. operator changes settings, rules and the like too. admin makes
tokens too. agent is for one host: it reports as --scope, and nobody else.
With enrolment, agents get their own tokens (loadlens-agent enrol).

The first token is made with --offline, while the service is stopped: from then
on the service asks for one. So is another where the last admin's is lost."""
_CREATE_EPILOG = """examples:
  loadlens-service tokens create --offline --role admin me
  loadlens-service tokens create --role agent --scope 6a:d6:96:d3:45:35 --lifetime 52w web-1
  loadlens-service tokens create --role reader --scope 'web-*' grafana
"""
_LIST_EPILOG = """examples:
  loadlens-service tokens
  loadlens-service tokens list --json
"""
_CHANGE_EPILOG = """examples:
  loadlens-service tokens change 0011aabb2233 --name "grafana, new host"
  loadlens-service tokens change 0011aabb2233 --lifetime 30d
"""
_ROTATE_EPILOG = """examples:
  loadlens-service tokens rotate 0011aabb2233                  the one before goes on for a day
  loadlens-service tokens rotate 0011aabb2233 --overlap 0s     it ends now
"""
_REVOKE_EPILOG = """examples:
  loadlens-service tokens revoke 0011aabb2233
"""
_TIMEOUT_S = 30.0
_ID = Annotated[str, Meta(description="Its id, as `tokens list` shows it.", extra={"positional": True})]
_LIFETIME = {"metavar": "TIME", "default": "for ever", "examples": ["90d"]}


class CreateTokenSettings(CallSettings, frozen=True, kw_only=True):
    """The name, role, scope and expiry of a new token."""

    name: Annotated[
        str, Meta(min_length=1, max_length=100, description="What it is called.", extra={"positional": True})
    ]
    role: Annotated[Role, Meta(description="What it may do.", extra={"metavar": "ROLE", "flag_only": True})]
    scope: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=MAX_PATTERN,
            description="Whom it is about: an agent's user id; for a reader and for enrolment a pattern.",
            extra={"metavar": "PATTERN", "flag_only": True},
        ),
    ] = EVERYONE
    lifetime: Annotated[str | None, Meta(description="How long it is good for.", extra=_LIFETIME)] = None
    uses: Annotated[
        Annotated[int, Meta(ge=1, le=100_000)] | None,
        Meta(description="For enrolment: how many agents get a token with it.", extra={"metavar": "N", "default": "1"}),
    ] = None
    offline: Annotated[
        bool, Meta(description="Make it in the data folder of a service that is stopped, without asking one.")
    ] = False
    data_dir: Annotated[str, Meta(min_length=1, description="That folder.", extra={"metavar": "DIR"})] = "var/loadlens"


class ChangeTokenSettings(CallSettings, frozen=True, kw_only=True):
    """The token, and what is to be different of it."""

    id: _ID
    name: Annotated[
        str | None, Meta(description="What it is called.", extra={"metavar": "NAME", "default": "as it is"})
    ] = None
    lifetime: Annotated[
        str | None,
        Meta(
            description="How long it is good for from now; `forever` for no end.",
            extra={"metavar": "TIME", "default": "as it is", "examples": ["30d"]},
        ),
    ] = None


class RotateTokenSettings(CallSettings, frozen=True, kw_only=True):
    """The token that is replaced, and for how long it goes on beside the new one."""

    id: _ID
    overlap: Annotated[
        str, Meta(description="How long the one before goes on.", extra={"metavar": "TIME", "examples": ["0s"]})
    ] = "1d"


class RevokeTokenSettings(CallSettings, frozen=True, kw_only=True):
    """The token that is ended."""

    id: _ID


class TokensApi(PersonalApi, Operations):
    """What the commands ask about tokens."""


def main(argv: Sequence[str]) -> int:
    """Run a command; without one, list the tokens. Returns the exit code: 0, 1 for a failure, 2 for a wrong setting."""
    return run_one_of(PROGRAM, argv, _COMMANDS, "Says who may do what. Without a command it lists the tokens.")


def create(argv: Sequence[str]) -> int:
    """Run `create`; returns the exit code."""
    settings = load(CreateTokenSettings, argv, program=_CREATE, description=_CREATE_DESCRIPTION, epilog=_CREATE_EPILOG)
    with one_line_errors(_CREATE):
        if settings.offline:
            return _create_offline(settings)
        with TokensApi(settings) as api:
            made = api.create_token(
                settings.name, settings.role, scope=settings.scope, lifetime=settings.lifetime, uses=settings.uses
            )
        _say_made(made, as_json=settings.json)
    return 0


def _create_offline(settings: CreateTokenSettings) -> int:
    """Make a token without the service, which must not run on this folder."""
    from service.control.audit import Audit
    from service.control.data_lock import DataFolderInUse, DataLock
    from service.control.database import ControlDatabase, ControlError
    from service.credentials.tokens import TokenRefused, Tokens, end_of, scope_problem

    problem = scope_problem(settings.role, settings.scope, settings.uses)
    if problem is not None:
        raise SettingsError(f"--{problem[0]}: {problem[1]}")
    try:
        expires_ms = end_of(settings.lifetime)
    except ValueError as error:
        raise SettingsError(f"--lifetime: {error}") from None
    folder = Path(settings.data_dir)
    try:
        with DataLock(folder):
            control = ControlDatabase(folder / "control.db")
            try:
                made = Tokens(control, Audit(control)).create(
                    settings.name, settings.role, settings.scope, expires_ms=expires_ms, uses=settings.uses,
                    actor=Actor("offline", "", person()),
                )  # fmt: skip
            finally:
                control.close()
    except (DataFolderInUse, ControlError, TokenRefused, OSError) as error:
        return failed(_CREATE, error)
    _say_made(made.token.document() | {"token": made.text}, as_json=settings.json)
    return 0


def list_tokens(argv: Sequence[str]) -> int:
    """Run `list`; returns the exit code."""
    program = f"{PROGRAM} list"
    settings = load(CallSettings, argv, program=program, description="Lists all tokens.", epilog=_LIST_EPILOG)
    with one_line_errors(program), TokensApi(settings) as api:
        tokens = api.tokens()
        if settings.json:
            print(msgspec.json.encode(tokens).decode())
        elif tokens:
            console().print(_table(tokens))
        else:
            print("There are no tokens.", file=sys.stderr)
    return 0


def change(argv: Sequence[str]) -> int:
    """Run `change`; returns the exit code."""
    program = f"{PROGRAM} change"
    settings = load(
        ChangeTokenSettings, argv, program=program, description="Gives a token another name or another end.",
        epilog=_CHANGE_EPILOG,
    )  # fmt: skip
    changes: dict[str, str | int | None] = {}
    if settings.name is not None:
        changes["name"] = settings.name
    if settings.lifetime is not None:
        changes["lifetime"] = None if settings.lifetime == "forever" else settings.lifetime
    with one_line_errors(program), TokensApi(settings) as api:
        _say_changed(api.change_token(settings.id, **changes), as_json=settings.json)
    return 0


def rotate(argv: Sequence[str]) -> int:
    """Run `rotate`; returns the exit code."""
    program = f"{PROGRAM} rotate"
    settings = load(
        RotateTokenSettings, argv, program=program,
        description="Gives a token a new text, and prints it once; the one before goes on for a while.",
        epilog=_ROTATE_EPILOG,
    )  # fmt: skip
    with one_line_errors(program), TokensApi(settings) as api:
        _say_made(api.rotate_token(settings.id, overlap=settings.overlap), as_json=settings.json)
    return 0


def revoke(argv: Sequence[str]) -> int:
    """Run `revoke`; returns the exit code."""
    program = f"{PROGRAM} revoke"
    settings = load(
        RevokeTokenSettings, argv, program=program, description="Ends a token for good.", epilog=_REVOKE_EPILOG
    )
    with one_line_errors(program), TokensApi(settings) as api:
        api.revoke_token(settings.id)
        _say_changed(api.token(settings.id), as_json=settings.json)
    return 0


_COMMANDS = {
    "create": lazy_command("service.commands.tokens:create", "make a token, and show it once"),
    "list": lazy_command("service.commands.tokens:list_tokens", "all tokens, and when they were last used"),
    "change": lazy_command("service.commands.tokens:change", "give a token another name or another end"),
    "rotate": lazy_command("service.commands.tokens:rotate", "give a token a new text; two are good for a while"),
    "revoke": lazy_command("service.commands.tokens:revoke", "end a token for good"),
}


def _say_made(token: Mapping[str, Any], *, as_json: bool) -> None:
    """Print the token alone to where a script takes it from, and what it is to where a person reads it."""
    if as_json:
        print(msgspec.json.encode(token).decode())
        return
    print(f"{_in_words(token)}. It is shown once:", file=sys.stderr, flush=True)
    print(token["token"])


def _say_changed(token: Mapping[str, Any], *, as_json: bool) -> None:
    print(msgspec.json.encode(token).decode() if as_json else f"{_in_words(token)}.")


def _in_words(token: Mapping[str, Any]) -> str:
    scope = "" if token["scope"] == EVERYONE else f" for {token['scope']}"
    return f"Token {token['id']} ({token['name']!a}), {token['role']}{scope}, {_state(token)}"


def _state(token: Mapping[str, Any]) -> str:
    if token["revoked"] is not None:
        return f"revoked {token['revoked']}"
    return "without an end" if token["expires"] is None else f"until {token['expires']}"


def _table(tokens: Iterable[Mapping[str, Any]]) -> "Table":
    """A row for each token."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "name", "role", "scope", "state", "last used", "from"):
        table.add_column(name, overflow="fold")
    for token in tokens:
        cells = (token["name"], token["role"], token["scope"], _state(token), token["last_used"] or "never")
        table.add_row(token["id"], *map(Text, cells), token["last_address"] or "-")
    return table
