"""The reference, written from the code that it describes: a page cannot say what the code does not do."""

import contextlib
import importlib
import inspect
import io
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import falcon
import msgspec
from falcon.testing import TestClient

import analytics
from analytics.frames import frame as frames
from contract.metrics import NAMES, STATISTICS, TYPES, type_name
from service.alerts.rules import AnyRule
from service.app import create_app
from service.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
_MADE = "\nThis page is made from the code.\n"
_MAX_PLACES = 8
_COMMAND = re.compile(r"^  ([a-z][a-z-]*)  +\S", re.MULTILINE)
_LISTING = re.compile(r"^commands:\n((?:  .*\n?)+)", re.MULTILINE)


def pages() -> dict[str, str]:
    """The pages, by their name without suffix."""
    document = openapi()
    return {
        "commands": commands(),
        "endpoints": endpoints(document),
        "metrics": metrics(),
        "frames": frame_columns(),
        "library": library(),
        "rules": rules(),
        "errors": errors(document),
    }


def commands() -> str:
    """Each program and command with its help: all that can be set, by flag, environment and file."""
    programs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    parts = ["# Commands", _MADE, "[settings.md](../settings.md) says how settings are given.\n"]
    for program, target in programs.items():
        module, _, name = target.partition(":")
        main = getattr(importlib.import_module(module), name)
        parts += [
            f"## `{' '.join([program, *words])}`\n\n```text\n{_help(main, words)}\n```\n"
            for words in _all_commands(main, [])
        ]
    return "\n".join(parts)


def _all_commands(main: Callable[[Sequence[str]], int], words: list[str]) -> Iterator[list[str]]:
    yield words
    listing = _LISTING.search(_help(main, words))
    for name in _COMMAND.findall(listing[1]) if listing else ():
        yield from _all_commands(main, [*words, name])


def _help(main: Callable[[Sequence[str]], int], words: Sequence[str]) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.suppress(SystemExit):
        main([*words, "--help"])
    return out.getvalue().rstrip()


def openapi() -> dict[str, Any]:
    """The interface as a service with an empty store describes it."""
    with tempfile.TemporaryDirectory() as folder:
        app = create_app(ServiceSettings(data_dir=folder))
        answer = TestClient(app).simulate_get("/openapi.json", host="localhost")
        assert answer.status == falcon.HTTP_200, answer.text
        document: dict[str, Any] = answer.json
    return document


def endpoints(document: Mapping[str, Any]) -> str:
    """Each path and method, with its parameters, its body, its answers."""
    parts = [
        "# Endpoints",
        _MADE,
        "A running service has the same at `/docs`, and as OpenAPI 3.1 at `/openapi.json`.\n",
    ]
    by_tag: dict[str, list[str]] = {tag["name"]: [f"## {tag['description']}\n"] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if isinstance(operation, Mapping) and "responses" in operation:
                by_tag[operation["tags"][0]].append(_endpoint(f"{method.upper()} {path}", operation))
    return "\n".join([*parts, *(text for texts in by_tag.values() for text in texts)])


def _endpoint(title: str, operation: Mapping[str, Any]) -> str:
    lines = [f"### `{title}`\n", operation.get("description") or operation.get("summary") or "", ""]
    given = [one for one in operation.get("parameters", ()) if "name" in one]
    if given:
        rows = [(f"`{one['name']}`", one["in"], _schema(one["schema"]), _text(one)) for one in given]
        lines.append(_table(("parameter", "in", "type", "meaning"), rows))
    if body := operation.get("requestBody"):
        shown = ", ".join(f"`{media}` ({_schema(one.get('schema', {}))})" for media, one in body["content"].items())
        lines.append(f"Body: {shown}\n")
    rows = [
        (status, answer.get("description", ""), ", ".join(f"`{media}`" for media in answer.get("content", ())))
        for status, answer in operation["responses"].items()
    ]
    lines.append(_table(("status", "meaning", "forms"), rows))
    return "\n".join(lines)


def _text(parameter: Mapping[str, Any]) -> str:
    return str(parameter.get("description") or parameter["schema"].get("description") or "")


def _schema(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(dict.fromkeys(_schema(one) for one in schema[several]))
    if "enum" in schema:
        values = [str(value) for value in schema["enum"]]
        return ", ".join(values) if len(values) <= 9 else f"one of {len(values)} names"
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_schema(schema.get('items', {}))}"
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None or most is not None:
        bounds = f"{'' if least is None else f'{least:g}'} to {'' if most is None else f'{most:g}'}".strip()
        return f"{kind}, {bounds}"
    return str(kind)


def metrics() -> str:
    """Each metric that can be asked for, and each statistic."""
    rows = [
        (f"`{one.name}`", one.title, one.quantity.unit, one.statistic, "yes" if one.by_core else "no", type_name(kind))
        for one in NAMES.values() for kind in TYPES if one.quantity in kind.quantities
    ]  # fmt: skip
    heading = ("name", "what", "unit (UCUM)", "usual statistic", "by core", "type of report")
    shown = ", ".join(f"`{statistic}`" for statistic in STATISTICS)
    return f"# Metrics\n{_MADE}\n{_table(heading, rows)}\nStatistics, for each of them: {shown}.\n"


def frame_columns() -> str:
    """The shape of a frame of windows, as the module says it that makes and checks it."""
    return f"# Frames\n{_MADE}\n```text\n{inspect.getdoc(frames)}\n```\n"


def library() -> str:
    """Each public name of `analytics`, with its arguments and what it says of itself."""
    parts = ["# The library", _MADE, "`import analytics`; examples are in [analytics.md](../analytics.md).\n"]
    for name in analytics.__all__:
        value = getattr(analytics, name)
        text = inspect.getdoc(value) or ""
        signature = _signature(value)
        parts.append(f"## `analytics.{name}`\n\n```text\n{name}{signature}\n\n{text}\n```\n")
    return "\n".join(parts)


def _signature(value: Any) -> str:
    if isinstance(value, type) and issubclass(value, Exception):
        return ""
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", str(inspect.signature(value)))


def rules() -> str:
    """Each kind of rule with its members."""
    _, components = msgspec.json.schema_components([AnyRule], ref_template="{name}")
    parts = ["# Rules", _MADE, "[rules.md](../rules.md) says how rules are written, tested and told.\n"]
    for schema in components.values():
        kind = schema.get("properties", {}).get("kind", {}).get("enum")
        if not kind:
            continue
        required = schema.get("required", ())
        rows = [
            (f"`{name}`", _schema(one), "required" if name in required else _default(one))
            for name, one in schema["properties"].items() if name != "kind"
        ]  # fmt: skip
        heading = ("member", "type", "default")
        parts.append(f'## `kind = "{kind[0]}"`\n\n{schema.get("description", "")}\n\n{_table(heading, rows)}')
    return "\n".join(parts)


def _default(schema: Mapping[str, Any]) -> str:
    return f"`{msgspec.json.encode(schema['default']).decode()}`" if "default" in schema else ""


_FORM = """\
Each is `application/problem+json` (RFC 9457): `status`, `title`, `detail`, and `errors` with a `pointer` and a `detail`
for each member or parameter that is wrong.
"""
_EXIT_CODES = (
    ("0", "It was done."),
    ("1", "It failed; one line on standard error says why. Of `status`: something does not work."),
    ("2", "A setting is wrong; one line says where it came from and what is right."),
    ("130", "It was ended by Ctrl-C."),
)


def errors(document: Mapping[str, Any]) -> str:
    """Each status with what it means and who answers it, the library's exceptions, and the exit codes."""
    meanings: dict[str, str] = {}
    places: dict[str, list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation.get("responses", {}).items() if isinstance(operation, Mapping) else ():
                if status >= "400":
                    meanings[status] = answer.get("description", "")
                    places.setdefault(status, []).append(f"`{method.upper()} {path}`")
    everywhere = max(map(len, places.values()))
    rows = [(status, meanings[status], _few(places[status], everywhere)) for status in sorted(places)]
    classes = [value for name in analytics.__all__ if _is_error(value := getattr(analytics, name))]
    raised = [(f"`analytics.{one.__name__}`", one.__mro__[1].__name__, inspect.getdoc(one) or "") for one in classes]
    parts = ["# Errors", _MADE, "## Of the service\n", _FORM, _table(("status", "meaning", "answered by"), rows)]
    parts += ["## Of the library\n", _table(("exception", "is a", "meaning"), raised)]
    return "\n".join([*parts, "## Of the programs\n", _table(("exit code", "meaning"), _EXIT_CODES)])


def _few(places: Sequence[str], everywhere: int) -> str:
    if len(places) == everywhere:
        return "every one"
    return ", ".join(places) if len(places) <= _MAX_PLACES else f"{len(places)} of the [endpoints](endpoints.md)"


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    cells = [[" ".join(str(cell).split()).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)
