"""Renders the topology for `/api/topology/current`.

Takes nodes; returns a document of plain values, sorted, with Maesh's names and sections, and keys `name@namespace`.
Plugins' findings about a service are under `additions`, by the plugin's name. The sections of access control and of
traffic splits are always present; without the plugins that fill them they are empty.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.controller.topology.rule_rendering import render_rules
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import PodNode, PortNode, ServerNode, ServiceNode


def render_topology(
    nodes: Iterable[ServiceNode],
    *,
    errors: Mapping[ObjectKey, Sequence[str]] | None = None,
    notices: Mapping[ObjectKey, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Render nodes as one document.

    `errors` and `notices` replace those of the nodes for the services they contain: those of the configuration include
    those of the topology.
    """
    ordered = sorted(nodes, key=lambda node: node.key)
    pods = {pod.key: pod for node in ordered for pod in (*node.named_pods, *node.pods)}
    services: dict[str, Any] = {}
    for node in ordered:
        document = _render_service(node)
        document["errors"] = list((errors or {}).get(node.key, node.errors))
        document["notices"] = list((notices or {}).get(node.key, node.notices))
        services[str(node.key)] = document
    sections: dict[str, dict[str, Any]] = {"serviceTrafficTargets": {}, "trafficSplits": {}}
    for node in ordered:
        for name, shown in node.sections.items():
            sections.setdefault(name, {}).update({key: render_addition(value) for key, value in shown.items()})
    _note_backends(services, sections["trafficSplits"])
    shown_pods = {str(key): _render_pod(pods[key]) for key in sorted(pods)}
    _note_targets(shown_pods, services, sections["serviceTrafficTargets"])
    return {
        "services": services,
        "pods": shown_pods,
        **{name: dict(sorted(shown.items())) for name, shown in sections.items()},
    }


def _note_targets(pods: dict[str, Any], services: dict[str, Any], targets: Mapping[str, Any]) -> None:
    """Add to each pod the targets of which it is a source or a destination."""
    by_account: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for pod in pods.values():
        by_account.setdefault((pod["namespace"], pod["serviceAccount"]), []).append(pod)
    for key, target in sorted(targets.items()):
        if not isinstance(target, dict):
            continue
        for account in {(each.get("namespace"), each.get("serviceAccount")) for each in target.get("sources", ())}:
            for pod in by_account.get(account, ()):
                pod["sourceOf"].append(key)
        called = target.get("destination", {})
        for name in dict.fromkeys(services.get(target.get("service", ""), {}).get("pods", ())):
            behind = pods.get(name)
            if behind is not None and (behind["namespace"], behind["serviceAccount"]) == (
                called.get("namespace"),
                called.get("serviceAccount"),
            ):
                behind["destinationOf"].append(key)


def _note_backends(services: dict[str, Any], splits: Mapping[str, Any]) -> None:
    """Add to each service the splits that send it traffic."""
    for key, split in sorted(splits.items()):
        for backend in split.get("backends", ()) if isinstance(split, dict) else ():
            service = services.get(f"{backend.get('service')}@{split.get('namespace')}")
            if service is not None and key not in service["backendOf"]:
                service["backendOf"].append(key)


def _render_service(node: ServiceNode) -> dict[str, Any]:
    headless_ip = "None" if node.is_headless else ""
    return {
        "name": node.key.name,
        "namespace": node.key.namespace,
        "trafficType": node.traffic_type,
        "selector": dict(node.selector),
        "annotations": dict(node.annotations),
        "ports": [_render_port(node.key, port) for port in node.ports],
        "clusterIp": node.cluster_ips[0] if node.cluster_ips else headless_ip,
        "clusterIps": list(node.cluster_ips),
        **({"shadowIps": list(node.shadow_ips)} if node.shadow_ips else {}),
        "pods": [str(pod.key) for pod in node.pods],
        "trafficTargets": sorted(node.sections.get("serviceTrafficTargets", ())),
        "trafficSplits": sorted(node.sections.get("trafficSplits", ())),
        "backendOf": [],
        "additions": {name: render_addition(value) for name, value in node.additions.items()},
    }


def render_addition(value: Any) -> Any:
    """Render a plugin's addition as plain values; what cannot be rendered becomes an error text."""
    try:
        return msgspec.to_builtins(value, str_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        return f"cannot be shown: {error}"


def _render_port(service: ObjectKey, port: PortNode) -> dict[str, Any]:
    return {
        "name": port.name,
        "port": port.number,
        "protocol": port.protocol,
        **({"appProtocol": port.app_protocol} if port.app_protocol else {}),
        **({"trafficType": port.traffic_type} if port.traffic_type is not None else {}),
        "targetPort": port.target_port,
        "servers": [_render_server(server) for server in port.servers],
        **render_rules(service, port),
    }


def _render_server(server: ServerNode) -> dict[str, Any]:
    document: dict[str, Any] = {"address": server.address, "port": server.port}
    if server.pod is not None:
        document["pod"] = str(server.pod)
    if server.node:
        document["node"] = server.node
    if server.is_name:
        document["isName"] = True
    return document


def _render_pod(pod: PodNode) -> dict[str, Any]:
    return {
        "name": pod.key.name,
        "namespace": pod.key.namespace,
        "serviceAccount": pod.service_account,
        "ownerReferences": list(pod.owners),
        "ip": pod.address,
        "containerPorts": msgspec.to_builtins(pod.container_ports),
        "sourceOf": [],
        "destinationOf": [],
    }
