import asyncio
import json

import aiohttp
import pytest

from maesh_core.controller.api.nodes import AdminAddress

from .conftest import CURRENT, pass_until


async def test_a_pull_gives_the_whole_configuration(peer):
    response, body = await peer.get(CURRENT)
    assert response.status == 200
    assert response.content_type == "application/json"
    assert json.loads(body) == {"revision": "e.1", "full": True, "since": None}
    assert response.headers["ETag"] == '"e.1"'
    assert response.headers["Cache-Control"] == "no-cache"


async def test_a_pull_since_an_earlier_revision_gives_a_delta_under_a_tag_of_its_own(peer):
    peer.advance()
    response, body = await peer.get(f"{CURRENT}?since=e.1")
    assert json.loads(body)["full"] is False
    assert response.headers["ETag"] == '"e.2;since=e.1"'


async def test_a_pull_since_the_current_revision_has_nothing_new(peer):
    response, body = await peer.get(f"{CURRENT}?since=e.1")
    assert (response.status, body) == (304, b"")
    assert response.headers["ETag"] == '"e.1"'


@pytest.mark.parametrize("since", ["", "e", "e.", "e.x", "e.2", "e.-1", "f.1", ".1", "e.1 ", "e.%D9%A1", "x" * 4000])
async def test_a_revision_that_is_not_ours_gets_the_whole_at_once(peer, since):
    response, body = await peer.get(f"{CURRENT}?since={since}&wait=60")
    assert response.status == 200
    assert json.loads(body)["full"] is True


async def test_a_revision_of_an_earlier_start_gets_the_whole_at_once(peer):
    peer.published.epoch = "later"
    _, body = await peer.get(f"{CURRENT}?since=e.1&wait=60")
    assert json.loads(body) == {"revision": "later.1", "full": True, "since": None}


@pytest.mark.parametrize("wait", ["-1", "x", "", "nan", "inf", "1e3", "0x10", "1_0", "%D9%A1", "9" * 10])
async def test_a_wait_that_is_no_number_of_seconds_is_refused(peer, wait):
    response, body = await peer.get(f"{CURRENT}?wait={wait}")
    assert response.status == 400
    assert b"wait is a number of seconds" in body


@pytest.mark.parametrize("wait", ["0", "0.01", "0.010"])
async def test_a_pull_that_waits_in_vain_ends_with_304(peer, wait):
    response, _ = await peer.get(f"{CURRENT}?since=e.1&wait={wait}")
    assert response.status == 304


async def test_a_held_pull_is_answered_by_the_next_revision(peer):
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=60")
    peer.advance()
    response, body = await pull
    assert response.status == 200
    assert json.loads(body) == {"revision": "e.2", "full": False, "since": "e.1"}


async def test_a_longer_wait_than_allowed_is_held_too(peer):
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=100000")
    peer.advance()
    response, _ = await pull
    assert response.status == 200


async def test_one_rendering_serves_all_that_waited(peer):
    pulls = [await peer.start_pull(f"{CURRENT}?since=e.1&wait=60") for _ in range(20)]
    peer.published.rendered.clear()
    peer.advance()
    bodies = {body for _, body in await asyncio.gather(*pulls)}
    assert len(bodies) == 1
    assert peer.published.rendered == ["e.1"]


async def test_nonsense_revisions_share_one_rendering(peer):
    peer.published.rendered.clear()
    for number in range(30):
        await peer.get(f"{CURRENT}?since=nonsense.{number}")
    assert peer.published.rendered == [None]


async def test_a_pull_whose_client_went_away_is_not_held_any_more(peer):
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=60")
    pull.cancel()
    await pass_until(lambda: not peer.api.held_pulls)
    assert (await peer.get("/api/services"))[0].status == 200


async def test_above_the_limit_a_pull_that_would_wait_is_refused(build_peer):
    peer = await build_peer(held_limit=1)
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=60")
    response, body = await peer.get(f"{CURRENT}?since=e.1&wait=60")
    assert (response.status, body) == (503, b"too many pulls are waiting\n")
    assert (await peer.get(CURRENT))[0].status == 200
    peer.api.close()
    await pull
    await peer.session.close()


async def test_closing_answers_the_pulls_that_wait_and_the_server_stops(build_peer):
    peer = await build_peer()
    pulls = [await peer.start_pull(f"{CURRENT}?since=e.1&wait=60") for _ in range(3)]
    peer.api.close()
    async with asyncio.timeout(60):
        await peer.server.close(grace_s=2.0)
        responses = await asyncio.gather(*pulls)
    assert [response.status for response, _ in responses] == [304] * 3
    await peer.session.close()


async def test_a_server_stops_even_if_the_api_was_not_closed(build_peer):
    peer = await build_peer()
    pull = await peer.start_pull(f"{CURRENT}?since=e.1&wait=60")
    async with asyncio.timeout(60):
        await peer.server.close(grace_s=2.0)
        with pytest.raises(aiohttp.ClientError):
            await pull
    await peer.session.close()


async def test_a_known_tag_has_nothing_new(peer):
    for known in ('"e.1"', 'W/"e.1"', '"x", "e.1"', "*"):
        response, _ = await peer.get(CURRENT, headers={"If-None-Match": known})
        assert response.status == 304, known


async def test_the_tag_of_a_delta_is_not_that_of_the_whole(peer):
    peer.advance()
    for known in ('"e.1"', '"e.2;since=e.1"', "e.2", "nonsense", '"'):
        response, _ = await peer.get(CURRENT, headers={"If-None-Match": known})
        assert response.status == 200, known
    response, _ = await peer.get(f"{CURRENT}?since=e.1", headers={"If-None-Match": '"e.2"'})
    assert response.status == 200


async def test_a_known_tag_can_be_waited_on(peer):
    pull = await peer.start_pull(f"{CURRENT}?wait=60", headers={"If-None-Match": '"e.1"'})
    peer.advance()
    response, body = await pull
    assert response.headers["ETag"] == '"e.2"'
    assert json.loads(body)["full"] is True


async def test_a_wait_without_a_revision_is_answered_at_once(peer):
    assert (await peer.get(f"{CURRENT}?wait=60"))[0].status == 200


async def test_nothing_is_pulled_before_the_first_build(peer):
    peer.published.is_ready = False
    response, body = await peer.get(f"{CURRENT}?wait=60&node=a")
    assert response.status == 503
    assert body == b"the first configuration is not built yet\n"
    assert response.headers["Retry-After"] == "1"
    (node,) = json.loads((await peer.get("/api/status/nodes"))[1])
    assert (node["name"], node["ready"], node["refused"]) == ("a", False, True)


async def test_proxies_that_pull_with_a_name_are_reported(peer):
    assert json.loads((await peer.get("/api/status/nodes"))[1]) == []
    await peer.get(f"{CURRENT}?node=b")
    await peer.get(f"{CURRENT}?node=a%20b&since=e.1")
    await peer.get(CURRENT)
    nodes = json.loads((await peer.get("/api/status/nodes"))[1])
    assert [(node["name"], node["ip"], node["ready"], node["revision"]) for node in nodes] == [
        ("a b", "127.0.0.1", True, "e.1"),
        ("b", "127.0.0.1", False, None),
    ]
    assert nodes[0]["lastSeen"].endswith("Z")


@pytest.mark.parametrize("name", ["", "a%0Ab", "%00", "x" * 254])
async def test_a_name_that_is_none_is_refused(peer, name):
    response, body = await peer.get(f"{CURRENT}?node={name}")
    assert response.status == 400
    assert b"node is a name" in body


@pytest.mark.parametrize(
    "port", ["", "0", "65536", "99999", "-1", "+1", "080", "8_0", "1e3", "%D9%A1", "80%0A", "h:80"]
)
async def test_an_admin_port_that_is_none_is_refused(peer, port):
    response, body = await peer.get(f"{CURRENT}?node=a&admin={port}")
    assert (response.status, body) == (400, b"admin is a port, a number from 1 to 65535\n")
    assert json.loads((await peer.get("/api/status/nodes"))[1]) == []


@pytest.mark.parametrize("port", [1, 65535])
async def test_every_plain_port_is_taken(peer, port):
    await peer.get(f"{CURRENT}?node=a&admin={port}")
    await peer.get("/api/status/node/a/configuration")
    assert peer.asker.asked == [AdminAddress("127.0.0.1", port)]


async def test_a_controller_out_of_touch_with_its_cluster_answers_no_pull_and_is_not_ready(peer):
    peer.published.is_current = False
    response, body = await peer.get(CURRENT)
    assert (response.status, response.headers["Retry-After"]) == (503, "1")
    assert response.headers["Connection"] == "close", "the next pull may meet another replica"
    assert b"no contact" in body
    response, body = await peer.get("/api/status/readiness")
    assert (response.status, body) == (503, b"false")


async def test_a_proxy_whose_pulls_are_refused_is_reported_as_one_that_runs(peer):
    peer.published.is_current = False
    await peer.get(f"{CURRENT}?node=b&since=e.1&admin=8080")
    (node,) = json.loads((await peer.get("/api/status/nodes"))[1])
    assert (node["name"], node["revision"], node["adminPort"]) == ("b", "e.1", 8080)
    assert (node["ready"], node["refused"]) == (False, True)
