"""Controllers that name the proxies that pull from them, and what else may answer."""

import json

import pytest

from maesh_core.controller.api.outgoing.peer_client import PeerClient
from maesh_core.controller.mesh_proxies.mesh_pods import Peer
from maesh_core.errors import NodeUnreachableError
from maesh_core.plain_http.messages import Response

PROXY = {"name": "node-1", "ip": "10.0.0.1", "ready": True, "revision": "e.1", "lastSeen": "2026-01-01T00:00:00.000Z"}


@pytest.fixture
async def client():
    client = PeerClient()
    yield client
    await client.close()


@pytest.fixture
def start_peer(serve):
    """Serve one answer to everything; return the peer and the requests that came."""

    async def start(body, status=200):
        requests = []

        async def handle(request):
            requests.append(request)
            return Response(status=status, body=body)

        url, _ = await serve(handle)
        return Peer("maesh-controller-2", "127.0.0.1", int(url.rpartition(":")[2])), requests

    return start


async def test_the_proxies_of_a_controller_are_fetched_from_a_page_that_asks_nobody(client, start_peer):
    new = PROXY | {"name": "node-2", "adminPort": 8080, "refused": True, "later": 1}
    peer, requests = await start_peer(json.dumps([PROXY, new]).encode())
    found = await client.fetch_reports(peer)
    assert [(each.name, each.admin_port, each.refused) for each in found] == [
        ("node-1", None, False),
        ("node-2", 8080, True),
    ]
    assert [request.target for request in requests] == [b"/api/status/nodes"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[{}]", b"[" * 100_000, b'[{"name": "\xff"}]'])
async def test_what_is_no_list_of_proxies_is_not_used(client, start_peer, body):
    peer, _ = await start_peer(body)
    with pytest.raises(NodeUnreachableError, match="the controller's answer is not its list of proxies"):
        await client.fetch_reports(peer)


async def test_another_status_is_reported(client, start_peer):
    peer, _ = await start_peer(b"", 503)
    with pytest.raises(NodeUnreachableError, match="the controller answered 503"):
        await client.fetch_reports(peer)


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 254])
async def test_names_that_no_registry_accepts_are_left_out(client, start_peer, name):
    peer, _ = await start_peer(json.dumps([PROXY | {"name": name}, PROXY]).encode())
    assert [each.name for each in await client.fetch_reports(peer)] == ["node-1"]
