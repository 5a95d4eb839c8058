"""`loadlens-service up`: a service and an agent for this machine, until Ctrl-C."""

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta
from rich.console import Console

from contract.report import decode_report
from contract.settings import load
from contract.settings.fields import settings_of
from service.commands import quick_start
from service.commands.children import Child, ChildEnded, own_token, wait_for_end
from service.control.data_lock import DataFolderInUse
from service.control.database import ControlError
from service.settings import ServiceSettings

_PROGRAM = "loadlens-service up"
_DESCRIPTION = """\
Runs the service and an agent for this machine, until Ctrl-C. Most settings are
the service's own."""
_EPILOG = """examples:
  loadlens-service up                                 look at this machine
  loadlens-service up --demo                          and at a fleet
  loadlens-service up --no-agent --port 9000          the service alone
"""
_LOOK_EVERY_S = 0.05
_LONG_S = 5.0
"""After so long a person is told what is waited for."""
_IDENTITY_S = 30.0
_AGENT_STOP_S = 15.0
_SERVICE_STOP_S = 75.0
"""Longer than the server gives itself."""


class UpSettings(ServiceSettings, frozen=True, kw_only=True):
    """The service's settings, and what runs beside it."""

    demo: Annotated[
        bool, Meta(description="Load a fleet to look at, unless it is there (see `loadlens-service demo`).")
    ] = False
    agent: Annotated[bool, Meta(description="Run an agent for this machine.")] = True
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Meta(description="The least that service and agent log.", extra={"metavar": "LEVEL"}),
    ] = "warning"


class UpError(Exception):
    """It cannot start; the message says why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run both; returns the exit code: 0 when asked to stop, 1 for a failure, 2 for a wrong setting."""
    argv = sys.argv[1:] if argv is None else argv
    settings = load(UpSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    up = _Up(settings, _config(argv))
    # However it is ended: by Ctrl-C, by a supervisor, by closing the terminal.
    _on_end(up.interrupt)
    sys.unraisablehook = up.interrupt_again
    try:
        up.run()
    except KeyboardInterrupt:
        up.say("")
    except (UpError, ChildEnded) as error:
        up.complain(str(error))
    up.stop()
    return 1 if up.failed else 0


class _Up:
    """The children, in the order in which they are started, and the person who looks on."""

    def __init__(self, settings: UpSettings, config: str | None) -> None:
        self._settings = settings
        self._port = settings.port or _free_port(settings.host)
        self._config = {"LOADLENS_CONFIG": config} if config else {}
        self._children: list[Child] = []
        self._console = Console(highlight=False, markup=False, soft_wrap=True)
        self.url = f"http://{_reachable(settings.host)}:{self._port}{settings.path_prefix}"
        self.failed = False
        self._agent_token: str | None = None
        self._demo_token: str | None = None

    def run(self) -> None:
        """Start everything, say where to look, and wait; ends by an exception only."""
        settings = self._settings
        if settings.tls_certificate is not None:
            raise UpError("it speaks plain HTTP to this machine; with --tls-certificate run loadlens-service itself")
        _check_free(settings.host, self._port)
        user = self._user_id() if settings.agent else None
        self._make_tokens(user)
        self.say(f"Starting the service on {self.url}, data in {_data_paths(settings)} ...")
        service = Child("service", "service", environ=os.environ | self._config | self._service_environ())
        self._children.append(service)
        self._await_ready(service)
        shown = self._demonstrate() if settings.demo else None
        if settings.agent:
            arguments = ["--url", self.url, "--spool-dir", str(Path(settings.data_dir) / "agent")]
            self._children.append(Child("agent", "agent", arguments, self._agent_environ()))
        self._say_where_to_look(user, shown)
        wait_for_end(self._children)

    def stop(self) -> None:
        """End the children, the newest first: the agent's last window still finds the service."""
        _on_end(self._kill)
        for child in reversed(self._children):
            if child.ended:
                continue
            self.say(f"Stopping the {child.name} ...")
            problem = child.stop(_AGENT_STOP_S if child.name == "agent" else _SERVICE_STOP_S)
            if problem:
                self.complain(problem)
        if self._children and not self.failed:
            self.say(f"Stopped. Everything is in {_data_paths(self._settings)}.")

    def interrupt(self, *_: object) -> None:
        """Raise KeyboardInterrupt, once: who presses Ctrl-C again before anything is done about it wants no other."""
        _on_end(self._kill)
        raise KeyboardInterrupt

    def interrupt_again(self, lost: "sys.UnraisableHookArgs") -> None:
        """A hook: Ctrl-C in a callback, as the import of a module has some, goes to no caller and ends nothing."""
        if isinstance(lost.exc_value, KeyboardInterrupt):
            _on_end(self.interrupt)
            threading.Timer(_LOOK_EVERY_S, os.kill, (os.getpid(), signal.SIGINT)).start()
        else:
            sys.__unraisablehook__(lost)

    def _kill(self, *_: object) -> None:
        # Who presses Ctrl-C once more does not want to wait; what was acknowledged is in the journal.
        for child in reversed(self._children):
            child.kill()

    def say(self, text: str) -> None:
        """Tell the person, if anybody still listens: the terminal may be gone."""
        with contextlib.suppress(OSError):
            self._console.print(text)

    def complain(self, text: str) -> None:
        """Say what went wrong, on one line."""
        self.failed = True
        with contextlib.suppress(OSError):
            print(f"{_PROGRAM}: error: {' '.join(text.split())}", file=sys.stderr, flush=True)

    def _await_ready(self, service: Child) -> None:
        started = time.monotonic()
        told = False
        while not _is_ready(self.url):
            service.check()
            if not told and time.monotonic() - started > _LONG_S:
                self.say("Still starting: it takes up what its journal holds ...")
                told = True
            time.sleep(_LOOK_EVERY_S)

    def _make_tokens(self, user: str | None) -> None:
        """Where the service asks for tokens of its own, its agent and the demonstration get some."""
        if self._settings.token:
            return
        folder, asked = Path(self._settings.data_dir), bool(self._settings.openid_issuer)
        try:
            if user is not None:
                self._agent_token = own_token(folder, "agent", user, asked=asked)
            if self._settings.demo:
                self._demo_token = own_token(folder, "operator", asked=asked)
        except (DataFolderInUse, ControlError) as error:
            raise UpError(str(error)) from None

    def _user_id(self) -> str:
        """The name under which the agent will report; only the agent knows how it comes by it."""
        try:
            once = subprocess.run(
                [sys.executable, "-P", "-m", "agent", "--once", "--samples", "1", "--interval", "10ms"],
                env=self._agent_environ(), stdin=subprocess.DEVNULL, capture_output=True,
                timeout=_IDENTITY_S, check=True, start_new_session=True,
            )  # fmt: skip
            return decode_report(once.stdout).user_id
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {error.returncode}"]
            raise UpError(f"the agent cannot start: {reason[-1]}") from None
        except (subprocess.TimeoutExpired, msgspec.DecodeError) as error:
            raise UpError(f"the agent cannot start: {error}") from None

    def _demonstrate(self) -> str:
        """Load the fleet where it is not there yet; returns the name of one of its hosts."""
        from analytics.sources.service_api import ServiceError
        from service.commands.demo.command import demonstrate, sample_fleet
        from service.commands.demo.fleet import FleetError

        token = self._settings.operator_token or self._settings.token or self._demo_token
        try:
            fleet = sample_fleet()
            demonstrate(fleet, self.url, token, self._console, again=False)
        except (ServiceError, FleetError) as error:
            raise UpError(f"the fleet could not be loaded: {error}") from None
        return fleet.users[0]

    def _service_environ(self) -> dict[str, str]:
        """The service's settings as the environment gives them, whatever they came from here."""
        texts = {}
        for setting in settings_of(ServiceSettings):
            value = getattr(self._settings, setting.name)
            if value not in (None, "", ()):  # what is empty counts as not set there
                texts[setting.variable] = str(value) if setting.secret else setting.shown(value)
        return texts | {"LOADLENS_PORT": str(self._port)}

    def _agent_environ(self) -> dict[str, str]:
        settings = self._settings
        given = settings.token or self._agent_token
        token = {"LOADLENS_TOKEN": given} if given else {}
        return os.environ | self._config | token | {"LOADLENS_LOG_LEVEL": settings.log_level}

    def _say_where_to_look(self, user: str | None, shown: str | None) -> None:
        token = bool(self._settings.token or self._agent_token)
        lines = [
            "",
            f"Loadlens runs on {self.url}.",
            *quick_start.browser(self.url, token=token),
            *quick_start.other_programs(self.url),
            *quick_start.this_host(self.url, user, token=token),
            *quick_start.fleet(self.url, shown, token=token),
            *quick_start.service(self.url, token=token),
            "",
            "Ctrl-C stops both." if user else "Ctrl-C stops it.",
        ]
        self.say("\n".join(lines))


def _data_paths(settings: UpSettings) -> str:
    """Where the data are, for the first lines that are printed."""
    if "://" not in settings.store:
        return settings.data_dir
    return f"{settings.store} (windows) and {settings.data_dir} (the rest)"


def _config(argv: Sequence[str]) -> str | None:
    """The configuration file that the arguments name; the children read it too."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    config: str | None = parser.parse_known_args(argv)[0].config
    return config


def _on_end(handler: "signal._HANDLER") -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handler)


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _free_port(host: str) -> int:
    with socket.create_server((host, 0), family=_family(host)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _check_free(host: str, port: int) -> None:
    # Before the service is started: otherwise whoever holds the port would be taken for it.
    try:
        socket.create_server((host, port), family=_family(host)).close()
    except OSError as error:
        raise UpError(
            f"cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}; "
            "choose another --port (LOADLENS_PORT), or stop what uses this one"
        ) from None


def _reachable(host: str) -> str:
    """The name by which this machine reaches a service that listens on `host`."""
    if host in ("0.0.0.0", "::", "localhost", "::1") or host.startswith("127."):
        return "localhost"
    return f"[{host}]" if ":" in host else host


_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""What asks this machine: a proxy of the environment would not find the way back."""


def _is_ready(url: str) -> bool:
    try:
        with _DIRECT.open(f"{url}/readyz", timeout=5.0) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
