"""The proxies that carry HTTP/2, and the servers behind them: clients/http2.c for HTTP/2, nginx for HTTP/1.1.

Takes the place that proxies.py makes, and the programs it finds; gives running processes. Measures nothing. Every proxy
has one worker on one core, and a route for each kind of answer; each route has the same two addresses.
"""

import json
import resource
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from http2_cases import PLAIN_ROUTE, ROUTES, build_http2_host
from loads import build_client
from processes import fetch, find_free_port, measure_cpu_s, wait_until
from proxies import (
    ADDRESSES,
    ONE_CORE_OF_GO,
    Command,
    Program,
    Site,
    build_controller_command,
    build_proxies,
    build_proxy_command,
)


class Http2Site:
    """Where the proxies of HTTP/2 stand, and the servers for them."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._status_port = find_free_port()
        self.ports = {route: find_free_port() for route in ROUTES} | {PLAIN_ROUTE: site.upstream_port}

    def start_servers(self) -> None:
        """Start the servers that take HTTP/2."""
        ports = [str(self.ports[route]) for route in ROUTES]
        command: Command = [build_client("http2"), str(self._status_port), *ports, *ADDRESSES]
        self._server_pid = self.site.group.start("http2-server", command, core=self.site.load_core).pid
        wait_until(lambda: fetch(self._status_port)[0] == 200, "the HTTP/2 servers")

    def read_status(self) -> dict[str, int]:
        """Read what the servers that take HTTP/2 received so far, and which streams are open."""
        found: dict[str, int] = json.loads(fetch(self._status_port)[1])
        return found

    def measure_load_s(self) -> float:
        """Sum the CPU seconds of the servers, and of the clients that have ended."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        servers_s = measure_cpu_s(self._server_pid) + measure_cpu_s(self.site.upstream_pid)
        return servers_s + ended.ru_utime + ended.ru_stime

    def write(self, template: str, port: int) -> Path:
        """Write a configuration of benchmarks/peers."""
        values: dict[str, object] = {}
        for route, server_port in self.ports.items():
            values[f"{route.upper()}_PORT"] = server_port
            values[f"{route.upper()}_HOST"] = build_http2_host(route)
        return self.site.write(template, port=port, more=values)


@dataclass(frozen=True, kw_only=True)
class Http2Proxy:
    """One kind of proxy. `name` is that of `proxies.build_proxies`; `gaps` name what it cannot carry, and why."""

    name: str
    build_command: Callable[[Http2Site, Program, int], Command]
    environment: Mapping[str, str] = field(default_factory=dict)
    gaps: Mapping[str, str] = field(default_factory=dict)

    def prepare(self, place: Http2Site) -> "PreparedHttp2":
        """Write its configuration, and start what it needs beside it: for Maesh, a controller."""
        program = build_proxies()[self.name].find()
        if program is None:
            raise FileNotFoundError(self.name)
        port = find_free_port()
        return PreparedHttp2(proxy=self, place=place, command=self.build_command(place, program, port), port=port)


@dataclass(frozen=True, kw_only=True)
class PreparedHttp2:
    """A proxy that has only to be started; may be started again once it has ended."""

    proxy: Http2Proxy
    place: Http2Site
    command: Command
    port: int

    def start(self) -> subprocess.Popen[bytes]:
        """Start it on its core, without waiting."""
        site = self.place.site
        environment = {**self.proxy.environment, "HOME": str(site.folder), "XDG_DATA_HOME": str(site.folder)}
        return site.group.start(f"{self.proxy.name}-http2", self.command, core=site.proxy_core, environment=environment)


def build_manifests(ports: Mapping[str, int]) -> dict[str, object]:
    """Build a service for each route, with the same two servers; all but one take HTTP/2."""
    items: list[dict[str, object]] = []
    for route, port in ports.items():
        annotations = {} if route == PLAIN_ROUTE else {"maesh.containo.us/scheme": "h2c"}
        metadata = {"name": route, "namespace": "http2", "annotations": annotations}
        ports_of_service = [{"name": "web", "port": 80, "targetPort": port}]
        items.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports_of_service}})
        labels = {"kubernetes.io/service-name": route}
        items.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {"name": f"{route}-1", "namespace": "http2", "labels": labels},
                "addressType": "IPv4",
                "ports": [{"name": "web", "port": port}],
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in ADDRESSES],
            }
        )
    return {"apiVersion": "v1", "kind": "List", "items": items}


def build_maesh(place: Http2Site, program: Program, port: int) -> Command:
    """Start a controller that has Maesh serve on the port, and build the proxy's command line."""
    site = place.site
    manifests = site.folder / f"http2-manifests-{port}"
    manifests.mkdir()
    (manifests / "bench.json").write_text(json.dumps(build_manifests(place.ports)))
    api_port, admin_port = find_free_port(), find_free_port()
    command = build_controller_command(manifests, api_port=api_port, http_port=port)
    site.group.start("http2-controller", command, core=site.load_core)
    wait_until(lambda: fetch(api_port, "/api/status/readiness")[0] == 200, "the controller")
    return build_proxy_command(api_port=api_port, admin_port=admin_port)


def build_nginx(place: Http2Site, program: Program, port: int) -> Command:
    """Build nginx's command line."""
    return [program, "-c", place.write("nginx-http2.conf", port), "-p", place.site.folder]


def build_haproxy(place: Http2Site, program: Program, port: int) -> Command:
    """Build HAProxy's command line."""
    return [program, "-f", place.write("haproxy-http2.cfg", port)]


def build_envoy(place: Http2Site, program: Program, port: int) -> Command:
    """Build Envoy's command line: one worker thread, no hot restart."""
    path = place.write("envoy-http2.yaml", port)
    return [program, "-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


def build_traefik(place: Http2Site, program: Program, port: int) -> Command:
    """Build Traefik's command line."""
    place.write("traefik-http2-routes.yaml", port)
    return [program, f"--configFile={place.write('traefik-http2.yaml', port)}"]


NGINX_GAPS = {"idle streams": "nginx opens a connection to a server for each stream"}


def choose_http2_proxies(names: Sequence[str]) -> list[Http2Proxy]:
    """Choose those that carry HTTP/2 on both sides, out of the proxies that are asked for and installed."""
    proxies = [
        Http2Proxy(name="maesh", build_command=build_maesh),
        Http2Proxy(name="nginx", build_command=build_nginx, gaps=NGINX_GAPS),
        Http2Proxy(name="haproxy", build_command=build_haproxy),
        Http2Proxy(name="envoy", build_command=build_envoy),
        Http2Proxy(name="traefik", build_command=build_traefik, environment=ONE_CORE_OF_GO),
    ]
    return [proxy for proxy in proxies if proxy.name in names]
