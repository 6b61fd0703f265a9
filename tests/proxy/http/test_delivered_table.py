"""Where the requests of other nodes' streams go, and what happens when that changes."""

import asyncio
import ssl

import pytest

from maesh_core.plugin_system.transports import Delivery
from maesh_core.proxy.http.delivered_table import UNKNOWN
from maesh_core.proxy.tunnel import reviews
from maesh_core.proxy.tunnel.limits import REVIEW_GRACE_S
from maesh_testing import find_free_port

from ..tunnel.conftest import wait_until
from ..tunnel.node_certificates import Authority
from .judging_node import BRANCH, CLIENT, PART, SERVICE, JudgingNode, Pod

ALLOWED = b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n"


async def test_a_server_that_does_not_accept_refuses_the_stream():
    async with JudgingNode(find_free_port()) as node:
        stream = await node.open()
        assert (stream.failure.status, stream.failure.is_servers_fault) == (502, True)


@pytest.mark.parametrize("scheme", ["http", "h2c"])
async def test_a_server_that_is_removed_while_it_is_connected_to_is_unknown(scheme):
    async with Pod() as pod, JudgingNode(pod.port, scheme=scheme) as node:
        delivery = Delivery("127.0.0.1", pod.port, SERVICE, CLIENT)
        opening = asyncio.ensure_future(node.handler.open_delivery(delivery))
        await asyncio.sleep(0)
        node.apply(ports=())
        assert await opening == UNKNOWN
        assert not node.handler.environment.upstreams


async def test_streams_share_the_connections_to_their_server():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        for _ in range(3):
            await node.ask(await node.open(), ALLOWED)
        assert pod.connections == 1


async def test_a_client_whose_grants_have_no_conditions_is_joined_with_its_server():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        node.guard.verdict = True
        stream = await node.open()
        await node.ask(stream, b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n")
        assert pod.targets == [b"/secret"]
        assert node.guard.seen == []


async def test_requests_are_judged_for_the_destination_that_the_server_belongs_to():
    async with Pod() as pod, Pod() as other, JudgingNode(pod.port) as node:
        node.apply(branch_port=other.port)
        both = await node.open(), await node.open(other.port, service=BRANCH)
        for stream in both:
            await node.ask(stream, b"GET /beta HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [seen[3] for seen in node.guard.seen] == [SERVICE, BRANCH]
        assert (pod.targets, other.targets) == ([b"/beta"], [b"/beta"])


async def test_a_server_of_several_destinations_gets_each_request_for_the_one_that_it_matches():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        node.apply(branch_port=pod.port, is_part=True)
        stream = await node.open(service=PART)
        for target in (b"/beta", b"/open"):
            await node.ask(stream, b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
        assert [seen[3] for seen in node.guard.seen] == [BRANCH, SERVICE]


async def test_requests_for_rules_are_judged_for_the_backend_whatever_filters_have_made_of_them():
    async with Pod() as pod, Pod() as other, JudgingNode(pod.port) as node:
        node.apply(branch_port=other.port, is_ruled=True)
        both = await node.open(), await node.open(other.port, service=BRANCH)
        for stream in both:
            await node.ask(stream, b"GET /rewritten HTTP/1.1\r\nHost: a\r\n\r\n")
            await node.ask(stream, b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n")
        assert [seen[3] for seen in node.guard.seen] == [SERVICE, SERVICE, BRANCH, BRANCH]
        assert (pod.targets, other.targets) == ([b"/rewritten"], [b"/rewritten"])
        node.guard.verdict = False
        assert (await node.open(service=BRANCH)).failure is not None


async def test_requests_for_a_backend_that_several_rules_share_are_judged_for_it():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        node.apply(branch_port=pod.port, is_part=True, is_ruled=True)
        stream = await node.open(service=PART)
        assert b"200" in await node.ask(stream, ALLOWED)
        assert [seen[3] for seen in node.guard.seen] == [PART]
        assert len(pod.targets) == 1


async def test_a_request_that_is_not_allowed_any_more_ends():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        pod.holds = True
        stream = await node.open()
        stream.transport.write(ALLOWED)
        await wait_until(lambda: pod.heads)
        node.apply()
        await wait_until(lambda: b"403" in stream.data)


async def test_a_stream_of_a_client_that_lost_its_grants_ends_at_once():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        served = await node.open()
        node.guard.verdict = True
        joined = await node.open()
        node.guard.verdict = False
        node.apply()
        await wait_until(lambda: served.lost and joined.lost)
        assert (await node.open()).failure.status == 403
        assert node.engine.environment.counters.ends == {reviews.DENIED: 2}


async def test_a_joined_stream_whose_requests_must_be_judged_ends_after_a_while():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        node.guard.verdict = True
        stream = await node.open()
        node.guard.verdict = None
        node.apply()
        await settle()
        node.node.pass_time(REVIEW_GRACE_S - 1)
        assert (await node.ask(stream, ALLOWED)).startswith(b"HTTP/1.1 200 ")
        node.node.pass_time(1)
        await wait_until(lambda: stream.lost)


async def test_a_stream_to_a_server_that_left_gets_no_further_request_and_ends():
    async with Pod() as pod, Pod() as other, JudgingNode(pod.port, other.port) as node:
        stream, kept = await node.open(), await node.open(other.port)
        node.apply(ports=(other.port,))
        assert await node.ask(stream, ALLOWED) == b""
        assert pod.heads == []
        await settle()
        node.node.pass_time(REVIEW_GRACE_S)
        assert (await node.ask(kept, ALLOWED)).startswith(b"HTTP/1.1 200 ")


async def test_a_service_without_encryption_ends_its_streams():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        node.guard.verdict = True
        stream = await node.open()
        node.apply(mode="off")
        await settle()
        assert not stream.lost
        node.node.pass_time(REVIEW_GRACE_S)
        await wait_until(lambda: stream.lost)
        assert node.engine.environment.counters.ends == {reviews.STALE: 1}


async def test_a_judged_stream_ends_after_a_while_when_the_certificate_of_its_tunnel_has_ended():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        stream = await node.open()
        assert (await node.ask(stream, ALLOWED)).startswith(b"HTTP/1.1 200 ")
        for link in node.engine._doors.links:
            link.connection.valid_until = 0.0
        node.node.pass_time(0)
        assert not stream.lost
        node.node.pass_time(REVIEW_GRACE_S)
        await wait_until(lambda: stream.lost)
        assert node.engine.environment.counters.ends == {reviews.EXPIRED: 1}


async def test_a_stream_whose_server_returns_in_time_stays():
    async with Pod() as pod, JudgingNode(pod.port) as node:
        node.guard.verdict = True
        stream = await node.open()
        for mode in ("off", "strict"):
            node.apply(mode=mode)
            await settle()
        node.node.pass_time(REVIEW_GRACE_S)
        assert (await node.ask(stream, ALLOWED)).startswith(b"HTTP/1.1 200 ")


async def test_requests_to_a_server_of_https_are_judged_and_encrypted_by_its_node():
    tls = Authority().build_context("pod", is_server=True, alpn=("http/1.1",))
    tls.verify_mode = ssl.CERT_NONE
    async with Pod(tls) as pod, JudgingNode(pod.port, scheme="https", insecure_skip_verify=True) as node:
        node.guard.verdict = True
        stream = await node.open()
        assert (await node.ask(stream, ALLOWED)).startswith(b"HTTP/1.1 200 ")
        answer = await node.ask(stream, b"GET /secret HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 403 ")
        assert pod.targets == [b"/open"]


async def settle():
    for _ in range(10):
        await asyncio.sleep(0)
