"""States of a mesh from documents, without files: services, pods, access rules and routes of one namespace."""

import json
from functools import cache

from maesh_core.controller.building import collect_kinds
from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.controller.mesh_states.reading import RecordedObjects
from maesh_core.model.events import Replaced
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings import ControllerSettings

NAMESPACE = "shop"
PLUGINS = ("acl", "gateway", "ratelimit", "redirect", "retry", "smi", "timeout", "udp")


def build_state(documents, *, plugins=PLUGINS, label="manifests", settings=None):
    """Build the state of these documents, with the installed plugins of these names."""
    loaded = load(tuple(plugins)) if settings is None else load_plugins("controller", find(plugins), settings)
    return RecordedObjects(ControllerSettings(), loaded, [build_batch(documents, loaded)]).build_state(label)


def find(names):
    """Find the installed plugins of these names."""
    return tuple(each for each in list_installed() if each.name in names)


@cache
def load(names):
    """Load the installed plugins of these names."""
    return load_plugins("controller", find(names), {})


def build_batch(documents, loaded):
    """Build the lists of all kinds from documents."""
    kinds = collect_kinds(loaded)
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}).encode()
    manifest = parse_manifest(content, KindTable(kinds), path="test.json")
    assert not manifest.errors, manifest.errors
    found = [each.resource for each in manifest.resources]
    return [Replaced(kind.type, tuple(each for each in found if type(each) is kind.type)) for kind in kinds]


def build_object(kind, name, api_version="v1", *, namespace=NAMESPACE, labels=None, annotations=None, **fields):
    metadata = {"name": name, "namespace": namespace, "labels": labels or {}, "annotations": annotations or {}}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def build_service(name, *, annotations=None, namespace=NAMESPACE, ports=({"port": 80, "targetPort": 8080},)):
    spec = {"selector": {"app": name}, "ports": list(ports)}
    return build_object("Service", name, namespace=namespace, annotations=annotations, spec=spec)


def build_pod(name, address, account, *, app="", namespace=NAMESPACE, **status):
    return build_object(
        "Pod",
        name,
        namespace=namespace,
        labels={"app": app} if app else {},
        spec={"serviceAccountName": account},
        status={"podIP": address, **status},
    )


def build_target(name, account, sources, *rules, namespace=NAMESPACE):
    """Build a TrafficTarget for the pods of an account; each rule is a route group, or a kind and a name."""
    pairs = [rule if isinstance(rule, tuple) else ("HTTPRouteGroup", rule) for rule in rules]
    spec = {
        "destination": {"kind": "ServiceAccount", "name": account, "namespace": namespace},
        "sources": [{"kind": "ServiceAccount", "name": each, "namespace": namespace} for each in sources],
        **({"rules": [{"kind": kind, "name": each} for kind, each in pairs]} if pairs else {}),
    }
    return build_object("TrafficTarget", name, "access.smi-spec.io/v1alpha3", namespace=namespace, spec=spec)


def build_group(name, *matches):
    """Build an HTTPRouteGroup; each match is a pattern of paths and methods."""
    found = [
        {"name": f"m{place}", "pathRegex": path, "methods": list(methods) or ["*"]}
        for place, (path, *methods) in enumerate(matches)
    ]
    return build_object("HTTPRouteGroup", name, "specs.smi-spec.io/v1alpha4", spec={"matches": found})


def build_split(name, service, **weights):
    backends = [{"service": each.replace("_", "-"), "weight": weight} for each, weight in weights.items()]
    return build_object(
        "TrafficSplit", name, "split.smi-spec.io/v1alpha4", spec={"service": service, "backends": backends}
    )


def build_shop(*more, web="10.0.0.1"):
    """Build services `app`, `app-v1` and `app-v2` with a pod each, and clients `web` and `batch`."""
    return [
        *(build_service(name) for name in ("app", "app-v1", "app-v2")),
        *(
            build_pod(f"{name}-0", f"10.0.1.{place}", name, app=name)
            for place, name in enumerate(("app", "app-v1", "app-v2"))
        ),
        build_pod("web-0", web, "web"),
        build_pod("batch-0", "10.0.0.2", "batch"),
        *more,
    ]
