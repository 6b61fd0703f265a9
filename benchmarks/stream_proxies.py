"""The proxies that carry TCP and UDP, and the servers behind them; each proxy as a user who may do nothing special.

Takes the place that proxies.py makes, and the programs it finds; returns running processes. Measures nothing. That user
matters: root has as many pages for pipes as it likes, and a proxy that splices lives on those of other users.
"""

import contextlib
import json
import os
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from loads import build_client
from processes import fetch, find_free_port, measure_cpu_s, raise_open_files_limit, wait_until
from proxies import (
    ADDRESSES,
    ONE_CORE_OF_GO,
    Command,
    Program,
    Site,
    build_proxies,
    build_proxy_command,
)

QUESTION_BYTES = 1024
"""As in clients/streams.c: what a TCP client sends, beginning with how many bytes it wants."""
NGINX_MODULES = ("/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/share/nginx/modules")
OPEN_FILES = 100_000
"""Maesh lets sessions have three quarters, and 65,536 of them need 87,382."""
DROP_RIGHTS = ("setpriv", "--pdeathsig=TERM", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all")
START_AGAIN = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', ''])"
"""As the commands of Maesh do: a program that has been started may read more than the one that it becomes."""
NOBODY = ("--reuid=nobody", "--regid=nogroup")


class Ports(NamedTuple):
    """Where a proxy takes TCP and UDP."""

    tcp: int
    udp: int


class StreamSite:
    """Where the proxies of streams stand: two servers, and the user that proxies run as."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.server_port = find_free_port()
        self.folder = site.folder / "streams"
        self.folder.mkdir()
        with contextlib.suppress(LookupError, PermissionError):
            shutil.chown(self.folder, "nobody", "nogroup")
        self.open_files = raise_open_files_limit(OPEN_FILES)
        self.user, self.prefix = choose_user()
        self._servers: list[int] = []

    def start_servers(self) -> None:
        """Start a server at each address."""
        for address in ADDRESSES:
            command: Command = [build_client("streams"), "serve", address, str(self.server_port)]
            self._servers.append(self.site.group.start("stream-server", command, core=self.site.load_core).pid)

    def measure_load_s(self) -> float:
        """Sum the CPU seconds of the servers, and of the clients that have ended."""
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        return sum(map(measure_cpu_s, self._servers)) + ended.ru_utime + ended.ru_stime

    def write(self, template: str, ports: Ports, **more: object) -> Path:
        """Write a configuration of benchmarks/peers."""
        values = {"UDP_PORT": ports.udp, "SERVER_PORT": self.server_port, "STREAM_FOLDER": self.folder} | more
        return self.site.write(template, port=ports.tcp, more=values)


def choose_user() -> tuple[str, Sequence[str]]:
    """Choose who the proxies run as: gives it in words, and what their commands begin with.

    nobody, where root starts us and lets others read this folder and Python; else root without its capabilities, which
    owns the files that it reads but has no more pages for pipes than others.
    """
    if os.geteuid():
        return "the user who started the suite, who is not root", ()
    if not shutil.which("setpriv"):
        return "root, for there is no setpriv: its pipes have no limit", ()
    for words, prefix in (("nobody", (*DROP_RIGHTS, *NOBODY)), ("root", DROP_RIGHTS)):
        done = subprocess.run([*prefix, sys.executable, "-c", START_AGAIN], capture_output=True, timeout=30)
        if not done.returncode:
            return f"{words}, without capabilities", prefix
    raise RuntimeError(f"Python does not start without capabilities: {done.stderr[-300:]!r}")


@dataclass(frozen=True, kw_only=True)
class StreamProxy:
    """One kind of proxy. `program` names that of `proxies.build_proxies` which it runs; `build` gives its command line,
    and its ports: those that it is offered, unless it has its own."""

    name: str
    program: str
    build: Callable[[StreamSite, Program, Ports], tuple[Command, Ports]]
    has_udp: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)

    def prepare(self, place: StreamSite) -> "PreparedStreams":
        """Write its configuration, and start what it needs beside it: for Maesh, a controller."""
        program = build_proxies()[self.program].find()
        if program is None:
            raise FileNotFoundError(self.program)
        command, ports = self.build(place, program, Ports(find_free_port(), find_free_port()))
        return PreparedStreams(proxy=self, place=place, command=[*place.prefix, *command], ports=ports)


@dataclass(frozen=True, kw_only=True)
class PreparedStreams:
    """A proxy that has only to be started; may be started again once it has ended."""

    proxy: StreamProxy
    place: StreamSite
    command: Command
    ports: Ports

    def launch(self) -> subprocess.Popen[bytes]:
        """Start it on its core, without waiting."""
        site = self.place.site
        environment = {**self.proxy.environment, "HOME": str(self.place.folder)}
        return site.group.start(
            f"{self.proxy.name}-streams", self.command, core=site.proxy_core, environment=environment
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start it, and wait until it serves."""
        process = self.launch()
        wait_until(self.is_serving, self.proxy.name, pause_s=0.02)
        return process

    def is_serving(self) -> bool:
        """Return whether it answers, through to a server, on all ports that it has."""
        return is_tcp_served(self.ports.tcp) and (not self.proxy.has_udp or is_udp_served(self.ports.udp))


def is_tcp_served(port: int) -> bool:
    """Ask a server for one byte over TCP."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            sock.sendall((1).to_bytes(8, "little").ljust(QUESTION_BYTES))
            return sock.recv(1) != b""
    except OSError:
        return False


def is_udp_served(port: int) -> bool:
    """Have a server echo a datagram."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.5)
        try:
            sock.connect(("127.0.0.1", port))
            sock.send(b"is anybody there?")
            return sock.recv(64) == b"is anybody there?"
        except OSError:
            return False


def build_manifests(port: int) -> dict[str, object]:
    """Build a service of each kind, with the same two servers."""
    items: list[dict[str, object]] = []
    for kind in ("tcp", "udp"):
        annotations = {"maesh.containo.us/traffic-type": kind}
        metadata = {"name": kind, "namespace": "bench", "annotations": annotations}
        slice_metadata = {
            "name": f"{kind}-1",
            "namespace": "bench",
            "labels": {"kubernetes.io/service-name": kind},
        }
        port_of_kind = {"name": "bench", "protocol": kind.upper(), "port": port}
        items.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [port_of_kind]}})
        items.append(
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": slice_metadata,
                "addressType": "IPv4",
                "ports": [port_of_kind],
                "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in ADDRESSES],
            }
        )
    return {"apiVersion": "v1", "kind": "List", "items": items}


def build_maesh(place: StreamSite, program: Program, ports: Ports) -> tuple[Command, Ports]:
    """Start a controller; return the proxy's command line, and the entrypoints that the controller says it has."""
    site = place.site
    api_port, admin_port = find_free_port(), find_free_port()
    manifests = site.folder / f"stream-manifests-{api_port}"
    manifests.mkdir()
    (manifests / "bench.json").write_text(json.dumps(build_manifests(place.server_port)))
    command: Command = [program, "controller", "--api-host", "127.0.0.1", "--api-port", str(api_port)]
    command += ["--tcp-port", str(ports.tcp), "--set", f"udp.port={ports.udp}"]
    command += ["--port-mapping", site.folder / f"stream-ports-{api_port}", manifests]
    site.group.start("stream-controller", command, core=site.load_core)
    wait_until(lambda: fetch(api_port, "/api/status/readiness")[0] == 200, "the controller")
    services = json.loads(fetch(api_port, "/api/services")[1])
    entrypoints = {each["name"]: each["ports"][0]["entrypoint"] for each in services if not each["errors"]}
    proxy_command = build_proxy_command(api_port=api_port, admin_port=admin_port)
    return proxy_command, Ports(entrypoints["tcp"], entrypoints["udp"])


def find_stream_module() -> str:
    """Find nginx's module for streams where it comes by itself; return the line that loads it, or nothing."""
    paths = [Path(folder, "ngx_stream_module.so") for folder in NGINX_MODULES]
    return next((f"load_module {path};" for path in paths if path.exists()), "")


def has_nginx_streams() -> bool:
    """Return whether nginx can carry streams at all."""
    program = build_proxies()["nginx"].find()
    if program is None or find_stream_module():
        return program is not None
    done = subprocess.run([program, "-V"], capture_output=True, text=True, timeout=10)
    return "--with-stream " in done.stderr + " "


def build_nginx(place: StreamSite, program: Program, ports: Ports) -> tuple[Command, Ports]:
    """Build nginx's command line."""
    path = place.write("nginx-streams.conf", ports, STREAM_MODULE=find_stream_module())
    return [program, "-e", "stderr", "-c", path, "-p", place.folder], ports


def build_envoy(place: StreamSite, program: Program, ports: Ports) -> tuple[Command, Ports]:
    """Build Envoy's command line: one worker thread, no hot restart."""
    path = place.write("envoy-streams.yaml", ports)
    return [program, "-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"], ports


def build_traefik(place: StreamSite, program: Program, ports: Ports) -> tuple[Command, Ports]:
    """Build Traefik's command line."""
    place.write("traefik-streams-routes.yaml", ports)
    return [program, f"--configFile={place.write('traefik-streams.yaml', ports)}"], ports


def build_haproxy(place: StreamSite, program: Program, ports: Ports) -> tuple[Command, Ports]:
    """Build the command line of HAProxy as it comes: it does not splice."""
    path = place.write("haproxy-streams.cfg", ports)
    return [program, "-dS", "-f", path.rename(path.with_name("haproxy-copying.cfg"))], ports


def build_splicing_haproxy(place: StreamSite, program: Program, ports: Ports) -> tuple[Command, Ports]:
    """Build the command line of HAProxy when it is told to splice."""
    path = place.write("haproxy-streams.cfg", ports)
    return [program, "-f", path.rename(path.with_name("haproxy-splicing.cfg"))], ports


def build_stream_proxies() -> dict[str, StreamProxy]:
    """Name all proxies, by what the tables call them."""
    proxies = [
        StreamProxy(name="maesh", program="maesh", build=build_maesh),
        StreamProxy(name="nginx", program="nginx", build=build_nginx),
        StreamProxy(name="haproxy", program="haproxy", build=build_haproxy, has_udp=False),
        StreamProxy(name="haproxy-splice", program="haproxy", build=build_splicing_haproxy, has_udp=False),
        StreamProxy(name="envoy", program="envoy", build=build_envoy),
        StreamProxy(name="traefik", program="traefik", build=build_traefik, environment=ONE_CORE_OF_GO),
    ]
    return {proxy.name: proxy for proxy in proxies}
