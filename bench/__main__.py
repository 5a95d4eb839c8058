"""All benchmarks, one after the other: `python -m bench`, or `make bench`.

    .venv/bin/python -m bench [--tiny] [--write] [NAME ...]

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
PARTS = {"__main__", "followers", "http_layer"}
"""Programs that are no benchmarks: this one, and those that benchmarks start."""


def benchmarks() -> list[str]:
    """The names of all benchmarks: each program in this folder is one, but for PARTS."""
    programs = {path.stem for path in FOLDER.glob("*.py") if '__name__ == "__main__"' in path.read_text()}
    return sorted(programs - PARTS)


def main() -> int:
    """Run what is asked for; 1 where something of it failed."""
    names = benchmarks()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"what to measure: {', '.join(names)} (default: all)")
    parser.add_argument("--tiny", action="store_true", help="see that everything runs; the figures mean nothing")
    parser.add_argument("--write", action="store_true", help=f"put the figures into docs/{DOCUMENT.name}")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in names]
    if unknown:
        parser.error(f"expected one of {', '.join(names)}, got {unknown[0]}")
    if options.tiny and options.write:
        parser.error("--tiny measures nothing that could be written with --write")
    failed = []
    for name in options.names or names:
        print(f"## {name}\n", flush=True)
        text = _measured([sys.executable, "-u", str(FOLDER / f"{name}.py"), *(["--tiny"] if options.tiny else [])])
        if text is None:
            failed.append(name)
        elif options.write:
            _write(name, text)
        print(flush=True)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


def _measured(command: Sequence[str]) -> str | None:
    """What a program prints, shown meanwhile; None where it fails. Each ends by a deadline of its own."""
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
