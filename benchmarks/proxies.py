"""The proxies that are measured, and the servers behind them: how each is found, started and asked for its version.

Takes a folder and the configurations of benchmarks/peers; returns running processes. Measures nothing. Every proxy gets
one core and one worker, and routes two hosts: one plain, one on which it also stamps a header both ways.
"""

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cases import build_host
from processes import (
    MAESH,
    ProcessGroup,
    choose_cores,
    fetch,
    find_free_port,
    read_version,
    wait_until,
)
from samples import CHECK_PORT_NAME, BodyFiles, CheckServer

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / "benchmarks" / "peers"
PEERS_VENV = ROOT / ".venv-peers"
STAMP_PLUGIN = ROOT / "examples" / "plugins" / "maesh-stamp"
HOST, STAMPED_HOST = build_host("bench"), build_host("stamped")
EXPRESSION = "NetworkErrorRatio() > 0.5 || ResponseCodeRatio(500, 600, 0, 600) > 0.5"
RETRY, LIMIT = {"retry-attempts": "2"}, {"ratelimit-average": "1000000000"}
BREAKER = {"circuit-breaker-expression": EXPRESSION}
ROUTES: Mapping[str, Mapping[str, str]] = {
    "bench": {},
    "stamped": {"stamp": "X-Team: payments"},
    "bare": {},
    "any": {},
    "retry": RETRY,
    "limit": LIMIT,
    "breaker": BREAKER,
    "guarded": RETRY | LIMIT | BREAKER,
    "mirrored": {"mirror-service": "any.bench:80", "mirror-percent": "10"},
    "sources": LIMIT | {"ratelimit-source": "header:X-Request-Id"},
}
"""The annotations of each service; no limit is reached, and nothing fails."""
ADDRESSES = ("127.0.3.1", "127.0.3.2")
ONE_CORE_OF_GO = {"GOMAXPROCS": "1"}

Program = str | Path
Command = list[Program]


class Site:
    """Where the proxies stand: a folder, two cores, the servers behind; ends with its process group."""

    def __init__(self, group: ProcessGroup, folder: Path) -> None:
        self.group, self.folder = group, folder
        self.proxy_core, self.load_core = choose_cores()
        self.upstream_port, self.status_port = find_free_port(), find_free_port()
        self.check_server = CheckServer()
        BodyFiles.write(folder / "files")
        folder.chmod(0o755)  # nginx started by root reads its files as another user

    def start_upstream(self) -> None:
        """Start the servers and what reads samples."""
        self.check_server.start()
        command: Command = ["nginx", "-c", self.write("upstream.conf"), "-p", self.folder]
        self.upstream_pid = self.group.start("upstream", command, core=self.load_core).pid
        wait_until(lambda: fetch(self.status_port)[0] == 200, "nginx as server")

    def write(self, template: str, *, port: int = 0, more: Mapping[str, object] | None = None) -> Path:
        """Write a configuration of benchmarks/peers with this place's names and numbers, and more of them."""
        text = (PEERS / template).read_text()
        values: dict[str, object] = {"FOLDER": self.folder, "HOST": HOST, "STAMPED_HOST": STAMPED_HOST, "PORT": port}
        values |= {"EXPRESSION": EXPRESSION}
        values |= {"ADDRESS_1": ADDRESSES[0], "ADDRESS_2": ADDRESSES[1], "HOSTNAME": socket.gethostname()}
        values |= {"UPSTREAM_PORT": self.upstream_port, "STATUS_PORT": self.status_port}
        values |= {CHECK_PORT_NAME: self.check_server.port} | dict(more or {})
        for name, value in values.items():
            text = text.replace(f"@{name}@", str(value))
        path = self.folder / template
        path.write_text(text)
        return path

    def count_upstream_requests(self) -> int:
        """Read how many requests the servers have seen, this one included."""
        return int(fetch(self.status_port)[1].splitlines()[2].split()[2])


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """One kind of proxy: `find` gives its program, or None where it is not installed."""

    name: str
    find: Callable[[], Program | None]
    build_command: Callable[[Site, Program, int], Command]
    version_arguments: tuple[str, ...] = ("--version",)
    environment: Mapping[str, str] = field(default_factory=dict)
    is_maesh: bool = False

    def prepare(self, site: Site, port: int) -> "Prepared":
        """Write its configuration, and start what it needs beside it: for Maesh, a controller."""
        program = self.find()
        if program is None:
            raise FileNotFoundError(self.name)
        command = self.build_command(site, program, port)
        environment = {**self.environment, "HOME": str(site.folder), "XDG_DATA_HOME": str(site.folder)}
        if self.is_maesh:
            environment |= build_stamp_environment(site.folder)
        return Prepared(name=self.name, command=command, environment=environment, port=port)

    def read_version(self) -> str:
        """Read its version."""
        return read_version([self.find() or self.name, *self.version_arguments])


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A proxy that has only to be started; may be started again once it has ended."""

    name: str
    command: Command
    environment: Mapping[str, str]
    port: int

    def start(self, site: Site) -> subprocess.Popen[bytes]:
        """Start it on its core, without waiting."""
        return site.group.start(self.name, self.command, core=site.proxy_core, environment=self.environment)

    def is_serving(self) -> bool:
        """Return whether it answers, through to a server."""
        return fetch(self.port, host=HOST)[0] == 200


def find_program(name: str, *folders: Path) -> Callable[[], Program | None]:
    """Look for a program where `make peers` puts it, then on the PATH."""
    places = [str(folder) for folder in (*folders, PEERS_VENV / "bin")] + [os.environ.get("PATH", "")]
    return lambda: shutil.which(name, path=os.pathsep.join(places))


def find_envoy() -> Program | None:
    """Look for Envoy itself: what its package installs on the PATH is a Python program that starts it."""
    folders = sorted((PEERS_VENV / "lib").glob("python*/site-packages/envoy/_bin"))
    return find_program("envoy", *folders)()


def build_envoy_command(site: Site, program: Program, port: int) -> Command:
    """Build Envoy's command line: one worker thread, no hot restart."""
    path = site.write("envoy.yaml", port=port)
    return [program, "-c", path, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


def build_traefik_command(site: Site, program: Program, port: int, *, template: str) -> Command:
    """Build Traefik's command line."""
    site.write("traefik-routes.yaml")
    return [program, "--configFile=" + str(site.write(template, port=port))]


def build_aiohttp_command(site: Site, program: Program, port: int) -> Command:
    """Build the command line of the small proxy on aiohttp."""
    servers = [f"http://{address}:{site.upstream_port}" for address in ADDRESSES]
    return [program, PEERS / "aiohttp_proxy.py", str(port), HOST, STAMPED_HOST, *servers]


def build_maesh_command(site: Site, program: Program, port: int, *, plugins: tuple[str, ...] = ()) -> Command:
    """Start a controller that has Maesh serve on the port, and build the proxy's command line.

    `plugins` are flags of plugins that the controller enables; the caller adds them to the command line, too.
    """
    manifests = site.folder / f"manifests-{port}"
    manifests.mkdir()
    (manifests / "bench.json").write_text(json.dumps(build_manifests(site.upstream_port)))
    api_port, admin_port = find_free_port(), find_free_port()
    environment = build_stamp_environment(site.folder)
    command = build_controller_command(manifests, api_port=api_port, http_port=port)
    site.group.start("controller", [*command, "--stamp", *plugins], core=site.load_core, environment=environment)
    wait_until(lambda: fetch(api_port, "/api/status/readiness")[0] == 200, "the controller")
    return [*build_proxy_command(api_port=api_port, admin_port=admin_port), "--stamp"]


def build_stamp_environment(folder: Path) -> dict[str, str]:
    """Install the example plugin into a folder of its own, and put that on Python's path: .venv stays as it is."""
    target = folder / "plugins"
    if not target.exists():
        source = folder / "maesh-stamp"
        shutil.copytree(STAMP_PLUGIN, source, ignore=shutil.ignore_patterns("build", "*.egg-info"))
        command: Command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-build-isolation", "--target", target, source]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    paths = [path for path in (os.environ.get("PYTHONPATH"), str(target)) if path]
    return {"PYTHONPATH": os.pathsep.join(paths)}


@functools.cache
def has_workers() -> bool:
    """Return whether this Maesh has several workers to choose from."""
    done = subprocess.run([MAESH, "proxy", "--help"], capture_output=True, text=True, timeout=30)
    return "--workers" in done.stdout


def build_controller_command(manifests: Path, *, api_port: int, http_port: int) -> Command:
    """Build the command line of a controller on the loopback address."""
    ports: Command = ["--api-host", "127.0.0.1", "--api-port", str(api_port), "--http-port", str(http_port)]
    return [MAESH, "controller", *ports, manifests]


def build_proxy_command(*, api_port: int, admin_port: int, workers: int = 1) -> Command:
    """Build the command line of a proxy on the loopback address."""
    ports = ["--admin-host", "127.0.0.1", "--admin-port", str(admin_port), "--bind", "127.0.0.1"]
    options = ["--workers", str(workers)] if has_workers() else []
    return [MAESH, "proxy", "--endpoint", f"http://127.0.0.1:{api_port}", *ports, *options]


def build_manifests(port: int) -> dict[str, object]:
    """Build the benchmark's services, each with the same two servers."""
    items: list[dict[str, object]] = []
    for name, texts in ROUTES.items():
        annotations = {f"maesh.containo.us/{key}": text for key, text in texts.items()}
        metadata = {"name": name, "namespace": "bench", "annotations": annotations}
        ports = [{"name": "web", "port": 80, "targetPort": port}]
        items.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": ports}})
        items.append(_build_slice(name, port))
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _build_slice(name: str, port: int) -> dict[str, object]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": f"{name}-1", "namespace": "bench", "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": port}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}} for address in ADDRESSES],
    }


def build_nginx_command(site: Site, program: Program, port: int) -> Command:
    """Build nginx's command line."""
    return [program, "-c", site.write("nginx.conf", port=port), "-p", site.folder]


def build_haproxy_command(site: Site, program: Program, port: int) -> Command:
    """Build HAProxy's command line."""
    return [program, "-f", site.write("haproxy.cfg", port=port)]


def build_caddy_command(site: Site, program: Program, port: int) -> Command:
    """Build Caddy's command line."""
    return [program, "run", "--adapter", "caddyfile", "--config", site.write("Caddyfile", port=port)]


def build_proxies() -> dict[str, Proxy]:
    """Name all proxies, by what the tables call them."""
    maesh = Proxy(
        name="maesh",
        find=lambda: MAESH,
        build_command=build_maesh_command,
        version_arguments=("version",),
        is_maesh=True,
    )
    aiohttp = Proxy(
        name="aiohttp",
        find=lambda: sys.executable,
        build_command=build_aiohttp_command,
        version_arguments=("-c", "import aiohttp; print(aiohttp.__version__)"),
    )
    nginx = Proxy(
        name="nginx", find=find_program("nginx"), build_command=build_nginx_command, version_arguments=("-v",)
    )
    haproxy = Proxy(
        name="haproxy", find=find_program("haproxy"), build_command=build_haproxy_command, version_arguments=("-v",)
    )
    envoy = Proxy(name="envoy", find=find_envoy, build_command=build_envoy_command)
    proxies = [maesh, nginx, haproxy, envoy, *_build_proxies_in_go(), aiohttp]
    return {proxy.name: proxy for proxy in proxies}


def _build_proxies_in_go() -> list[Proxy]:
    """Name the proxies that are written in Go, which get one core of its scheduler."""
    commands: dict[str, Callable[[Site, Program, int], Command]] = {
        "traefik": functools.partial(build_traefik_command, template="traefik.yaml"),
        "traefik-fast": functools.partial(build_traefik_command, template="traefik-fast.yaml"),
        "caddy": build_caddy_command,
    }
    return [
        Proxy(
            name=name,
            find=find_program(name.removesuffix("-fast")),
            build_command=command,
            version_arguments=("version",),
            environment=ONE_CORE_OF_GO,
        )
        for name, command in commands.items()
    ]
