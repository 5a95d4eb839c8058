"""`loadlens-service tokens`: the first token without a service, the others with it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.credentials.token import PATTERN
from tests.support import preloaded
from tests.support.access import bearer
from tests.support.reports import METRICS, original
from tests.support.running import RunningService, clean_environment

pytestmark = pytest.mark.server


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return preloaded.run("service", "tokens", *arguments, environment=clean_environment(**environment))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokens") / "data"


@pytest.fixture(scope="module")
def admin(folder: Path) -> str:
    """The first token, made before there is a service."""
    made = run("create", "--offline", "--data-dir", str(folder), "--role", "admin", "me")
    assert made.returncode == 0, made.stderr
    assert PATTERN.fullmatch(made.stdout.strip())
    assert "admin" in made.stderr
    assert made.stdout.strip() not in made.stderr
    return made.stdout.strip()


@pytest.fixture(scope="module")
def service(folder: Path, admin: str) -> Iterator[RunningService]:
    with RunningService(folder, "--host", "0.0.0.0") as service:
        yield service


def test_with_a_token_the_service_listens_where_others_reach_it_and_asks_for_it(
    service: RunningService, admin: str
) -> None:
    with service.client() as client:
        assert client.get("/api/v1/users").status_code == 401
        assert client.get("/api/v1/users", headers=bearer(admin)).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_a_token_is_made_used_listed_changed_rotated_and_revoked(service: RunningService, admin: str) -> None:
    environment = {"LOADLENS_URL": f"http://127.0.0.1:{service.port}", "LOADLENS_TOKEN": admin}
    made = run("create", "--role", "agent", "--scope", "web-1", "--lifetime", "90d", "web", **environment)
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    with service.client() as client:
        assert client.post(METRICS, json=original("web-1"), headers=bearer(text)).status_code == 202
        assert client.post(METRICS, json=original("web-2"), headers=bearer(text)).status_code == 403

        listed = json.loads(run("list", "--json", **environment).stdout)
        (token,) = [one for one in listed if one["scope"] == "web-1"]
        assert (token["name"], token["last_address"]) == ("web", "127.0.0.1")
        assert text not in json.dumps(listed)
        table = run(**environment).stdout
        assert token["id"] in table
        assert "agent" in table

        changed = run("change", token["id"], "--name", "web, new", "--lifetime", "forever", **environment)
        assert "without an end" in changed.stdout
        rotated = run("rotate", token["id"], **environment).stdout.strip()
        for one in (text, rotated):
            assert client.post(METRICS, json=original("web-1"), headers=bearer(one)).status_code == 202
        assert "revoked" in run("revoke", token["id"], **environment).stdout
        for one in (text, rotated):
            assert client.post(METRICS, json=original("web-1"), headers=bearer(one)).status_code == 401
        actions = [entry["action"] for entry in client.get("/api/v1/audit", headers=bearer(admin)).json()["entries"]]
    assert actions[:4] == ["token revoke", "token rotate", "token change", "token create"]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("--role", "agent", "x"), "user id"),
        (("--role", "admin", "--scope", "web-*", "x"), "operates all"),
        (("--role", "reader", "--uses", "3", "x"), "enrolment"),
        (("--role", "reader", "--lifetime", "soon", "x"), "duration"),
        (("--role", "king", "x"), "admin, agent, enrolment, operator or reader"),
    ],
)
def test_what_does_not_go_together_is_named(
    service: RunningService, admin: str, tmp_path: Path, arguments: tuple[str, ...], word: str
) -> None:
    url = f"http://127.0.0.1:{service.port}"
    asked = run("create", *arguments, LOADLENS_URL=url, LOADLENS_TOKEN=admin)
    offline = run("create", "--offline", "--data-dir", str(tmp_path / "none"), *arguments)
    for refused in (asked, offline):
        assert refused.returncode in (1, 2)
        (line,) = refused.stderr.splitlines()
        assert word in line


def test_a_service_that_asks_for_nothing_says_how_the_first_is_made(tmp_path: Path) -> None:
    with RunningService(tmp_path / "data") as service:
        refused = run("create", "--role", "admin", "me", LOADLENS_URL=service.url)
        assert refused.returncode == 1
        assert "--offline" in refused.stderr
        with service.client() as client:
            assert client.get("/api/v1/tokens").json()["tokens"] == []
            assert client.get("/api/v1/identity").json()["role"] == "admin"
