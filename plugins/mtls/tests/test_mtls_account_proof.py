"""Tokens of pods in, nodes proven; with the API server's own answers about them."""

import time
from types import SimpleNamespace

import pytest
from maesh_mtls.controller.proofs.account_proof import AUDIENCE, AccountProof, ProofChain, ProxyTokens
from maesh_mtls.controller.proofs.node_tokens import NodeTokens, ProofRefusedError
from maesh_mtls.controller.proofs.request_limits import BAD_TOKENS_LIMIT, BAD_TOKENS_PERIOD_S

from maesh_core.plugin import KubernetesError, ObjectKey
from maesh_testing.api_server import FaultKind

from .clusters import ACCOUNT, NAMESPACE, FakeController, build_node, build_proxy, open_cluster

PROXIES = ObjectKey(NAMESPACE, ACCOUNT)


@pytest.fixture
async def cluster(api_server):
    api_server.apply([build_node("a"), build_node("b"), build_proxy("a"), build_proxy("b")])
    async with open_cluster(api_server) as cluster:
        yield cluster


@pytest.fixture
def controller(api_server, cluster):
    return FakeController(api_server, cluster)


@pytest.fixture
def pauses():
    return []


@pytest.fixture
def proof(controller, cluster, pauses):
    async def pause(seconds):
        pauses.append(seconds)

    return AccountProof(cluster, ProxyTokens(controller, PROXIES, pause=pause))


def issue(api_server, node="a", *, audience=AUDIENCE, account=ACCOUNT, pod=None):
    return api_server.issue_token(NAMESPACE, account, audiences=[audience], pod=f"proxy-{node}" if pod is None else pod)


async def refuse(proof, token, node="a", source=""):
    with pytest.raises(ProofRefusedError) as caught:
        await proof.check(token, node, source)
    assert token not in str(caught.value)
    return caught.value.status, caught.value.reason


async def test_a_token_of_a_proxy_proves_its_node(proof, api_server, pauses):
    await proof.check(issue(api_server, "a"), "a")
    await proof.check(issue(api_server, "b"), "b")
    assert pauses == []


async def test_it_proves_it_too_if_the_api_server_does_not_name_nodes(proof, api_server):
    api_server.hide_nodes_of_tokens()
    await proof.check(issue(api_server), "a")
    assert await refuse(proof, issue(api_server, "b")) == (403, "node")


async def test_a_stolen_token_for_another_audience_proves_nothing(proof, api_server):
    for audience in ("maesh-api", "https://kubernetes.default.svc.cluster.local", "vault"):
        assert await refuse(proof, issue(api_server, audience=audience)) == (401, "token")


async def test_a_token_of_another_account_proves_nothing(proof, api_server):
    api_server.apply(build_proxy("a", name="web", account="web"))
    assert await refuse(proof, issue(api_server, account="web", pod="web")) == (403, "account")
    foreign = build_proxy("a", name="mine")
    foreign["metadata"]["namespace"] = "shop"
    api_server.apply(foreign)
    token = api_server.issue_token("shop", ACCOUNT, audiences=[AUDIENCE], pod="mine")
    assert await refuse(proof, token) == (403, "account")


async def test_a_token_of_a_proxy_on_another_node_proves_nothing(proof, api_server):
    assert await refuse(proof, issue(api_server, "b"), "a") == (403, "node")


async def test_a_token_that_is_bound_to_no_pod_proves_nothing(proof, api_server):
    assert await refuse(proof, issue(api_server, pod="")) == (403, "unbound")


async def test_an_expired_token_proves_nothing(proof, api_server):
    token = issue(api_server)
    api_server.expire_token(token)
    assert await refuse(proof, token) == (401, "token")


async def test_a_token_of_a_pod_that_was_replaced_proves_nothing(proof, api_server):
    token = issue(api_server)
    api_server.finish_deletion("pods", "proxy-a", NAMESPACE)
    api_server.apply(build_proxy("a"))
    assert await refuse(proof, token) == (401, "token")


async def test_a_token_whose_pod_the_controller_knows_with_another_uid_proves_nothing(
    proof, controller, api_server, monkeypatch
):
    token = issue(api_server)
    known = controller.find_pod(ObjectKey(NAMESPACE, "proxy-b"))
    monkeypatch.setattr(controller, "find_pod", lambda _: known)
    assert await refuse(proof, token) == (403, "pod")


async def test_a_pod_that_moved_proves_its_new_node_only(proof, api_server):
    api_server.finish_deletion("pods", "proxy-a", NAMESPACE)
    api_server.apply(build_proxy("b", name="proxy-a"))
    token = issue(api_server)
    assert await refuse(proof, token, "a") == (403, "node")
    await proof.check(token, "b")


async def test_a_pod_that_has_ended_proves_nothing(proof, api_server):
    api_server.patch("pods", "proxy-a", {"status": {"phase": "Failed"}}, NAMESPACE)
    assert await refuse(proof, issue(api_server)) == (403, "pod")


async def test_a_deleted_node_gets_no_further_certificate(proof, api_server):
    token = issue(api_server)
    await proof.check(token, "a")
    api_server.delete("nodes", "a")
    assert await refuse(proof, token) == (403, "node-deleted")


async def test_a_pod_that_the_controller_does_not_know_yet_is_waited_for(controller, cluster, api_server):
    waited = []

    async def pause(seconds):
        waited.append(seconds)
        controller.is_behind = len(waited) < 3

    controller.is_behind = True
    proof = AccountProof(cluster, ProxyTokens(controller, PROXIES, pause=pause))
    await proof.check(issue(api_server), "a")
    assert len(waited) == 3


async def test_it_is_waited_for_two_seconds_at_most(proof, controller, api_server, pauses):
    controller.is_behind = True
    assert await refuse(proof, issue(api_server)) == (503, "pod-unknown")
    assert sum(pauses) == pytest.approx(2.0)


async def test_an_api_server_that_is_away_proves_nothing_and_is_asked_again(proof, api_server):
    token = issue(api_server)
    api_server.stop_listening()
    assert await refuse(proof, token) == (503, "api-server")
    api_server.resume()
    await proof.check(token, "a")
    api_server.add_fault(FaultKind.STATUS, resource="nodes", status=500)
    assert await refuse(proof, token) == (503, "api-server")


@pytest.mark.parametrize("token", ["", "not a token", "x" * 9000, "a" * 20])
async def test_what_is_no_token_proves_nothing(proof, token):
    with pytest.raises(ProofRefusedError) as caught:
        await proof.check(token, "a")
    assert (caught.value.status, caught.value.reason) == (401, "token")


async def test_tokens_that_claim_to_be_for_others_or_to_have_ended_are_not_sent_to_the_api_server(
    controller, api_server
):
    asked = []

    async def review_token(token, audiences, *, source=""):
        asked.append(source)

    cluster = SimpleNamespace(review_token=review_token)
    clock = [0.0]
    tokens = ProxyTokens(controller, PROXIES)
    proof = AccountProof(cluster, tokens, clock=lambda: clock[0])
    late = AccountProof(cluster, tokens, now=lambda: time.time() + 86400)
    for checker, token in ((proof, issue(api_server, audience="vault")), (late, issue(api_server)), (proof, "a.b.c")):
        assert await refuse(checker, token) == (401, "token")
    assert asked == []
    for expected in [(401, "token")] * BAD_TOKENS_LIMIT + [(429, "busy")]:
        assert await refuse(proof, issue(api_server), source="10.0.0.1") == expected
    assert asked == ["10.0.0.1"] * BAD_TOKENS_LIMIT
    assert await refuse(proof, issue(api_server), source="10.0.0.2") == (401, "token")
    clock[0] += BAD_TOKENS_PERIOD_S
    assert await refuse(proof, issue(api_server), source="10.0.0.1") == (401, "token")


async def test_the_file_of_tokens_works_beside_it(proof, api_server, tmp_path):
    path = tmp_path / "tokens"
    path.write_text("a token-of-node-a-1\n")
    path.chmod(0o600)
    chain = ProofChain(NodeTokens(path), proof)
    await chain.check("token-of-node-a-1", "a")
    await chain.check(issue(api_server, "b"), "b")
    assert await refuse(chain, "token-of-node-a-1", "b") == (403, "node")
    assert await refuse(chain, "stolen-from-elsewhere") == (401, "token")
    path.chmod(0o644)
    await chain.check(issue(api_server, "b"), "b")
    assert await refuse(chain, "token-of-node-a-1") == (503, "tokens")


async def test_for_the_api_the_owner_of_a_token_is_a_node_or_somebody_else(controller, cluster, api_server):
    async def pause(_):
        pass

    tokens = ProxyTokens(controller, PROXIES, pause=pause)

    async def find(token):
        return await tokens.find_node_or_none(await cluster.review_token(token, ["maesh-api"]))

    assert await find(issue(api_server, "b", audience="maesh-api")) == "b"
    assert await find(issue(api_server, audience="maesh-api", pod="")) is None
    assert await find(api_server.issue_token("tools", "viewer", audiences=["maesh-api"])) is None
    controller.is_behind = True
    with pytest.raises(KubernetesError, match="not known"):
        await find(issue(api_server, "a", audience="maesh-api"))
