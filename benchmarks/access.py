"""What access control and splits add to a request, and how far one pod's change goes in a mesh that is full of both.

Requests go through the engine without sockets (engine.py), since neither plugin makes a system call: all variants take
turns on the same requests, and what each adds is the median over the turns of its CPU beside the bare route's. Changes
go through the controller's engine and the proxy's configuration in this process, stage by stage, then through both
halves as processes, from a file to the routing table. Takes options; prints tables. Needs no server and no client.
"""

import argparse
import asyncio
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from engine import SERVICE, Engine, build_request
from processes import ProcessGroup, fetch, find_free_port, run_to_end, stop, wait_until
from proxies import build_controller_command, build_proxy_command

from maesh_core.controller.building import build_engine, collect_kinds
from maesh_core.controller.discovery.documents.parsing import KindTable, parse_manifest
from maesh_core.model.configuration import HttpRouter
from maesh_core.model.events import Applied, Replaced
from maesh_core.model.matches import HeaderMatch, HttpMatch, QueryMatch
from maesh_core.model.messages import parse_update
from maesh_core.model.resources import Pod
from maesh_core.plugin import Middleware
from maesh_core.plugin_system.loading import Half, LoadedPlugins, load_plugins
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.network.clock import Clock
from maesh_core.proxy.routing.configuration import RoutingConfiguration
from maesh_core.settings import ControllerSettings, ProxySettings
from maesh_testing import FakeNode

CLIENTS = 1000
"""Addresses that may come in; 127.0.0.1, the engine's client, is one of them."""
HEADS = 10_000
NAMESPACES, PODS = 20, 2
SHIFTS = 150
"""Networks that a pod may move to."""
CALLER_STEPS = (3, 7, 11)
"""A service's target lets in the accounts of the services so many numbers behind it."""


# --- what a request pays

LITERAL = HttpMatch(paths=("/items",), methods=("GET",))
PATTERN = HttpMatch(paths=("/items/[0-9]+",), methods=("GET",))
HEADER = HttpMatch(headers=(HeaderMatch(name="x-request-id", pattern="-"),))
HEADER_PATTERN = HttpMatch(headers=(HeaderMatch(name="x-request-id", pattern="^[0-9a-f]+-[0-9a-f]+$"),))
ALWAYS: tuple[HttpMatch, ...] = ()
THREE = HttpMatch(
    path_prefix="/items",
    headers=(HeaderMatch(name="accept", value="*/*"),),
    queries=(QueryMatch(name="page", value="3"),),
)
TWO = HttpMatch(path_prefix="/items", headers=(HeaderMatch(name="accept", value="*/*"),))
OTHERS = tuple(HttpMatch(path_prefix=f"/other-{number}") for number in range(100))


def load(half: Half) -> LoadedPlugins:
    """Load the two plugins."""
    return load_plugins(half, [plugin for plugin in list_installed() if plugin.name in ("acl", "smi")], {})


def build_acl_factory() -> Any:
    """Build what makes the access control of services."""
    (factory,) = load("proxy").collect("maesh_middleware_factories", node=FakeNode())
    return factory


def build_acl(matches: Sequence[HttpMatch], branches: int = 0) -> Middleware:
    """Build access control that lets in all clients for these requests, on the service and on the leaves of splits."""
    sources = ["127.0.0.1", *(f"10.0.{number // 250}.{number % 250}" for number in range(CLIENTS - 1))]
    leaf = {"grants": [{"sources": sources, "matches": msgspec.to_builtins(matches)}]}
    splits = {f"{SERVICE}/split/{number}": [leaf, leaf] for number in range(branches)}
    factory = build_acl_factory()
    settings = msgspec.convert({"destinations": {SERVICE: [leaf], **splits}}, factory.settings_type)
    made: Middleware = factory.build_middleware(settings, "bench/bench")
    return made


def build_variants() -> dict[str, Engine]:
    """Build an engine for each row of the table; the first is the bare route."""
    return {
        "bare": Engine(),
        "acl": Engine([build_acl(ALWAYS)]),
        "acl, method and literal path": Engine([build_acl([LITERAL])]),
        "acl, method and path pattern": Engine([build_acl([PATTERN])]),
        "acl, literal header": Engine([build_acl([HEADER])]),
        "acl, header pattern": Engine([build_acl([HEADER_PATTERN])]),
        "split": Engine(splits=[ALWAYS]),
        "split, method and literal path": Engine(splits=[[LITERAL]]),
        "split, method and path pattern": Engine(splits=[[PATTERN]]),
        "split, literal header": Engine(splits=[[HEADER]]),
        "split, header pattern": Engine(splits=[[HEADER_PATTERN]]),
        "rule": Engine(rules=[HttpMatch()]),
        "rule, path prefix": Engine(rules=[HttpMatch(path_prefix="/items")]),
        "rule, path prefix and header": Engine(rules=[TWO]),
        "rule, path prefix, header and query parameter": Engine(rules=[THREE, HttpMatch()]),
        "rule, the last of 101 path prefixes": Engine(rules=[*OTHERS, HttpMatch(path_prefix="/items")]),
        "acl and split": Engine([build_acl(ALWAYS, branches=1)], splits=[ALWAYS]),
    }


def measure_turn(carry: Callable[[bytes], None], requests: Sequence[bytes]) -> float:
    """Carry all requests once; return the microseconds of CPU for each."""
    before = time.process_time_ns()
    for request in requests:
        carry(request)
    return (time.process_time_ns() - before) / 1000 / len(requests)


async def measure_requests(turns: int) -> str:
    """Measure every variant in turns, with heads alike and with heads that differ; return the table."""
    loads = ([build_request()] * HEADS, [build_request(number) for number in range(HEADS)])
    return render_added("route", build_variants(), loads, turns)


def render_added(title: str, variants: Mapping[str, Engine], loads: Sequence[Sequence[bytes]], turns: int) -> str:
    """Measure what each variant adds to the first one, with equal heads and with different ones; return the table."""
    lines = [f"| {title} | heads alike | heads that differ |", "| --- | --- | --- |"]
    added: dict[str, list[str]] = {name: [] for name in variants}
    bare = next(iter(variants))
    gc.collect()
    gc.freeze()
    for requests in loads:
        samples: dict[str, list[float]] = {name: [] for name in variants}
        carriers = {name: engine.connect() for name, engine in variants.items()}
        for turn in range(turns + 1):
            for name, carry in carriers.items():
                found = measure_turn(carry, requests)
                if turn:  # the first warms up
                    samples[name].append(found)
        added[bare].append(f"{statistics.median(samples[bare]):.2f} µs")
        for name in list(variants)[1:]:
            differences = [one - other for one, other in zip(samples[name], samples[bare], strict=True)]
            added[name].append(f"{statistics.median(differences):+.2f} µs")
    for engine in variants.values():
        assert engine.count_answered() == len(loads) * (turns + 1) * HEADS
        engine.close()
    return "\n".join(lines + [f"| {name} | {' | '.join(texts)} |" for name, texts in added.items()])


# --- how far a change goes


class Mesh(NamedTuple):
    """How many services there are; a split stands on every so manieth."""

    services: int
    splits: int

    @property
    def spacing(self) -> int:
        """How many services from one with a split to the next."""
        return self.services // self.splits

    def build_documents(self, number: int, *, shift: int = 0) -> list[dict[str, Any]]:
        """Build a service with its pods, its target, and where it has one its split; `shift` moves its first pod."""
        ring = self.services // NAMESPACES
        group, place = divmod(number, ring)
        namespace, name = f"team-{group}", f"s{place}"

        def build(kind: str, own: str, api_version: str, **fields: Any) -> dict[str, Any]:
            metadata = {"name": own, "namespace": namespace, "labels": {"app": name}}
            return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}

        def account(step: int = 0) -> dict[str, str]:
            return {"kind": "ServiceAccount", "name": f"s{(place - step) % ring}", "namespace": namespace}

        ports = [{"port": 80, "targetPort": 8080}]
        found = [build("Service", name, "v1", spec={"selector": {"app": name}, "ports": ports})]
        for pod in range(PODS):
            network = 50 + pod if pod else 100 + shift % SHIFTS
            address = f"127.{network}.{number // 250}.{number % 250}"
            spec = {"serviceAccountName": name, "containers": [{"name": "main"}]}
            found.append(build("Pod", f"{name}-{pod}", "v1", spec=spec, status={"podIP": address, "phase": "Running"}))
        rules = [{"kind": "HTTPRouteGroup", "name": "routes", "matches": ["read"]}]
        target = {"destination": account(), "sources": [account(step) for step in CALLER_STEPS], "rules": rules}
        found.append(build("TrafficTarget", name, "access.smi-spec.io/v1alpha3", spec=target))
        if place == 0:
            matches = [{"name": "read", "pathRegex": "/items", "methods": ["GET"]}]
            found.append(build("HTTPRouteGroup", "routes", "specs.smi-spec.io/v1alpha4", spec={"matches": matches}))
        if place % self.spacing == 0:
            backends = [{"service": f"s{(place + step) % ring}", "weight": 3 - step} for step in (1, 2)]
            split = {"service": name, "backends": backends}
            found.append(build("TrafficSplit", name, "split.smi-spec.io/v1alpha4", spec=split))
        return found


class ListedSource:
    """Stands for a source whose events the benchmark gives itself."""

    name = "manifests"


def render_list(documents: Sequence[dict[str, Any]]) -> bytes:
    """Render documents as one file."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents}).encode()


class Pipeline:
    """The controller's engine, and a proxy's configuration that follows it, both in this process."""

    def __init__(self, mesh: Mesh, folder: Path) -> None:
        self.mesh = mesh
        plugins = load("controller")
        kinds = collect_kinds(plugins)
        self._table = KindTable(kinds)
        settings = ControllerSettings(port_mapping=str(folder / "ports.json"))
        self.engine = build_engine(settings, plugins, kinds=kinds, sources=[ListedSource()])  # type: ignore[list-item]
        resources = [each for number in range(mesh.services) for each in self.parse(mesh.build_documents(number))]
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
        factories = {"acl": build_acl_factory()}
        self.proxy = RoutingConfiguration({"http": self.handler}, factories, guards=("acl",), balancers=BalancerKinds())
        self.pull(None)
        del resources
        gc.collect()
        gc.freeze()  # as both halves do

    def parse(self, documents: Sequence[dict[str, Any]]) -> list[Any]:
        """Read documents as the controller does."""
        return [each.resource for each in parse_manifest(render_list(documents), self._table, path="x.json").resources]

    def pull(self, since: str | None) -> int:
        """Have the proxy follow; return the bytes that travelled."""
        body = self.engine.render_configuration(since)
        assert body is not None
        self.proxy.apply_update(parse_update(body, {"http": HttpRouter}), since=since)
        assert not self.proxy.refused
        return len(body)

    def change(self, number: int, shift: int) -> tuple[float, float, int, int]:
        """Move one pod; return the milliseconds in both halves, the services built again, the bytes that travelled."""
        pod = next(each for each in self.parse(self.mesh.build_documents(number, shift=shift)) if type(each) is Pod)
        before, built = self.engine.revision, self.engine.rebuilt_count
        gc.disable()
        started = time.perf_counter()
        self.engine.apply([Applied(pod)], source="manifests")
        published = time.perf_counter()
        gc.enable()
        size = self.pull(before)
        ended = time.perf_counter()
        return (published - started) * 1000, (ended - published) * 1000, self.engine.rebuilt_count - built, size


def describe(samples: Sequence[float], unit: str = " ms") -> str:
    """Write a median and the worst."""
    return f"{statistics.median(samples):.1f}{unit}, at worst {max(samples):.1f}{unit}"


async def measure_stages(mesh: Mesh, folder: Path, changes: int) -> str:
    """Measure changes within this process; return what to print."""
    pipeline = Pipeline(mesh, folder)
    spread = range(0, mesh.services, max(1, mesh.services // changes - 1))
    found = [pipeline.change(number, 1 + turn) for turn, number in enumerate(spread)]
    pipeline.handler.abort()
    pipeline.handler.environment.clock.close()
    controller, proxy, built, sizes = zip(*found, strict=True)
    return (
        f"first build of {mesh.services:,} services, {mesh.services:,} targets, {mesh.splits} splits: "
        f"{pipeline.built_s:.1f} s\n"
        f"one pod's change, {len(found)} of them: controller {describe(controller)}; pull and routing table "
        f"{describe(proxy)}; {describe(built, '')} services built again; {max(sizes):,} bytes at most"
    )


def measure_whole(mesh: Mesh, folder: Path, changes: int) -> Iterator[float]:
    """Run both halves with --acl, and change files; return the milliseconds from each to the routing table."""
    manifests = folder / "manifests"
    manifests.mkdir()

    def write(number: int, shift: int) -> None:
        fresh = folder / "fresh"
        fresh.write_bytes(render_list(mesh.build_documents(number, shift=shift)))
        fresh.rename(manifests / f"{number}.json")

    for number in range(mesh.services):
        write(number, 0)
    api, admin, http = (find_free_port() for _ in range(3))

    def read_revision() -> Any:
        status, body = fetch(admin, "/status")
        return json.loads(body).get("revision") if status == 200 else None

    with ProcessGroup(folder) as group:
        command = build_controller_command(manifests, api_port=api, http_port=http)
        controller = group.start("controller", [*command, "--acl"])
        wait_until(lambda: fetch(api, "/api/status/readiness")[0] == 200, "the controller", timeout_s=60)
        proxy = group.start("proxy", [*build_proxy_command(api_port=api, admin_port=admin), "--acl"])
        wait_until(lambda: fetch(admin, "/ready")[0] == 200, "the proxy", timeout_s=60)
        for turn in range(changes):
            before = read_revision()
            write(turn * (mesh.services // changes - 1), 1 + turn)
            written = time.perf_counter()
            wait_until(lambda before=before: read_revision() != before, "a change")  # type: ignore[misc]
            yield (time.perf_counter() - written) * 1000
        stop(proxy)
        stop(controller)


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--turns", type=int, default=15, help="of every variant of a route (default: %(default)s)")
    parser.add_argument("--services", type=int, default=2000, help="each with a target (default: %(default)s)")
    parser.add_argument("--splits", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--changes", type=int, default=40, help="of one pod each (default: %(default)s)")
    options = parser.parse_args()
    mesh = Mesh(options.services, options.splits)
    if mesh.services % NAMESPACES or mesh.services % mesh.splits or mesh.services // NAMESPACES < 20:
        parser.error(
            f"the services must be a multiple of the splits and of {NAMESPACES}, 20 for each of these at least"
        )
    if not 1 < options.changes < SHIFTS:
        parser.error(f"there must be from 2 to {SHIFTS - 1} changes")
    print(f"CPU for each request, of {CLIENTS:,} allowed clients, medians of {options.turns} turns:\n")
    print(asyncio.run(measure_requests(options.turns)), end="\n\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="maesh-bench-") as name:
        print(asyncio.run(measure_stages(mesh, Path(name), options.changes)), flush=True)
        whole = list(measure_whole(mesh, Path(name), options.changes))
    print(f"the same by both halves as processes, from the file to the routing table: {describe(whole)}")
    return 0


if __name__ == "__main__":
    run_to_end(main)
