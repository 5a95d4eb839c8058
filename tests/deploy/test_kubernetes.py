"""deploy/kubernetes: a cluster as Kubernetes takes it, hardened, with nothing open that nobody needs."""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
import yaml

from agent.settings import AgentSettings
from analytics.sources.influx_address import is_influx
from contract.settings.fields import settings_of
from service.cluster.connection import ClusterAddress
from service.settings import ServiceSettings
from tests.deploy.test_compose import DEPLOY

FOLDER = DEPLOY / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
RESOURCES: list[dict[str, Any]] = [
    resource for file in KUSTOMIZATION["resources"] for resource in yaml.safe_load_all((FOLDER / file).read_text())
]
WORKLOADS = {
    one["metadata"]["name"]: one for one in RESOURCES if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet")
}
SETTINGS: dict[str, str] = next(one["data"] for one in RESOURCES if one["kind"] == "ConfigMap")
SERVICES = ["loadlens-api", "loadlens-rules", "loadlens-writer"]


def pod_of(name: str) -> dict[str, Any]:
    """What a workload's pods are."""
    return WORKLOADS[name]["spec"]["template"]["spec"]  # type: ignore[no-any-return]


def labels_of(name: str) -> dict[str, str]:
    return WORKLOADS[name]["spec"]["template"]["metadata"]["labels"]  # type: ignore[no-any-return]


def environment_of(name: str) -> dict[str, str]:
    """What a container is set to; an empty text where Kubernetes says it."""
    (container,) = pod_of(name)["containers"]
    shared = SETTINGS if "envFrom" in container else {}
    return shared | {one["name"]: one.get("value", "") for one in container["env"]}


def selectors() -> Iterator[dict[str, str]]:
    """Of all that chooses pods by labels."""
    for one in RESOURCES:
        selector = one.get("spec", {}).get("selector")
        if selector:
            yield selector.get("matchLabels", selector)
        found = one.get("spec", {}).get("podSelector", {})
        if found.get("matchLabels"):
            yield found["matchLabels"]


def test_every_file_is_applied() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {"kustomization.yaml", *KUSTOMIZATION["resources"]}


def test_every_role_is_there_and_outlives_the_loss_of_a_pod() -> None:
    roles = [environment_of(name)["LOADLENS_ROLE"] for name in SERVICES]
    assert roles == ["api", "rules", "writer"]
    budgets = [one["spec"] for one in RESOURCES if one["kind"] == "PodDisruptionBudget"]
    assert [one["minAvailable"] for one in budgets] == [1, 1, 1]
    scaled = {
        one["spec"]["scaleTargetRef"]["name"]: one["spec"]["minReplicas"]
        for one in RESOURCES
        if "scaleTargetRef" in one.get("spec", {})
    }
    for name in SERVICES:
        assert WORKLOADS[name]["spec"].get("replicas", scaled.get(name)) == 2


@pytest.mark.parametrize("name", WORKLOADS)
def test_what_is_set_are_settings(name: str) -> None:
    settings = settings_of(AgentSettings if name == "loadlens-agent" else ServiceSettings)
    known = {one.variable for one in settings} | {one.file_variable for one in settings if one.secret}
    environment = environment_of(name)
    assert set(environment) <= known
    (container,) = pod_of(name)["containers"]
    mounts = [PurePosixPath(mount["mountPath"]) for mount in container["volumeMounts"]]
    files = [PurePosixPath(value) for key, value in environment.items() if key.endswith("_FILE")]
    assert files
    assert all(file.parent in mounts for file in files)


def test_addresses_are_such_as_the_service_takes() -> None:
    assert ClusterAddress.parse(SETTINGS["LOADLENS_JOURNAL"]).name == "loadlens"
    assert is_influx(SETTINGS["LOADLENS_STORE"])


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_pod_is_hardened(name: str) -> None:
    pod = pod_of(name)
    (container,) = pod["containers"]
    assert container["image"] in {one["name"] for one in KUSTOMIZATION["images"]}
    assert pod["automountServiceAccountToken"] is False
    # A Service of the name loadlens would set LOADLENS_PORT to an address.
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
    }  # fmt: skip
    assert container["resources"]["limits"]["memory"]
    assert container["livenessProbe"]


def test_whoever_chooses_pods_finds_some() -> None:
    pods = [labels_of(name) for name in WORKLOADS]
    for wanted in selectors():
        assert any(wanted.items() <= labels.items() for labels in pods), wanted
    answering = next(one["spec"]["selector"] for one in RESOURCES if one["kind"] == "Service")
    assert [name for name in WORKLOADS if answering.items() <= labels_of(name).items()] == [
        "loadlens-api",
        "loadlens-rules",
    ]


def test_nothing_is_reached_that_is_not_listed() -> None:
    policies = [one["spec"] for one in RESOURCES if one["kind"] == "NetworkPolicy"]
    everyone = [one for one in policies if one["podSelector"] == {}]
    assert [(one["policyTypes"], one.get("ingress")) for one in everyone] == [(["Ingress", "Egress"], None)]
    opened = [one for one in policies if one.get("ingress")]
    assert [rule["ports"] for one in opened for rule in one["ingress"]] == [[{"protocol": "TCP", "port": 8888}]]
