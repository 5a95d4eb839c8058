"""/openapi.json says all that there is, as it is; /docs shows it."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from falcon import inspect

from service.app import Application, create_app
from service.http.openapi.document import path_of
from service.http.openapi.operations import FOR_PEOPLE, OPERATIONS
from service.settings import ServiceSettings
from tests.service.conftest import StartService
from tests.support.reports import JsonObject, original, post

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Application]:
    app = create_app(ServiceSettings(data_dir=str(tmp_path)))
    yield app
    app.service.close()


def test_every_route_and_method_is_described_and_no_other(app: Application) -> None:
    routes = {
        path_of(route.path): {method.method for method in route.methods if not method.internal} - {"HEAD", "WEBSOCKET"}
        for route in inspect.inspect_routes(app)
    }
    for path in FOR_PEOPLE:
        del routes[path]
    assert routes == {path: {*methods} for path, methods in OPERATIONS.items()}


@pytest.mark.server
def test_what_is_named_in_the_document_is_in_it(client: httpx.Client) -> None:
    answer = client.get("/openapi.json")
    document = answer.json()
    assert document["openapi"].startswith("3.1")
    references = set(re.findall(r'"#/components/schemas/([^"]+)"', answer.text))
    assert references <= set(document["components"]["schemas"])
    assert {tag["name"] for tag in document["tags"]} == {
        tag for _, operation in _operations(document) for tag in operation["tags"]
    }
    ids = [operation["operationId"] for _, operation in _operations(document)]
    assert len(ids) == len(set(ids))


def _operations(document: JsonObject) -> Iterator[tuple[str, Any]]:
    for path, item in document["paths"].items():
        yield from ((path, operation) for name, operation in item.items() if name != "parameters")


@pytest.mark.server
def test_the_page_shows_every_operation_without_a_script(client: httpx.Client) -> None:
    answer = client.get("/docs")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert "script" not in answer.headers["Content-Security-Policy"].replace("default-src 'none'", "")
    assert "<script" not in answer.text
    assert " style=" not in answer.text
    assert "http://" not in answer.text
    shown = set(re.findall(r'<section id="(\w+)">', answer.text))
    assert shown >= {operation["operationId"] for _, operation in _operations(client.get("/openapi.json").json())}
    assert client.get("/docs/style.css").headers["Content-Type"].startswith("text/css")


@pytest.mark.server
@pytest.mark.timeout(1800)  # some 5,000 requests
def test_answers_are_what_the_document_says_they_are(start: StartService) -> None:
    """schemathesis asks every operation what its schema allows and what it does not, and compares the answers."""
    service = start("--flush-interval", "0.5")
    with service.client() as client:
        now_ms = time.time_ns() // 1_000_000
        report = original("6a:d6:96:d3:45:35", start_timestamp=now_ms - 6000, end_timestamp=now_ms - 1000)
        assert post(client, report).status_code == 202
        assert client.post("/api/v1/annotations", json={"text": "deploy 1.4"}).status_code == 201
    run = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run",
            f"{service.url}/openapi.json", "--checks", "all", "--seed", "1", "--no-color",
        ],
        cwd=service.data_dir.parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr
    assert service.stop() == 0
    assert "Traceback" not in service.log
