"""Settings: where they come from, which wins, and what a person reads when one is wrong."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pytest
from msgspec import Meta

from contract import __version__
from contract.settings import Command, Settings, dispatch, load
from contract.times import format_duration, parse_duration

SECRET = "correct-horse-battery"


class ProbeSettings(Settings, frozen=True, kw_only=True):
    """One setting of each kind."""

    url: Annotated[
        str, Meta(min_length=1, description="Where to send.", extra={"examples": ["http://collector:8888"]})
    ] = "http://localhost:8888"
    samples: Annotated[int, Meta(ge=1, le=10_000, description="Samples in one report.")] = 100
    share: Annotated[float, Meta(gt=0, description="At most 100% of it.")] = 0.5
    metrics: Annotated[tuple[Literal["CPU", "DISK"], ...], Meta(description="What is sampled.")] = ("CPU",)
    once: Annotated[bool, Meta(description="End after one report.")] = False
    spool_dir: Annotated[Path, Meta(description="Where reports wait.", extra={"metavar": "DIR"})] = Path("spool")
    token: Annotated[str, Meta(min_length=8, description="Sent along.", extra={"secret": True})] | None = None
    keep: Annotated[
        int,
        Meta(description="How long.", extra={"parse": parse_duration, "format": format_duration, "metavar": "TIME"}),
    ] = 604_800_000

    def __post_init__(self) -> None:
        if self.once and self.samples == 13:
            raise ValueError("--once does not go with 13 samples")


def probe(*argv: str, config: Path | None = None, **environ: str) -> ProbeSettings:
    """The settings of a program called with these arguments and this environment."""
    if config is not None:
        environ["LOADLENS_CONFIG"] = str(config)
    return load(
        ProbeSettings, argv, program="loadlens-agent", description="Probes.", epilog="The end.", environ=environ
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Where a test writes its configuration file."""
    return tmp_path / "loadlens.toml"


def refusal(capsys: pytest.CaptureFixture[str], *argv: str, config: Path | None = None, **environ: str) -> str:
    """The one line that a wrong setting gives."""
    with pytest.raises(SystemExit) as exit_:
        probe(*argv, config=config, **environ)
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    program, _, message = err.strip().partition(": error: ")
    assert program == "loadlens-agent"
    return message


def test_nothing_given_is_the_defaults() -> None:
    assert probe() == ProbeSettings()


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(config: Path) -> None:
    config.write_text("[agent]\nsamples = 20\nshare = 0.25\nurl = 'http://file'\n")
    settings = probe("--samples", "40", config=config, LOADLENS_SAMPLES="30", LOADLENS_SHARE="0.75")
    assert (settings.samples, settings.share, settings.url, settings.once) == (40, 0.75, "http://file", False)


def test_every_kind_of_value_from_flags() -> None:
    argv = "--url=http://a --samples 7 --share 1e-3 --metrics DISK,CPU --once --spool-dir d --keep 1h30m"
    assert probe(*argv.split(), "--token", SECRET) == ProbeSettings(
        url="http://a", samples=7, share=1e-3, metrics=("DISK", "CPU"), once=True, spool_dir=Path("d"), token=SECRET,
        keep=5_400_000,
    )  # fmt: skip


def test_every_kind_of_value_from_the_environment() -> None:
    assert probe(
        LOADLENS_URL="http://a", LOADLENS_SAMPLES="7", LOADLENS_SHARE="0.001", LOADLENS_METRICS="DISK, CPU",
        LOADLENS_ONCE="true", LOADLENS_SPOOL_DIR="d", LOADLENS_TOKEN=SECRET, LOADLENS_KEEP="1h30m",
    ) == ProbeSettings(
        url="http://a", samples=7, share=1e-3, metrics=("DISK", "CPU"), once=True, spool_dir=Path("d"), token=SECRET,
        keep=5_400_000,
    )  # fmt: skip


def test_every_kind_of_value_from_the_file(config: Path) -> None:
    config.write_text(
        f"""
        [agent]
        url = "http://a"
        samples = 7
        share = 1
        metrics = ["DISK", "CPU"]
        once = true
        spool_dir = "d"
        token = "{SECRET}"
        keep = "1h30m"

        [service]
        of_another_program = true
        """
    )
    assert probe("--config", str(config)) == ProbeSettings(
        url="http://a", samples=7, share=1.0, metrics=("DISK", "CPU"), once=True, spool_dir=Path("d"), token=SECRET,
        keep=5_400_000,
    )  # fmt: skip


def test_a_switch_that_the_environment_sets_can_be_turned_off() -> None:
    assert probe("--no-once", LOADLENS_ONCE="true").once is False


def test_an_empty_variable_is_not_set() -> None:
    assert probe(LOADLENS_SAMPLES="", LOADLENS_TOKEN="", LOADLENS_CONFIG="") == ProbeSettings()


def test_a_list_can_be_empty() -> None:
    assert probe("--metrics", "").metrics == ()


def test_a_path_begins_at_home_without_a_shell(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.setenv("USERPROFILE", "/home/ada")
    config.write_text("[agent]\nspool_dir = '~/spool'\n")
    assert probe(config=config).spool_dir == Path("/home/ada/spool")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--samples", "0"), "--samples: expected a whole number from 1 to 10000, got 0"),
        (("--samples", "many"), "--samples: expected a whole number from 1 to 10000, got many"),
        (("--samples", "1.5"), "--samples: expected a whole number from 1 to 10000, got 1.5"),
        (("--samples", ""), "--samples: expected a whole number from 1 to 10000, got nothing"),
        (("--share", "-1"), "--share: expected a number above 0, got -1"),
        (("--share", "inf"), "--share: expected a number above 0, got inf"),
        (("--metrics", "CPU,GPU"), "--metrics: expected a list, each CPU or DISK, got CPU,GPU"),
        (("--url", ""), "--url: expected text, not empty, got nothing"),
        (("--keep", "15"), "--keep: expected a duration with a unit such as 15s, got '15'"),
        (("--samples",), "argument --samples: expected one argument"),
        (("--sampels", "3"), "unknown argument --sampels (did you mean --samples?)"),
        (("--sample", "3"), "unknown argument --sample (did you mean --samples?)"),
        (("--once", "--samples", "13"), "--once does not go with 13 samples"),
        (("surprise",), "unknown argument surprise"),
    ],
)  # fmt: skip
def test_a_wrong_flag_says_what_would_be_right(
    capsys: pytest.CaptureFixture[str], argv: Sequence[str], message: str
) -> None:
    assert refusal(capsys, *argv) == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SAMPLES", "ten", "expected a whole number from 1 to 10000, got ten"),
        ("ONCE", "yes", "expected true or false, got yes"),
        ("METRICS", "cpu", "expected a list, each CPU or DISK, got cpu"),
        ("SAMPLES", "7\n8", "expected a whole number from 1 to 10000, got '7\\n8'"),
    ],
)
def test_a_wrong_variable_is_named(capsys: pytest.CaptureFixture[str], name: str, value: str, message: str) -> None:
    assert refusal(capsys, **{f"LOADLENS_{name}": value}) == f"LOADLENS_{name} in the environment: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[agent]\nsamples = '7'", 'samples in [agent]: expected a whole number from 1 to 10000, got "7"'),
        ("[agent]\nsamples = true", "samples in [agent]: expected a whole number from 1 to 10000, got true"),
        ("[agent]\nonce = 1", "once in [agent]: expected true or false, got 1"),
        ("[agent]\nshare = nan", "share in [agent]: expected a number above 0, got null"),
        ("[agent]\nmetrics = 'CPU'", 'metrics in [agent]: expected a list, each CPU or DISK, got "CPU"'),
        ("[agent]\nspool_dir = 3", "spool_dir in [agent]: expected a path, got 3"),
        ("[agent]\nsampels = 7", "unknown setting sampels in [agent] (did you mean samples?)"),
        ("[agent]\nspool-dir = 'd'", "unknown setting spool-dir in [agent] (did you mean spool_dir?)"),
        ("[agnet]\nsamples = 7", "unknown table [agnet] (did you mean agent?); expected [agent]"),
        ("samples = 7", "unknown table [samples]; expected [agent]"),
        ("agent = 7", "agent = ... stands where the table [agent] is expected"),
        ("[agent", "not valid TOML: Expected ']' at the end of a table declaration (at end of document)"),
    ],
)
def test_a_wrong_file_is_named_with_its_place(
    capsys: pytest.CaptureFixture[str], config: Path, text: str, message: str
) -> None:
    config.write_text(text)
    assert refusal(capsys, config=config) == f"{config}: {message}"


def test_a_file_that_cannot_be_read_is_named(capsys: pytest.CaptureFixture[str], config: Path) -> None:
    absent = f"{config}: cannot read the configuration: No such file or directory"
    assert refusal(capsys, "--config", str(config)) == absent
    config.write_bytes(b"\xff")
    assert refusal(capsys, config=config) == f"{config}: expected UTF-8 text, got byte 0xff at 0"


def test_a_missing_setting_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    class Needed(Settings, frozen=True, kw_only=True):
        source: Annotated[str, Meta(description="What to copy.", extra={"positional": True})]

    assert load(Needed, ["a"], program="loadlens-service copy", description="", environ={}).source == "a"
    with pytest.raises(SystemExit):
        load(Needed, [], program="loadlens-service copy", description="", environ={})
    assert "SOURCE" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["flag", "environment", "file"])
def test_a_secret_is_never_printed(capsys: pytest.CaptureFixture[str], config: Path, place: str) -> None:
    wrong = SECRET[:7]
    config.write_text(f"[agent]\ntoken = '{wrong}'" if place == "file" else "")
    flag = ["--token", wrong] if place == "flag" else []
    environ = {"LOADLENS_TOKEN": wrong} if place == "environment" else {}
    assert wrong not in refusal(capsys, *flag, config=config, **environ)

    settings = probe(LOADLENS_TOKEN=SECRET)
    assert SECRET not in repr(settings)
    assert "token=(hidden)" in repr(settings)
    assert settings.token == SECRET


def test_a_secret_may_stand_in_a_file_of_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text(SECRET + "\n")
    assert probe(LOADLENS_TOKEN_FILE=str(secret)).token == SECRET
    assert probe("--token", "another-one", LOADLENS_TOKEN_FILE=str(secret)).token == "another-one"
    both = refusal(capsys, LOADLENS_TOKEN=SECRET, LOADLENS_TOKEN_FILE=str(secret))
    assert both == "expected one of LOADLENS_TOKEN and LOADLENS_TOKEN_FILE, got both"
    # Only of what is secret: a file that is named for anything else is not read.
    assert probe(LOADLENS_SAMPLES_FILE=str(secret)).samples == 100


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (b" \n", "got nothing"),
        (b"two\nlines", "got text that is not one line"),
        (b"\xff\xfe", "expected UTF-8 text, got UTF-16"),
        (b"a\xff", "expected UTF-8 text, got byte 0xff at 1"),
        (None, "No such"),
    ],
)
def test_a_file_that_holds_no_secret_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes | None, wrong: str
) -> None:
    secret = tmp_path / "token"
    if content is not None:
        secret.write_bytes(content)
    said = refusal(capsys, LOADLENS_TOKEN_FILE=str(secret))
    assert said.startswith("LOADLENS_TOKEN_FILE: ")
    assert str(secret) in said
    assert wrong in said


def test_the_help_teaches_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        probe("--help", LOADLENS_TOKEN=SECRET)
    assert exit_.value.code == 0
    words = " ".join(capsys.readouterr().out.split())
    for expected in (
        "Probes.",
        "The end.",
        "--spool-dir DIR Where reports wait. [LOADLENS_SPOOL_DIR; default: spool]",
        "Samples in one report. [LOADLENS_SAMPLES; a whole number from 1 to 10000; default: 100]",
        "At most 100% of it.",
        "--once, --no-once",
        "default: 1w",
        "For example http://collector:8888.",
        "LOADLENS_CONFIG",
        "LOADLENS_TOKEN_FILE",
        "table [agent]",
    ):
        assert expected in words


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        probe("--version")
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"loadlens-agent {__version__}\n"


def test_a_subcommand_reads_its_own_table_and_what_it_knows_of_the_programs(config: Path) -> None:
    class ServiceSettings(Settings, frozen=True, kw_only=True):
        port: int = 8888
        host: str = "127.0.0.1"

    class DemoSettings(Settings, frozen=True, kw_only=True):
        port: int = 8888
        days: int = 1

    config.write_text("[service]\nport = 9000\nhost = '::1'\n[service.demo]\ndays = 7\n")
    commands = {"demo": Command("Shows a fleet.", lambda argv: None)}
    argv = ["--config", str(config)]
    service = load(ServiceSettings, argv, program="loadlens-service", description="", environ={}, commands=commands)
    demo = load(DemoSettings, argv, program="loadlens-service demo", description="", environ={})
    assert service == ServiceSettings(port=9000, host="::1")
    assert demo == DemoSettings(port=9000, days=7)


def test_a_program_runs_the_command_that_is_named_first(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[str, list[str]]] = []

    def record(name: str, code: int | None) -> Command:
        def run(argv: Sequence[str]) -> int | None:
            seen.append((name, list(argv)))
            return code

        return Command(f"Does {name}.", run)

    commands = {"copy": record("copy", 3), "demo": record("demo", None)}
    default = record("serve", None).run
    assert dispatch("loadlens-service", ["copy", "--from", "a"], commands, default) == 3
    assert dispatch("loadlens-service", ["demo"], commands, default) == 0
    assert dispatch("loadlens-service", ["--port", "1"], commands, default) == 0
    assert dispatch("loadlens-service", [], commands, default) == 0
    assert seen == [("copy", ["--from", "a"]), ("demo", []), ("serve", ["--port", "1"]), ("serve", [])]

    with pytest.raises(SystemExit) as exit_:
        dispatch("loadlens-service", ["dmeo"], commands, default)
    assert exit_.value.code == 2
    message = "loadlens-service: error: unknown command dmeo (did you mean demo?); expected copy, demo\n"
    assert capsys.readouterr().err == message


def test_a_program_of_commands_alone_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {"report": Command("Writes a report.", lambda argv: None)}
    assert dispatch("loadlens-analytics", ["--help"], commands) == 0
    assert "report  Writes a report." in capsys.readouterr().out
    assert dispatch("loadlens-analytics", [], commands) == 2
    assert dispatch("loadlens-analytics", ["--version"], commands) == 0
    with pytest.raises(SystemExit):
        dispatch("loadlens-analytics", ["--days", "3"], commands)


def test_a_program_without_its_extra_says_what_brings_it(capsys: pytest.CaptureFixture[str]) -> None:
    def serve(argv: Sequence[str]) -> int:
        raise ModuleNotFoundError(name="falcon.asgi")

    assert dispatch("loadlens-service", [], {}, serve) == 1
    message = "loadlens-service: error: falcon.asgi is missing; pip install 'loadlens[service]' brings it\n"
    assert capsys.readouterr().err == message


def test_importing_it_is_cheap() -> None:
    code = "import sys, contract.settings; print([m for m in ('argparse', 'tomllib', 'difflib') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("LOADLENS_SAMPLE", "LOADLENS_SAMPLES"),
        ("LOADLENS_SPOOLDIR", "LOADLENS_SPOOL_DIR"),
        ("LOADLENS_CONFI", "LOADLENS_CONFIG"),
    ],
)
def test_a_variable_with_a_typing_error_is_said(capsys: pytest.CaptureFixture[str], variable: str, meant: str) -> None:
    probe(**{variable: "7"})
    said = capsys.readouterr().err
    assert said == f"loadlens-agent: {variable} in the environment is no setting (did you mean {meant}?)\n"


def test_variables_of_other_programs_are_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    probe(LOADLENS_STORE_TOKEN="x", LOADLENS_OPERATOR_TOKEN="y", LOADLENS_KEEP="90d", LOADLENS_="z")
    assert capsys.readouterr().err == ""


def test_files_may_begin_with_the_mark_that_windows_editors_leave(tmp_path: Path) -> None:
    secret, file = tmp_path / "token", tmp_path / "settings.toml"
    secret.write_bytes(b"\xef\xbb\xbf" + SECRET.encode() + b"\r\n")
    file.write_bytes(b"\xef\xbb\xbf[agent]\r\nsamples = 7\r\n")
    assert probe(LOADLENS_TOKEN_FILE=str(secret)).token == SECRET
    assert probe("--config", str(file)).samples == 7


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_files_in_utf16_are_said_to_be(capsys: pytest.CaptureFixture[str], tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes("\ufeff[agent]\nsamples = 7\n".encode(encoding))
    said = refusal(capsys, "--config", str(file))
    assert f"expected UTF-8 text, got UTF-{'32' if '32' in encoding else '16'}" in said


@pytest.mark.server
@pytest.mark.parametrize(
    "command", ["service --help", "service agents --help", "agent --help", "analytics users --help"]
)
def test_whoever_reads_no_further_is_told_nothing(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        done = subprocess.run(
            [sys.executable, "-m", *command.split()], stdout=closed, stderr=subprocess.PIPE, text=True,
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


class Told(Settings, frozen=True, kw_only=True):
    what: Annotated[str, Meta(description="x", extra={"positional": True})]
    role: Annotated[str, Meta(description="x", extra={"flag_only": True})] = "none"
    url: Annotated[str, Meta(description="x")] = "u"


def test_what_a_command_is_told_to_do_is_read_from_the_command_line_alone(tmp_path: Path) -> None:
    file = tmp_path / "loadlens.toml"
    file.write_text('[service]\nrole = "api"\nurl = "file"\n[service.tokens.create]\n')
    environ = {"LOADLENS_ROLE": "api", "LOADLENS_WHAT": "all", "LOADLENS_CONFIG": str(file)}
    program = "loadlens-service tokens create"
    assert load(Told, ["one"], environ=environ, program=program, description="x") == Told(what="one", url="file")
    with pytest.raises(SystemExit):
        load(Told, [], environ=environ, program=program, description="x")
