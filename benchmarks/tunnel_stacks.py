"""Two hops of each proxy with mutual TLS between them, on one core: how each is found and started.

Takes a site and the configurations of benchmarks/peers; gives running stacks. The first hop routes by host and adds the
forwarded headers, as in the other benchmarks; the second one passes requests on to the two servers. Measures nothing.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import trustme
from processes import MAESH, fetch, find_free_port, wait_until
from proxies import ADDRESSES, Command, Program, Site, find_envoy, find_program

RECEIVER = "127.0.4.2"
NODES = {"sender": "127.0.4.1", "receiver": RECEIVER}
ALPN = {"http1": "http/1.1", "h2": "h2"}
ENVOY_OPTIONS = {"http1": "http_protocol_options", "h2": "http2_protocol_options"}


@dataclass(frozen=True, kw_only=True)
class RunningStack:
    """Both hops: `port` is the first one's for clients, `tls_port` the second one's at the address RECEIVER."""

    name: str
    port: int
    tls_port: int
    sender_pid: int
    receiver_pid: int
    first_bytes: bytes
    """What a client of the second hop sends after its handshake, so that the hop answers something."""
    alpn: str
    api_port: int = 0


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One kind of proxy as both hops; `protocol` is spoken between them."""

    name: str
    find: Callable[[], Program | None]
    start: Callable[["Stack", Site, Program], RunningStack]
    protocol: str = "h2"


EMPTY: Mapping[str, str] = {}
HTTP1_REQUEST = b"GET /nothing HTTP/1.1\r\nHost: bench\r\n\r\n"
HTTP2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def write_certificates(site: Site) -> None:
    """Write an authority, and a certificate with its key for each hop of the peers: ECDSA, P-256."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    authority.cert_pem.write_to_path(str(site.folder / "ca.pem"))
    for name in NODES:
        issued = authority.issue_cert(f"{name}.bench", key_type=trustme.KeyType.ECDSA)
        (site.folder / f"{name}.pem").write_bytes(issued.private_key_and_cert_chain_pem.bytes())


def _start_peer(stack: Stack, site: Site, build: Callable[[Path], Command], kind: str, suffix: str) -> RunningStack:
    port, tls_port = find_free_port(), find_free_port()
    values = {"RECEIVER": RECEIVER, "TLS_PORT": tls_port, "ALPN": ALPN[stack.protocol]}
    values["PROTOCOL"] = ENVOY_OPTIONS[stack.protocol]
    pids = []
    for hop in ("receiver", "sender"):
        written = site.write(f"{kind}-mtls-{hop}.{suffix}", port=port, more=values)
        path = written.rename(site.folder / f"{stack.name}-{hop}.{suffix}")
        pids.append(site.group.start(f"{stack.name}-{hop}", build(path), core=site.proxy_core).pid)
    first = HTTP1_REQUEST if stack.protocol == "http1" else HTTP2_START
    return RunningStack(
        name=stack.name,
        port=port,
        tls_port=tls_port,
        sender_pid=pids[1],
        receiver_pid=pids[0],
        first_bytes=first,
        alpn=ALPN[stack.protocol],
    )


def _start_nginx(stack: Stack, site: Site, program: Program) -> RunningStack:
    return _start_peer(stack, site, lambda path: [program, "-c", path, "-p", site.folder], "nginx", "conf")


def _start_haproxy(stack: Stack, site: Site, program: Program) -> RunningStack:
    return _start_peer(stack, site, lambda path: [program, "-f", path], "haproxy", "cfg")


def _start_envoy(stack: Stack, site: Site, program: Program) -> RunningStack:
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return _start_peer(stack, site, lambda path: [program, "-c", path, *options], "envoy", "yaml")


def _start_maesh(
    stack: Stack, site: Site, program: Program, *, mode: str = "strict", is_judged: bool = False
) -> RunningStack:
    """Start a controller and two proxies; with the mode `off`, all requests pass the first one alone.

    `is_judged` enables access control with a rule about each request, so the second one judges them too.
    """
    port, tls_port, api_port = find_free_port(), find_free_port(), find_free_port()
    folder = site.folder / stack.name
    (folder / "manifests").mkdir(parents=True)
    (folder / "manifests" / "bench.json").write_text(
        json.dumps(build_manifests(site.upstream_port, mode, build_rules() if is_judged else []))
    )
    (folder / "tokens").write_text("".join(f"{node} token-of-the-{node}\n" for node in NODES))
    (folder / "tokens").chmod(0o600)
    shared: Command = ["--mtls", "--set", f"mtls.port={tls_port}", *(["--acl"] if is_judged else [])]
    api: Command = ["--api-host", "127.0.0.1", "--api-port", str(api_port), "--http-port", str(port)]
    authority: Command = ["--set", f"mtls.ca={folder / 'ca'}", "--set", f"mtls.tokens={folder / 'tokens'}"]
    command: Command = [program, "controller", *api, *shared, *authority, folder / "manifests"]
    site.group.start(f"{stack.name}-controller", command, core=site.load_core)
    wait_until(lambda: fetch(api_port, "/api/status/readiness")[0] == 200, "the controller")
    pids = {}
    for node, address in NODES.items():
        admin_port = find_free_port()
        (folder / node).write_text(f"token-of-the-{node}")
        ports: Command = ["--admin-host", "127.0.0.1", "--admin-port", str(admin_port), "--workers", "1"]
        where: Command = ["--bind", "127.0.0.1" if node == "sender" else address, "--node", node]
        command = [program, "proxy", "--endpoint", f"http://127.0.0.1:{api_port}", *where, *ports, *shared]
        command += ["--set", f"mtls.token={folder / node}"]
        pids[node] = site.group.start(f"{stack.name}-{node}", command, core=site.proxy_core).pid
        wait_until(lambda admin_port=admin_port: has_certificate(admin_port), f"a certificate of {node}")  # type: ignore[misc]
    return RunningStack(
        name=stack.name,
        port=port,
        tls_port=tls_port,
        sender_pid=pids["sender"],
        receiver_pid=pids["receiver"],
        first_bytes=HTTP2_START,
        alpn="h2",
        api_port=api_port,
    )


def has_certificate(admin_port: int) -> bool:
    """Return whether a proxy has its configuration and its certificate."""
    status, body = fetch(admin_port, "/status")
    found = json.loads(body) if status == 200 else {}
    return bool(found.get("services", {}).get("mtls", {}).get("certificate") == "valid")


def build_pod(
    name: str, node: str, address: str, *, namespace: str, account: str = "default", labels: Mapping[str, str] = EMPTY
) -> dict[str, object]:
    """Build a running pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "spec": {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "main"}]},
        "status": {"podIP": address, "podIPs": [{"ip": address}], "phase": "Running"},
    }


def build_rules() -> list[dict[str, object]]:
    """Build the rule that lets the load's client send its requests, and the pods that it is about."""
    owner = {"kind": "ServiceAccount", "namespace": "bench"}
    match = {"name": "all", "pathRegex": "/.*", "methods": ["GET", "POST"]}
    client = build_pod("client", "sender", "127.0.0.1", namespace="bench", account="client")
    servers = [
        build_pod(f"server-{number}", "receiver", address, namespace="bench", account="server")
        for number, address in enumerate(ADDRESSES)
    ]
    group: dict[str, object] = {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "routes", "namespace": "bench"},
        "spec": {"matches": [match]},
    }
    target: dict[str, object] = {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": "target", "namespace": "bench"},
        "spec": {
            "destination": owner | {"name": "server"},
            "sources": [owner | {"name": "client"}],
            "rules": [{"kind": "HTTPRouteGroup", "name": "routes", "matches": ["all"]}],
        },
    }
    return [client, *servers, group, target]


def build_manifests(port: int, mode: str, others: Sequence[dict[str, object]] = ()) -> dict[str, object]:
    """Build the service, whose servers are on the second node, the proxies of both nodes, and add other objects."""
    proxies = [
        build_pod(f"proxy-{node}", node, address, namespace="maesh", labels={"maesh.io/tunnel": "15008"})
        for node, address in NODES.items()
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "bench",
            "namespace": "bench",
            "annotations": {"maesh.containo.us/encryption": mode},
        },
        "spec": {"ports": [{"name": "web", "port": 80, "targetPort": port}]},
    }
    endpoints = [
        {
            "addresses": [address],
            "nodeName": "receiver",
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": f"server-{number}", "namespace": "bench"},
        }
        for number, address in enumerate(ADDRESSES)
    ]
    slices = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "bench-1", "namespace": "bench", "labels": {"kubernetes.io/service-name": "bench"}},
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": port}],
        "endpoints": endpoints,
    }
    return {"apiVersion": "v1", "kind": "List", "items": [*proxies, service, slices, *others]}


def build_stacks() -> list[Stack]:
    """Name all stacks, by what the tables call them."""
    maesh: Callable[[], Program | None] = lambda: MAESH if os.path.exists(MAESH) else None  # noqa: E731
    return [
        Stack(name="maesh", find=maesh, start=_start_maesh),
        Stack(name="maesh-judged", find=maesh, start=lambda *given: _start_maesh(*given, is_judged=True)),
        Stack(name="maesh-clear", find=maesh, start=lambda *given: _start_maesh(*given, mode="off")),
        Stack(name="nginx", find=find_program("nginx"), start=_start_nginx, protocol="http1"),
        Stack(name="haproxy", find=find_program("haproxy"), start=_start_haproxy, protocol="http1"),
        Stack(name="haproxy-h2", find=find_program("haproxy"), start=_start_haproxy),
        Stack(name="envoy-h2", find=find_envoy, start=_start_envoy),
    ]
