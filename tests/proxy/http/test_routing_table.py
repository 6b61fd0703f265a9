"""The HTTP table: whole and incremental builds agree, hosts have one claimant, pools are shared and let go."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.configuration import HttpRouter, HttpRule, HttpRules, Section, Server, Service
from maesh_core.plugin_system.middleware import Middleware
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.http.environment import Environment
from maesh_core.proxy.http.handler import HttpHandler
from maesh_core.proxy.http.routing_table import HttpTable, build_table
from maesh_core.proxy.http.upstreams.connection_pool import HttpServer
from maesh_core.proxy.http.upstreams.server_key import ServerKey
from maesh_core.proxy.network.clock import Clock
from maesh_core.settings import CarryingSettings

KEYS = ["a", "b", "c", "d"]
SERVERS = st.lists(
    st.builds(lambda last, weight: Server(address=f"10.0.0.{last}", port=80, weight=weight), *[st.integers(1, 3)] * 2),
    max_size=3,
)
SERVICES = st.dictionaries(st.sampled_from(KEYS), st.builds(lambda servers: Service(servers=tuple(servers)), SERVERS))


def build_rules(services):
    """Rules that use any of the services, or close."""
    return st.lists(st.sampled_from(["", *services]), max_size=2).map(
        lambda names: HttpRules(rules=tuple(HttpRule(service=name) for name in names))
    )


@st.composite
def sections(draw):
    services = draw(SERVICES)
    routers = draw(
        st.dictionaries(
            st.sampled_from(KEYS),
            st.builds(
                HttpRouter,
                entrypoint=st.sampled_from([5000, 5001]),
                hosts=st.lists(st.sampled_from(["x.maesh", "Y.maesh", "z.maesh"]), max_size=3).map(tuple),
                service=st.sampled_from([None, *services]),
                middlewares=st.sampled_from([(), ("m",)]),
                status=st.sampled_from([404, 403]),
                reason=st.sampled_from(["", "closed"]),
            )
            | st.builds(
                HttpRouter,
                entrypoint=st.sampled_from([5000, 5001]),
                hosts=st.sampled_from([("x.maesh",), ("Y.maesh", "z.maesh")]),
                rules=st.none() | build_rules(services),
                consumers=st.just({}) | build_rules(services).map(lambda rules: {"test": rules}),
                fallback=st.sampled_from([None, *services]),
            ),
        )
    )
    return Section(routers=routers, services=services)


def find_changed(before, after):
    return frozenset(
        key
        for key in {*before.routers, *before.services, *after.routers, *after.services}
        if before.routers.get(key) != after.routers.get(key) or before.services.get(key) != after.services.get(key)
    )


def describe(table):
    """Say all that can be told of a table from outside."""

    def describe_route(route):
        picks = None if route.balancer is None else type(route.balancer).__name__
        targets = [(each.destination, type(each.balancer).__name__) for each in route.list_targets()]
        return route.service, picks, route.closed, route.chain is not None, targets

    return {
        "hosts": {
            (entrypoint, host): describe_route(route)
            for entrypoint, hosts in table.hosts.items()
            for host, route in hosts.items()
        },
        "services": {
            key: ([(server.key, weight) for server, weight in service.servers], service.users)
            for key, service in table.services.items()
        },
        "contested": table.contested,
        "routes": sorted(table.routes),
    }


async def build_environment():
    clock = Clock(asyncio.get_running_loop())
    clock.close()
    return Environment(CarryingSettings(), clock)


class Pools:
    """Applies tables as the handler does."""

    def __init__(self):
        self.table, self.pools = HttpTable(), {}
        self.environment = asyncio.run(build_environment())

    def get_server(self, key):
        return self.pools.setdefault(key, HttpServer(self.environment, key))

    def build(self, section, changed):
        return build_table(
            section,
            middlewares={"m": Middleware()},
            changed=changed,
            current=self.table,
            get_server=self.get_server,
            balancers=BalancerKinds(),
        )


@given(st.lists(sections(), min_size=1, max_size=5))
@pytest.mark.slow
def test_incremental_builds_equal_whole_ones(steps):
    pools, before = Pools(), Section()
    for section in steps:
        table = pools.build(section, find_changed(before, section))
        assert describe(table) == describe(Pools().build(section, None)) == describe(pools.build(section, None))
        wanted = {router.service or key for key, router in section.routers.items()}
        assert set(table.counters) >= wanted
        assert set(table.counters) <= {*section.routers, *section.services}
        for key, router in section.routers.items():
            for host in router.hosts:
                claimants = [
                    other
                    for other, its in section.routers.items()
                    if its.entrypoint == router.entrypoint and host in its.hosts
                ]
                route = table.find(router.entrypoint, host.lower().encode())
                assert route is table.routes[min(claimants)]
                assert key >= min(claimants)
        pools.table, before = table, section


@given(st.lists(sections(), min_size=1, max_size=5), st.data())
@pytest.mark.slow
async def test_pools_are_shared_and_let_go_exactly(steps, data):
    handler = HttpHandler(CarryingSettings(), Clock(asyncio.get_running_loop()))
    before = Section()
    for section in [*steps, Section()]:
        changed = data.draw(st.sampled_from([None, find_changed(before, section)]))
        instances = {"m": Middleware()}
        handler.compile_table(section, middlewares=instances, changed=changed)  # never applied: has no effect
        handler.apply_table(handler.compile_table(section, middlewares=instances, changed=changed))
        named = [
            ServerKey("http", each.address, each.port)
            for service in section.services.values()
            for each in service.servers
        ]
        assert {address: server.uses for address, server in handler._servers.items()} == {
            address: named.count(address) for address in named
        }
        assert not any(server.is_removed for server in handler._servers.values())
        for compiled in handler.current.table.services.values():
            for server, _ in compiled.servers:
                assert handler._servers[server.key] is server
        before = section
    assert not handler._servers
    handler.abort()
    handler.environment.clock.close()


def test_what_did_not_change_keeps_its_route_and_what_changed_its_counters():
    pools = Pools()
    service = Service(servers=(Server(address="10.0.0.1", port=80),))
    routers = {key: HttpRouter(entrypoint=1, hosts=(f"{key}.maesh",), service=key) for key in ("a", "b")}
    pools.table = pools.build(Section(routers=routers, services={"a": service, "b": service}), None)
    before = {key: pools.table.find(1, f"{key}.maesh".encode()) for key in ("a", "b")}
    changed = Service(servers=(Server(address="10.0.0.2", port=80),))
    table = pools.build(Section(routers=routers, services={"a": changed, "b": service}), frozenset({"a"}))
    after = {key: table.find(1, f"{key}.maesh".encode()) for key in ("a", "b")}
    assert after["b"] is before["b"]
    assert after["a"] is not before["a"]
    assert after["a"].counters is before["a"].counters
    assert pools.table.find(1, b"a.maesh") is before["a"]


def test_a_closed_router_answers_with_its_status_and_reason():
    router = HttpRouter(entrypoint=1, hosts=("x.maesh",), status=403, reason="denied")
    route = Pools().build(Section(routers={"x": router}), None).find(1, b"x.maesh")
    assert route.balancer is None
    assert (route.closed.status, route.closed.reason) == (403, "denied")


def test_unknown_hosts_and_entrypoints_have_no_route():
    table = Pools().build(Section(routers={"x": HttpRouter(entrypoint=1, hosts=("x.maesh",))}), None)
    assert table.find(1, b"y.maesh") is None
    assert table.find(2, b"x.maesh") is None


def test_a_clusters_name_finds_the_route_of_the_name_in_the_mesh_unless_another_router_has_it():
    hosts = {"cart": ("cart.shop.maesh", "10.0.0.1"), "odd": ("cart.shop.svc",)}
    routers = {key: HttpRouter(entrypoint=1, hosts=names) for key, names in hosts.items()}
    table = Pools().build(Section(routers=routers), None)
    for host in (b"cart.shop", b"cart.shop.svc.cluster.local", b"10.0.0.1"):
        assert table.find(1, host) is table.routes["cart"]
    assert table.find(1, b"cart.shop.svc") is table.routes["odd"]
    assert table.find(1, b"other.shop") is None
    assert table.find(1, b"cart.shop.example.org") is None


def test_an_entrypoint_of_a_routers_own_has_every_host_and_the_shared_one_its_hosts():
    def build(key, own):
        return HttpRouter(entrypoint=1, hosts=(f"{key}.maesh",), own_entrypoint=own, service=key)

    services = {key: Service() for key in "ab"}
    pools = Pools()
    pools.table = table = pools.build(
        Section(routers={"a": build("a", 7), "b": build("b", 0)}, services=services), None
    )
    for host in (b"a.maesh", b"b.maesh", b"10.0.0.1", b""):
        assert table.find(7, host) is table.routes["a"]
    assert table.find(1, b"b.maesh") is table.routes["b"]
    assert table.find(1, b"10.0.0.1") is None
    assert table.find(1, b"") is None
    moved = Section(routers={"a": build("a", 0), "b": build("b", 7)}, services=services)
    table = pools.build(moved, frozenset({"a", "b"}))
    assert table.find(7, b"a.maesh") is table.routes["b"]
    assert table.find(1, b"a.maesh") is table.routes["a"]
