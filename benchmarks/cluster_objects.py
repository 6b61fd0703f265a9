"""Objects of a large cluster as an API server gives them, in pages of bytes.

For each service: the Service, the shadow service that an earlier controller wrote for it, an EndpointSlice, and its
pods with the fields that the mesh skips, as many as real ones have. The pods do not exist.
"""

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

PAGE_SIZE = 500
VERSION = "1000000"
CREATED = "2026-01-05T09:30:00Z"
Object = dict[str, Any]


def build_metadata(name: str, namespace: str, number: int, **more: Any) -> Object:
    """Build metadata with what every object of a cluster carries."""
    managed = {
        "manager": "kube-controller-manager",
        "operation": "Update",
        "apiVersion": "v1",
        "time": CREATED,
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:ports": {}, "f:selector": {}}},
    }
    return {
        "name": name,
        "namespace": namespace,
        "uid": f"{number:08x}-0000-4000-8000-{number:012x}",
        "resourceVersion": str(number + 1),
        "creationTimestamp": CREATED,
        "managedFields": [managed],
        **more,
    }


def name_service(number: int) -> tuple[str, str]:
    """Name a service and its namespace."""
    return f"service-{number}", f"team-{number % 50}"


def build_service(number: int) -> Object:
    """Build a user's Service."""
    name, namespace = name_service(number)
    return {
        "metadata": build_metadata(name, namespace, number, labels={"app": name}),
        "spec": {
            "clusterIP": f"10.{96 + number // 62500}.{number // 250 % 250}.{number % 250}",
            "clusterIPs": [f"10.{96 + number // 62500}.{number // 250 % 250}.{number % 250}"],
            "internalTrafficPolicy": "Cluster",
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "ports": [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": 8080}],
            "selector": {"app": name},
            "sessionAffinity": "None",
            "type": "ClusterIP",
        },
        "status": {"loadBalancer": {}},
    }


def build_shadow(number: int, *, entrypoint: int) -> Object:
    """Build the shadow service of a user's Service."""
    name, namespace = name_service(number)
    prefix = "maesh.containo.us/shadow-of-"
    annotations = {f"{prefix}service": name, f"{prefix}namespace": namespace}
    full, labels = f"maesh-{name}-6d61657368-{namespace}", {"app": "maesh", "type": "shadow"}
    user = build_service(number)["spec"]
    return {
        "metadata": build_metadata(full, "maesh", number + 10**6, labels=labels, annotations=annotations),
        "spec": {
            **user,
            "ports": [{"name": "web", "port": 80, "protocol": "TCP", "targetPort": entrypoint}],
            "selector": {"component": "maesh-mesh"},
            "trafficDistribution": "PreferSameNode",
        },
        "status": {"loadBalancer": {}},
    }


def build_address(number: int, index: int, first: int) -> str:
    """Choose a pod's address; `first` shifts it, which is a pod made anew."""
    return f"127.{100 + (index + first) % 100}.{number // 250}.{number % 250}"


def build_slice(number: int, pods: int, *, first: int = 0) -> Object:
    """Build a service's EndpointSlice."""
    name, namespace = name_service(number)
    endpoints = [
        {
            "addresses": [build_address(number, index, first)],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "nodeName": f"node-{index % 100}",
            "targetRef": {"kind": "Pod", "name": f"{name}-{index}", "namespace": namespace, "uid": f"{number}-{index}"},
            "zone": "zone-a",
        }
        for index in range(pods)
    ]
    labels = {
        "app": name,
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        "kubernetes.io/service-name": name,
    }
    return {
        "metadata": build_metadata(f"{name}-x7k2p", namespace, number, labels=labels, generateName=f"{name}-"),
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
    }


def build_pod(number: int, index: int) -> Object:
    """Build a pod."""
    name, namespace = name_service(number)
    owner = {
        "apiVersion": "apps/v1",
        "blockOwnerDeletion": True,
        "controller": True,
        "kind": "ReplicaSet",
        "name": f"{name}-5d8f7c9b6d",
        "uid": f"{number:08x}-1111-4000-8000-000000000000",
    }
    container = {
        "name": "main",
        "image": f"registry.example/{name}:1.4.2",
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 8080, "name": "web", "protocol": "TCP"}],
        "resources": {"limits": {"cpu": "1", "memory": "512Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        "volumeMounts": [{"mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "name": "token"}],
    }
    conditions = [
        {"lastProbeTime": None, "lastTransitionTime": CREATED, "status": "True", "type": kind}
        for kind in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    ]
    address = build_address(number, index, 0)
    labels = {"app": name, "pod-template-hash": "5d8f7c9b6d"}
    return {
        "metadata": build_metadata(
            f"{name}-{index}", namespace, number * 100 + index, labels=labels, ownerReferences=[owner]
        ),
        "spec": {
            "containers": [container],
            "nodeName": f"node-{index % 100}",
            "restartPolicy": "Always",
            "serviceAccountName": name,
            "volumes": [{"name": "token", "projected": {"defaultMode": 420}}],
        },
        "status": {
            "conditions": conditions,
            "hostIP": "10.1.0.1",
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "qosClass": "Burstable",
            "startTime": CREATED,
        },
    }


def render_pages(kind: str, objects: Iterator[Object]) -> list[bytes]:
    """Render a list in pages; page n has the token n."""
    pages: list[list[Object]] = [[]]
    for each in objects:
        if len(pages[-1]) == PAGE_SIZE:
            pages.append([])
        pages[-1].append(each)
    return [
        json.dumps(
            {
                "kind": kind,
                "metadata": {"resourceVersion": VERSION, **({"continue": str(place)} if place < len(pages) else {})},
                "items": items,
            }
        ).encode()
        for place, items in enumerate(pages, start=1)
    ]


def render_cluster(services: int, pods: int, *, entrypoint: int) -> dict[str, list[bytes]]:
    """Render everything, by the resource's plural; `pods` are those of one service."""
    numbers = range(services)
    originals = (build_service(number) for number in numbers)
    shadows = (build_shadow(number, entrypoint=entrypoint) for number in numbers)
    return {
        "services": render_pages("ServiceList", chain(originals, shadows)),
        "endpointslices": render_pages("EndpointSliceList", (build_slice(number, pods) for number in numbers)),
        "pods": render_pages("PodList", (build_pod(number, index) for number in numbers for index in range(pods))),
    }
