"""Records the story of who did it: three known programs burn, an agent and pidstat look at them at the same time.

    python -m tests.support.record_who tests/data/who [SECONDS]

They ask for half of their shares, so that there is room for them on a host that does other things too. It writes the
agent's reports as they came (`agent.ndjson`) and what pidstat said of the three programs (`pidstat.txt`), a line a
second: time of day (UTC), percent of a core, name.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.support.burners import BURN, DUTIES

_SETTLE_S = 11.0


def record(folder: Path, seconds: float) -> None:
    """Record so many seconds into a folder."""
    with tempfile.TemporaryDirectory() as name:
        programs = Path(name)
        started = []
        agent = [sys.executable, "-m", "agent", "--dry-run", "--user-id", "story", "--processes", "names"]
        try:
            for burner, duty in DUTIES.items():
                # A program is called as the file that was run.
                (programs / burner).symlink_to(sys.executable)
                command = [str(programs / burner), "-S", "-c", BURN, str(duty / 2)]
                started.append(subprocess.Popen(command, env={"PYTHONHOME": sys.base_prefix}))
            with (programs / "agent").open("wb") as said, (programs / "pidstat").open("wb") as beside:
                started.append(subprocess.Popen([*agent, "--spool-dir", name], stdout=said))
                plain = {**os.environ, "LC_ALL": "C", "S_COLORS": "never", "TZ": "UTC"}
                started.append(subprocess.Popen(["pidstat", "-u", "-h", "1"], stdout=beside, env=plain))
                time.sleep(_SETTLE_S + seconds)
        finally:
            for one in started:
                one.kill()
                one.wait()
        reports = (programs / "agent").read_text().splitlines()
        # The first look has nothing to compare with.
        kept = [line for line in reports if line.endswith("}") and '"processes":{' in line][1:]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "agent.ndjson").write_text("".join(f"{line}\n" for line in kept))
        rows = (line.split() for line in (programs / "pidstat").read_text().splitlines() if line)
        told = [f"{row[0]} {row[7]} {row[-1]}\n" for row in rows if row[-1] in DUTIES]
        (folder / "pidstat.txt").write_text("".join(told))


if __name__ == "__main__":
    record(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 60.0)
