"""`loadlens-agent enrol`: this agent gets a token of its own, which is kept in a file that nobody else can read."""

import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from agent.connection import Connection, ServiceUnreachable
from agent.identity import NoIdentity, identity
from agent.settings import AgentAddress, AgentSettings, UserId
from contract.problems import display
from contract.service_address import SERVICE_URL
from contract.settings import load

_log = logging.getLogger(__name__)
TOKEN_FILE = "token"  # noqa: S105 - the name of its file
_PROGRAM = "loadlens-agent enrol"
_DESCRIPTION = """\
Gets a token for this agent, with one that an admin made for it:
loadlens-service tokens create --role enrolment --scope 'web-*' --uses 10 NAME.
It is good for this agent's own user id only, and is kept beside the spool in a
file that nobody else can read. `loadlens-agent` sends it where no --token is set."""
_EPILOG = """examples:
  LOADLENS_ENROLMENT_TOKEN=loadlens_... loadlens-agent enrol --url https://collector.example.org
  loadlens-agent enrol --enrolment-token loadlens_... --user-id web-1
"""
_TIMEOUT_S = 30.0
_LONGEST = 4096


class EnrolmentFailed(Exception):
    """No token was got; the message says why."""


class _Enrolled(Struct):
    """What the service answers, as far as it matters here."""

    token: str


class _Refusal(Struct):
    detail: str = ""


class EnrolSettings(AgentAddress, frozen=True, kw_only=True):
    """Where to get it, and for whom."""

    url: Annotated[str, Meta(description="The service.")] = SERVICE_URL
    enrolment_token: Annotated[
        str, Meta(description="What an admin made for this.", extra={"metavar": "TOKEN", "secret": True})
    ] = ""
    user_id: UserId = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.enrolment_token:
            raise ValueError("--enrolment-token: expected the token that an admin made, got none")


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0, 1 for a failure, 2 for a wrong setting."""
    settings = load(EnrolSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    directory = settings.directory
    try:
        user_id = identity(settings.user_id).user_id
        token = enrol(settings, user_id)
        keep(directory, token)
    except (EnrolmentFailed, NoIdentity, OSError) as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    print(f"{display(user_id)} has a token, in {directory / TOKEN_FILE}.")
    return 0


def token_for(settings: AgentSettings, user_id: str) -> str | None:
    """The token to send: the one that is set, else the one that is kept, else a new one by enrolment; None without any.

    Raises EnrolmentFailed and OSError.
    """
    if settings.token is not None:
        return settings.token
    directory = settings.directory
    token = kept(directory)
    if token is None and settings.enrolment_token:
        token = enrol(settings, user_id)
        keep(directory, token)
        _log.info("enrolled as %s; the token is kept in %s", user_id, directory / TOKEN_FILE)
    return token


def enrol(settings: EnrolSettings | AgentSettings, user_id: str) -> str:
    """A token for the agent of `user_id`, by the enrolment token. Raises EnrolmentFailed and OSError."""
    url = settings.url
    connection = Connection(url, settings.enrolment_token, settings.proxy_to(url), settings.tls(url))
    try:
        answer = connection.post_enrolment(msgspec.json.encode({"user_id": user_id}), _TIMEOUT_S)
    except ServiceUnreachable as error:
        raise EnrolmentFailed(f"{url} cannot be reached: {error}") from None
    finally:
        connection.close()
    try:
        if answer.status == 201:
            return msgspec.json.decode(answer.body, type=_Enrolled).token
        detail = msgspec.json.decode(answer.body, type=_Refusal).detail
    except msgspec.DecodeError:
        detail = ""
    raise EnrolmentFailed(f"the service gives no token: {display(detail) or f'it answers {answer.status}'}")


def kept(directory: Path) -> str | None:
    """The token that is kept beside the spool; None where there is none. Raises OSError."""
    path = directory / TOKEN_FILE
    try:
        with path.open("rb") as file:
            if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
                _log.warning("others could read %s; now they cannot, but rotate the token", path)
                os.fchmod(file.fileno(), 0o600)
            text = file.read(_LONGEST).decode("ascii", "replace").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return text if text.isprintable() and text else None


def keep(directory: Path, token: str) -> None:
    """Keep a token beside the spool, in place of the one before. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    new = directory / f"{TOKEN_FILE}.new"
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    # Of its own and with its mode from the first moment, whatever stood there before.
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{token}\n")
        file.flush()
        os.fsync(file.fileno())
    new.replace(directory / TOKEN_FILE)
