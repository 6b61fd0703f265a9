"""Access control through a real mesh, with pods on addresses of their own, and every way around it we thought of."""

import contextlib
import itertools
import socket

import pytest

from maesh_testing import build_pod, build_service, find_free_port, send_request

CLIENT, STRANGER, SERVER = "127.0.1.1", "127.0.1.2", "127.0.2.1"


def build_target(name, sources, rules=(), *, account="server"):
    return {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": name, "namespace": "test"},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": account, "namespace": "test"},
            "sources": [{"kind": "ServiceAccount", "name": each, "namespace": "test"} for each in sources],
            **({"rules": [{"kind": kind, "name": rule} for kind, rule in rules]} if rules else {}),
        },
    }


def build_group(*matches):
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "api", "namespace": "test"},
        "spec": {"matches": [{"name": f"m{number}", **match} for number, match in enumerate(matches)]},
    }


def allow(address, *rules):
    """Build a pod at an address, and the target that lets it in."""
    return [build_pod("client", address, "caller"), build_target("open", ["caller"], rules)]


@pytest.fixture
def start_guarded(start_mesh, start_upstream):
    """Start a mesh with `--acl` in front of one server pod, and a stranger's pod beside."""

    def start(*objects, flags=(), annotations=None):
        upstream = start_upstream("app-1", SERVER)
        stranger = build_pod("stranger", STRANGER, "other")
        return start_mesh(
            "--acl", *flags, servers=[upstream], account="server", objects=[stranger, *objects], annotations=annotations
        )

    return start


def test_only_the_pods_of_an_allowed_account_are_let_in_and_the_denied_are_counted(start_guarded):
    mesh = start_guarded(*allow(CLIENT))
    assert mesh.get(client=CLIENT).text == "app-1"
    assert [mesh.get(client=client, host="app").status for client in (STRANGER, "127.0.0.1")] == [403, 404]
    denied = mesh.get(client=STRANGER)
    assert (denied.status, denied.headers["X-Maesh-Reason"][:18]) == (403, "access denied: no ")
    assert mesh.get().status == 403
    assert mesh.upstreams[0].count == 1
    assert 'maesh_acl_denied_total{reason="client",service="test/app:80"} 3.0' in mesh.read_metrics()


def test_an_empty_mesh_allows_no_client(start_guarded):
    mesh = start_guarded()
    assert {mesh.get(client=client).status for client in (CLIENT, STRANGER, "127.0.0.1")} == {403}
    assert mesh.upstreams[0].count == 0


def test_forged_headers_change_nothing(start_guarded):
    mesh = start_guarded(*allow(CLIENT))
    for name in ("X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Client-Ip", "True-Client-Ip"):
        assert mesh.get(client=STRANGER, headers={name: CLIENT}).status == 403


def send_raw(mesh, data, client):
    """Send bytes from an address; return the status that came back first, 0 for none."""
    with socket.create_connection(("127.0.0.1", mesh.http_port), timeout=60, source_address=(client, 0)) as sock:
        sock.sendall(data)
        with contextlib.suppress(ConnectionError):
            answer = sock.recv(4096)
            return int(answer.split(b" ")[1]) if answer else 0
    return 0


@pytest.mark.parametrize(
    "head",
    [
        b"GET /admin HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n",
        b"GET http://app.test.maesh/admin HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n",
        b"GET http://app.test.maesh/admin HTTP/1.1\r\nHost: other.test.maesh\r\n\r\n",
        b"GET /api/../admin HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n",
        b"GET /api/%2e%2e/admin HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n",
        b"GET //api HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n",
        b"GET /API HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n",
        b"GET /admin?/api HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n",
        b"POST /api HTTP/1.1\r\nHost: app.test.maesh\r\nX-HTTP-Method-Override: GET\r\nContent-Length: 0\r\n\r\n",
        b"get /api HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: APP.TEST.MAESH.:80\r\nX: a\r\n b\r\n\r\n",
        b"GET /api HTTP/1.1\r\nHost: app.test.maesh\r\nHost: other\r\n\r\n",
        b"GET  /api HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n",
    ],
)
def test_no_spelling_of_a_request_gets_past_the_rules(start_guarded, head):
    mesh = start_guarded(
        *allow(CLIENT, ("HTTPRouteGroup", "api")), build_group({"pathRegex": "/api", "methods": ["GET"]})
    )
    assert mesh.get("/api", client=CLIENT).status == 200
    assert 400 <= send_raw(mesh, head, CLIENT) < 600
    assert mesh.upstreams[0].count == 1


@pytest.mark.parametrize(
    "annotations", [{"ratelimit-average": "-1"}, {"traffic-type": "HTTP"}, {"traffic-type": "carrier-pigeon"}]
)
def test_a_service_with_an_error_is_403_and_no_more_open_than_before(start_guarded, annotations):
    mesh = start_guarded(*allow(CLIENT), annotations=annotations)
    answer = mesh.get(client=CLIENT)
    assert answer.status == 403
    assert next(iter(annotations)) in answer.headers["X-Maesh-Reason"] or "carrier-pigeon" in answer.text


def test_a_slip_in_a_rule_closes_and_its_error_is_on_the_service_and_in_the_log(start_guarded):
    pod, target = allow(CLIENT)
    mesh = start_guarded(pod, target)
    assert mesh.get(client=CLIENT).status == 200
    target["rules"] = [{"kind": "HTTPRouteGroup", "name": "api"}]
    mesh.manifests.write("more.json", [pod, target])
    mesh.wait_until(lambda: mesh.get(client=CLIENT).status == 403, "the slip to close")
    error = "rules: unknown field; it belongs at spec.rules"
    assert f"TrafficTarget open@test: {error}; it grants nothing" in mesh.describe_service()["notices"]
    mesh.wait_until(lambda: f"TrafficTarget 'open' is not used: {error}" in mesh.command.stderr, "the log")


def test_a_permission_that_is_taken_away_is_gone_and_one_that_is_given_counts(start_guarded):
    mesh = start_guarded(*allow(CLIENT))
    assert mesh.get(client=CLIENT).status == 200
    mesh.manifests.write("more.json", [build_pod("client", CLIENT, "caller")])
    mesh.wait_until(lambda: mesh.get(client=CLIENT).status == 403, "no permission")
    mesh.manifests.write("more.json", allow(STRANGER))
    mesh.wait_until(lambda: mesh.get(client=STRANGER).status == 200, "the other's permission")
    assert mesh.get(client=CLIENT).status == 403


def test_an_address_that_another_pod_has_now_is_not_let_in_any_more(start_guarded):
    mesh = start_guarded(*allow(CLIENT))
    assert mesh.get(client=CLIENT).status == 200
    mesh.manifests.write("more.json", [build_pod("heir", CLIENT, "other"), build_target("open", ["caller"])])
    mesh.wait_until(lambda: mesh.get(client=CLIENT).status == 403, "the heir denied")


def open_upgrade(mesh, client):
    sock = socket.create_connection(("127.0.0.1", mesh.http_port), timeout=60, source_address=(client, 0))
    sock.sendall(b"GET / HTTP/1.1\r\nHost: app.test.maesh\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
    return sock


def build_stream(address, port):
    objects = build_service("app", [(address, port)], annotations={"traffic-type": "tcp"}, account="server")
    route = {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "TCPRoute",
        "metadata": {"name": "all", "namespace": "test"},
    }
    return [*objects, route]


def test_tcp_is_judged_by_source_and_open_connections_end_with_their_permission(start_guarded):
    with socket.create_server((SERVER, 0)) as server:
        server.settimeout(5)
        mesh = start_guarded()
        stream = build_stream(SERVER, server.getsockname()[1])
        mesh.manifests.write("app.json", stream)
        mesh.manifests.write("more.json", allow(CLIENT, ("TCPRoute", "all")))
        mesh.wait_until(lambda: mesh.describe_service()["trafficType"] == "tcp", "a TCP service")
        port = mesh.wait_until(lambda: mesh.describe_service()["ports"][0].get("entrypoint"), "an entrypoint")

        def connect(client):
            return socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(client, 0))

        def is_open():
            with contextlib.suppress(OSError), connect(CLIENT) as sock, server.accept()[0] as peer:
                peer.sendall(b"hello")
                return sock.recv(5) == b"hello"
            return False

        mesh.wait_until(is_open, "the client let in")
        with contextlib.suppress(ConnectionError), connect(STRANGER) as sock:
            assert sock.recv(5) == b""
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()
        with connect(CLIENT) as sock:
            server.settimeout(5)
            peer, _ = server.accept()
            mesh.manifests.write("more.json", [build_pod("client", CLIENT, "caller")])
            with contextlib.suppress(ConnectionError):
                assert sock.recv(5) == b""
            peer.close()


@pytest.mark.parametrize("is_begun", [True, False])
def test_requests_under_way_end_with_their_permission(start_guarded, is_begun):
    """A response that has begun is cut where it is; before that the answer is 403."""
    with socket.create_server((SERVER, 0)) as server:
        server.settimeout(0.3)
        mesh = start_guarded()
        mesh.manifests.write("app.json", build_service("app", [server.getsockname()], account="server"))
        mesh.manifests.write("more.json", allow(CLIENT))

        def begin():
            """Send a request; return the client's and the server's side once it gets that far."""
            sock = socket.create_connection(("127.0.0.1", mesh.http_port), timeout=60, source_address=(CLIENT, 0))
            sock.sendall(b"GET / HTTP/1.1\r\nHost: app.test.maesh\r\n\r\n")
            with contextlib.suppress(TimeoutError):
                return sock, server.accept()[0]
            sock.close()
            return None

        sock, peer = mesh.wait_until(begin, "the client let in")
        with sock, peer:
            peer.settimeout(5)
            assert peer.recv(4096).startswith(b"GET / ")
            if is_begun:
                peer.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
                assert sock.recv(4096).startswith(b"HTTP/1.1 200 ")
            mesh.manifests.write("more.json", [build_pod("client", CLIENT, "caller")])
            if is_begun:
                with contextlib.suppress(ConnectionError):
                    assert sock.recv(5) == b""
            else:
                assert sock.recv(4096).startswith(b"HTTP/1.1 403 ")
            with contextlib.suppress(ConnectionError):
                assert peer.recv(5) == b""


@pytest.mark.parametrize(
    ("controller", "proxy", "status"), [("--no-acl", "--acl", 403), ("--acl", "--no-acl", 503), ("--acl", "--acl", 200)]
)
def test_one_half_alone_allows_no_client(start_maesh, start_upstream, manifests, controller, proxy, status):
    upstream = start_upstream("app-1", SERVER)
    manifests.write("app.json", build_service("app", [(SERVER, upstream.port)], account="server"))
    manifests.write("more.json", allow(CLIENT))
    api, admin, http = find_free_port(), find_free_port(), find_free_port()
    ports = ("--api-host", "127.0.0.1", "--api-port", api, "--http-port", http)
    start_maesh("controller", controller, *ports, manifests.path)
    endpoint = f"http://127.0.0.1:{api}"
    listening = ("--bind", "127.0.0.1", "--admin-host", "127.0.0.1", "--admin-port", admin)
    node = start_maesh("proxy", proxy, "--endpoint", endpoint, *listening)
    node.wait_until(lambda: send_request(admin, path="/ready").status == 200, "the proxy")
    assert send_request(http, "app.test.maesh", client=CLIENT).status == status
    assert send_request(http, "app.test.maesh", client=STRANGER).status == (status if status != 200 else 403)
    assert bool(send_request(admin, path="/status").json["refused"]) is (status != 200)


def test_while_the_controller_is_away_the_rules_stay_and_when_it_is_back_they_still_do(
    start_maesh, start_upstream, manifests
):
    upstream = start_upstream("app-1", SERVER)
    manifests.write("app.json", build_service("app", [(SERVER, upstream.port)], account="server"))
    manifests.write("more.json", allow(CLIENT))
    api, admin, http = find_free_port(), find_free_port(), find_free_port()
    ports = ("--acl", "--api-host", "127.0.0.1", "--api-port", api, "--http-port", http)
    controller = start_maesh("controller", *ports, manifests.path)
    listening = ("--bind", "127.0.0.1", "--admin-host", "127.0.0.1", "--admin-port", admin)
    node = start_maesh("proxy", "--acl", "--endpoint", f"http://127.0.0.1:{api}", *listening)

    def ask():
        return [send_request(http, "app.test.maesh", client=client).status for client in (CLIENT, STRANGER)]

    node.wait_until(lambda: send_request(admin, path="/ready").status == 200, "the proxy")
    assert ask() == [200, 403]
    controller.stop()
    assert ask() == [200, 403]
    manifests.write("more.json", allow(STRANGER))
    start_maesh("controller", *ports, manifests.path)
    node.wait_until(lambda: ask() == [403, 200], "what the controller says now")


def write_udp(address, port, *rules):
    metadata = {"name": "dns", "namespace": "test", "annotations": {"maesh.containo.us/traffic-type": "udp"}}
    spec = {"selector": {"app": "dns"}, "ports": [{"port": 53, "targetPort": port, "protocol": "UDP"}]}
    pod = build_pod("dns-1", address, "server")
    pod["metadata"]["labels"] = {"app": "dns"}
    route = {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "UDPRoute",
        "metadata": {"name": "u", "namespace": "test"},
    }
    return [
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec},
        pod,
        route,
        *allow(CLIENT, *rules),
    ]


def count_denied(mesh):
    lines = [line for line in mesh.read_metrics().splitlines() if line.startswith("maesh_acl_denied_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def open_datagrams(address, port=0):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    sock.settimeout(0.3)
    return sock


def test_udp_is_judged_by_source_and_a_session_ends_when_its_address_is_anothers(start_guarded):
    with open_datagrams("127.0.2.7") as server, open_datagrams(CLIENT) as client, open_datagrams(STRANGER) as stranger:
        objects = write_udp("127.0.2.7", server.getsockname()[1], ("UDPRoute", "u"))
        mesh = start_guarded(*objects, flags=("--set", f"udp.port={find_free_port(first=16000, last=16900)}"))
        port = mesh.describe_service("dns")["ports"][0]["entrypoint"]

        numbers = itertools.count(1)

        def reaches(sock):
            """Send a datagram of its own; return the session that it arrives from, or None."""
            question = b"%d" % next(numbers)
            sock.sendto(question, ("127.0.0.1", port))
            with contextlib.suppress(TimeoutError):
                while True:
                    data, session = server.recvfrom(10)
                    if data == question:  # and not an earlier one that is late
                        return session
            return None

        session = mesh.wait_until(lambda: reaches(client), "the client let in")
        server.settimeout(60)
        assert reaches(client) == session
        server.settimeout(0.3)
        assert reaches(stranger) is None
        heir = [each for each in objects if each["metadata"]["name"] != "client"]
        mesh.manifests.write("more.json", [*heir, build_pod("heir", CLIENT, "other")])
        mesh.wait_until(
            lambda: reaches(client) is None and count_denied(mesh) > 1, "the heir denied, in the client's session too"
        )
        with contextlib.suppress(TimeoutError):
            server.sendto(b"late", session)
            assert client.recv(10) == b"nothing"


def test_splits_and_retries_keep_to_what_access_control_allows(start_mesh, start_upstream):
    gone, alive = start_upstream("gone", "127.0.2.11"), start_upstream("alive", "127.0.2.12")
    other = start_upstream("other", "127.0.2.13")
    split = {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": "all", "namespace": "test"},
        "spec": {"service": "app", "backends": [{"service": "leaf", "weight": 1}]},
    }
    addresses = [(each.address, each.port) for each in (gone, alive, other)]
    leaf = build_service("leaf", addresses, account="server")
    for each in leaf:
        if each["kind"] == "Pod" and each["status"]["podIP"] == other.address:
            each["spec"]["serviceAccountName"] = "batch"  # a pod that nobody may reach
    gone.close()
    mesh = start_mesh(
        "--acl",
        servers=[start_upstream("root", SERVER)],
        account="root",
        annotations={"retry-attempts": "3"},
        objects=[*leaf, split, *allow(CLIENT)],
    )
    assert {mesh.get(client=CLIENT).text for _ in range(12)} == {"alive"}
    assert mesh.get(client=STRANGER).status == 403
    assert other.count == 0


def build_consumer_route(*filters):
    """Build a route of the client's own namespace for the service."""
    parent = {"group": "", "kind": "Service", "name": "app", "namespace": "test"}
    backend = {"name": "app", "namespace": "test", "port": 80}
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "mine", "namespace": "guests"},
        "spec": {"parentRefs": [parent], "rules": [{"filters": list(filters), "backendRefs": [backend]}]},
    }


def set_header(name, value):
    headers = {"set": [{"name": name, "value": value}]}
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": headers}


def rewrite(path):
    return {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplaceFullPath", "replaceFullPath": path}}}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (set_header("X-Role", "owner"), 403),
        (set_header("X-Role", "reader"), 200),
        (set_header("X-Other", "1"), 200),
        (rewrite("/admin"), 403),
        (rewrite("/read/more"), 200),
    ],
)
def test_a_route_of_the_clients_namespace_cannot_send_what_its_client_may_not(start_guarded, change, status):
    group = build_group({"pathRegex": "/read", "methods": ["GET"], "headers": [{"X-Role": "^reader$"}]})
    target = build_target("open", [], [("HTTPRouteGroup", "api")])
    target["spec"]["sources"] = [{"kind": "ServiceAccount", "name": "guest", "namespace": "guests"}]
    client = build_pod("guest", CLIENT, "guest", namespace="guests")
    mesh = start_guarded(client, target, group, build_consumer_route(change))
    assert mesh.get("/read", client=CLIENT, headers={"X-Role": "reader"}).status == status
    assert mesh.get("/admin", client=CLIENT, headers={"X-Role": "reader"}).status == 403
    assert mesh.get("/read", client=CLIENT).status == 403
    assert mesh.upstreams[0].count == (status == 200)
