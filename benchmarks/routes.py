"""HTTPRoutes in a large mesh: 2,000 of them on 500 services, in the controller and in a proxy, within this process.

Measures the first build with and without routes, and then changes of one pod, of one route, and of a pod of a Service
that many services use: how long both halves take, how many services are built again, and how many objects and bytes
travel to each proxy. No request is carried.
"""

import argparse
import asyncio
import gc
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from access import ListedSource, describe, render_list
from processes import run_to_end

from maesh_core.controller.building import build_engine, collect_kinds
from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.model.configuration import HttpRouter
from maesh_core.model.events import Applied, Replaced
from maesh_core.model.messages import parse_update
from maesh_core.plugin_system.loading import load_plugins
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.routing.configuration import RoutingConfiguration
from maesh_core.settings import ControllerSettings, ProxySettings
from maesh_testing import FakeNode

PODS = 10
PLUGINS = ("gateway", "headers")
NAMESPACE = "shop"
SHARED = "shared"
"""The Service that all routes have as a backend."""


class Size(NamedTuple):
    """How many services there are, and how many routes each has."""

    services: int
    routes: int


def build_metadata(name: str, **fields: Any) -> dict[str, Any]:
    """Build the metadata of an object."""
    return {"name": name, "namespace": NAMESPACE, **fields}


def build_pod(service: str, number: int, pod: int, *, shift: int = 0) -> dict[str, Any]:
    """Build a pod of a service; `shift` changes its address."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": build_metadata(f"{service}-{pod}", labels={"app": service}),
        "spec": {"containers": [{"name": "main"}]},
        "status": {"podIP": f"127.{50 + pod + shift}.{number // 250}.{number % 250}", "phase": "Running"},
    }


def build_service(service: str, number: int) -> list[dict[str, Any]]:
    """Build a service with its pods."""
    spec = {"selector": {"app": service}, "ports": [{"port": 80, "targetPort": 8080}]}
    found = {"apiVersion": "v1", "kind": "Service", "metadata": build_metadata(service), "spec": spec}
    return [found, *(build_pod(service, number, pod) for pod in range(PODS))]


def build_route(number: int, route: int, size: Size, *, weight: int = 90) -> dict[str, Any]:
    """Build a route with two rules: a canary by header, and shares for one of the paths of its service."""
    path = {"path": {"type": "PathPrefix", "value": f"/part-{route}"}}
    canary = {**path, "headers": [{"name": "x-canary", "value": "yes"}]}
    added = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-route", "value": "1"}]}}
    own, other = f"s{number}", f"s{(number + 1) % size.services}"
    rules = [
        {"matches": [canary], "filters": [added], "backendRefs": [{"name": other, "port": 80}]},
        {
            "matches": [path],
            "backendRefs": [
                {"name": own, "port": 80, "weight": weight},
                {"name": other, "port": 80, "weight": 9},
                {"name": SHARED, "port": 80, "weight": 1},
            ],
        },
    ]
    parents = [{"group": "", "kind": "Service", "name": own, "port": 80}]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": build_metadata(f"r{number}-{route}"),
        "spec": {"parentRefs": parents, "rules": rules},
    }


class Pipeline:
    """The controller's engine, and a proxy's configuration that follows it."""

    def __init__(self, size: Size, folder: Path) -> None:
        chosen = [plugin for plugin in list_installed() if plugin.name in PLUGINS]
        plugins = load_plugins("controller", chosen, {})
        kinds = collect_kinds(plugins)
        self._table = KindTable(kinds)
        settings = ControllerSettings(port_mapping=str(folder / "ports.json"))
        self.engine = build_engine(settings, plugins, kinds=kinds, sources=[ListedSource()])  # type: ignore[list-item]
        documents = [each for number in range(size.services) for each in build_service(f"s{number}", number)]
        documents += build_service(SHARED, size.services)
        documents += [
            build_route(number, route, size) for number in range(size.services) for route in range(size.routes)
        ]
        resources = self.parse(documents)
        gc.collect()
        gc.freeze()
        gc.disable()  # as the controller does while it builds
        started = time.perf_counter()
        self.engine.apply(
            [Replaced(kind.type, [each for each in resources if type(each) is kind.type]) for kind in kinds],
            source="manifests",
        )
        self.built_s = time.perf_counter() - started
        gc.enable()
        self.handler = HttpHandler(ProxySettings(), Clock(asyncio.get_running_loop()))
        made = load_plugins("proxy", chosen, {}).collect("maesh_middleware_factories", node=FakeNode())
        factories = {each.kind: each for each in made}
        self.proxy = RoutingConfiguration({"http": self.handler}, factories, guards=(), balancers=BalancerKinds())
        started = time.perf_counter()
        self.size = self.pull(None)[1]
        self.applied_s = time.perf_counter() - started

    def parse(self, documents: Sequence[dict[str, Any]]) -> list[Any]:
        """Read documents as the controller does."""
        manifest = parse_manifest(render_list(documents), self._table, path="x.json")
        assert manifest.errors == ()
        return [each.resource for each in manifest.resources]

    def pull(self, since: str | None) -> tuple[int, int]:
        """Have the proxy follow; return the objects and the bytes that travel."""
        body = self.engine.render_configuration(since)
        assert body is not None
        self.proxy.apply_update(parse_update(body, {"http": HttpRouter}), since=since)
        assert not self.proxy.refused, self.proxy.refused
        section = json.loads(body)["http"]
        return sum(len(section[noun]) for noun in ("routers", "services", "middlewares")), len(body)

    def change(self, document: dict[str, Any]) -> tuple[float, float, int, int, int]:
        """Change an object: milliseconds of both halves, services built again, objects and bytes that travel."""
        (resource,) = self.parse([document])
        before, built = self.engine.revision, self.engine.rebuilt_count
        gc.disable()
        started = time.perf_counter()
        self.engine.apply([Applied(resource)], source="manifests")
        published = time.perf_counter()
        gc.enable()
        objects, size = self.pull(before)
        ended = time.perf_counter()
        rebuilt = self.engine.rebuilt_count - built
        return (published - started) * 1000, (ended - published) * 1000, rebuilt, objects, size

    def close(self) -> None:
        """Close the proxy's half."""
        self.handler.abort()
        self.handler.environment.clock.close()


def describe_changes(what: str, found: Sequence[tuple[float, float, int, int, int]]) -> str:
    """Describe changes of one kind as a row of the table."""
    controller, proxy, built, objects, sizes = zip(*found, strict=True)
    return f"| {what} | {describe(controller)} | {describe(proxy)} | {max(built)} | {max(objects)} | {max(sizes):,} |"


async def measure(size: Size, changes: int, folder: Path) -> str:
    """Measure; return the text to print."""
    bare = Pipeline(Size(size.services, 0), folder)
    bare.close()
    pipeline = Pipeline(size, folder)
    turns = range(changes)
    spread = [turn * (size.services // changes) for turn in turns]
    pods = [pipeline.change(build_pod(f"s{number}", number, 0, shift=100)) for number in spread]
    routes = [pipeline.change(build_route(number, 0, size, weight=80)) for number in spread]
    shared = [pipeline.change(build_pod(SHARED, size.services, 0, shift=100 + turn)) for turn in range(5)]
    pipeline.close()
    lines = [
        f"first build of {size.services:,} services: {bare.built_s:.2f} s, and {bare.applied_s:.2f} s in a proxy; "
        f"with {size.services * size.routes:,} routes {pipeline.built_s:.2f} s and {pipeline.applied_s:.2f} s, "
        f"{pipeline.size:,} bytes",
        "",
        "| change | controller | proxy | services built | objects | bytes |",
        "| --- | --- | --- | --- | --- | --- |",
        describe_changes("one pod", pods),
        describe_changes("one route", routes),
        describe_changes(f"one pod of a Service that {size.services:,} services use", shared),
    ]
    return "\n".join(lines)


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--services", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--routes", type=int, default=4, help="of each service (default: %(default)s)")
    parser.add_argument("--changes", type=int, default=40, help="of each kind (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maesh-bench-") as name:
        print(asyncio.run(measure(Size(options.services, options.routes), options.changes, Path(name))))
    return 0


if __name__ == "__main__":
    run_to_end(main)
