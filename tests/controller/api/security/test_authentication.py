"""Who sends a request to the API, and what each kind of caller may do."""

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.api.security.authentication import (
    ACCEPTED_LIMIT,
    ACCESS_PREFIX,
    ANYONE,
    BAD_TOKENS_LIMIT,
    LOOPBACK_BAD_TOKENS_LIMIT,
    Authentication,
    Caller,
    find_audiences,
)
from maesh_core.controller.api.security.bearer_tokens import BearerTokens
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.kubernetes.review_client import ReviewClient
from maesh_core.errors import KubernetesError
from maesh_core.model.token_identity import TokenIdentity
from maesh_core.plain_http.messages import Request
from maesh_testing.api_server import ApiServer

SHARED, OF_NODE = "a" * 16, "0123456789abcdefgh"
PULL, SERVICES, REPORTS = "/api/configuration/current", "/api/services", "/api/status/nodes"


class Certifier:
    """Knows the certificates `node-a`, `controller` and others."""

    revoked = ()

    def is_controller(self, certificate):
        return certificate["of"] == "controller"

    def find_node(self, certificate):
        return certificate["of"] if certificate["of"].startswith("node-") else None

    async def find_token_node(self, identity):
        return identity.extra["node"][0] if "node" in identity.extra else None

    def is_revoked(self, node):
        return node in self.revoked


class Cluster:
    """An API server that knows some tokens, and lets `ann` read the services."""

    def __init__(self):
        self.is_away, self.asked, self.revoked = False, [], set()

    async def review_token(self, token, audiences, *, source=""):
        self.asked.append((token, tuple(audiences), source))
        if self.is_away:
            raise KubernetesError("POST /tokenreviews: no connection")
        if token in self.revoked:
            return None
        if token == make_token("maesh-api", "proxy"):
            return TokenIdentity(username="proxy", extra={"node": ("node-a",)}, audiences=("maesh-api",))
        if token in ("ann's", make_token("maesh-api", "ann"), make_token(["kube", "x"], "ann")):
            return TokenIdentity(username="ann", audiences=tuple(audiences) or ("kube",))
        return None

    async def review_access(self, identity, verb, path, *, source=""):
        return (identity.username, verb, path) in (("ann", "get", f"/maesh{SERVICES}"), ("ann", "post", "/maesh/page"))


def make_token(audience, name):
    parts = (msgspec.json.encode(each) for each in ({"alg": "none"}, {"aud": audience, "sub": name}))
    return ".".join([*(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts), "signature"])


class Api:
    """Sends requests to an authentication."""

    def __init__(self, **parts):
        self.authentication = Authentication(**parts)

    async def ask(
        self,
        path=SERVICES,
        *,
        token=None,
        of=None,
        node=None,
        method=b"GET",
        fields=(),
        is_encrypted=True,
        remote="10.0.0.1",
    ):
        if token is not None:
            fields = [(b"authorization", f"Bearer {token}".encode("latin-1"))]
        certificate = None if of is None else {"of": of}
        request = Request(
            method=method, fields=fields, remote=remote, certificate=certificate, is_encrypted=is_encrypted
        )
        result = await self.authentication.check(request, path, node)
        return result if isinstance(result, Caller) else result.status


@pytest.fixture
def cluster():
    return Cluster()


@pytest.fixture
def api(tmp_path, cluster):
    path = tmp_path / "tokens"
    path.write_text(f"all {SHARED}\nnode/node-b {OF_NODE}\n")
    return Api(tokens=BearerTokens(str(path)), certifier=Certifier(), reviews=cluster, open_paths=("/metrics",))


@pytest.mark.parametrize("path", ["/api/status/readiness", "/api/status/liveness", "/metrics"])
async def test_open_paths_may_be_read_by_everybody(api, path):
    assert await api.ask(path) == ANYONE
    assert await api.ask(path, of="stranger") == ANYONE
    assert await api.ask(path, method=b"POST") == 401


@pytest.mark.parametrize("path", ["/metrics/", "/METRICS", "/", "", "/api/status/readiness/x", "/api/tap"])
async def test_paths_that_are_not_open_need_authentication(api, path):
    assert await api.ask(path) == 401


async def test_a_token_of_a_revoked_node_is_refused(tmp_path, cluster):
    path = tmp_path / "tokens"
    path.write_text(f"node/node-b {OF_NODE}\n")
    certifier: Any = Certifier()
    api = Api(tokens=BearerTokens(str(path)), certifier=certifier, reviews=cluster)
    of_pod = make_token("maesh-api", "proxy")
    assert await api.ask(PULL, token=OF_NODE, node="node-b") == Caller("node", "node-b")
    assert await api.ask(PULL, token=of_pod, node="node-a") == Caller("node", "node-a")
    certifier.revoked = ("node-a", "node-b")
    for node in ("node-a", "node-b", None):
        assert await api.ask(PULL, token=OF_NODE, node=node) == 403
        assert await api.ask(PULL, token=of_pod, node=node) == 403
    assert ("revoked",) in dict(api.authentication.refusals.list_counts())


async def test_a_node_with_a_certificate_may_only_pull_and_only_as_itself(api):
    assert await api.ask(PULL, of="node-a", node="node-a") == Caller("node", "node-a")
    assert await api.ask(PULL, of="node-a") == Caller("node", "node-a")
    for path, node in ((PULL, "node-b"), (PULL, ""), (PULL, "NODE-A"), (SERVICES, None), (REPORTS, None)):
        assert await api.ask(path, of="node-a", node=node) == 403
    assert await api.ask(PULL, of="node-a", node="node-a", method=b"POST") == 403


async def test_a_token_of_the_file_may_be_that_of_a_node(api):
    assert await api.ask(PULL, token=OF_NODE, node="node-b") == Caller("node", "node-b")
    assert await api.ask(PULL, token=OF_NODE, node="node-a") == 403
    assert await api.ask(SERVICES, token=OF_NODE) == 403


async def test_an_open_path_does_not_let_anybody_pull_under_the_name_of_a_node(tmp_path):
    api = Api(certifier=Certifier(), open_paths=(PULL,))
    assert await api.ask(PULL) == ANYONE
    assert await api.ask(PULL, node="node-a") == 401
    assert await api.ask(PULL, node="node-a", of="node-b") == 403


async def test_another_token_of_the_file_may_do_everything(api):
    assert await api.ask(PULL, token=SHARED, node="node-a") == Caller("person", "all")
    assert await api.ask("/page", token=SHARED, method=b"POST") == Caller("person", "all")


async def test_a_token_of_a_proxy_is_that_of_its_node(api, cluster):
    token = make_token("maesh-api", "proxy")
    assert await api.ask(PULL, token=token, node="node-a") == Caller("node", "node-a")
    assert await api.ask(PULL, token=token, node="node-b") == 403
    assert await api.ask(SERVICES, token=token) == 403
    assert cluster.asked[0] == (token, ("maesh-api",), "10.0.0.1")


@pytest.mark.parametrize("token", ["ann's", make_token("maesh-api", "ann"), make_token(["kube", "x"], "ann")])
async def test_a_person_may_do_what_the_cluster_allows(api, token):
    assert await api.ask(SERVICES, token=token) == Caller("person", "ann")
    assert await api.ask(SERVICES, token=token, method=b"HEAD") == Caller("person", "ann")
    assert await api.ask("/page", token=token, method=b"POST") == Caller("person", "ann")
    assert await api.ask(REPORTS, token=token) == 403
    assert await api.ask(SERVICES, token=token, method=b"POST") == 403


@pytest.fixture
async def real_cluster():
    """The reviews of a server with the default roles of Kubernetes, and a token of an account without any other."""

    async def load():
        return Access(server=server.url, headers={"Authorization": f"Bearer {server.token}"})

    with ApiServer() as server:
        server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}])
        account = {"metadata": {"name": "web", "namespace": "shop"}}
        server.apply({"apiVersion": "v1", "kind": "ServiceAccount", **account})
        client = KubernetesClient(Credentials(load))
        reviews = ReviewClient(client)
        yield server, reviews
        await reviews.close()
        await client.close()


@pytest.mark.parametrize("audiences", [["maesh-api"], []])
async def test_an_ordinary_account_of_a_cluster_may_read_nothing(real_cluster, audiences):
    server, reviews = real_cluster
    api = Api(certifier=Certifier(), reviews=reviews)
    token = server.issue_token("shop", "web", audiences=audiences)
    for path in ("/api/tap", REPORTS, SERVICES, PULL, "/metrics"):
        assert await api.ask(path, token=token) == 403, path


async def test_a_rule_allows_the_path_behind_the_prefix(real_cluster):
    server, reviews = real_cluster
    user = "system:serviceaccount:shop:web"
    server.set_rules(user, [{"nonResourceURLs": [f"{ACCESS_PREFIX}/api/status/*"], "verbs": ["get"]}])
    api = Api(certifier=Certifier(), reviews=reviews)
    token = server.issue_token("shop", "web", audiences=["maesh-api"])
    assert await api.ask(REPORTS, token=token) == Caller("person", user)
    assert await api.ask("/api/tap", token=token) == 403


async def test_nobody_else_may_pull_under_the_name_of_a_node(api):
    assert await api.ask(PULL, token="ann's", node="node-a") == 403


async def test_the_cluster_is_asked_for_the_audience_that_a_token_claims(api, cluster):
    for audience, asked in (("maesh-api", ("maesh-api",)), (["a", "maesh-api"], ("maesh-api",)), ("maesh-ca", ())):
        assert await api.ask(token=make_token(audience, "nobody")) == 401
        assert cluster.asked[-1][1] == asked


async def test_without_an_answer_of_the_cluster_everything_is_refused(api, cluster):
    cluster.is_away = True
    assert await api.ask(token="ann's") == 503
    assert await api.ask(token=SHARED) == Caller("person", "all"), "it needs no answer"
    assert await api.ask(PULL, of="node-a") == Caller("node", "node-a")


async def test_an_address_with_many_invalid_tokens_is_slowed_down(api, cluster):
    for number in range(BAD_TOKENS_LIMIT):
        assert await api.ask(token=f"invalid-{number}") == 401
    assert await api.ask(token="invalid") == 429
    assert len(cluster.asked) == BAD_TOKENS_LIMIT
    assert await api.ask(token=SHARED) == Caller("person", "all")


async def test_a_token_that_was_accepted_before_is_checked_whatever_else_its_address_sends(api, cluster):
    assert await api.ask(token="ann's") == Caller("person", "ann")
    for number in range(BAD_TOKENS_LIMIT):
        await api.ask(token=f"invalid-{number}")
    assert await api.ask(token="invalid") == 429
    assert await api.ask(token="ann's") == Caller("person", "ann")
    cluster.revoked.add("ann's")
    assert await api.ask(token="ann's") == 401
    assert await api.ask(token="ann's") == 429


async def test_port_forwards_share_a_limit_that_one_user_does_not_reach_soon(api):
    for number in range(LOOPBACK_BAD_TOKENS_LIMIT):
        assert await api.ask(token=f"invalid-{number}", remote="127.0.0.1") == 401
    assert await api.ask(token="invalid", remote="127.0.0.1") == 429


async def test_few_of_the_accepted_tokens_are_remembered(api):
    for number in range(ACCEPTED_LIMIT + 1):
        api.authentication._note_review(b"%d" % number, is_accepted=True)
    assert len(api.authentication._accepted) == ACCEPTED_LIMIT
    assert b"0" not in api.authentication._accepted


async def test_a_controller_may_only_ask_for_the_proxies(api):
    assert await api.ask(REPORTS, of="controller") == Caller("controller")
    for path in (SERVICES, PULL, "/metrics/"):
        assert await api.ask(path, of="controller") == 403


async def test_a_certificate_of_neither_is_refused_also_with_a_token(api):
    assert await api.ask(of="stranger", token=SHARED) == 401


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("",),
        ("Bearer",),
        ("Bearer ",),
        (SHARED,),
        (f"Basic {SHARED}",),
        (f"Bearer {SHARED}x",),
        (f"Bearer {SHARED[:-1]}",),
        (f"Bearer all {SHARED}",),
        (f"Bearer {SHARED}", f"Bearer {SHARED}"),
        ("Bearer \xff\xfe",),
    ],
)
async def test_anything_else_is_no_token(api, values):
    assert await api.ask(fields=[(b"authorization", value.encode("latin-1")) for value in values]) == 401


async def test_clear_requests_can_be_open(cluster):
    api = Api(certifier=Certifier(), reviews=cluster, is_clear_open=True)
    assert await api.ask(PULL, node="node-a", is_encrypted=False) == ANYONE
    assert await api.ask("/page", is_encrypted=False, method=b"POST") == 403
    assert await api.ask("/page", token="ann's", is_encrypted=False, method=b"POST") == 403
    assert await api.ask(PULL, node="node-a") == 401


async def test_refusals_are_counted_and_logged_without_tokens(api, caplog):
    for _ in range(3):
        await api.ask(token="a-secret-of-somebody")
    await api.ask()
    samples = dict(api.authentication.collect_metrics()[0].samples)
    assert samples == {("token",): 3, ("missing",): 1}
    assert caplog.text.count("a request from 10.0.0.1 was refused: 401") == 2
    assert "a-secret" not in caplog.text


@given(st.text(max_size=60) | st.builds(make_token, st.none() | st.integers() | st.lists(st.integers()), st.text()))
def test_audiences_of_any_text_are_read_or_there_are_none(text):
    assert all(isinstance(each, str) for each in find_audiences(text))
