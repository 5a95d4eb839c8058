"""All measurements, one after the other: `python -m bench`, or `make bench`.

    .venv/bin/python -m bench [--quick] [--write] [NAME ...]

Takes about half an hour on two cores that do nothing else. With --write the figures in docs/benchmarks.md are
replaced by what is measured.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).parent
DOCUMENT = FOLDER.parent / "docs" / "benchmarks.md"
QUICK: dict[str, Sequence[str]] = {
    "ingest": ["--seconds", "3"],
    "load": ["--reports", "20000"],
    "history": ["--users", "2", "--days", "2", "--requests", "30"],
    "disk": ["--users", "2"],
    "stream": ["--seconds", "2", "--consumers", "100"],
    "steering": ["--streams", "200", "--quiet", "2"],
    "agent_footprint": ["--seconds", "5"],
    "forecasts": ["--quick"],
    "right_size": ["--quick"],
    "compare": ["--quick"],
    "windows": ["--days", "1"],
    "library": ["--users", "50"],
    "report": ["--times", "1"],
    "nab": ["--quick"],
    "injected": ["--quick"],
}
"""What is measured, in this order, and how to see quickly that it works."""


def main() -> int:
    """Run what is asked for; 1 where something of it failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(QUICK)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="see that everything runs; the figures mean nothing")
    parser.add_argument("--write", action="store_true", help=f"put the figures into docs/{DOCUMENT.name}")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in QUICK]
    if unknown:
        parser.error(f"{unknown[0]} is none of {', '.join(QUICK)}")
    failed = []
    for name in options.names or QUICK:
        print(f"## {name}\n", flush=True)
        text = _measured([sys.executable, "-u", str(FOLDER / f"{name}.py"), *(QUICK[name] if options.quick else [])])
        if text is None:
            failed.append(name)
        elif options.write:
            _write(name, text)
        print(flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def _measured(command: Sequence[str]) -> str | None:
    """What a program prints, shown meanwhile; None where it fails."""
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return None if process.returncode else "".join(lines).strip()


def _write(name: str, text: str) -> None:
    """Replace the part of the document that is marked with a name."""
    begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
    document = DOCUMENT.read_text()
    found = re.search(f"{re.escape(begin)}.*?{re.escape(end)}", document, re.DOTALL)
    if not found:
        raise ValueError(f"{DOCUMENT} has no part between {begin} and {end}")
    DOCUMENT.write_text(f"{document[: found.start()]}{begin}\n{text}\n{end}{document[found.end() :]}")


if __name__ == "__main__":
    sys.exit(main())
