"""A host without a dot: it is routed as the mesh name of the service in the client's namespace, or not at all."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.configuration import HttpBranch, HttpRouter, Section, Server, Service
from maesh_core.model.matches import HttpMatch
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.routing_table import CurrentTable, HttpTable, build_table
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

from .exchanges.middleware_doubles import OK, get_status
from .http2.framing import open_http2

ENTRYPOINT, OWN_ENTRYPOINT = 5000, 16000
CLIENTS = {"10.0.0.8": "shop", "10.0.0.7": "lab"}
STRANGER = "10.0.0.9"
SERVICES = (("shop", "web"), ("lab", "web"), ("shop", "cart"))


class Keeper:
    """Lets only one client in, and notes what it was asked about."""

    def __init__(self, client):
        self.client, self.seen = client, []

    def on_request(self, exchange):
        self.seen.append((exchange.client_address, exchange.service))
        return None if exchange.client_address == self.client else Response(status=403, reason="not you")

    def is_still_allowed(self, connection):
        self.seen.append(("again", connection.service))
        return False


def build_section(services=SERVICES, **fields):
    """Build a section in which the server of each service has its number."""
    routers, found = {}, {}
    for number, (namespace, name) in enumerate(services, 1):
        key = f"{namespace}/{name}:80"
        routers[key] = HttpRouter(
            entrypoint=ENTRYPOINT, hosts=(f"{name}.{namespace}.maesh",), service=key, **fields.get(key, {})
        )
        found[key] = Service(servers=(Server(address=f"10.0.1.{number}", port=80),))
    return Section(routers=routers, services=found)


def apply(world, middlewares=None, *, namespaces=CLIENTS, **fields):
    table = world.handler.compile_table(build_section(**fields), middlewares=middlewares or {}, changed=None)
    world.handler.apply_namespaces(namespaces)
    world.handler.apply_table(table)


async def ask(world, host, client, path="/"):
    """Send a request; return the number of the server that gets it, or the status of the mesh's answer."""
    peer = world.open_client(client)
    peer.send(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path.encode(), host.encode()))
    await world.settle()
    if not world.connects:
        return get_status(peer)
    number = int(world.connects[0][1].rpartition(".")[2])
    server = world.let_connect()
    await world.settle()
    server.send(OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert get_status(peer) == 200
    return number


@pytest.mark.parametrize("host", ["web", "WEB", "web:8080", "web.", "Web.:80"])
async def test_a_name_alone_means_the_service_of_the_clients_namespace(open_world, host):
    async with open_world() as world:
        apply(world)
        assert [await ask(world, host, client) for client in (*CLIENTS, STRANGER)] == [1, 2, 404]


async def test_a_service_that_the_namespace_does_not_have_is_not_found_elsewhere(open_world):
    async with open_world() as world:
        apply(world)
        assert await ask(world, "cart", "10.0.0.8") == 3
        assert await ask(world, "cart", "10.0.0.7") == 404
        assert await ask(world, "other", "10.0.0.8") == 404


async def test_the_namespace_of_an_address_is_the_current_one_for_each_request_of_a_connection(open_world):
    async with open_world() as world:
        apply(world)
        peer = world.open_client("10.0.0.8")
        for namespaces, number in ((CLIENTS, 1), ({"10.0.0.8": "lab"}, 2), ({}, None)):
            world.handler.apply_namespaces(namespaces)
            peer.send(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
            await world.settle()
            if number is None:
                assert get_status(peer) == 404
                continue
            assert world.connects[0][1] == f"10.0.1.{number}"
            server = world.let_connect()
            await world.settle()
            server.send(OK)
            assert get_status(peer) == 200


@pytest.mark.parametrize(("authority", "client", "number"), [("web", "10.0.0.7", 2), ("Web:80", "10.0.0.8", 1)])
async def test_the_authority_of_http2_is_read_in_the_same_way(open_world, authority, client, number):
    async with open_world() as world:
        apply(world)
        peer = open_http2(world, address=client)
        peer.send(peer.headers(1, ((":method", "GET"), (":scheme", "http"), (":authority", authority), (":path", "/"))))
        await world.settle()
        assert world.connects[0][1] == f"10.0.1.{number}"
        world.let_connect()
        await world.settle()


async def test_an_unknown_client_of_http2_gets_404(open_world):
    async with open_world() as world:
        apply(world)
        peer = open_http2(world)
        peer.send(peer.headers(1, ((":method", "GET"), (":scheme", "http"), (":authority", "web"), (":path", "/"))))
        await world.settle()
        (head, *_) = peer.take_streams()
        assert dict(head[2])[b":status"] == b"404"


@pytest.mark.parametrize("host", ["web.shop.maesh", "web"])
async def test_access_control_decides_as_for_the_name_in_the_mesh(open_world, host):
    keeper = Keeper("10.0.0.8")
    fields = {"shop/web:80": {"middlewares": ("keeper",)}}
    async with open_world() as world:
        apply(world, {"keeper": keeper}, namespaces={"10.0.0.8": "shop", "10.0.0.7": "shop"}, **fields)
        assert [await ask(world, host, client) for client in CLIENTS] == [1, 403]
    assert keeper.seen == [("10.0.0.8", "shop/web:80"), ("10.0.0.7", "shop/web:80")]


@pytest.mark.parametrize("namespaces", [CLIENTS, {}])
async def test_an_exchange_in_progress_is_judged_by_the_route_that_its_name_has_now(open_world, namespaces):
    keeper = Keeper("10.0.0.8")
    fields = {"shop/web:80": {"middlewares": ("keeper",)}}
    async with open_world() as world:
        apply(world, {"keeper": keeper}, **fields)
        peer = world.open_client("10.0.0.8")
        peer.send(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
        await world.settle()
        world.let_connect()
        await world.settle()
        apply(world, {"keeper": keeper}, namespaces=namespaces, **fields)
        await world.settle()
        assert get_status(peer) == 403
    assert keeper.seen[1:] == ([("again", "shop/web:80")] if namespaces else [])


async def test_branches_of_the_service_apply(open_world):
    branch = HttpBranch(service="shop/cart:80", matches=(HttpMatch(path_prefix="/cart"),))
    async with open_world() as world:
        apply(world, **{"shop/web:80": {"branches": (branch,)}})
        assert await ask(world, "web", "10.0.0.8", "/cart") == 3
        assert await ask(world, "web", "10.0.0.8") == 1


# --- laws

LABELS = st.sampled_from(["web", "cart", "shop", "lab"])
HOSTS = st.sampled_from(["web.shop.maesh", "web.lab.maesh", "web", "cart.shop.maesh", "shop.shop.maesh", "10.0.0.1"])
ROUTERS = st.dictionaries(
    st.sampled_from("abcd"),
    st.builds(
        HttpRouter,
        entrypoint=st.sampled_from([ENTRYPOINT, ENTRYPOINT + 1]),
        own_entrypoint=st.sampled_from([0, 0, OWN_ENTRYPOINT]),
        hosts=st.lists(HOSTS, max_size=3, unique=True).map(tuple),
    ),
)
DOTTED = st.sampled_from([b"web.shop.maesh", b"web.shop", b"10.0.0.1"]) | st.lists(
    st.binary(max_size=8), min_size=2
).map(b".".join)
ENTRYPOINTS = st.sampled_from([ENTRYPOINT, ENTRYPOINT + 1, OWN_ENTRYPOINT, 1])


@pytest.fixture(scope="module")
def environment():
    async def build():
        return Environment(CarryingSettings(node="node"), Clock(asyncio.get_running_loop()))

    return asyncio.run(build())


def build_current(environment, routers, namespaces):
    table = build_table(
        Section(routers=routers),
        middlewares={},
        changed=None,
        current=HttpTable(),
        get_server=lambda key: HttpServer(environment, key),
        balancers=BalancerKinds(),
    )
    current = CurrentTable(table)
    current.namespaces = namespaces
    return current


@given(ROUTERS, st.dictionaries(st.sampled_from(["c1", "c2"]), st.sampled_from(["shop", "lab"])), LABELS, ENTRYPOINTS)
def test_a_name_alone_has_the_route_of_its_name_in_the_mesh_unless_a_router_has_the_host_itself(
    environment, routers, namespaces, name, entrypoint
):
    current = build_current(environment, routers, namespaces)
    host = name.encode()
    exact = current.table.find(entrypoint, host)
    for client in ("c1", "c2"):
        found = current.find(entrypoint, host, client)
        if exact is not None:
            assert found is exact
        elif client in namespaces:
            assert found is current.table.find(entrypoint, f"{name}.{namespaces[client]}.maesh".encode())
        else:
            assert found is None


@given(ROUTERS, DOTTED, ENTRYPOINTS)
def test_no_other_host_depends_on_the_client(environment, routers, dotted, entrypoint):
    current = build_current(environment, routers, {"c1": "shop"})
    for host in (dotted, b""):
        assert current.find(entrypoint, host, "c1") is current.table.find(entrypoint, host)
