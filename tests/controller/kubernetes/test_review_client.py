"""Tokens in, owners out: asked of a real server, kept for a while, and never in an error."""

import asyncio

import msgspec
import pytest

from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.kubernetes.review_client import (
    CACHE_LIMIT,
    CACHE_S,
    IN_FLIGHT_LIMIT,
    LONGEST_PATH,
    LONGEST_TOKEN,
    WAITING_LIMIT,
    WAITING_LIMIT_PER_SOURCE,
    ReviewClient,
)
from maesh_core.errors import KubernetesError
from maesh_testing.api_server import ApiServer, FaultKind

AUDIENCE = "maesh-api"
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "proxy-1", "namespace": "maesh"},
    "spec": {"nodeName": "node-a", "serviceAccountName": "maesh-mesh", "containers": []},
}


@pytest.fixture
def server():
    with ApiServer() as server:
        server.apply([{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-a"}}, POD])
        yield server


@pytest.fixture
async def client(server):
    async def load():
        return Access(server=server.url, headers={"Authorization": f"Bearer {server.token}"})

    client = KubernetesClient(Credentials(load))
    yield client
    await client.close()


@pytest.fixture
async def reviews(client, clock):
    reviews = ReviewClient(client, clock=clock)
    yield reviews
    await reviews.close()


@pytest.fixture
def clock():
    class Clock:
        now = 1000.0

        def __call__(self):
            return self.now

    return Clock()


def count_reviews(server):
    return sum(call.resource in ("tokenreviews", "subjectaccessreviews") for call in server.calls)


async def test_the_owner_of_a_projected_token_is_known_with_its_pod_and_node(server, reviews):
    token = server.issue_token("maesh", "maesh-mesh", audiences=[AUDIENCE], pod="proxy-1")
    owner = await reviews.review_token(token, [AUDIENCE])
    assert owner.username == "system:serviceaccount:maesh:maesh-mesh"
    assert owner.uid == server.get("serviceaccounts", "maesh-mesh", "maesh")["metadata"]["uid"]
    assert "system:serviceaccounts:maesh" in owner.groups
    assert owner.audiences == (AUDIENCE,)
    assert owner.pod_name == "proxy-1"
    assert owner.pod_uid == server.get("pods", "proxy-1", "maesh")["metadata"]["uid"]
    assert owner.node_name == "node-a"


async def test_a_token_for_another_audience_has_no_owner(server, reviews):
    token = server.issue_token("maesh", "maesh-mesh", audiences=["vault"])
    assert await reviews.review_token(token, [AUDIENCE]) is None
    assert await reviews.review_token(server.issue_token("maesh", "maesh-mesh"), [AUDIENCE]) is None


async def test_a_server_that_ignores_audiences_proves_nothing(clock):
    class OldServer:
        async def send(self, method, path, body=None, *, timeout_s):
            return msgspec.json.encode({"status": {"authenticated": True, "user": {"username": "jo"}}})

    assert await ReviewClient(OldServer(), clock=clock).review_token("a-token-of-jo", [AUDIENCE]) is None


async def test_an_expired_token_and_one_of_a_pod_that_is_gone_have_no_owner(server, reviews):
    expired = server.issue_token("maesh", "maesh-mesh", audiences=[AUDIENCE])
    server.expire_token(expired)
    bound = server.issue_token("maesh", "maesh-mesh", audiences=[AUDIENCE], pod="proxy-1")
    server.finish_deletion("pods", "proxy-1", "maesh")
    assert await reviews.review_token(expired, [AUDIENCE]) is None
    assert await reviews.review_token(bound, [AUDIENCE]) is None


@pytest.mark.parametrize("token", ["", "a b\nc", "tokén", "x" * (LONGEST_TOKEN + 1)])
async def test_what_cannot_be_a_token_is_not_sent_to_the_server(server, reviews, token):
    assert await reviews.review_token(token, [AUDIENCE]) is None
    assert count_reviews(server) == 0


async def test_an_answer_is_kept_for_ten_seconds_and_then_asked_again(server, reviews, clock):
    token = server.issue_token("maesh", "maesh-mesh", audiences=[AUDIENCE])
    for _ in range(3):
        assert await reviews.review_token(token, [AUDIENCE]) is not None
    assert count_reviews(server) == 1
    server.expire_token(token)
    clock.now += CACHE_S
    assert await reviews.review_token(token, [AUDIENCE]) is None


async def test_requests_with_the_same_token_share_one_review(server, reviews):
    token = server.issue_token("maesh", "maesh-mesh", audiences=[AUDIENCE])
    owners = await asyncio.gather(*(reviews.review_token(token, [AUDIENCE]) for _ in range(40)))
    assert all(owner is not None for owner in owners)
    assert count_reviews(server) == 1


async def test_a_request_that_is_given_up_does_not_end_the_review_of_another(server, reviews):
    server.add_fault(FaultKind.DELAY, resource="tokenreviews", delay_s=0.05)
    token = server.issue_token("maesh", "maesh-mesh", audiences=[AUDIENCE])
    first, second = (asyncio.create_task(reviews.review_token(token, [AUDIENCE])) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None


async def test_a_server_that_is_away_is_an_error_that_is_not_kept(server, reviews):
    token = server.issue_token("maesh", "maesh-mesh", audiences=[AUDIENCE])
    server.stop_listening()
    with pytest.raises(KubernetesError):
        await reviews.review_token(token, [AUDIENCE])
    server.resume()
    assert await reviews.review_token(token, [AUDIENCE]) is not None


async def test_an_error_contains_neither_the_token_nor_the_servers_text(server, reviews):
    token = server.issue_token("maesh", "maesh-mesh", audiences=[AUDIENCE])
    server.add_fault(FaultKind.STATUS, resource="tokenreviews", status=422, reason="Invalid", message=f"bad {token}")
    with pytest.raises(KubernetesError, match="422 Invalid") as caught:
        await reviews.review_token(token, [AUDIENCE])
    assert token not in str(caught.value)
    assert caught.value.__suppress_context__


async def test_an_answer_that_is_no_review_is_an_error(server, reviews):
    server.add_fault(FaultKind.GARBAGE, resource="tokenreviews", body=b'{"status": []}')
    with pytest.raises(KubernetesError, match="malformed"):
        await reviews.review_token("some-token", [AUDIENCE])


async def test_access_is_decided_by_the_rules_of_the_owner_and_of_its_groups(server, reviews):
    token = server.issue_token("tools", "viewer", audiences=[AUDIENCE])
    owner = await reviews.review_token(token, [AUDIENCE])
    assert await reviews.review_access(owner, "get", "/api/services"), "system:discovery allows it"
    assert not await reviews.review_access(owner, "get", "/maesh/api/services")
    server.set_rules("system:serviceaccount:tools:viewer", [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}])
    server.set_rules("system:serviceaccounts:tools", [{"nonResourceURLs": ["/maesh/api/status/*"], "verbs": ["get"]}])
    assert await reviews.review_access(owner, "get", "/metrics")
    assert await reviews.review_access(owner, "get", "/maesh/api/status/nodes")
    assert not await reviews.review_access(owner, "post", "/metrics")
    asked = count_reviews(server)
    assert await reviews.review_access(owner, "get", "/metrics")
    assert count_reviews(server) == asked


async def test_a_path_that_is_too_long_is_refused_without_a_review(server, reviews):
    owner = await reviews.review_token(server.issue_token("tools", "viewer", audiences=[AUDIENCE]), [AUDIENCE])
    asked = count_reviews(server)
    assert not await reviews.review_access(owner, "get", "/" * (LONGEST_PATH + 1))
    assert count_reviews(server) == asked


class SlowServer:
    """Answers when it is allowed to."""

    def __init__(self):
        self.waiting = 0
        self.most = 0
        self.is_allowed = asyncio.Event()

    async def send(self, method, path, body=None, *, timeout_s):
        self.waiting += 1
        self.most = max(self.most, self.waiting)
        await self.is_allowed.wait()
        self.waiting -= 1
        status = {"authenticated": True, "user": {"username": "jo"}, "audiences": [AUDIENCE]}
        return msgspec.json.encode({"status": status})


async def test_the_number_of_requests_and_of_those_that_wait_is_limited(clock):
    server = SlowServer()
    reviews = ReviewClient(server, clock=clock)
    sources = [str(number // WAITING_LIMIT_PER_SOURCE) for number in range(WAITING_LIMIT)]
    tasks = [
        asyncio.create_task(reviews.review_token(f"token-{number}", [AUDIENCE], source=source))
        for number, source in enumerate(sources)
    ]
    while server.most < IN_FLIGHT_LIMIT:  # noqa: ASYNC110 - it takes some rounds of the loop
        await asyncio.sleep(0)
    with pytest.raises(KubernetesError, match="too many"):
        await reviews.review_token("one-more", [AUDIENCE], source="another")
    server.is_allowed.set()
    assert all([await task for task in tasks])
    assert server.most == IN_FLIGHT_LIMIT


async def test_one_source_cannot_use_all_places(clock):
    server = SlowServer()
    reviews = ReviewClient(server, clock=clock)
    flood = [
        asyncio.create_task(reviews.review_token(f"token-{number}", [AUDIENCE], source="10.0.0.1"))
        for number in range(WAITING_LIMIT_PER_SOURCE)
    ]
    await asyncio.sleep(0)
    with pytest.raises(KubernetesError, match="too many"):
        await reviews.review_token("one-more", [AUDIENCE], source="10.0.0.1")
    other = asyncio.create_task(reviews.review_token("other", [AUDIENCE], source="10.0.0.2"))
    server.is_allowed.set()
    assert await other is not None
    await asyncio.gather(*flood)


async def test_the_oldest_answers_give_way_to_new_ones(clock):
    server = SlowServer()
    server.is_allowed.set()
    reviews = ReviewClient(server, clock=clock)
    for number in range(CACHE_LIMIT + 5):
        await reviews.review_token(f"token-{number}", [AUDIENCE])
    assert len(reviews._tokens._entries) == CACHE_LIMIT


async def test_a_review_without_answer_ends(clock, monkeypatch):
    monkeypatch.setattr("maesh_core.controller.kubernetes.review_client.TIMEOUT_S", 0.01)
    reviews = ReviewClient(SlowServer(), clock=clock)
    with pytest.raises(KubernetesError, match="in time"):
        await reviews.review_token("a-token", [AUDIENCE])
