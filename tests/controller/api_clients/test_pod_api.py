"""The API of a controller's pod through an API server: in clear by its proxy, protected by port-forward with TLS."""

import asyncio
import socket
import ssl

import msgspec
import pytest
import trustme

from maesh_core.controller.api.security.authentication import find_audiences
from maesh_core.controller.api_clients import pod_api
from maesh_core.controller.api_clients.controllers import ApiAccess, open_apis
from maesh_core.controller.api_clients.pod_api import TOKEN_S, ClusterSecrets, judge
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.kubernetes.port_forward import PortForward
from maesh_core.errors import ControllerUnreachableError, KubernetesError, MaeshError
from maesh_core.plain_http.line_stream import LineStream
from maesh_core.plain_http.messages import Request, Response, read_field
from maesh_core.plain_http.server import HttpServer, ServerLimits
from maesh_testing.api_server import ApiServer

NAME = "maesh-controller.maesh.svc"
LABELS = {"app": "maesh", "component": "controller"}
VIEWER = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "maesh-viewer", "namespace": "maesh"}}
PERSON = "a-token-of-a-person"
READING = {"apiGroups": [""], "resources": ["pods", "configmaps"], "verbs": ["list", "get"]}
FORWARDING = {"apiGroups": [""], "resources": ["pods/proxy", "pods/portforward"], "verbs": ["get", "create"]}
TOKENS = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "verbs": ["create"]}


class Controller:
    """Answers as a controller does; what it was asked is kept."""

    def __init__(self):
        self.requests = []
        self.lines = [b"{}\n", b'{"a": 1}\n']
        self.server = HttpServer(self.answer, self.refuse, ServerLimits(), cancels_at_end=True)

    def answer(self, request: Request):
        self.requests.append(request)
        if request.target.startswith(b"/api/tap"):
            stream = LineStream(lambda count: b"")
            for line in self.lines:
                stream.put(line)
            stream.finish()
            return Response(status=200, stream=stream, is_last=True)
        status = {b"/401": 401, b"/403": 403}.get(request.target, 200)
        return Response(status=status, body=b"%b %b" % (request.method, request.body or b"x" * 200_000))

    def refuse(self, status, reason):
        return Response(status=status, body=reason.encode())

    @property
    def tokens(self):
        return {read_field(request.fields, b"authorization") for request in self.requests if request.is_encrypted}


@pytest.fixture
async def controller():
    controller = Controller()
    controller.server.limits = msgspec.structs.replace(
        controller.server.limits,
        requests=msgspec.structs.replace(controller.server.limits.requests, body_bytes={b"/page": 100}),
    )
    await controller.server.listen(socket.create_server(("127.0.0.1", 0)))
    yield controller
    await controller.server.close()


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def cluster(controller, authority):
    with ApiServer() as server:
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "c-1", "namespace": "maesh", "labels": LABELS},
            "spec": {"containers": []},
            "status": {"phase": "Running"},
        }
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}}
        server.apply([namespace, VIEWER, pod])
        write_trust(server, authority)
        server.connect_pod("maesh", "c-1", 9000, ("127.0.0.1", controller.server.port))
        server.add_token(PERSON, user="person")
        yield server


def write_trust(server, authority):
    trust = {"metadata": {"name": "maesh-trust", "namespace": "maesh"}}
    bundle = authority.cert_pem.bytes().decode() if authority else ""
    server.apply([{"apiVersion": "v1", "kind": "ConfigMap", **trust, "data": {"bundle.pem": bundle}}])


def protect(controller, authority, name=NAME):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    controller.server.is_protected, controller.server.context = True, context


@pytest.fixture
def open_api(cluster, tmp_path):
    """Open the API of the pod as a user who has a kubeconfig, with these rights."""

    def open_one(*rules, access=None, token=PERSON):
        if rules:
            cluster.set_rules(token, rules)
        kubeconfig = cluster.write_kubeconfig(tmp_path / "kubeconfig", token=token)
        return open_apis("", kubeconfig=str(kubeconfig), master_url="", namespace="maesh", access=access)

    return open_one


ALL = (READING, FORWARDING, TOKENS)


async def test_an_api_in_clear_is_asked_through_the_api_servers_proxy(controller, open_api, cluster):
    async with open_api(*ALL) as (api,):
        assert (await api.fetch("/api/services")).startswith(b"GET x")
    assert [call.subresource for call in cluster.calls] == ["", "proxy"]
    assert [read_field(request.fields, b"authorization") for request in controller.requests] == [""]


async def test_a_protected_api_is_asked_by_port_forward_with_a_token_for_it_alone(
    controller, open_api, cluster, authority
):
    protect(controller, authority)
    async with open_api(*ALL) as (api,):
        assert len(await api.fetch("/api/services")) > 200_000
        assert (await api.fetch("/api/objects")).startswith(b"GET x")
    assert [call.subresource for call in cluster.calls].count("proxy") == 1
    (header,) = controller.tokens
    token = header.removeprefix("Bearer ")
    assert cluster.forwarded.startswith(b"\x16\x03"), "TLS from end to end"
    assert token.encode() not in cluster.forwarded
    assert PERSON not in header
    assert find_audiences(token) == ["maesh-api"]


async def test_a_change_uses_the_account_of_its_administrators(controller, open_api, cluster, authority):
    protect(controller, authority)
    admin = {"metadata": {"name": "maesh-page-admin", "namespace": "maesh"}}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", **admin})
    async with open_api(*ALL) as (api,):
        await api.fetch("/api/services")
        assert await api.post("/page", b'{"a":1}') == b'POST {"a":1}'
    assert len(controller.tokens) == 2
    asked = [call.name for call in cluster.calls if call.subresource == "token"]
    assert asked == ["maesh-viewer", "maesh-page-admin"]


async def test_a_stream_is_followed_by_port_forward(controller, open_api, authority):
    protect(controller, authority)
    async with open_api(*ALL) as (api,):
        lines = []
        async for batch in api.follow("/api/tap", {"path": "/a b"}, silence_limit_s=5.0):
            lines += batch
        assert lines == [b"{}", b'{"a": 1}']


async def test_requests_at_the_same_time_share_one_forward(controller, open_api, authority, monkeypatch):
    opened = []

    class CountedForward(PortForward):
        async def __aenter__(self):
            opened.append(self)
            return await super().__aenter__()

    monkeypatch.setattr(pod_api, "PortForward", CountedForward)
    protect(controller, authority)
    async with open_api(*ALL) as (api,):
        await asyncio.gather(*(api.fetch("/api/services") for _ in range(5)))
    assert len(opened) == 1


async def test_without_the_right_to_make_a_token_or_its_account_nothing_is_sent(
    controller, open_api, authority, cluster
):
    protect(controller, authority)
    text = await fail(open_api, READING, FORWARDING)
    assert "the service account maesh-viewer and the permission to create serviceaccounts/token" in text
    assert "--controller-token FILE" in text
    async with open_api(*ALL) as (api,):
        with pytest.raises(MaeshError, match="needs the service account maesh-page-admin"):
            await api.post("/page", b"{}")
    assert controller.tokens == set()


async def test_what_the_user_names_is_used_and_nothing_is_sent_in_clear(
    controller, open_api, cluster, authority, tmp_path
):
    protect(controller, authority)
    write_trust(cluster, None)
    root, token = tmp_path / "root", tmp_path / "token"
    root.write_bytes(authority.cert_pem.bytes())
    token.write_text("a-token-of-a-file")
    async with open_api(*ALL, access=ApiAccess(root_ca=str(root), token_file=str(token))) as (api,):
        await api.fetch("/api/services")
    assert controller.tokens == {"Bearer a-token-of-a-file"}
    assert "proxy" not in [call.subresource for call in cluster.calls]


async def fail(open_api, *rules, path="/api/services"):
    async with open_api(*rules) as (api,):
        with pytest.raises(MaeshError) as caught:
            await api.fetch(path)
    return str(caught.value)


async def test_a_pod_that_is_no_controller_gets_no_token(controller, open_api, authority):
    for name, signer in (("web.shop.svc", authority), (NAME, trustme.CA())):
        protect(controller, signer, name)
        text = await fail(open_api, *ALL)
        assert "its certificate is refused" in text
        assert "--root-ca-controller" in text
    assert controller.tokens == set()


async def test_each_missing_right_is_named(controller, open_api, cluster, authority):
    protect(controller, authority)
    proxying = {"apiGroups": [""], "resources": ["pods/proxy"], "verbs": ["get"]}
    assert "the permission to create pods/portforward is missing" in await fail(open_api, READING, proxying, TOKENS)
    listing = {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}
    assert "the ConfigMap maesh-trust" in await fail(open_api, listing, FORWARDING, TOKENS)


async def test_the_right_to_use_the_proxy_is_only_needed_for_an_api_in_clear(controller, open_api, cluster, authority):
    forwarding = {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["create"]}
    protect(controller, authority)
    async with open_api(READING, forwarding, TOKENS) as (api,):
        assert (await api.fetch("/api/services")).startswith(b"GET x")
    write_trust(cluster, None)
    assert "403" in await fail(open_api, READING, forwarding, TOKENS)


async def test_an_empty_bundle_does_not_mean_the_certificates_of_the_system(controller, open_api, cluster, authority):
    protect(controller, authority)
    write_trust(cluster, None)
    assert "it has no certificates in bundle.pem" in await fail(open_api, *ALL)


@pytest.mark.parametrize(("path", "advice"), [("/401", "names a valid token"), ("/403", "further rights")])
async def test_a_refusal_says_what_to_do(controller, open_api, authority, path, advice):
    protect(controller, authority)
    assert advice in await fail(open_api, *ALL, path=path)


async def test_a_port_that_cannot_be_reached_is_reported_in_the_servers_words(open_api, cluster, authority, tmp_path):
    cluster.connect_pod("maesh", "c-1", 9000, ("127.0.0.1", 1))
    root = tmp_path / "root"
    root.write_bytes(authority.cert_pem.bytes())
    async with open_api(*ALL, access=ApiAccess(root_ca=str(root))) as (api,):
        with pytest.raises(MaeshError, match="port-forward: error forwarding port: connection refused"):
            await api.fetch("/api/services")


async def test_a_token_is_replaced_before_it_ends(cluster):
    now = [0.0]

    async def load():
        return Access(server=cluster.url, headers={"Authorization": f"Bearer {cluster.token}"})

    client = KubernetesClient(Credentials(load))
    secrets = ClusterSecrets(client, "maesh", clock=lambda: now[0])
    first = await secrets.find_fields("GET", "/api/services")
    now[0] = TOKEN_S * 0.8
    assert await secrets.find_fields("GET", "/api/services") == first
    now[0] += 1
    assert await secrets.find_fields("GET", "/api/services") != first
    await client.close()


@pytest.mark.parametrize(
    ("error", "is_reached"),
    [
        (KubernetesError("no answer in time"), False),
        (KubernetesError("no pod", status=404, reason="NotFound"), False),
        (KubernetesError("no route", status=503, reason="ServiceUnavailable"), False),
        (KubernetesError("no right", status=403, reason="Forbidden"), True),
        (KubernetesError("no page", status=404), True),
        (KubernetesError("not ready", status=503), True),
    ],
)
def test_a_pod_that_the_api_server_cannot_reach_is_not_one_that_refuses(error, is_reached):
    assert isinstance(judge(error), KubernetesError if is_reached else ControllerUnreachableError)
