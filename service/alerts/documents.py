"""Files of rules as documents: TOML or YAML, read strictly, with the line of whatever is wrong."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.problems import Problem, shortened, utf8

if TYPE_CHECKING:
    import yaml

SUFFIXES = (".toml", ".yaml", ".yml")
_MAX_BYTES = 4 * 1024 * 1024
_YAML_TEXT = "tag:yaml.org,2002:str"


class RuleFileError(Exception):
    """Files that cannot be used; the message has a line for each thing that is wrong."""


def read_text(file: Path) -> str:
    """The text of a file. Raises RuleFileError."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise RuleFileError(f"{file}: cannot be read: {error.strerror or error}") from None
    if len(content) > _MAX_BYTES:
        raise RuleFileError(f"{file}: expected at most {_MAX_BYTES} bytes, got {len(content)}")
    try:
        return utf8(content)
    except UnicodeError as error:
        raise RuleFileError(f"{file}: {error}") from None


def document_of(file: Path, text: str) -> dict[str, Any]:
    """What the text of a file says; a key that stands twice is refused. Raises RuleFileError."""
    if file.suffix == ".toml":
        import tomllib

        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise RuleFileError(f"{file}: expected TOML: {error}") from None
    if file.suffix not in SUFFIXES:
        raise RuleFileError(f"{file}: expected a name that ends in .toml, .yaml or .yml")
    import yaml

    try:
        _refuse_repeated_keys(yaml.compose(text, yaml.SafeLoader))
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RuleFileError(f"{file}: expected YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:
        # A date such as 2018-13-40 is one by its form.
        raise RuleFileError(f"{file}: expected YAML: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise RuleFileError(f"{file}: expected rules and targets at the top, got {type(document).__name__}")
    return document


def _refuse_repeated_keys(root: "yaml.Node | None") -> None:
    """YAML 1.2 forbids them (3.2.1.1); PyYAML takes the last of them in silence."""
    import yaml

    nodes, looked_at = [root], set()
    while nodes:
        node = nodes.pop()
        if node is None or id(node) in looked_at:
            continue
        looked_at.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.MappingNode):
            seen = set()
            for key, value in node.value:
                name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None
                if name in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {key.value} stands twice", problem_mark=key.start_mark)
                if name is not None:
                    seen.add(name)
                nodes += (key, value)


def fault(file: Path, text: str, where: Sequence[str | int], problem: Problem, name: object = None) -> str:
    """What is wrong with an entry of a table, such as `("rules", 3)`, called by its `name` where it has one."""
    table, key = where
    shown = f"{table}[{key}]" if isinstance(key, int) else f"{table}.{key}"
    member = problem.pointer.strip("/").replace("/", ".")
    detail = problem.detail
    if file.suffix == ".toml":
        line = _toml_line(text.splitlines(), where, member.split(".", maxsplit=1)[0])
    else:
        line, detail = _in_yaml(text, where, problem)
    if isinstance(name, str) and name:
        called = f"{str(table).removesuffix('s')} {shortened(name)}"
        return f"{file}:{line}: {called}: {member + ': ' if member else ''}{detail}"
    return f"{file}:{line}: {shown}{'.' + member if member else ''}: {detail}"


def _in_yaml(text: str, where: Sequence[str | int], problem: Problem) -> tuple[int, str]:
    """The line of a member, or of what it misses, counted from 1; and what is wrong with it."""
    import yaml

    root = yaml.compose(text, yaml.SafeLoader)
    keys = [*where, *filter(None, problem.pointer.split("/"))]
    node, depth = root, 0
    for key in keys:
        found = _child(node, key)
        if found is None:
            break
        node, depth = found, depth + 1
    assert node is not None
    detail = problem.detail
    if (
        depth == len(keys)
        and isinstance(node, yaml.ScalarNode)
        and detail.startswith("Expected str")
        and node.tag != _YAML_TEXT
    ):
        detail = f"expected text, got {node.value}, which YAML takes for something else: write '{node.value}' in quotes"
    return int(node.start_mark.line) + 1, detail


def _child(node: Any, key: int | str) -> Any:
    """A member of a YAML node, or None."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        place = int(key) if str(key).isdecimal() else len(node.value)
        return node.value[place] if place < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for name, value in node.value if name.value == key), None)
    return None


def _toml_line(lines: Sequence[str], where: Sequence[str | int], member: str) -> int:
    table, key = where
    if isinstance(key, int):
        headers = [place for place, line in enumerate(lines) if re.match(rf"\s*\[\[\s*{table}\s*\]\]", line)]
        start = headers[key] if key < len(headers) else 0
    else:
        header = re.compile(rf"\s*\[\s*{table}\s*\.\s*\"?{re.escape(key)}\"?\s*\]")
        start = next((place for place, line in enumerate(lines) if header.match(line)), 0)
    for place in range(start + 1, len(lines)):
        if lines[place].lstrip().startswith("["):
            break
        if re.match(rf"\s*{re.escape(member)}\s*=", lines[place]):
            return place + 1
    return start + 1
