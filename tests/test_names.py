"""Names in the code: one class name means one thing."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("contract", "agent", "analytics", "service")
DESCRIBES_THE_INTERFACE = ROOT / "service" / "http" / "openapi" / "documents.py"
"""Its classes are named as the schemas of the interface are, which others use."""


def test_a_class_name_means_one_thing() -> None:
    places = defaultdict(list)
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        if path != DESCRIBES_THE_INTERFACE:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef):
                    places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
