"""Pods that are made of workloads."""

from ipaddress import ip_address, ip_network

import pytest

from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.discovery.documents.workloads import WORKLOAD_KINDS, PodMaker, Workload
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Pod

POD_KIND = next(kind for kind in CORE_KINDS if kind.type is Pod)
KINDS = KindTable((*CORE_KINDS, *WORKLOAD_KINDS))


def write(kind="Deployment", *, name="web", version="apps/v1", spec="{template: TEMPLATE}", more="", account="web"):
    template = (
        f"{{metadata: {{labels: {{app: {name}}}}}, spec: {{serviceAccountName: {account},"
        " containers: [{name: a, ports: [{name: http, containerPort: 8080}]}]}}"
    )
    return f"""---
apiVersion: {version}
kind: {kind}
metadata: {{name: {name}, namespace: shop{more}}}
spec: {spec.replace("TEMPLATE", template)}
"""


def make(*texts):
    maker = PodMaker(POD_KIND)
    manifest = parse_manifest("".join(texts).encode(), KINDS, path="a.yaml")
    assert not manifest.errors
    assert not any(isinstance(each.resource, Workload) for each in maker.replace(manifest.resources)[0])
    resources, errors = PodMaker(POD_KIND).replace(manifest.resources)
    return [each.resource for each in resources], errors


@pytest.mark.parametrize(
    ("kind", "version", "spec"),
    [
        *(
            (kind, "apps/v1", "{template: TEMPLATE}")
            for kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")
        ),
        ("Job", "batch/v1", "{template: TEMPLATE}"),
        ("CronJob", "batch/v1", "{jobTemplate: {spec: {template: TEMPLATE}}}"),
    ],
)
def test_a_workload_becomes_one_ready_pod(kind, version, spec):
    (pod,), errors = make(write(kind, version=version, spec=spec))
    assert errors == ()
    assert pod.key == ObjectKey("shop", "web")
    assert pod.metadata.labels == {"app": "web"}
    assert pod.spec.service_account_name == "web"
    assert [port.container_port for each in pod.spec.containers for port in each.ports] == [8080]
    assert [(each.type, each.status) for each in pod.status.conditions] == [("Ready", "True")]
    assert ip_address(pod.addresses[0]) in ip_network("240.0.0.0/4")


def test_the_address_depends_only_on_the_name():
    alone, _ = make(write(name="b"))
    both, _ = make(write(name="a"), write(name="b"))
    assert both[1].addresses == alone[0].addresses != both[0].addresses


def test_two_kinds_with_one_name_are_two_pods():
    pods, _ = make(write(), write("StatefulSet"))
    assert [pod.metadata.name for pod in pods] == ["web", "web-statefulset"]


def test_a_workload_without_replicas_is_not_ready():
    (pod,), _ = make(write(spec="{replicas: 0, template: TEMPLATE}"))
    assert pod.status.conditions[0].status == "False"


def test_what_another_workload_owns_and_what_has_no_template_is_left_out():
    owned = write("ReplicaSet", more=", ownerReferences: [{kind: Deployment, name: web}]")
    assert make(owned, write(name="other", spec="{}")) == ([], ())


def test_a_template_that_an_api_server_refuses_is_an_error():
    pods, errors = make(write(account="'A B'"))
    assert pods == []
    assert [(error.kind, error.key, error.text) for error in errors] == [
        (
            "Deployment",
            ObjectKey("shop", "web"),
            "Deployment web: its pods: spec.serviceAccountName: 'A B' is not a DNS subdomain (RFC 1123)",
        )
    ]
