"""`loadlens-agent install`: a service of the system that runs this program with the settings that are given."""

import os
import plistlib
import re
import stat
import sys
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

import pytest

from agent.cli import main as agent
from agent.installation import File, InstallError, InstallPlan, InstallSettings, given, main, plan_for, program_of
from agent.settings import AgentSettings
from contract.settings import load

PROGRAM = ("/opt/loadlens/bin/loadlens-agent",)
SETTINGS = InstallSettings(
    url="https://loadlens.example.org", token='a"b$c\\d', metrics=("cpu", "memory"), interval=0.1, remote=False,
    into=Path("/nowhere"),
)  # fmt: skip


def file_of(plan: InstallPlan, suffix: str) -> File:
    (found,) = [file for file in plan.files if str(file.path).endswith(suffix)]
    return found


def read_by_agent(settings: dict[str, str]) -> AgentSettings:
    return load(AgentSettings, [], program="loadlens-agent", description="", environ=settings)


def test_systemd_runs_the_program_with_the_settings_in_a_file_of_root() -> None:
    plan = plan_for(SETTINGS, PROGRAM, "linux")
    unit = file_of(plan, ".service").content.decode()
    assert re.findall("(?m)^ExecStart=.*$", unit) == ["ExecStart=/opt/loadlens/bin/loadlens-agent"]
    assert "DynamicUser=yes" in unit
    environment = file_of(plan, "agent.env")
    assert (environment.path, environment.mode) == (PurePosixPath("/etc/loadlens/agent.env"), 0o600)
    variables = dict(
        line.replace("\\$", "$").replace('\\"', '"').replace("\\\\", "\\").split("=", 1)
        for line in environment.content.decode().splitlines()
    )
    read = read_by_agent({name: text[1:-1] for name, text in variables.items()})
    assert read == AgentSettings(
        url=SETTINGS.url, token=SETTINGS.token, metrics=SETTINGS.metrics, interval=0.1, remote=False
    )
    assert plan.commands[0] == ("systemctl", "daemon-reload")
    assert ("systemctl", "enable", "loadlens-agent") in plan.commands


def test_a_program_with_signs_in_its_path_is_quoted() -> None:
    unit = file_of(plan_for(SETTINGS, ("/opt/a b%c/python", "-m", "agent"), "linux"), ".service").content.decode()
    assert 'ExecStart="/opt/a b%%c/python" -m agent\n' in unit


def test_a_program_in_a_home_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.installation._SYSTEMD", "/")
    with pytest.raises(InstallError, match="pipx install --global"):
        plan_for(InstallSettings(), ("/home/one/.local/bin/loadlens-agent",), "linux")
    with pytest.raises(InstallError, match="--spool-dir"):
        plan_for(InstallSettings(spool_dir=Path("/srv")), PROGRAM, "linux")


def test_a_system_without_a_known_manager_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InstallError, match="expected Linux, macOS or Windows, got freebsd14"):
        plan_for(SETTINGS, PROGRAM, "freebsd14")
    monkeypatch.setattr("agent.installation._SYSTEMD", "/nowhere/at/all")
    with pytest.raises(InstallError, match="systemd does not run this machine"):
        plan_for(InstallSettings(), PROGRAM, "linux")


def test_launchd_gets_a_property_list() -> None:
    plan = plan_for(SETTINGS, PROGRAM, "darwin")
    (file,) = plan.files
    document = plistlib.loads(file.content)
    assert (document["Label"], document["ProgramArguments"], file.mode) == ("org.loadlens.agent", [*PROGRAM], 0o600)
    assert document["KeepAlive"] is document["RunAtLoad"] is True
    assert read_by_agent(document["EnvironmentVariables"]).token == SETTINGS.token
    assert plan.commands[0] == ("launchctl", "bootstrap", "system", str(file.path))


def test_windows_gets_a_task_and_a_file_of_settings(tmp_path: Path) -> None:
    program = (r"C:\Program Files\loadlens & co\python.exe", "-m", "agent")
    plan = plan_for(SETTINGS, program, "win32")
    kept = tmp_path / "agent.toml"
    kept.write_bytes(file_of(plan, "agent.toml").content)
    read = load(AgentSettings, ["--config", str(kept)], program="loadlens-agent", description="", environ={})
    assert (read.token, read.metrics, read.interval, read.remote) == (SETTINGS.token, ("cpu", "memory"), 0.1, False)
    task = ElementTree.fromstring(file_of(plan, ".xml").content.decode("utf-16").partition("\n")[2])
    names = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert task.findtext(".//t:Exec/t:Command", namespaces=names) == program[0]
    assert (
        task.findtext(".//t:Exec/t:Arguments", namespaces=names)
        == r"-m agent --config C:\ProgramData\loadlens\agent.toml"
    )
    assert [command[0] for command in plan.commands] == ["icacls", "schtasks", "schtasks"]


LAUNCHD = {
    "Label": str, "ProgramArguments": list, "EnvironmentVariables": dict, "RunAtLoad": bool, "KeepAlive": bool,
    "ThrottleInterval": int, "ProcessType": str, "Umask": int, "StandardErrorPath": str,
}  # fmt: skip
"""The keys of launchd.plist(5) that are used, with their types."""
TASK = {
    "Task": ("RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"), "RegistrationInfo": ("Description",),
    "Triggers": ("BootTrigger", "RegistrationTrigger"), "BootTrigger": ("Repetition", "Enabled"),
    "RegistrationTrigger": ("Repetition", "Enabled"), "Repetition": ("Interval", "StopAtDurationEnd"),
    "Principals": ("Principal",), "Principal": ("UserId", "RunLevel"),
    "Settings": ("MultipleInstancesPolicy", "DisallowStartIfOnBatteries", "StopIfGoingOnBatteries",
                 "StartWhenAvailable", "ExecutionTimeLimit"),
    "Actions": ("Exec",), "Exec": ("Command", "Arguments"),
}  # fmt: skip
"""What the Task Scheduler's schema has in each element, of what is used; its order is this."""
VALUES = {
    "Enabled": "true|false", "Interval": "PT[1-9][0-9]*M", "StopAtDurationEnd": "true|false", "UserId": "S-1-5-19",
    "RunLevel": "LeastPrivilege|HighestAvailable", "DisallowStartIfOnBatteries": "true|false",
    "MultipleInstancesPolicy": "Parallel|Queue|IgnoreNew|StopExisting", "StopIfGoingOnBatteries": "true|false",
    "StartWhenAvailable": "true|false", "ExecutionTimeLimit": "PT0S", "Description": ".+", "Command": ".+",
    "Arguments": ".+",
}  # fmt: skip


def test_a_property_list_has_keys_and_types_that_launchd_knows() -> None:
    (file,) = plan_for(SETTINGS, PROGRAM, "darwin").files
    document = plistlib.loads(file.content)
    assert {name: type(value) for name, value in document.items()} == LAUNCHD
    assert all(
        type(text) is str for text in [*document["ProgramArguments"], *document["EnvironmentVariables"].values()]
    )
    assert document["ProcessType"] in ("Background", "Standard", "Adaptive", "Interactive")
    # launchd takes no file that others may write to.
    assert not file.mode & 0o022


def test_a_task_has_elements_and_values_that_the_schema_knows() -> None:
    text = file_of(plan_for(SETTINGS, PROGRAM, "win32"), ".xml").content.decode("utf-16")
    assert text.startswith('<?xml version="1.0" encoding="UTF-16"?>')
    root = ElementTree.fromstring(text.partition("\n")[2])
    for element in root.iter():
        name = element.tag.removeprefix("{http://schemas.microsoft.com/windows/2004/02/mit/task}")
        inside = tuple(child.tag.rpartition("}")[2] for child in element)
        if name in TASK:
            assert inside == TASK[name]
        else:
            assert re.fullmatch(VALUES[name], element.text or ""), name


def test_a_task_is_begun_again_whenever_it_ended() -> None:
    """Restarting on failure would be of tasks that cannot be begun, and not of programs that end."""
    task = file_of(plan_for(SETTINGS, PROGRAM, "win32"), ".xml").content.decode("utf-16")
    assert task.count("<Interval>PT1M</Interval>") == 2
    assert "<MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>" in task


def test_only_what_is_given_is_kept() -> None:
    assert given(InstallSettings()) == {}
    assert given(InstallSettings(ca_file=Path("ca.pem"))) == {"ca_file": str(Path("ca.pem").absolute())}


def test_files_are_written_below_a_folder_and_taken_away_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["install", "--into", str(tmp_path), "--url", "https://loadlens.example.org"]
    for _ in range(2):
        assert agent(arguments) == 0
    unit, environment = tmp_path / "etc/systemd/system/loadlens-agent.service", tmp_path / "etc/loadlens/agent.env"
    assert environment.read_text() == 'LOADLENS_URL="https://loadlens.example.org"\n'
    assert stat.S_IMODE(environment.stat().st_mode) == 0o600
    assert stat.S_IMODE(unit.stat().st_mode) == 0o644
    assert sorted(file.name for file in tmp_path.rglob("*") if file.is_file()) == ["agent.env", unit.name]
    assert main(["--into", str(tmp_path), "--remove"]) == 0
    assert not unit.exists()
    assert environment.exists()
    assert f"removed {unit}" in capsys.readouterr().out


def test_print_does_nothing_and_shows_no_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = ["--print", "--token", "abc123", "--into", str(tmp_path)]
    assert main(shown) == main([*shown, "--remove"]) == 0
    told = capsys.readouterr().out
    assert 'write /etc/loadlens/agent.env (600):\n    LOADLENS_TOKEN="(hidden)"\n' in told
    assert "$ systemctl restart loadlens-agent" in told
    assert "$ systemctl disable --now loadlens-agent\nremove /etc/systemd/system/loadlens-agent.service" in told
    assert "abc123" not in told
    assert not list(tmp_path.iterdir())
    hidden = InstallSettings(token="abc123", proxy="http://abc123@proxy:3128", print_=True)
    for system in ("linux", "darwin", "win32"):
        files = plan_for(hidden, PROGRAM, system).files
        assert not [file for file in files if b"abc123" in file.content]


def test_it_is_the_program_that_was_called_or_else_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert program_of() == (sys.executable, "-m", "agent")
    program = tmp_path / "loadlens-agent"
    program.write_text("")
    os.chmod(program, 0o755)
    monkeypatch.setattr(sys, "argv", [str(program), "install"])
    assert program_of() == (str(program),)


def test_an_agent_that_would_end_is_no_service(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--once", "--print"])
    assert "expected settings of an agent that goes on" in capsys.readouterr().err
