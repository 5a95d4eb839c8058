"""`loadlens-agent install`: the agent as a service of its system: systemd, launchd, or Windows' task scheduler.

What is written and called is a plan, made whole before anything is done; `--print` shows it.
"""

import json
import os
import plistlib
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Final, NamedTuple
from xml.sax.saxutils import escape

from msgspec import Meta

from agent.settings import AgentSettings
from contract.settings import load
from contract.settings.fields import HIDDEN, settings_of

_PROGRAM = "loadlens-agent install"
_DESCRIPTION = """\
Has the agent run as a service of this machine, from its start on: a unit of
systemd, a daemon of launchd, or a task of Windows. It runs without privileges
where the system has a user for that. The settings that are given are kept in a
file that only administrators can read. --print shows all of it, and does nothing."""
_EPILOG = """examples:
  sudo loadlens-agent install --url https://loadlens.example.org --enrolment-token loadlens_...
  loadlens-agent install --print --metrics cpu,memory,disk
  sudo loadlens-agent install --remove"""
_UNIT = Path(__file__).with_name("loadlens-agent.service")
_SYSTEMD: Final = "/run/systemd/system"
_HOMES: Final = ("/home", "/root", "/run/user")
"""What the unit cannot see."""
_PLIST: Final = "/Library/LaunchDaemons/org.loadlens.agent.plist"
_LABEL: Final = "org.loadlens.agent"
_TASK: Final = "Loadlens agent"
_WINDOWS: Final = r"C:\ProgramData\loadlens"
_NOT_KEPT: Final = ("print_", "into", "remove", "once", "dry_run")


class InstallSettings(AgentSettings, frozen=True, kw_only=True):
    """The settings of the agent to be, and what to do with them."""

    print_: Annotated[
        bool, Meta(description="Show what would be written and called, and do nothing.", extra={"flag_only": True})
    ] = False
    into: Annotated[
        Path | None,
        Meta(
            description="Write the files below this folder, and call nothing: for images and packages.",
            extra={"metavar": "DIR", "default": "this machine", "flag_only": True},
        ),
    ] = None
    remove: Annotated[
        bool,
        Meta(
            description="Take the service away again; its settings and what it has not sent stay.",
            extra={"flag_only": True},
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.once or self.dry_run:
            raise ValueError("--once and --dry-run: expected settings of an agent that goes on")


class InstallError(Exception):
    """It cannot be installed so; the message says why, and what to do."""


class File(NamedTuple):
    """A file to write."""

    path: PurePath
    content: bytes
    mode: int = 0o644


class InstallPlan(NamedTuple):
    """What makes a service, and what takes it away."""

    files: tuple[File, ...]
    commands: tuple[tuple[str, ...], ...]
    stop: tuple[tuple[str, ...], ...]
    leftover: tuple[PurePath, ...]
    """The files that go with it; its settings stay."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit code: 0, 1 for a failure, 2 for a wrong setting."""
    settings = load(InstallSettings, argv, program=_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG)
    try:
        plan = plan_for(settings, program_of())
        if settings.print_:
            print("\n".join(_shown(plan, settings.remove)))
        elif settings.remove:
            _remove(plan, settings.into)
        else:
            _install(plan, settings.into)
    except (InstallError, OSError) as error:
        print(f"{_PROGRAM}: error: {error}", file=sys.stderr)
        return 1
    return 0


def program_of() -> tuple[str, ...]:
    """How this program is called again, from anywhere."""
    called = Path(sys.argv[0])
    if called.stem == "loadlens-agent" and called.is_file() and os.access(called, os.X_OK):
        return (str(called.absolute()),)
    return (sys.executable, "-m", "agent")


def plan_for(settings: InstallSettings, program: Sequence[str], system: str = sys.platform) -> InstallPlan:
    """What to do on a system to have `program` run there. Raises InstallError."""
    if system == "darwin":
        return _launchd(settings, program)
    if system == "win32":
        return _windows(settings, program)
    if system != "linux":
        raise InstallError(f"expected Linux, macOS or Windows, got {system}: see to it that `loadlens-agent` is run")
    if not (settings.into or settings.print_ or Path(_SYSTEMD).is_dir()):
        raise InstallError("systemd does not run this machine: have its own service manager run `loadlens-agent`")
    return _systemd(settings, program)


def given(settings: InstallSettings) -> dict[str, Any]:
    """The settings that are not as they would be anyway, by their key; secrets are not shown."""
    found: dict[str, Any] = {}
    for setting in settings_of(InstallSettings):
        value = getattr(settings, setting.name)
        if setting.name in _NOT_KEPT or value == setting.default:
            continue
        if setting.secret and settings.print_:
            value = HIDDEN
        elif isinstance(value, Path):
            value = str(value.absolute())
        elif "format" in setting.extra:
            value = setting.shown(value)
        found[setting.key] = list(value) if isinstance(value, tuple) else value
    return found


def _variables(settings: InstallSettings) -> dict[str, str]:
    """They as variables of the environment."""
    return {
        f"LOADLENS_{key.upper()}": ",".join(value) if isinstance(value, list) else str(value).lower()
        if isinstance(value, bool) else str(value)
        for key, value in given(settings).items()
    }  # fmt: skip


def _systemd(settings: InstallSettings, program: Sequence[str]) -> InstallPlan:
    if settings.spool_dir is not None:
        raise InstallError("--spool-dir: expected none: the unit keeps reports in /var/lib/loadlens-agent")
    hidden = [
        place for place in {str(Path(program[0]).resolve()), sys.prefix}
        if settings.into is None and any(Path(place).is_relative_to(home) for home in _HOMES)
    ]  # fmt: skip
    if hidden:
        raise InstallError(
            f"{hidden[0]} is in a home folder, which the service cannot see: install the program for all, as with "
            "`pipx install --global`, or in /opt"
        )
    unit = _UNIT.read_text(encoding="utf-8")
    comment, _, body = unit.partition("\n\n")
    assert comment.startswith("#")
    lines = [
        f"ExecStart={' '.join(map(_unit_word, program))}" if line.startswith("ExecStart=") else line
        for line in body.splitlines()
    ]
    path = PurePosixPath("/etc/systemd/system/loadlens-agent.service")
    files = [File(path, "\n".join([*lines, ""]).encode())]
    variables = _variables(settings)
    if variables:
        text = "".join(f"{name}={_quoted(value)}\n" for name, value in variables.items())
        files.append(File(PurePosixPath("/etc/loadlens/agent.env"), text.encode(), 0o600))
    return InstallPlan(
        tuple(files),
        (("systemctl", "daemon-reload"), ("systemctl", "enable", "loadlens-agent"),
         ("systemctl", "restart", "loadlens-agent")),
        (("systemctl", "disable", "--now", "loadlens-agent"),), (path,),
    )  # fmt: skip


def _unit_word(word: str) -> str:
    """A word of a command as a unit has it (systemd.syntax)."""
    doubled = word.replace("%", "%%").replace("$", "$$")
    return _quoted(doubled) if any(sign in doubled for sign in " \t\"'\\;") else doubled


def _quoted(value: str) -> str:
    """A value of an EnvironmentFile (systemd.exec)."""
    return '"' + "".join(f"\\{sign}" if sign in '"\\`$' else sign for sign in value) + '"'


def _launchd(settings: InstallSettings, program: Sequence[str]) -> InstallPlan:
    document = {
        "Label": _LABEL, "ProgramArguments": [*program], "EnvironmentVariables": _variables(settings),
        "RunAtLoad": True, "KeepAlive": True, "ThrottleInterval": 5, "ProcessType": "Background", "Umask": 0o077,
        "StandardErrorPath": "/Library/Logs/loadlens-agent.log",
    }  # fmt: skip
    path = PurePosixPath(_PLIST)
    return InstallPlan(
        (File(path, plistlib.dumps(document), 0o600),),
        (("launchctl", "bootstrap", "system", _PLIST), ("launchctl", "enable", f"system/{_LABEL}")),
        (("launchctl", "bootout", f"system/{_LABEL}"),), (path,),
    )  # fmt: skip


def _windows(settings: InstallSettings, program: Sequence[str]) -> InstallPlan:
    folder = PureWindowsPath(_WINDOWS)
    configuration, task = folder / "agent.toml", folder / "agent-task.xml"
    lines = ["[agent]", *(f"{key} = {json.dumps(value)}" for key, value in given(settings).items()), ""]
    arguments = subprocess.list2cmdline([*program[1:], "--config", str(configuration)])
    return InstallPlan(
        (File(configuration, "\n".join(lines).encode(), 0o600),
         File(task, _task(program[0], arguments).encode("utf-16"))),
        (("icacls", str(configuration), "/inheritance:r", "/grant", "*S-1-5-32-544:F", "*S-1-5-18:F", "*S-1-5-19:R"),
         ("schtasks", "/Create", "/F", "/TN", _TASK, "/XML", str(task)), ("schtasks", "/Run", "/TN", _TASK)),
        (("schtasks", "/End", "/TN", _TASK), ("schtasks", "/Delete", "/F", "/TN", _TASK)), (task,),
    )  # fmt: skip


def _task(command: str, arguments: str) -> str:
    """A task that runs as the local service from now and from the host's start on, and again whenever it ended.

    Restarting on failure is of tasks that could not be begun, not of programs that ended: so it is begun again each
    minute, which is passed over while it runs (`IgnoreNew`).
    https://learn.microsoft.com/en-us/windows/win32/taskschd/task-scheduler-schema
    """
    again = "<Repetition><Interval>PT1M</Interval><StopAtDurationEnd>false</StopAtDurationEnd></Repetition>"
    return f"""<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo><Description>Loadlens agent</Description></RegistrationInfo>
  <Triggers>
    <BootTrigger>{again}<Enabled>true</Enabled></BootTrigger>
    <RegistrationTrigger>{again}<Enabled>true</Enabled></RegistrationTrigger>
  </Triggers>
  <Principals>
    <Principal id="Author"><UserId>S-1-5-19</UserId><RunLevel>LeastPrivilege</RunLevel></Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
  </Settings>
  <Actions Context="Author">
    <Exec><Command>{escape(command)}</Command><Arguments>{escape(arguments)}</Arguments></Exec>
  </Actions>
</Task>
"""


def _shown(plan: InstallPlan, remove: bool) -> Iterator[str]:
    """A plan in words."""
    if remove:
        yield from (f"$ {subprocess.list2cmdline(command)}" for command in plan.stop)
        yield from (f"remove {path}" for path in plan.leftover)
        return
    for file in plan.files:
        yield f"write {file.path} ({file.mode:o}):"
        encoding = "utf-16" if file.content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        for line in file.content.decode(encoding).splitlines():
            yield f"    {line}".rstrip()
    yield from (f"$ {subprocess.list2cmdline(command)}" for command in plan.commands)


def _placed(path: PurePath, into: Path | None) -> Path:
    return Path(path) if into is None else into / path.relative_to(path.anchor)


def _install(plan: InstallPlan, into: Path | None) -> None:
    for file in plan.files:
        path = _placed(file.path, into)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.part")
        partial.unlink(missing_ok=True)
        # Nobody else may read it, not even for a moment.
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, file.mode), "wb") as written:
            written.write(file.content)
        partial.chmod(file.mode)
        partial.replace(path)
        print(f"wrote {path}")
    if into is None:
        _call(plan.commands)


def _remove(plan: InstallPlan, into: Path | None) -> None:
    if into is None:
        _call(plan.stop)
    for path in plan.leftover:
        _placed(path, into).unlink(missing_ok=True)
        print(f"removed {_placed(path, into)}")


def _call(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            raise InstallError(f"{command[0]} is not there") from None
        if done.returncode:
            reason = (done.stderr or done.stdout).strip()
            raise InstallError(f"`{subprocess.list2cmdline(command)}` failed ({done.returncode}): {reason}")
