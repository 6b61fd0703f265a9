from typing import Any

import msgspec
import pytest

from maesh_core.controller.cluster_check import catalogue
from maesh_core.controller.cluster_check.controllers import (
    Answer,
    MeshAnswers,
    MeshService,
    ServicePort,
    ask_controllers,
    check_controllers,
    check_lease,
    check_proxies,
    check_refusals,
    check_services,
)
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.errors import KubernetesError, MaeshError
from maesh_core.model.messages import ControllerReport, NodeReport, ObjectReport

NOW = 1_800_000_000.0


def build_report(name="c1", **changes):
    fields = {"ready": True, "leads": True, "leader": name, "revision": "e.1", "version": "2", "plugins": ("smi",)}
    return ControllerReport(name=name, **{**fields, **changes})


def build_proxy(name="n1", **changes):
    fields = {"ip": "10.0.0.1", "ready": True, "revision": "e.1", "last_seen": "2026-01-01T00:00:00.000Z"}
    return NodeReport(name=name, **{**fields, **changes})


def build_mesh(*answers):
    return MeshAnswers(answers=answers or (Answer(name="c1", report=build_report(), proxies=(build_proxy(),)),))


@pytest.fixture
def section():
    """Build the builder of a section, and read its outcomes."""

    def build(name):
        builder = SectionBuilder(name, catalogue.CATALOGUE[name])
        return builder, lambda: {each.id: each for each in builder.build().checks}

    return build


class FakeApi:
    """The API of one controller; a path without a document fails."""

    def __init__(self, name, documents):
        self.name, self._documents = name, documents

    async def fetch(self, path):
        if path not in self._documents:
            raise MaeshError(f"no answer for {path}")
        found = self._documents[path]
        return found if isinstance(found, bytes) else msgspec.json.encode(found)

    async def post(self, path, body):
        raise AssertionError(path)

    def follow(self, path, query, *, silence_limit_s):
        raise AssertionError(path)


DOCUMENTS = {
    "/api/status/controller": build_report(),
    "/api/status/nodes": [build_proxy()],
    "/api/services": [{"namespace": "shop", "name": "web", "errors": [], "ports": [{"port": 80}]}],
    "/api/objects": [],
}


async def test_all_controllers_are_asked_and_one_that_does_not_answer_is_an_answer():
    mesh = await ask_controllers([FakeApi("c1", DOCUMENTS), FakeApi("c2", {})])
    assert [(each.name, each.error) for each in mesh.answers] == [
        ("c1", ""),
        ("c2", "no answer for /api/status/controller"),
    ]
    assert mesh.main.services[0].name == "web"
    assert mesh.find_plugins() == ("smi",)


async def test_what_is_no_controller_does_not_answer():
    (answer,) = (await ask_controllers([FakeApi("c1", {**DOCUMENTS, "/api/services": b"<html>"})])).answers
    assert answer.report is None
    assert "what answered is no controller" in answer.error


def test_controllers_that_are_well_have_no_complaint(section):
    builder, read = section(catalogue.CONTROLLERS)
    second = Answer(name="c2", report=build_report("c2", leads=False, leader="c1"))
    check_controllers(builder, build_mesh(Answer(name="c1", report=build_report()), second), version="2")
    assert {each.result for each in read().values()} == {"success"}
    assert read()["one-leader"].details == ("c1",)


@pytest.mark.parametrize(
    ("changes", "check", "result", "detail"),
    [
        ({"ready": False}, "controllers-ready", "error", "c1 is not ready"),
        ({"leads": False}, "one-leader", "error", "no controller that answers leads"),
        ({"problems": {"pods": "403"}}, "controllers-read-everything", "error", "c1: pods: 403"),
        ({"version": "1"}, "same-versions", "warning", "c1: 1"),
        ({"version": ""}, "same-versions", "warning", "c1: an earlier version"),
    ],
)
def test_each_fault_of_a_controller_has_its_line(changes, check, result, detail, section):
    builder, read = section(catalogue.CONTROLLERS)
    check_controllers(builder, build_mesh(Answer(name="c1", report=build_report(**changes))), version="2")
    assert (read()[check].result, read()[check].details[0]) == (result, detail)
    others = {name: each.result for name, each in read().items() if name != check}
    assert set(others.values()) == {"success"}


def test_two_leaders_and_other_plugins_are_faults(section):
    builder, read = section(catalogue.CONTROLLERS)
    second = Answer(name="c2", report=build_report("c2", plugins=("acl",)))
    check_controllers(builder, build_mesh(Answer(name="c1", report=build_report()), second), version="2")
    assert read()["one-leader"].details == ("several controllers lead: c1, c2",)
    assert read()["same-plugins"].details == ("c1: smi", "c2: acl")


def test_without_any_answer_the_rest_is_skipped(section):
    builder, read = section(catalogue.CONTROLLERS)
    check_controllers(builder, build_mesh(Answer(name="c1", error="refused")), version="2")
    assert read()["controllers-answer"].details == ("c1: refused",)
    assert {each.result for name, each in read().items() if name != "controllers-answer"} == {"skipped"}


class FakeReader:
    def __init__(self, lease):
        self._lease = lease

    async def find(self, path, type_):
        assert path.endswith("/namespaces/maesh/leases/maesh-controller")
        if isinstance(self._lease, Exception):
            raise self._lease
        return None if self._lease is None else msgspec.convert(self._lease, type_)


def build_lease(holder="c1", renewed="2027-01-15T08:00:00.000000Z"):
    return {"spec": {"holderIdentity": holder, "renewTime": renewed}}


@pytest.mark.parametrize(
    ("lease", "result", "detail"),
    [
        (build_lease(), "success", "c1"),
        (build_lease(renewed="2027-01-15T07:58:00Z"), "error", "c1 holds it, but has not renewed it for 120 s"),
        (build_lease(renewed=None), "error", "c1 holds it, but it has no time of renewal"),
        (build_lease("gone"), "error", "gone holds it, which is no controller that was asked"),
        (build_lease(""), "error", "there is no Lease with a holder"),
        (None, "error", "there is no Lease with a holder"),
        (KubernetesError("403", status=403), "warning", "this could not be checked: 403"),
    ],
)
async def test_the_lease_must_be_renewed_by_a_controller(lease, result, detail, section):
    builder, read = section(catalogue.CONTROLLERS)
    reader: Any = FakeReader(lease)
    await check_lease(builder, reader, "maesh", build_mesh(), NOW)
    assert (read()["lease-renewed"].result, read()["lease-renewed"].details) == (result, (detail,))


def test_proxies_that_are_well_have_no_complaint(section):
    builder, read = section(catalogue.PROXIES)
    check_proxies(builder, build_mesh(), build_mesh())
    assert [each.result for each in read().values()] == ["success"] * 3


@pytest.mark.parametrize(
    ("changes", "check", "detail"),
    [
        ({"ready": False, "refused": True}, "proxies-ready", "n1 (10.0.0.1): the controllers refuse its pulls"),
        ({"ready": False}, "proxies-ready", "n1 (10.0.0.1) was last seen at 2026-01-01T00:00:00.000Z"),
        ({"revision": "e.0"}, "proxies-current", "n1 has e.0, c1 has e.1"),
    ],
)
def test_each_fault_of_a_proxy_has_its_line(changes, check, detail, section):
    builder, read = section(catalogue.PROXIES)
    mesh = build_mesh(Answer(name="c1", report=build_report(), proxies=(build_proxy(**changes),)))
    check_proxies(builder, mesh, mesh)
    assert (read()[check].result, read()[check].details) == ("error", (detail,))


def test_a_proxy_that_is_just_updating_is_not_behind(section):
    builder, read = section(catalogue.PROXIES)
    before = build_mesh(Answer(name="c1", report=build_report(), proxies=(build_proxy(revision="e.0"),)))
    check_proxies(builder, before, build_mesh())
    assert read()["proxies-current"].result == "success"


def test_a_proxy_is_compared_with_the_controller_that_it_pulls_from(section):
    builder, read = section(catalogue.PROXIES)
    old = build_proxy(revision="e.0", last_seen="2025-01-01T00:00:00.000Z")
    mesh = build_mesh(
        Answer(name="c1", report=build_report(), proxies=(old,)),
        Answer(name="c2", report=build_report("c2", revision="f.9"), proxies=(build_proxy(revision="f.9"),)),
    )
    check_proxies(builder, mesh, mesh)
    assert {each.result for each in read().values()} == {"success"}


def test_a_mesh_without_proxies_fails(section):
    builder, read = section(catalogue.PROXIES)
    mesh = build_mesh(Answer(name="c1", report=build_report()))
    check_proxies(builder, mesh, mesh)
    assert read()["proxies-known"].details == ("no proxy has pulled within the last hour",)


@pytest.mark.parametrize(
    ("document", "result", "detail"),
    [
        ({"refused": []}, "success", None),
        ({"refused": [{"router": "http/a", "reason": "no plugin"}]}, "error", "n1 refuses http/a: no plugin"),
        (None, "warning", "n1 could not be asked: no answer for /api/status/node/n1/status"),
    ],
)
async def test_proxies_are_asked_what_they_refuse(document, result, detail, section):
    builder, read = section(catalogue.PROXIES)
    documents = {} if document is None else {"/api/status/node/n1/status": document}
    await check_refusals(builder, build_mesh(), [FakeApi("c1", documents)])
    assert read()["proxies-accept"].result == result
    assert read()["proxies-accept"].details == (() if detail is None else (detail,))


async def test_the_name_of_a_proxy_cannot_name_another_path(section):
    builder, read = section(catalogue.PROXIES)
    mesh = build_mesh(Answer(name="c1", report=build_report(), proxies=(build_proxy("../a?b"),)))
    await check_refusals(builder, mesh, [FakeApi("c1", {})])
    assert "no answer for /api/status/node/..%2Fa%3Fb/status" in read()["proxies-accept"].details[0]


def test_errors_of_services_and_objects_are_listed_once(section):
    builder, read = section(catalogue.SERVICES)
    answer = Answer(
        name="c1",
        report=build_report(),
        services=(MeshService("shop", "web", ("bad",), (ServicePort(80, "not ready"),)),),
        objects=(
            ObjectReport(kind="Service", namespace="shop", name="web", errors=("bad",)),
            ObjectReport(kind="TrafficSplit", namespace="shop", name="s", errors=("there is no service x",)),
            ObjectReport(origin="a.yaml", errors=("no YAML",)),
        ),
    )
    check_services(builder, build_mesh(answer))
    found = read()
    assert found["services-without-errors"].details == ("web.shop: bad",)
    assert found["services-served"].result == "warning"
    assert found["services-served"].details == ("web.shop: port 80 has no ready server: not ready",)
    assert found["objects-without-errors"].details == (
        "TrafficSplit shop/s: there is no service x",
        "a.yaml: no YAML",
    )
