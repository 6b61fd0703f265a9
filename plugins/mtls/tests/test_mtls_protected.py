"""A controller and a proxy as processes: the authority protects API and admin port, also against hostile clients."""

from datetime import timedelta

import pytest

from .certificates import encode, make_credentials, make_leaf, make_signer
from .protected_mesh import NODE, PERSON_TOKEN, ProtectedMesh, send

pytestmark = pytest.mark.integration
PULL = "/api/configuration/current"
HOUR = timedelta(hours=1)
CONTROLLER = "spiffe://cluster.local/maesh/controller"


@pytest.fixture
def mesh(start_maesh, tmp_path):
    return ProtectedMesh(start_maesh, tmp_path / "mesh")


def read_errors(traffic):
    """Read why proxies did not answer, by name; empty for those that did."""
    return {node["name"]: node["error"] for node in traffic.json["nodes"]}


def wait_for_traffic(mesh, proxy, **access):
    """Wait until the proxy answers about its traffic: what the controller knows of proxies may be a second old."""
    proxy.wait_until(lambda: read_errors(mesh.ask("/api/traffic", **access)).get(NODE) == "", "its traffic")


def test_a_proxy_gets_everything_with_its_certificate_alone(mesh, start_upstream):
    mesh.write_service("web", start_upstream("web-1"))
    controller = mesh.start_controller()
    proxy = mesh.start_proxy()
    mesh.wait_for_proxy(proxy)
    nodes = mesh.ask("/api/status/nodes", token=PERSON_TOKEN).json
    assert [(node["name"], node["ready"], node["adminTls"]) for node in nodes] == [(NODE, True, True)]
    wait_for_traffic(mesh, proxy, token=PERSON_TOKEN)
    traffic = mesh.ask("/api/traffic", token=PERSON_TOKEN)
    assert (traffic.status, traffic.json["missing"]) == (200, [])
    applied = mesh.ask(f"/api/status/node/{NODE}/configuration", token=PERSON_TOKEN)
    assert "shop/web:80" in applied.json["http"]["services"]
    status = mesh.ask(f"/api/status/node/{NODE}/status", token=PERSON_TOKEN).json
    assert status["services"]["mtls"]["certificate"] == "valid"
    mesh.write_service("cart", start_upstream("cart-1"))

    def has_cart():
        applied = mesh.ask(f"/api/status/node/{NODE}/configuration", token=PERSON_TOKEN)
        return "shop/cart:80" in applied.json["http"]["services"]

    proxy.wait_until(has_cart, "the new service")
    for command in (controller, proxy):
        assert PERSON_TOKEN not in command.stderr
        assert "PRIVATE KEY" not in command.stderr


def test_in_clear_only_what_is_open_is_answered(mesh):
    mesh.start_controller("--api-open", "/metrics")
    for path in ("/api/status/readiness", "/api/status/liveness", "/metrics"):
        assert mesh.ask(path, is_tls=False).status == 200
    for path in (PULL, "/api/services", "/api/status/nodes", "/", "/unknown", "/metrics/../api/services"):
        answer = mesh.ask(path, is_tls=False, token=PERSON_TOKEN)
        assert (answer.status, answer.text) == (426, "this needs TLS\n")
    assert mesh.ask("/metrics").status == 200


def test_with_the_flag_clear_requests_are_answered_beside_tls(mesh):
    mesh.start_controller("--api-clear")
    assert mesh.ask(f"{PULL}?node=anything", is_tls=False).status == 200
    assert mesh.ask("/api/services").status == 401
    proxy = mesh.start_proxy(endpoint=mesh.endpoint.replace("https", "http"))
    mesh.wait_for_proxy(proxy)
    wait_for_traffic(mesh, proxy, is_tls=False)
    status = mesh.ask(f"/api/status/node/{NODE}/status", is_tls=False)
    assert (status.status, status.json["services"]["mtls"]["certificate"]) == (200, "valid")
    assert mesh.ask_admin("/status", is_tls=False).status == 426


def test_a_client_without_proof_is_refused(mesh):
    controller = mesh.start_controller("--set", "mtls.revoked=node-b/0ABC")
    signer, strange = mesh.load_signer(), make_signer()
    for token in ("", "x" * 20, "x"):
        answer = mesh.ask("/api/services", token=token)
        assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, 'Bearer realm="maesh"')
    assert mesh.ask("/api/services", credentials=make_credentials(strange, NODE)).status == 0
    expired = make_leaf(signer, [f"spiffe://cluster.local/maesh/node/{NODE}"], starts=-2 * HOUR, ends=-HOUR)
    assert mesh.ask(f"{PULL}?node={NODE}", credentials=expired).status == 0
    early = make_leaf(signer, [f"spiffe://cluster.local/maesh/node/{NODE}"], starts=HOUR, ends=2 * HOUR)
    assert mesh.ask(f"{PULL}?node={NODE}", credentials=early).status == 0
    for uris, dns in (
        (["spiffe://other.local/maesh/node/node-a"], ()),
        (["spiffe://cluster.local/ns/shop/sa/web"], ()),
        (["spiffe://cluster.local/maesh/node/node-a", "spiffe://cluster.local/maesh/node/node-b"], ()),
        (["spiffe://cluster.local/maesh/node/node-a"], ("maesh-controller.maesh.svc",)),
        ([], ("maesh-controller.maesh.svc",)),
    ):
        answer = mesh.ask(f"{PULL}?node={NODE}", credentials=make_leaf(signer, uris, dns=dns))
        assert answer.status == 401, uris
    revoked = make_leaf(signer, ["spiffe://cluster.local/maesh/node/node-b"], serial=0xABC)
    assert mesh.ask(f"{PULL}?node=node-b", credentials=revoked).status == 401
    assert mesh.ask(f"{PULL}?node=node-b", credentials=make_credentials(signer, "node-b")).status == 200
    counted = mesh.ask("/metrics", token=PERSON_TOKEN).text
    assert 'maesh_controller_api_refusals_total{reason="certificate"} 6' in counted
    assert 'maesh_controller_api_refusals_total{reason="missing"} 1' in counted
    assert 'maesh_controller_api_refusals_total{reason="token"} 2' in counted
    assert "was refused: 401 the token is not valid" in controller.stderr
    assert "xxxxx" not in controller.stderr


def test_a_node_pulls_only_as_itself_and_uses_nothing_else(mesh):
    mesh.start_controller()
    credentials = make_credentials(mesh.load_signer(), NODE)
    assert mesh.ask(f"{PULL}?node={NODE}&admin=8080", credentials=credentials).status == 200
    assert mesh.ask(PULL, credentials=credentials).status == 200
    for query in ("node=node-b", "node=", "node=node-b&node=node-a", f"node=node-b&admin=1&node={NODE}"):
        answer = mesh.ask(f"{PULL}?{query}", credentials=credentials)
        assert (answer.status, "only pull under its own name" in answer.text) == (403, True), query
    for path in ("/api/services", "/api/status/nodes", "/api/tap", "/metrics", "/api/topology/current"):
        assert mesh.ask(path, credentials=credentials).status == 403
        assert mesh.ask(path, credentials=credentials, token="x" * 20).status == 403
    assert mesh.ask(PULL, credentials=credentials, method="POST").status == 403
    assert [node["name"] for node in mesh.ask("/api/status/nodes", token=PERSON_TOKEN).json] == [NODE]


def test_a_controller_asks_only_for_the_proxies(mesh):
    mesh.start_controller()
    credentials = make_leaf(mesh.load_signer(), [CONTROLLER])
    assert mesh.ask("/api/status/nodes", credentials=credentials).status == 200
    for path in (PULL, f"{PULL}?node={NODE}", "/api/services"):
        assert mesh.ask(path, credentials=credentials).status == 403


def test_the_host_is_checked_for_every_client(mesh):
    mesh.start_controller("--api-hosts", "mesh.example")
    credentials = make_credentials(mesh.load_signer(), NODE)
    for host, status in (("evil.example", 421), ("mesh.example", 200), ("maesh-controller.maesh.svc:9000", 200)):
        assert mesh.ask(PULL, credentials=credentials, headers={"Host": host}).status == status


def test_a_proxy_under_a_foreign_name_gets_nothing(mesh):
    mesh.start_controller()
    proxy = mesh.start_proxy(node="node-b")
    proxy.wait_until(lambda: "the token belongs to another node" in proxy.stderr, "the reason of the authority")
    proxy.wait_until(lambda: "the controller answered 401" in proxy.stderr, "the reason of the API")
    assert mesh.ask_admin("/ready", is_tls=False).status == 503


def test_a_proxy_does_not_believe_another_controller(mesh, tmp_path):
    mesh.start_controller()
    other = tmp_path / "other.crt"
    other.write_text(encode(make_signer().certificate))
    proxy = mesh.start_proxy("--root-ca-controller", other)
    proxy.wait_until(lambda: "certificate verify failed" in proxy.stderr, "the refusal of the controller")
    assert mesh.ask_admin("/ready", is_tls=False).status == 503


def test_the_admin_port_answers_only_controllers(mesh):
    mesh.start_controller()
    proxy = mesh.start_proxy("--admin-open", "/metrics")
    mesh.wait_for_proxy(proxy)
    signer = mesh.load_signer()
    for path in ("/ping", "/ready", "/metrics"):
        assert mesh.ask_admin(path, is_tls=False).status == 200
    for path in ("/status", "/configuration", "/traffic", "/tap", "/", "//status", "/metrics/"):
        assert mesh.ask_admin(path, is_tls=False).status == 426
        assert mesh.ask_admin(path).status == 403
        assert mesh.ask_admin(path, credentials=make_credentials(signer, NODE)).status == 403
        assert mesh.ask_admin(path, credentials=make_leaf(make_signer(), [CONTROLLER])).status == 0
        expired = make_leaf(signer, [CONTROLLER], starts=-2 * HOUR, ends=-HOUR)
        assert mesh.ask_admin(path, credentials=expired).status == 0
    assert mesh.ask_admin("/status", credentials=make_leaf(signer, [CONTROLLER])).status == 200
    counted = mesh.ask_admin("/metrics", is_tls=False).text
    assert 'maesh_proxy_admin_refusals_total{reason="missing"} 7' in counted


def test_the_admin_port_can_stay_in_clear(mesh):
    mesh.start_controller()
    proxy = mesh.start_proxy("--admin-clear")
    mesh.wait_for_proxy(proxy)
    assert mesh.ask_admin("/status", is_tls=False).status == 200
    nodes = mesh.ask("/api/status/nodes", token=PERSON_TOKEN).json
    assert nodes[0]["adminTls"] is False
    wait_for_traffic(mesh, proxy, token=PERSON_TOKEN)


def test_commands_need_a_token(mesh, run_maesh):
    mesh.start_controller()
    flags = ("--endpoint", mesh.endpoint, "--root-ca-controller", mesh.root)
    shown = run_maesh("status", "--json", *flags, "--controller-token", mesh.person)
    assert '"ready":true' in shown.stdout
    assert "--controller-token" in run_maesh("status", *flags).stdout


def test_a_browser_sees_the_dashboard_of_a_protected_controller(mesh, start_maesh):
    mesh.start_controller("--dashboard")
    assert mesh.ask("/").status == 401
    flags = ("--endpoint", mesh.endpoint, "--root-ca-controller", mesh.root, "--controller-token", mesh.person)
    command = start_maesh("dashboard", *flags)
    command.wait_until(lambda: "until Ctrl-C" in command.stdout, "the address")
    address = command.stdout.split()[4].removeprefix("http://127.0.0.1:")
    port, _, path = address.partition("/")
    page = send("127.0.0.1", int(port), f"/{path}", None, {})
    assert (page.status, "<title>Maesh</title>" in page.text) == (200, True)
    assert send("127.0.0.1", int(port), f"/{path}api/status/nodes", None, {}).json == []
    assert send("127.0.0.1", int(port), "/", None, {}).status == 403
    assert PERSON_TOKEN not in command.stdout + command.stderr


def test_the_dashboard_of_a_controller_without_one_is_an_error(mesh, run_maesh):
    mesh.start_controller()
    flags = ("--endpoint", mesh.endpoint, "--root-ca-controller", mesh.root, "--controller-token", mesh.person)
    command = run_maesh("dashboard", *flags)
    assert command.status == 1
    assert "no dashboard: /: 404" in command.stderr
