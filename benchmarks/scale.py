"""A large cluster: services with 10 servers each, from manifests, one file a service, and from an API server.

Measures the time to the first full configuration, in the controller and in the proxy, then how fast one endpoint's
change travels and how much of the configuration it touches, and the memory of both. The servers do not exist: no
request is carried.
"""

import argparse
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from cluster_objects import build_slice, render_cluster
from processes import (
    ProcessGroup,
    choose_cores,
    fetch,
    find_free_port,
    measure_cpu_s,
    measure_memory,
    stop,
    wait_until,
)
from proxies import Command, build_controller_command, build_proxy_command

from maesh_testing.api_server import ApiServer

SERVERS = 10
"""Behind each service."""


def build_documents(number: int, servers: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Build one service and its slice; `first` shifts the addresses, which is a change of every endpoint."""
    name, namespace = f"service-{number}", f"team-{number % 50}"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]},
    }
    endpoints = [
        {
            "addresses": [f"127.{100 + (index + first) % 100}.{number // 250}.{number % 250}"],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": f"{name}-{index}", "namespace": namespace},
        }
        for index in range(servers)
    ]
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-slice",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }
    return [service, slice_]


def render_file(documents: list[dict[str, Any]], kind: str) -> str:
    """Render documents as one file: a JSON list, or a stream of YAML documents."""
    if kind == "json":
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    return yaml.dump_all(documents, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)


class Cluster:
    """Where a controller reads a cluster's objects, the controller, and a proxy."""

    def __init__(
        self, group: ProcessGroup, folder: Path, *, services: int, kind: str, options: argparse.Namespace
    ) -> None:
        self._group, self._kind, self._options = group, kind, options
        self._name = f"{services}-{kind}"
        self._folder = folder / self._name
        self._folder.mkdir()
        self._fresh = folder / "fresh"
        self._ports = {name: find_free_port() for name in ("api", "admin", "http")}
        self._prepare(services)

    def _prepare(self, services: int) -> None:
        for number in range(services):
            self._write(number, first=0)

    def _build_controller_command(self) -> Command:
        return build_controller_command(self._folder, api_port=self._ports["api"], http_port=self._ports["http"])

    def _write(self, number: int, *, first: int) -> None:
        """Rename a whole file into place, as editors and synchronising tools do."""
        self._fresh.write_text(render_file(build_documents(number, SERVERS, first=first), self._kind))
        self._fresh.rename(self._folder / f"service-{number}.{self._kind}")

    def close(self) -> None:
        """End what the cluster itself is."""

    def measure(self) -> dict[str, Any]:
        """Start both, follow some changes, read the memory, and end both."""
        proxy_core, load_core = choose_cores()
        ports = self._ports
        start = time.perf_counter()
        controller = self._group.start(
            f"controller-{self._name}",
            self._build_controller_command(),
            core=load_core,
        )
        proxy = self._group.start(
            f"proxy-{self._name}",
            build_proxy_command(api_port=ports["api"], admin_port=ports["admin"]),
            core=proxy_core,
        )
        wait_until(self._is_api_ready, "the controller", timeout_s=120, pause_s=0.02)
        api_ready_s = time.perf_counter() - start
        wait_until(lambda: self._read_status().get("ready", False), "the proxy", timeout_s=60)
        found = {
            "kind": self._kind,
            "api_ready_s": api_ready_s,
            "proxy_ready_s": time.perf_counter() - start,
            "controller_cpu_s": measure_cpu_s(controller.pid),
            "proxy_cpu_s": measure_cpu_s(proxy.pid),
            "services": len(json.loads(fetch(ports["api"], "/api/services")[1])),
            "configuration_bytes": len(fetch(ports["api"], "/api/configuration/current")[1]),
        }
        found["changes"] = list(self._measure_changes())
        found["controller_mb"] = measure_memory(controller.pid).total_mb
        memory = measure_memory(proxy.pid)
        found["proxy_mb"], found["proxy_worker_mb"] = memory.total_mb, memory.worker_mb
        stop(proxy)
        stop(controller)
        return found

    def _is_api_ready(self) -> bool:
        return fetch(self._ports["api"], "/api/status/readiness")[0] == 200

    def _read_status(self) -> dict[str, Any]:
        status, body = fetch(self._ports["admin"], "/status")
        found: dict[str, Any] = json.loads(body) if status == 200 else {}
        return found

    def _measure_changes(self) -> Iterator[dict[str, Any]]:
        """Change one object at a time; return how long until the proxy routes by it, and what the delta held."""
        for number in range(self._options.changes):
            before = self._read_status()["revision"]
            self._write(number, first=1)
            written = time.perf_counter()
            wait_until(lambda before=before: self._read_status()["revision"] != before, "one change")  # type: ignore[misc]
            travelled_ms = (time.perf_counter() - written) * 1000
            delta = json.loads(fetch(self._ports["api"], f"/api/configuration/current?since={before}")[1])
            parts = [part for section in delta.values() if isinstance(section, dict) for part in section.values()]
            yield {"travelled_ms": travelled_ms, "is_full": delta["full"], "objects": sum(len(part) for part in parts)}


class ApiServerCluster(Cluster):
    """An API server that gives prepared pages, with the shadow services of an earlier controller among them."""

    def _prepare(self, services: int) -> None:
        self._server = ApiServer()
        self._server.start()
        for plural, pages in render_cluster(services, SERVERS, entrypoint=self._ports["http"]).items():
            self._server.serve_canned(plural, pages)
        self._server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
        self._server.write_kubeconfig(self._folder / "kubeconfig")

    def _build_controller_command(self) -> Command:
        command = build_controller_command(
            self._folder / "kubeconfig", api_port=self._ports["api"], http_port=self._ports["http"]
        )
        return [*command[:-1], "--kubeconfig", command[-1]]

    def _write(self, number: int, *, first: int) -> None:
        self._server.emit("endpointslices", "MODIFIED", build_slice(number, SERVERS, first=first))

    def close(self) -> None:
        """End the server; what is written to it but the lease would be a shadow service that was in order."""
        self._server.stop()
        written = {call.resource for call in self._server.calls if call.verb not in ("get", "list", "watch")}
        if written - {"leases"}:
            raise AssertionError(f"the controller wrote {', '.join(sorted(written))}")


def measure_scale(group: ProcessGroup, folder: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every size and kind, one after the other; raises TimeoutError when one does not get ready."""
    results = []
    for services, kind in options.clusters:
        print(f"{services:,} services as {kind} ...", flush=True)
        kind_of_cluster = ApiServerCluster if kind == "kubernetes" else Cluster
        cluster = kind_of_cluster(group, folder, services=services, kind=kind, options=options)
        try:
            found = cluster.measure()
        finally:
            cluster.close()
        results.append(found)
        changes = [change["travelled_ms"] for change in found["changes"]]
        print(
            f"  controller ready after {found['api_ready_s']:.1f} s, proxy after {found['proxy_ready_s']:.1f} s;"
            f" a change takes {statistics.median(changes):.0f} ms; {found['controller_mb']:.0f} and"
            f" {found['proxy_mb']:.0f} MB",
            flush=True,
        )
    return results


def estimate_scale_s(options: argparse.Namespace) -> float:
    """Estimate how long that takes."""
    return float(sum(4 + services * (0.0018 if kind == "json" else 0.003) for services, kind in options.clusters))
