"""Routers with branches: which requests go where, and what a change of one part leaves alone."""

from collections import Counter

import msgspec
import pytest

from maesh_core.model.configuration import HttpBranch, HttpRouter, Part, Section, Server, Service
from maesh_core.model.matches import HeaderMatch, HttpMatch

HOST = "a.test.maesh"


def build_section(branches=(), parts=None, **addresses):
    """Build a service `a` with branches, each to a service of the same name divided as `parts` says."""
    services = {
        name: Service(servers=tuple(Server(address=address, port=80) for address in found))
        for name, found in addresses.items()
    }
    for name, weights in (parts or {}).items():
        services[name] = Service(parts=tuple(Part(service=part, weight=weight) for part, weight in weights.items()))
    router = HttpRouter(entrypoint=5000, hosts=(HOST,), service="a", branches=tuple(branches))
    return Section(routers={"a": router}, services=services)


def apply(world, section, changed=None):
    handler = world.handler
    handler.apply_table(handler.compile_table(section, middlewares={}, changed=changed))


async def ask(world, target=b"/", headers=b"", method=b"GET"):
    """Send a request; return the address of the server that got it."""
    client = world.open_client()
    client.send(b"%b %b HTTP/1.1\r\nHost: a.test.maesh\r\n%b\r\n" % (method, target, headers))
    await world.settle()
    if not world.connects:
        return client.take().split(b" ")[1].decode()
    address = world.connects[0][1]
    server = await world.accept()
    server.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    await world.settle()
    assert client.take().startswith(b"HTTP/1.1 200")
    client.lose()
    return address


BETA = HttpMatch(headers=(HeaderMatch(name="x-group", pattern="^beta$"),))
API = HttpMatch(paths=("/api",), methods=("GET",))


async def test_the_first_branch_that_matches_has_the_request_and_the_service_has_the_rest(world):
    branches = [HttpBranch(service="b", matches=(BETA,)), HttpBranch(service="c", matches=(API,))]
    apply(world, build_section(branches, a=["10.0.2.1"], b=["10.0.2.2"], c=["10.0.2.3"]))
    assert await ask(world) == "10.0.2.1"
    assert await ask(world, b"/api/x") == "10.0.2.3"
    assert await ask(world, b"/api/x", method=b"DELETE") == "10.0.2.1"
    assert await ask(world, b"/api/x", b"X-Group: beta\r\n") == "10.0.2.2"
    assert await ask(world, b"/", b"X-Group: betas\r\n") == "10.0.2.1"


async def test_requests_are_divided_exactly_by_weight(world):
    branches = [HttpBranch(service="split")]
    parts = {"split": {"v1": 9, "v2": 1}}
    apply(world, build_section(branches, parts, a=["10.0.2.1"], v1=["10.0.2.2", "10.0.2.3"], v2=["10.0.2.4"]))
    counts = Counter([await ask(world) for _ in range(20)])
    assert counts == {"10.0.2.2": 9, "10.0.2.3": 9, "10.0.2.4": 2}


async def test_a_part_whose_servers_change_is_taken_up_and_the_rotation_goes_on(world):
    branches, parts = [HttpBranch(service="split")], {"split": {"v1": 1, "v2": 1}}
    apply(world, build_section(branches, parts, a=["10.0.2.1"], v1=["10.0.2.2"], v2=["10.0.2.4"]))
    assert await ask(world) == "10.0.2.2"
    apply(
        world,
        build_section(branches, parts, a=["10.0.2.1"], v1=["10.0.2.2"], v2=["10.0.2.5"]),
        changed=frozenset({"v2"}),
    )
    assert [await ask(world) for _ in range(2)] == ["10.0.2.5", "10.0.2.2"]
    assert "10.0.2.4" not in {key.address for key in world.handler._servers}


async def test_a_branch_without_servers_answers_503_and_no_other_branch_gets_its_requests(world):
    apply(world, build_section([HttpBranch(service="none")], a=["10.0.2.1"], none=[]))
    assert await ask(world) == "503"


@pytest.mark.parametrize("target", [b"/api/../admin", b"/%2e%2e/api", b"//api", b"/api%2fx", b"/api/./x"])
async def test_a_path_that_could_be_taken_for_another_is_refused_where_paths_decide_and_passes_elsewhere(world, target):
    apply(world, build_section([HttpBranch(service="b", matches=(API,))], a=["10.0.2.1"], b=["10.0.2.2"]))
    assert await ask(world, target) == "403"
    apply(world, build_section([HttpBranch(service="b", matches=(BETA,))], a=["10.0.2.1"], b=["10.0.2.2"]))
    assert await ask(world, target) == "10.0.2.1"


async def test_removed_branches_leave_the_service_its_own_servers(world):
    apply(world, build_section([HttpBranch(service="b")], a=["10.0.2.1"], b=["10.0.2.2"]))
    assert await ask(world) == "10.0.2.2"
    apply(world, build_section(a=["10.0.2.1"]), changed=frozenset({"a", "b"}))
    assert await ask(world) == "10.0.2.1"
    assert {key.address for key in world.handler._servers} == {"10.0.2.1"}


@pytest.mark.parametrize("parts", [{"a": {"a": 1}}, {"a": {"nobody": 1}}, {"a": {"b": 1}, "b": {"a": 1}}])
async def test_invalid_parts_affect_no_other_part(world, parts):
    services = {
        name: Service(parts=tuple(Part(service=each, weight=1) for each in found)) for name, found in parts.items()
    }
    apply(world, Section(services=services))
    assert not world.handler.current.table.routes


async def test_removed_splits_leave_nothing_behind(world):
    for number in range(20):
        name = f"p{number}"
        section = build_section([HttpBranch(service="s")], {"s": {name: 1}}, a=["10.0.2.1"], **{name: ["10.0.2.2"]})
        apply(world, section)
        apply(world, build_section(a=["10.0.2.1"]))
    assert world.handler.current.table.divided == {}


class Narrow:
    """Lets requests have one server alone."""

    def on_request(self, exchange):
        exchange.allowed_servers = {("10.0.2.3", 80)}


async def test_a_request_that_may_have_some_servers_alone_gets_one_of_them_in_whatever_way_they_are_chosen(world):
    parts = {"s": {"v1": 1}}
    for load_balancer in ("round-robin", "least-request"):
        section = build_section(
            [HttpBranch(service="s")], parts, a=["10.0.2.1"], v1=["10.0.2.2", "10.0.2.3", "10.0.2.4"]
        )
        service = msgspec.structs.replace(section.services["v1"], load_balancer=load_balancer)
        router = msgspec.structs.replace(section.routers["a"], middlewares=("m",))
        section = Section(routers={"a": router}, services={**section.services, "v1": service})
        table = world.handler.compile_table(section, middlewares={"m": Narrow()}, changed=None)
        world.handler.apply_table(table)
        assert {await ask(world) for _ in range(6)} == {"10.0.2.3"}
