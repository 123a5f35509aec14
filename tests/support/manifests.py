"""containers/kubernetes as kubectl reads it: the objects of its folders, each container with its environment, and what reaches what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values

from tidemark.settings import CHECKOUT

FOLDER = CHECKOUT / "containers" / "kubernetes"
BASE, SERVERS, EXAMPLE = (FOLDER / name for name in ("base", "servers", "example"))
_REFERENCE = re.compile(r"\$\((\w+)\)")

Object = dict[str, Any]
Labels = Mapping[str, str]


def kustomization(folder: Path) -> Object:
    return yaml.safe_load((folder / "kustomization.yaml").read_text())


def objects(folder: Path) -> list[Object]:
    """The objects of a folder's own files."""
    files = [folder / name for name in kustomization(folder)["resources"] if not name.startswith("..")]
    return [one for file in files for one in yaml.safe_load_all(file.read_text())]


def of_kind(kind: str, folder: Path = BASE) -> dict[str, Object]:
    """A folder's objects of a kind by name."""
    return {one["metadata"]["name"]: one for one in objects(folder) if one["kind"] == kind}


@cache
def settings() -> dict[str, dict[str, str]]:
    """The data of all ConfigMaps that are generated, by name."""
    return {
        one["name"]: {name: value or "" for file in one["envs"] for name, value in dotenv_values(BASE / file, interpolate=False).items()}
        for one in kustomization(BASE)["configMapGenerator"]
    }


@dataclass(frozen=True)
class Container:
    """A container of a Deployment, Job or CronJob; `first` if it runs before the pod's others, and ends."""

    definition: Object
    workload: Object
    first: bool

    @property
    def name(self) -> str:
        return self.definition["name"]

    @property
    def pod(self) -> Object:
        return _template(self.workload)["spec"]

    @property
    def labels(self) -> Labels:
        return _template(self.workload)["metadata"]["labels"]

    @property
    def ends(self) -> bool:
        return self.first or self.workload["kind"] != "Deployment"

    @property
    def variables(self) -> list[Object]:
        return self.definition.get("env", [])

    @property
    def configurations(self) -> list[str]:
        """Names of the ConfigMaps of which it gets all settings."""
        return [one["configMapRef"]["name"] for one in self.definition.get("envFrom", ())]

    @property
    def single_settings(self) -> set[tuple[str, str]]:
        """The ConfigMaps of which it gets a single setting, each with that one's key."""
        return self._references("configMapKeyRef")

    @property
    def secrets(self) -> set[tuple[str, str]]:
        """The Secrets that it needs, each with a key."""
        return self._references("secretKeyRef")

    @property
    def parts(self) -> set[str]:
        """Variables that are only parts of others, or of its arguments."""
        texts = [*(one.get("value", "") for one in self.variables), *self.definition.get("args", ())]
        return {name for text in texts for name in _REFERENCE.findall(text)}

    def environment(self, secrets: Mapping[tuple[str, str], str]) -> dict[str, str]:
        """The variables with their values, without those that are only parts of others. Raises KeyError for one that does not exist."""
        found = {name: value for one in self.configurations for name, value in settings()[one].items()}
        own: dict[str, str] = {}
        for one in self.variables:
            match one.get("valueFrom"):
                case {"secretKeyRef": {"optional": True}}:
                    own[one["name"]] = ""
                case {"secretKeyRef": {"name": of, "key": key}}:
                    own[one["name"]] = secrets[of, key]
                case {"configMapKeyRef": {"name": of, "key": key}}:
                    own[one["name"]] = settings()[of][key]
                case {"fieldRef": _}:
                    own[one["name"]] = ""
                case _:  # Kubernetes replaces only what stands before
                    own[one["name"]] = _REFERENCE.sub(lambda match: own[match[1]], one["value"])
        return {name: value for name, value in {**found, **own}.items() if name not in self.parts}

    def _references(self, kind: str) -> set[tuple[str, str]]:
        found = [one["valueFrom"][kind] for one in self.variables if kind in one.get("valueFrom", ())]
        return {(one["name"], one["key"]) for one in found if not one.get("optional")}


def _template(workload: Object) -> Object:
    return workload["spec"].get("jobTemplate", workload)["spec"]["template"]


@cache
def containers() -> dict[str, Container]:
    """All containers by name."""
    found = [
        Container(one, workload, first=kind == "initContainers")
        for workload in objects(BASE)
        if workload["kind"] in ("Deployment", "Job", "CronJob")
        for kind in ("initContainers", "containers")
        for one in _template(workload)["spec"].get(kind, ())
    ]
    assert len({one.name for one in found}) == len(found)
    return {one.name: one for one in found}


def servers() -> dict[str, Labels]:
    """The labels by which network policies select the pods of the operators' servers."""
    pods = {
        "kafka": of_kind("KafkaNodePool", SERVERS)["kafka"]["spec"]["template"]["pod"]["metadata"]["labels"],
        "mongodb": of_kind("MongoDBCommunity", SERVERS)["mongodb"]["spec"]["statefulSet"]["spec"]["template"]["metadata"]["labels"],
    }
    return pods | {name: one["spec"]["inheritedMetadata"]["labels"] for name, one in of_kind("Cluster", SERVERS).items()}


def lets_out(source: Labels, target: Labels, port: int) -> bool:
    """Do network policies let a pod out to a port of another in its namespace?"""
    return _allows("Egress", source, target, port)


def lets_in(source: Labels, target: Labels, port: int) -> bool:
    """The same for what the other pod lets in."""
    return _allows("Ingress", target, source, port)


def _allows(direction: str, pod: Labels, peer: Labels, port: int) -> bool:
    policies = [one["spec"] for one in _policies() if _selects(one["spec"]["podSelector"], pod) and direction in one["spec"]["policyTypes"]]
    rules = [rule for one in policies for rule in one.get(direction.lower(), ())]
    return not policies or any(_rule_allows(rule, peer, port) for rule in rules)


def _rule_allows(rule: Object, peer: Labels, port: int) -> bool:
    peers = [*rule.get("from", ()), *rule.get("to", ())]
    assert peers, "a rule without peers allows everything"
    of_peer = any("namespaceSelector" not in one and _selects(one["podSelector"], peer) for one in peers)
    return of_peer and ("ports" not in rule or port in [one["port"] for one in rule["ports"]])


@cache
def _policies() -> list[Object]:
    """All network policies; Strimzi makes one for each listener that names its peers."""
    kafka = {
        "podSelector": {"matchLabels": servers()["kafka"]},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": one["networkPolicyPeers"], "ports": [{"port": one["port"]}]}
            for one in of_kind("Kafka", SERVERS)["kafka"]["spec"]["kafka"]["listeners"]
        ],
    }
    return [*of_kind("NetworkPolicy").values(), *of_kind("NetworkPolicy", SERVERS).values(), {"spec": kafka}]


def _selects(selector: Object, labels: Labels) -> bool:
    return selector["matchLabels"].items() <= labels.items()
