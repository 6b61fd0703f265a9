"""Which connections to its servers a node gives to the proxies of other nodes."""

import asyncio
from typing import Any

import pytest
import uvloop

from maesh_core.model.configuration import HttpBranch, HttpRouter, Middleware, Part, Section, Server, Service
from maesh_core.model.transport import ClientEntry
from maesh_core.plugin_system.transports import ByRequest, Delivery, Refusal
from maesh_core.proxy.middleware.failures import MiddlewareFailures
from maesh_core.proxy.routing.middlewares import CompiledMiddleware
from maesh_core.proxy.routing.sections import ResolvedSection
from maesh_core.proxy.transport import deliveries as module
from maesh_core.proxy.transport.deliveries import WAITING_LIMIT, WAITING_LIMIT_PER_NODE, Deliveries

from .fake_transport import FakeTransport, Receiver
from .http_sender import HERE, HttpServer, Sender

DENIED = Refusal(403, "access denied")
NO_SERVICE = Refusal(404, "the server's node does not know the service")
NO_SERVER = Refusal(404, "the server is not on this node")
HTTP = Delivery("10.0.0.1", 80, "n/a:80", "10.1.1.1")
PARTS = {
    "n/s:80": Service(encryption="strict"),
    "n/s:80/all": Service(parts=(Part(service="n/s:80/all/a", weight=1),), encryption="strict"),
    "n/s:80/all/a": Service(servers=(Server(address="10.0.0.1", port=80, node="here"),), encryption="strict"),
}


def resolve(*, mode="strict", node="here", middlewares=None, port=80, is_refused=False):
    """Build the current part of a protocol: service `a`, and the split service `s`."""
    built = middlewares or {}
    service = Service(servers=(Server(address="10.0.0.1", port=port, node=node),), encryption=mode)
    routers = {
        "n/a:80": HttpRouter(
            entrypoint=1, hosts=("a",), service=None if is_refused else "n/a:80", middlewares=tuple(built)
        ),
        "n/s:80": HttpRouter(
            entrypoint=1, hosts=("s",), service="n/s:80", branches=(HttpBranch(service="n/s:80/all"),)
        ),
    }
    section = Section(routers=routers, services={"n/a:80": service, "n/unused:80": service, **PARTS})
    compiled = {key: CompiledMiddleware(key, {}, instance) for key, instance in built.items()}
    return ResolvedSection(section=section, middlewares=compiled)


class World:
    """A node whose configuration can change."""

    def __init__(self, resolved=None, *, node="here"):
        self.sections = {"http": resolved or resolve(), "tcp": ResolvedSection()}
        self.failures = MiddlewareFailures()
        self.deliveries = Deliveries(node, self.sections.__getitem__, guard_kinds=("guard",), failures=self.failures)

    def apply(self, resolved):
        self.sections["http"] = resolved
        self.deliveries.on_update()


class Guard:
    def __init__(self, verdict):
        self.verdict = verdict

    def judge_delivery(self, delivery):
        if isinstance(self.verdict, Exception):
            raise self.verdict
        return self.verdict


async def test_a_server_of_the_service_on_this_node_is_delivered_to():
    assert World().deliveries.find_verdict(HTTP) is None


@pytest.mark.parametrize("service", ["n/s:80/all/a"])
async def test_a_part_of_a_split_is_delivered_to(service):
    assert World().deliveries.find_verdict(Delivery("10.0.0.1", 80, service)) is None


@pytest.mark.parametrize(
    ("delivery", "refusal"),
    [
        (Delivery("10.0.0.2", 80, "n/a:80"), NO_SERVER),
        (Delivery("10.0.0.1", 81, "n/a:80"), NO_SERVER),
        (Delivery("10.0.0.1", 80, "n/b:80"), NO_SERVICE),
        (Delivery("10.0.0.1", 80, "n/unused:80"), NO_SERVICE),
        (Delivery("10.0.0.1", 80, "n/s:80"), NO_SERVER),
        (Delivery("10.0.0.1", 80, ""), NO_SERVICE),
        (Delivery("10.0.0.1", 80, "n/a:80", protocol="tcp"), NO_SERVICE),
        (Delivery("10.0.0.1", 80, "n/a:80", protocol="udp"), DENIED),
    ],
)
async def test_a_delivery_that_does_not_fit_its_service_is_refused(delivery, refusal):
    assert World().deliveries.find_verdict(delivery) == refusal


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"mode": "off"}, Refusal(404, "the service has no encryption")),
        ({"node": "other"}, NO_SERVER),
        ({"node": ""}, NO_SERVER),
        ({"is_refused": True}, NO_SERVICE),
    ],
)
async def test_a_service_without_encryption_or_on_another_node_is_refused(changes, refusal):
    assert World(resolve(**changes)).deliveries.find_verdict(HTTP) == refusal


async def test_a_proxy_that_does_not_know_its_node_delivers_nothing():
    assert World(resolve(node=""), node="").deliveries.find_verdict(HTTP) == NO_SERVER


@pytest.mark.parametrize(
    ("verdict", "is_allowed"),
    [(True, True), (False, False), (1, False), ("yes", False), (ValueError("no"), False)],
)
async def test_a_guard_decides_and_one_that_fails_denies(verdict, is_allowed, caplog):
    world = World(resolve(middlewares={"guard": Guard(verdict)}))
    assert world.deliveries.find_verdict(HTTP) == (None if is_allowed else DENIED)


async def test_requests_are_judged_if_one_guard_depends_on_them_and_none_denies():
    def find(*verdicts):
        guards = {f"guard{number}": Guard(verdict) for number, verdict in enumerate(verdicts)}
        world = World(resolve(middlewares=guards))
        world.deliveries._guard_kinds = frozenset(guards)
        return world.deliveries.find_verdict(HTTP)

    assert find(None) == find(True, None) == find(None, True) == ByRequest()
    assert find(None, False) == find(False, None) == DENIED


async def test_a_guard_that_depends_on_requests_denies_tcp():
    world = World()
    world.sections["tcp"] = resolve(middlewares={"guard": Guard(None)})
    assert world.deliveries.find_verdict(Delivery("10.0.0.1", 80, "n/a:80", "10.1.1.1", "tcp")) == DENIED


async def test_a_guard_that_cannot_judge_deliveries_denies_and_other_middlewares_do_not_matter():
    assert World(resolve(middlewares={"guard": object()})).deliveries.find_verdict(HTTP) == DENIED
    assert World(resolve(middlewares={"other": object()})).deliveries.find_verdict(HTTP) is None
    assert World(resolve(middlewares={"other": None})).deliveries.find_verdict(HTTP) == DENIED


async def test_a_server_that_is_not_known_yet_is_waited_for():
    world = World(resolve(node="other"))
    judging = asyncio.ensure_future(world.deliveries.judge("there", HTTP))
    await asyncio.sleep(0)
    world.apply(resolve(port=81))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not judging.done()
    world.apply(resolve())
    assert await judging is None
    assert "0 waiting" in repr(world.deliveries)


async def test_a_denial_is_not_waited_for():
    world = World(resolve(middlewares={"guard": Guard(False)}))
    assert await world.deliveries.judge("there", HTTP) == DENIED


async def test_a_delivery_to_an_unknown_server_is_refused_when_the_wait_ends(monkeypatch):
    monkeypatch.setattr(module, "WAIT_S", 0.001)
    assert await World(resolve(node="other")).deliveries.judge("there", HTTP) == NO_SERVER


async def test_one_node_cannot_use_up_the_waits_of_others():
    world = World(resolve(node="other"))
    tasks = []

    async def fill(node, count):
        tasks.extend(asyncio.ensure_future(world.deliveries.judge(node, HTTP)) for _ in range(count))
        await asyncio.sleep(0)

    await fill("a", WAITING_LIMIT_PER_NODE)
    assert await world.deliveries.judge("a", HTTP) == NO_SERVER
    for node in range(WAITING_LIMIT // WAITING_LIMIT_PER_NODE - 1):
        await fill(str(node), WAITING_LIMIT_PER_NODE)
    assert await world.deliveries.judge("b", HTTP) == NO_SERVER
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert "0 waiting" in repr(world.deliveries)


def test_two_nodes_agree_about_servers_and_clients():
    async def scene():
        async with HttpServer() as server, Receiver() as receiver:
            guard: Any = Guard(True)
            place = (Server(address="127.0.0.1", port=server.port, node="there"),)
            section = Section(
                routers={"n/a:80": HttpRouter(entrypoint=1, hosts=("a",), service="n/a:80", middlewares=("guard",))},
                services={"n/a:80": Service(servers=place, encryption="strict")},
            )
            resolved = ResolvedSection(section=section, middlewares={"guard": CompiledMiddleware("guard", {}, guard)})
            world = World(resolved, node="there")
            receiver.judge = world.deliveries.judge
            async with Sender(FakeTransport(there=receiver.address), server.port, mode="strict") as sender:
                sender.paths.clients = {"127.0.0.1": ClientEntry(HERE, "web@n")}
                sender.kinds = {"n/a/guard": Middleware(kind="guard")}
                sender.middlewares = {"n/a/guard": type("Allow", (), {"on_request": lambda *_: None})()}
                sender.apply()
                assert await sender.ask() == (200, "ok")
                (delivery,) = receiver.deliveries
                assert delivery.client == "127.0.0.1"
                for each in list(receiver.connections):
                    each.close()
                (guarded,) = sender.servers
                while any(pool.opened for pool in guarded._pools.values()):  # noqa: ASYNC110 - has no event
                    await asyncio.sleep(0)
                guard.verdict = False
                assert await sender.ask() == (403, "access denied")
                assert sender.aside == []

    uvloop.run(asyncio.wait_for(scene(), 60))
