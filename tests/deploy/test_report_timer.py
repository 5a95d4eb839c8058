"""The units that write a report every week."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = [DEPLOY / "loadlens-report.service", DEPLOY / "loadlens-report.timer"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    program = tmp_path / "loadlens-analytics"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for unit in UNITS:
        text = unit.read_text().replace("/opt/loadlens/bin/loadlens-analytics", str(program))
        (tmp_path / unit.name).write_text(text)
    command = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (finished.returncode, finished.stderr) == (0, "")


def test_the_file_is_named_after_the_day() -> None:
    [script] = re.findall(r"ExecStart=/bin/sh -c '(.*)'", UNITS[0].read_text())
    script = script.replace("$$", "$").replace("%%", "%").replace("exec /opt/loadlens/bin/loadlens-analytics", "echo")
    said = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"report fleet --last 7d --out fleet-\d{4}-\d\d-\d\d\.html\n", said)
