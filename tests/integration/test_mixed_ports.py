"""One Service with ports of every kind, through whole commands: each by its own annotations, and on own entrypoints."""

import socket
import threading

import pytest

pytestmark = pytest.mark.integration


@pytest.fixture
def udp_server():
    """Start a server that answers each datagram with itself."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))

        def serve():
            while (received := sock.recvfrom(100))[0] != b"end":
                sock.sendto(b"echo " + received[0], received[1])

        thread = threading.Thread(target=serve)
        thread.start()
        yield sock.getsockname()[1]
        with socket.socket(type=socket.SOCK_DGRAM) as ender:
            ender.sendto(b"end", sock.getsockname())
        thread.join(60)


def ask(entrypoint):
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(60)
        client.sendto(b"hello", ("127.0.0.1", entrypoint))
        return client.recv(100)


def build_mixed(servers, annotations, *, name="mixed", protocols=None):
    """Build a Service with these ports, by name, and the slices with their servers."""
    protocols = protocols or {}
    numbers = dict(zip(servers, range(80, 100), strict=False))
    ports = [{"name": each, "port": numbers[each], "protocol": protocols.get(each, "TCP")} for each in servers]
    metadata = {
        "namespace": "test",
        "annotations": {f"maesh.containo.us/{key}": text for key, text in annotations.items()},
    }
    found = [{"name": each, "port": port, "protocol": protocols.get(each, "TCP")} for each, port in servers.items()]
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, **metadata}, "spec": {"ports": ports}},
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": "test", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "ports": found,
            "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
        },
    ]


def test_http_tcp_and_udp_ports_of_one_service_are_carried_and_follow_changes_of_their_annotations(
    up, get, manifests, free_port, start_upstream, udp_server, wait_until
):
    servers = {"web": start_upstream("web").port, "db": start_upstream("db").port, "dns": udp_server}
    annotations = {"db.traffic-type": "tcp", "dns.traffic-type": "udp", "web.ratelimit-average": "1"}
    annotations |= {"web.ratelimit-burst": "1", "web.ratelimit-period": "1h"}
    manifests.write("mixed.json", build_mixed(servers, annotations, protocols={"dns": "UDP"}))
    tcp_port, udp_port = free_port(), free_port(socket.SOCK_DGRAM)
    mesh = up(
        *(manifests.path, "--limit-http-port", 3, "--tcp-port", tcp_port, "--limit-tcp-port", 1),
        *("--set", f"udp.port={udp_port}"),
    )
    (service,) = mesh.services
    assert {each["name"]: (each.get("trafficType"), each["entrypoint"]) for each in service["ports"]} == {
        "web": (None, mesh.http_port),
        "db": ("tcp", tcp_port),
        "dns": ("udp", udp_port),
    }
    assert service["errors"] == service["notices"] == []
    assert get(mesh.http_port, "mixed.test.maesh").text == "web"
    assert get(mesh.http_port, "mixed.test").status == 429
    assert [get(tcp_port, "any.host").text for _ in range(3)] == ["db"] * 3
    assert ask(udp_port) == b"echo hello"
    del annotations["db.traffic-type"]
    manifests.write("mixed.json", build_mixed(servers, annotations, protocols={"dns": "UDP"}))
    wait_until(lambda: get(mesh.http_port + 1, "mixed.test.maesh").text == "db", "the port as HTTP")
    wait_until(lambda: get(tcp_port, "any.host").status == 0, "the end of its entrypoint")
    assert ask(udp_port) == b"echo hello"


def test_every_host_on_an_own_entrypoint_is_its_services_and_the_shared_one_still_knows_names(
    up, get, manifests, free_port, start_upstream, build_service, wait_until
):
    own_port = free_port()
    one, two = (start_upstream(name).port for name in ("one", "two"))
    manifests.write("one.json", build_service("one", one, annotations={"entrypoint": "own"}))
    manifests.write("two.json", build_service("two", two))
    mesh = up(manifests.path, "--limit-http-port", 1, "--own-http-port", own_port, "--limit-own-http-port", 1)
    ports = {each["name"]: each["ports"][0] for each in mesh.services}
    assert (ports["one"]["entrypoint"], ports["one"]["hasOwnEntrypoint"]) == (own_port, True)
    assert ports["two"]["entrypoint"] == mesh.http_port
    for host in ("one.test.maesh", "two.test.maesh", "two", "10.1.2.3", "example.org:81"):
        assert get(own_port, host).text == "one", host
    for host in ("one.test.maesh", "one.test", "one.test.svc", "one.test.svc.cluster.local:80"):
        assert get(mesh.http_port, host).text == "one", host
    assert get(mesh.http_port, "two.test").text == "two"
    assert get(mesh.http_port, "example.org").status == 404
    manifests.write("one.json", build_service("one", one))
    wait_until(lambda: get(own_port, "two").status == 0, "the end of the own entrypoint")
    assert get(mesh.http_port, "one.test.maesh").text == "one"


def test_own_entrypoints_can_be_the_default_of_the_mesh(up, get, manifests, free_port, start_upstream, build_service):
    own_port = free_port()
    manifests.write("one.json", build_service("one", start_upstream("one").port))
    mesh = up(
        *(manifests.path, "--limit-http-port", 1, "--default-entrypoint", "own"),
        *("--own-http-port", own_port, "--limit-own-http-port", 1),
    )
    assert mesh.services[0]["ports"][0]["entrypoint"] == own_port
    assert get(own_port, "anything").text == "one"
