from typing import Any

import msgspec
import pytest

from maesh_core.controller.cluster_check import catalogue
from maesh_core.controller.cluster_check.controllers import MeshService
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.controller.cluster_check.written import WrittenKind, check_shadow_services, check_statuses
from maesh_core.errors import KubernetesError
from maesh_core.model.resources import ResourceKind, Service
from maesh_core.plugin_system.hookspecs import CONTROLLER_NAME

SELECTOR = {"component": "maesh-mesh"}
ROUTE = ResourceKind(name="HTTPRoute", plural="httproutes", api_versions=("g.io/v1",), type=Service)
WRITTEN = WrittenKind(ROUTE, "g.io/v1", "parents")


class FakeReader:
    """Gives pages in turn; an error is raised."""

    def __init__(self, *pages):
        self._pages = list(pages)
        self.queries = []

    async def read(self, path, type_, query=None):
        self.queries.append(query)
        page = self._pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return msgspec.convert(page, type_)


def build_shadow(name, namespace, *, selector=SELECTOR, address="10.0.0.1"):
    annotations = {"maesh.containo.us/shadow-of-service": name, "maesh.containo.us/shadow-of-namespace": namespace}
    return {
        "metadata": {"name": f"maesh-{name}-6d61657368-{namespace}", "annotations": annotations},
        "spec": {"selector": selector, "clusterIP": address},
    }


async def check(reader, services):
    section = SectionBuilder(catalogue.WRITTEN, catalogue.CATALOGUE[catalogue.WRITTEN])
    shadows = await check_shadow_services(section, reader, "maesh", services)
    return shadows, {each.id: each for each in section.build().checks}


async def test_a_shadow_service_for_each_service_is_well_and_says_what_dns_must_answer():
    shadows, found = await check(FakeReader({"items": [build_shadow("web", "shop")]}), [MeshService("shop", "web")])
    assert {each.result for each in found.values()} == {"success"}
    assert [(each.build_host("maesh"), each.address) for each in shadows] == [("web.shop.maesh.", "10.0.0.1")]


async def test_missing_orphaned_and_edited_shadow_services_are_named():
    items = [build_shadow("old", "shop"), build_shadow("web", "shop", selector={"app": "x"})]
    services = [MeshService("shop", "web"), MeshService("shop", "new"), MeshService("shop", "bad", ("odd type",))]
    _, found = await check(FakeReader({"items": items}), services)
    assert found["shadow-services"].details == ("new.shop has no shadow service maesh-new-6d61657368-shop",)
    assert (found["orphaned-shadow-services"].result, found["orphaned-shadow-services"].details) == (
        "warning",
        ("maesh-old-6d61657368-shop",),
    )
    assert found["shadow-endpoints"].details == ("maesh-web-6d61657368-shop selects {'app': 'x'}",)


async def test_without_a_controller_the_services_are_unknown():
    shadows, found = await check(FakeReader({"items": [build_shadow("web", "shop")]}), None)
    assert found["shadow-services"].result == "skipped"
    assert len(shadows) == 1


async def test_shadow_services_that_may_not_be_read_are_unknown():
    shadows, found = await check(FakeReader(KubernetesError("403", status=403)), [])
    assert (shadows, found["shadow-services"].result) == ([], "warning")


@pytest.mark.parametrize("address", ["", "None"])
async def test_dns_is_not_asked_for_a_shadow_service_without_an_address(address):
    shadows, _ = await check(FakeReader({"items": [build_shadow("web", "shop", address=address)]}), [])
    assert shadows == []


def build_route(name, generation, *observed, controller=CONTROLLER_NAME):
    conditions = [{"type": "Accepted", "observedGeneration": each} for each in observed]
    return {
        "metadata": {"name": name, "namespace": "shop", "generation": generation},
        "status": {"parents": [{"controllerName": controller, "conditions": conditions}]},
    }


async def check_routes(*pages):
    section = SectionBuilder(catalogue.WRITTEN, catalogue.CATALOGUE[catalogue.WRITTEN])
    reader: Any = FakeReader(*pages)
    await check_statuses(section, reader, [WRITTEN])
    (found,) = section.build().checks
    return found, reader


async def test_a_status_of_an_older_generation_is_late():
    found, _ = await check_routes({"items": [build_route("a", 3, 3), build_route("b", 3, 2, 3)]})
    assert found.details == ("HTTPRoute shop/b: generation 3 has no status yet",)


async def test_statuses_of_other_controllers_and_objects_of_any_shape_are_ignored():
    odd: list[Any] = [
        {"metadata": {"name": "x"}, "status": status} for status in (None, 3, {"parents": 3}, {"parents": [3]})
    ]
    odd += [{"metadata": {"name": "y"}, "status": {"parents": [{"controllerName": CONTROLLER_NAME, "conditions": 1}]}}]
    found, _ = await check_routes({"items": [build_route("a", 3, 1, controller="other"), *odd]})
    assert (found.result, found.details) == ("success", ("0 objects",))


async def test_all_pages_are_read_and_an_expired_page_begins_again():
    first = {"items": [build_route("a", 1, 1)], "metadata": {"continue": "t"}}
    gone = KubernetesError("410", status=410)
    found, reader = await check_routes(first, gone, first, {"items": [build_route("b", 1, 1)]})
    assert found.details == ("2 objects",)
    assert [query.get("continue") for query in reader.queries] == [None, "t", None, "t"]
    found, _ = await check_routes(first, gone, first, gone)
    assert found.result == "error"


async def test_no_kind_with_statuses_needs_no_check():
    section = SectionBuilder(catalogue.WRITTEN, catalogue.CATALOGUE[catalogue.WRITTEN])
    reader: Any = FakeReader()
    await check_statuses(section, reader, [])
    assert section.build().checks == ()
