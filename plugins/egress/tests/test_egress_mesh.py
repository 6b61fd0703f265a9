"""Servers outside of a real mesh: a DNS server of the test names them, and some speak TLS."""

import contextlib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme

from maesh_testing import RunningMesh, build_service, find_free_port, send_request
from maesh_testing.running_mesh import NAMESPACE, build_pod
from maesh_testing.upstream import Upstream

from .dns_server import DnsServer

pytestmark = pytest.mark.integration

NAME = "api.example.com"
ALLOW = ("--egress", "--set", "egress.allow=*.example.com", "--set", "egress.networks=127.0.0.0/8")


class TlsUpstream(Upstream):
    """A server with a certificate; `names` are those that clients asked for (SNI)."""

    def __init__(self, name: str, port: int, authority: trustme.CA, *, certificate: str) -> None:
        self.names: list[str | None] = []
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(certificate).configure_cert(self.context)
        self.context.sni_callback = lambda _, asked, __: self.names.append(asked)
        super().__init__(name, port)

    def get_request(self) -> tuple[socket.socket, Any]:
        accepted, address = super().get_request()
        try:
            return self.context.wrap_socket(accepted, server_side=True), address
        except BaseException:
            accepted.close()
            raise


@pytest.fixture
def serve() -> Iterator[Callable[[Upstream], Upstream]]:
    with contextlib.ExitStack() as stack:

        def add(upstream: Upstream) -> Upstream:
            stack.callback(upstream.close)
            return upstream

        yield add


@pytest.fixture
def tls_servers(
    dns_server: DnsServer, serve: Callable[[Upstream], Upstream], tmp_path: Path
) -> tuple[Path, TlsUpstream, TlsUpstream]:
    """Start two servers; return the root certificate, the one for `NAME`, and one with a certificate for its address.

    The other one is named `wrong.example.com`, so its certificate must not be accepted.
    """
    authority = trustme.CA()
    root = tmp_path / "root.pem"
    authority.cert_pem.write_to_path(str(root))
    good = TlsUpstream("good", find_free_port(), authority, certificate=NAME)
    wrong = TlsUpstream("wrong", find_free_port(), authority, certificate="127.0.0.1")
    serve(good)
    serve(wrong)
    dns_server.set(NAME, "127.0.0.1")
    dns_server.set("wrong.example.com", "127.0.0.1")
    return root, good, wrong


def build_external(
    name: str, host: str, port: int, *, annotations: Mapping[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    full = {f"maesh.containo.us/{key}": value for key, value in (annotations or {}).items()}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE, "annotations": full},
        "spec": {"type": "ExternalName", "externalName": host, "ports": [{"port": 80, "targetPort": port}], **fields},
    }


def build_names(name: str, *hosts: str, port: int) -> list[dict[str, Any]]:
    service, *_ = build_service(name)
    return [
        service,
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-names",
                "namespace": NAMESPACE,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "FQDN",
            "ports": [{"name": "web", "port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [host]} for host in hosts],
        },
    ]


def resolve_with(server: DnsServer, *, timeout: str = "30s") -> tuple[str, ...]:
    """Build the flags for a DNS server, with a long time-out for busy machines."""
    values = (f"resolvers={server.address}", "shortest-ttl=200ms", f"timeout={timeout}")
    return tuple(text for value in values for text in ("--set", f"egress.{value}"))


def get(mesh: RunningMesh, service: str, path: str = "/", **arguments: Any) -> Any:
    return mesh.get(path, host=f"{service}.{NAMESPACE}.maesh", **arguments)


def test_an_outside_server_gets_its_own_host_and_nothing_about_the_client(start_mesh, run_maesh, dns_server, serve):
    outside = serve(Upstream("outside", find_free_port()))
    dns_server.set(NAME, "127.0.0.1")
    objects = [
        build_external("api", NAME, outside.port, annotations={"retry-attempts": "2"}),
        build_external("kept", NAME, outside.port, annotations={"egress-host": "keep", "egress-forwarded": "true"}),
        build_external("other", NAME, outside.port, annotations={"egress-host": "www.example.com"}),
        build_external("denied", "evil.test", outside.port),
        *build_names("named", NAME, "gone.example.com", port=outside.port),
    ]
    mesh = start_mesh(*ALLOW, *resolve_with(dns_server), objects=objects)
    headers = get(mesh, "api", "/headers", headers={"X-Mine": "1"}).json
    assert headers["host"] == f"{NAME}:{outside.port}"
    assert headers["x-mine"] == "1"
    assert [name for name in headers if name.startswith("x-forwarded") or name == "x-real-ip"] == []
    headers = get(mesh, "kept", "/headers").json
    assert headers["host"] == f"kept.{NAMESPACE}.maesh"
    assert headers["x-forwarded-for"] == "127.0.0.1"
    assert get(mesh, "other", "/headers").json["host"] == f"www.example.com:{outside.port}"
    assert get(mesh, "named").text == "outside"
    answer = get(mesh, "denied")
    assert (answer.status, answer.headers["X-Maesh-Reason"]) == (
        404,
        "externalName 'evil.test' is not allowed by the setting egress.allow",
    )
    endpoint = f"http://127.0.0.1:{mesh.api_port}"
    explained = run_maesh("explain", "127.0.0.1", f"api.{NAMESPACE}", "--endpoint", endpoint)
    assert f"{NAME}:{outside.port}" in explained.stdout
    assert 'maesh_egress_lookups_total{result="ok"}' in mesh.read_metrics()


def test_a_service_follows_dns_and_survives_its_failure(start_mesh, dns_server, serve):
    port = find_free_port()
    first, second = (serve(Upstream(name, port, address)) for name, address in (("a", "127.0.0.1"), ("b", "127.0.0.2")))
    dns_server.set(NAME, "127.0.0.1", ttl=0)
    flags = resolve_with(dns_server, timeout="2s")
    mesh = start_mesh(*ALLOW, *flags, objects=[build_external("api", NAME, port)])
    mesh.wait_until(lambda: get(mesh, "api").text == "a", "the first address")
    dns_server.set(NAME, "127.0.0.2", ttl=0)
    mesh.wait_until(lambda: get(mesh, "api").text == "b", "the new address")
    dns_server.is_away = True
    count = len(dns_server.questions)
    mesh.wait_until(lambda: len(dns_server.questions) > count + 2, "lookups without an answer")
    assert get(mesh, "api").text == "b"
    dns_server.records.clear()
    dns_server.is_away = False
    answer = mesh.wait_until(
        lambda: answer if (answer := get(mesh, "api")).status == 503 else None, "the name to be gone"
    )
    assert answer.headers["X-Maesh-Reason"] == f"{NAME} does not exist"
    dns_server.set(NAME, "10.9.8.7", ttl=0)
    mesh.wait_until(
        lambda: "egress.networks does not allow" in get(mesh, "api").headers.get("X-Maesh-Reason", ""),
        "an address that may not be used",
    )
    assert min(first.count, second.count) > 0


def test_tls_is_opened_with_the_name_which_the_certificate_must_have(start_mesh, dns_server, tls_servers):
    root, good, wrong = tls_servers
    objects = [
        build_external("good", NAME, good.port, annotations={"scheme": "https"}),
        build_external("wrong", "wrong.example.com", wrong.port, annotations={"scheme": "https"}),
    ]
    mesh = start_mesh(*ALLOW, *resolve_with(dns_server), "--root-ca", root, "--insecure-skip-verify", objects=objects)
    assert get(mesh, "good", "/headers").json["host"] == f"{NAME}:{good.port}"
    assert good.names == [NAME]
    answer = get(mesh, "wrong")
    assert answer.status == 502
    assert answer.headers["X-Maesh-Reason"] == "the upstream's certificate is not for wrong.example.com"
    assert (wrong.names, wrong.count) == (["wrong.example.com"], 0)


def test_traffic_is_split_between_servers_of_the_mesh_and_outside_servers(start_mesh, dns_server, serve):
    outside = serve(Upstream("outside", find_free_port()))
    dns_server.set(NAME, "127.0.0.1")
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "app", "namespace": NAMESPACE},
        "spec": {
            "parentRefs": [{"group": "", "kind": "Service", "name": "app"}],
            "rules": [{"backendRefs": [{"name": "app", "port": 80}, {"name": "api", "port": 80}]}],
        },
    }
    mesh = start_mesh(
        *ALLOW, *resolve_with(dns_server), objects=[build_external("api", NAME, outside.port), route], servers=1
    )
    hosts = [mesh.get("/headers").json["host"] for _ in range(4)]
    assert sorted(hosts) == sorted(2 * [f"{NAME}:{outside.port}", f"app.{NAMESPACE}.maesh"])


def test_tcp_connections_reach_outside_servers(start_mesh, dns_server, serve):
    outside = serve(Upstream("outside", find_free_port()))
    dns_server.set(NAME, "127.0.0.1")
    tcp_port, limits = find_free_port(), ("--limit-tcp-port", 5, "--limit-http-port", 5)
    external = build_external("api", NAME, outside.port, annotations={"traffic-type": "tcp"})
    mesh = start_mesh(*ALLOW, *resolve_with(dns_server), *limits, "--tcp-port", tcp_port, objects=[external])
    (port,) = mesh.describe_service("api")["ports"]
    mesh.wait_until(lambda: send_request(port["entrypoint"]).text == "outside", "the name to be resolved")


def send_secret(port: int) -> bytes:
    """Send bytes that must not arrive anywhere; return what comes back up to the end."""
    answer = b""
    with contextlib.suppress(ConnectionError), socket.create_connection(("127.0.0.1", port), 60) as client:
        client.sendall(b"secret")
        while data := client.recv(100):
            answer += data
    return answer


def test_tcp_clients_in_clear_reach_outside_servers_that_speak_tls(
    start_mesh, run_maesh, dns_server, tls_servers, tmp_path
):
    root, good, wrong = tls_servers
    annotations = {"traffic-type": "tcp", "scheme": "tls"}
    named = {**annotations, "server-name": NAME}
    objects = [
        build_external("good", NAME, good.port, annotations=annotations),
        build_external("named", "wrong.example.com", good.port, annotations=named),
        build_external("wrong", "wrong.example.com", wrong.port, annotations=annotations),
    ]
    limits = ("--limit-tcp-port", 5, "--limit-http-port", 5, "--tcp-port", find_free_port())
    log = tmp_path / "access.log"
    logging = ("--access-log", "--set", f"access-log.file={log}")
    flags = (*limits, "--root-ca", root, "--insecure-skip-verify", *logging)
    mesh = start_mesh(*ALLOW, *resolve_with(dns_server), *flags, objects=objects)
    entrypoints = {name: mesh.describe_service(name)["ports"][0]["entrypoint"] for name in ("good", "named", "wrong")}
    for name in ("good", "named"):  # a connection is reset until the name is resolved
        mesh.wait_until(lambda: send_request(entrypoints[name]).text == "good", f"an answer of {name}")  # noqa: B023
    assert good.names == [NAME, NAME]
    assert send_secret(entrypoints["wrong"]) == b""
    assert (wrong.names, wrong.count) == (["wrong.example.com"], 0)
    sample = f'maesh_tcp_failed_handshakes_total{{reason="certificate",service="{NAMESPACE}/wrong:80"}} 1'
    mesh.wait_until(lambda: sample in mesh.read_metrics(), "the failed handshake")
    mesh.wait_until(
        lambda: log.exists() and "certificate is not for wrong.example.com" in log.read_text(), "the reason in the log"
    )
    api = f"http://127.0.0.1:{mesh.api_port}"
    explained = run_maesh("explain", "127.0.0.1", f"good.{NAMESPACE}", "--endpoint", api)
    assert f"{NAME}:{good.port}  tls (annotation scheme)" in explained.stdout


def test_access_control_decides_who_reaches_outside_servers(start_mesh, dns_server, serve):
    outside = serve(Upstream("outside", find_free_port()))
    dns_server.set(NAME, "127.0.0.1")
    target = {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": "api", "namespace": NAMESPACE},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": "partner", "namespace": NAMESPACE},
            "sources": [{"kind": "ServiceAccount", "name": "web", "namespace": NAMESPACE}],
        },
    }
    objects = [
        build_external("api", NAME, outside.port, annotations={"service-account": "partner"}),
        build_external("closed", NAME, outside.port),
        target,
        build_pod("web", "127.0.3.1", "web"),
        build_pod("other", "127.0.3.2", "other"),
    ]
    mesh = start_mesh("--acl", *ALLOW, *resolve_with(dns_server), objects=objects)
    assert get(mesh, "api", client="127.0.3.1").text == "outside"
    assert get(mesh, "api", client="127.0.3.2").status == 403
    assert get(mesh, "closed", client="127.0.3.1").status == 403
    (notice,) = mesh.describe_service("closed")["notices"]
    assert "service-account" in notice


def test_middlewares_and_copies_work_with_outside_servers(start_mesh, dns_server, serve):
    outside = serve(Upstream("outside", find_free_port()))
    dns_server.set(NAME, "127.0.0.1")
    objects = [
        build_external("changed", NAME, outside.port, annotations={"request-headers": "set X-Team=payments"}),
        build_external("rewritten", NAME, outside.port, annotations={"rewrite-host": "b.example.com"}),
    ]
    mirrored = {"mirror-service": f"changed.{NAMESPACE}:80"}
    mesh = start_mesh(*ALLOW, *resolve_with(dns_server), objects=objects, annotations=mirrored)
    headers = get(mesh, "changed", "/headers").json
    assert (headers["host"], headers["x-team"]) == (f"{NAME}:{outside.port}", "payments")
    assert get(mesh, "rewritten", "/headers").json["host"] == "b.example.com"
    count = outside.count
    assert mesh.get("/copied").status == 200
    mesh.wait_until(lambda: outside.count > count, "the copy")
    copy = outside.requests[-1]
    assert (copy.path, copy.headers["host"]) == ("/copied", f"{NAME}:{outside.port}")
    assert "x-forwarded-for" not in copy.headers


def test_udp_sessions_reach_outside_servers(start_mesh, dns_server):
    dns_server.set(NAME, "127.0.0.1")
    udp_port, limits = find_free_port(), ("--limit-http-port", 5, "--set", "udp.limit=5")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, socket.socket(type=socket.SOCK_DGRAM) as client:
        server.bind(("127.0.0.1", 0))
        server.settimeout(60)
        client.settimeout(60)
        external = build_external("api", NAME, server.getsockname()[1], annotations={"traffic-type": "udp"})
        external["spec"]["ports"][0]["protocol"] = "UDP"
        flags = (*limits, "--set", f"udp.port={udp_port}")
        mesh = start_mesh(*ALLOW, *resolve_with(dns_server), *flags, objects=[external])
        (port,) = mesh.describe_service("api")["ports"]
        client.sendto(b"question", ("127.0.0.1", port["entrypoint"]))
        data, peer = server.recvfrom(100)
        server.sendto(data + b" answered", peer)
        assert client.recv(100) == b"question answered"


def test_without_the_plugin_nothing_outside_is_carried(start_mesh, start_upstream):
    server = start_upstream("app")
    objects = [build_external("api", NAME, server.port), *build_names("named", NAME, port=server.port)]
    mesh = start_mesh(objects=objects)
    assert get(mesh, "api").status == 404
    assert get(mesh, "named").status == 503
    assert "plugin egress" in mesh.describe_service("named")["notices"][0]
