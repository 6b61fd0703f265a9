"""Statuses in whole controllers: who writes them, and what happens when another one leads."""

from pathlib import Path

import pytest

from maesh_core.model.findings import ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import CheckedResource, ResourceKind
from maesh_core.plugin_system.hookspecs import CONTROLLER_NAME, Addition, Status

from .shadow_objects import get

CRDS = Path(__file__).resolve().parents[2] / "conformance" / "data" / "crds"
API = "gateway.networking.k8s.io/v1"


class Route(CheckedResource, frozen=True):
    """A route with the names of its parents."""

    parents: tuple[str, ...] = ()


def read_route(metadata, fields):
    return Route(metadata=metadata, parents=tuple(each["name"] for each in fields["spec"]["parentRefs"]), faults=())


ROUTES = ResourceKind(
    name="HTTPRoute",
    plural="httproutes",
    api_versions=(API,),
    type=Route,
    read=read_route,
    indexes={"parent": lambda route: [ObjectKey(route.metadata.namespace, name) for name in route.parents]},
)


class Builder:
    """Attaches routes to services, and says of each parent whether it exists."""

    name = "routes"
    type = Route
    page = "routes"
    field = "parents"
    condition_types = ("Accepted",)

    def build(self, view, service):
        found = view.find(Route, "parent", service.key)
        return Addition(objects=tuple(ObjectFindings(type=Route, key=route.key) for route in found))

    def build_status(self, view, resource, services):
        known = {key.name for key in services}
        return Status(
            entries=tuple(self._build_entry(resource, name, is_there=name in known) for name in resource.parents)
        )

    def _build_entry(self, route, name, *, is_there):
        condition = {
            "type": "Accepted",
            "status": str(is_there),
            "reason": "Accepted" if is_there else "NoMatchingParent",
            "message": "",
            "observedGeneration": route.metadata.generation,
        }
        parent = {"group": "", "kind": "Service", "name": name}
        return {"parentRef": parent, "controllerName": CONTROLLER_NAME, "conditions": [condition]}


def build_route(name, *parents):
    references = [{"group": "", "kind": "Service", "name": each} for each in parents]
    return {
        "apiVersion": API,
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"parentRefs": references},
    }


@pytest.fixture
def start(fleet, api_server):
    api_server.add_crds(CRDS)
    builder = Builder()
    hooks = {
        "maesh_resource_kinds": [ROUTES],
        "maesh_topology_builders": [builder],
        "maesh_status_builders": [builder],
    }
    return lambda: fleet.start(hooks=hooks)


def list_accepted(server, name="r"):
    parents = server.get("httproutes", name, "shop").get("status", {}).get("parents", ())
    return {each["parentRef"]["name"]: each["conditions"][0]["status"] for each in parents}


def count_writes(replica):
    return sum(method == "PATCH" and path.endswith("/status") for method, path in replica.client.calls)


async def test_only_the_leader_writes_and_follows_services_that_come_and_go(start, fleet, api_server, service):
    api_server.apply([service("a", 80), build_route("r", "a", "b")])
    one = await start()
    await fleet.until(lambda: list_accepted(api_server) == {"a": "True", "b": "False"})
    two = await start()
    api_server.apply(service("b", 80))
    await fleet.until(lambda: list_accepted(api_server) == {"a": "True", "b": "True"})
    api_server.delete("services", "a", "shop")
    await fleet.until(lambda: list_accepted(api_server) == {"a": "False", "b": "True"})
    api_server.apply(build_route("r", "b"))
    await fleet.until(lambda: list_accepted(api_server) == {"b": "True"})

    async def report_alike():  # the watch of each delivers the route on its own
        found = [await replica.get("/api/status/routes") for replica in (one, two)]
        names = [[parent["parentRef"]["name"] for parent in route["parents"]] for route in found[0]]
        return found[0] == found[1] and names == [["b"]]

    await fleet.until(report_alike)
    assert count_writes(two) == 0
    assert count_writes(one) == 4


async def test_the_next_leader_writes_only_what_differs_and_removes_what_was_left(start, fleet, api_server, service):
    api_server.apply([service("a", 80), build_route("r", "a"), build_route("s", "a"), build_route("t", "a")])
    one = await start()
    await fleet.until(lambda: all(list_accepted(api_server, name) == {"a": "True"} for name in "rst"))
    await one.crash()
    api_server.apply([build_route("s", "b"), build_route("t")])
    two = await start()
    await fleet.until(lambda: list_accepted(api_server, "s") == {"b": "False"} and not list_accepted(api_server, "t"))
    assert list_accepted(api_server) == {"a": "True"}
    assert count_writes(two) == 2


async def test_a_write_builds_no_service_again(start, fleet, api_server, service):
    api_server.apply([service("a", 80), build_route("r", "a")])
    replica = await start()
    await fleet.until(lambda: list_accepted(api_server) == {"a": "True"})
    shadow_address = (await fleet.until(lambda: get(api_server)))["spec"]["clusterIP"]

    async def has_shadow_address():  # the last that changes the configuration
        routers = (await replica.get("/api/configuration/current"))["http"]["routers"]
        return shadow_address in routers["shop/a:80"]["hosts"]

    await fleet.until(has_shadow_address)
    revision = (await replica.get("/api/status/controller"))["revision"]
    api_server.patch("httproutes", "r", {"status": {"parents": []}}, "shop")
    await fleet.until(lambda: list_accepted(api_server) == {"a": "True"})
    assert (await replica.get("/api/status/controller"))["revision"] == revision
