import json
import logging
from types import SimpleNamespace

import msgspec
import pytest

from maesh_core.controller.reports.object_checks import Subject
from maesh_core.controller.reports.object_statuses import ObjectStatuses
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import VersionRead
from maesh_core.controller.topology.rules import TopologyRules
from maesh_core.errors import PluginError
from maesh_core.model.events import Applied, Deleted, Replaced
from maesh_core.model.findings import ObjectFindings
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import CheckedResource, ObjectMeta, Resource, ResourceKind, Service
from maesh_core.model.topology import ServiceNode
from maesh_core.plugin_system.hookspecs import CONTROLLER_NAME, Status


class Route(CheckedResource, frozen=True):
    """Has a parent and a backend."""

    parent: str = ""
    backend: str = ""


class Other(Resource, frozen=True):
    """Has statuses on the same page."""


KINDS = (
    *CORE_KINDS,
    ResourceKind(name="Route", plural="routes", api_versions=("t/v1",), type=Route, shown_name="Route.t"),
    ResourceKind(name="Other", plural="others", api_versions=("t/v1",), type=Other),
)
ROUTE = Subject("Route.t", ObjectKey("n", "r"))


class RouteBuilder:
    """Says whether the backend exists, which services the route concerns, and what else the name says."""

    type = Route
    page = "routes"
    field = "parents"
    condition_types = ("Ready",)

    def build_status(self, view, resource, services):
        if resource.metadata.name == "boom" and resource.backend:
            raise RuntimeError("boom\nboom")
        if not resource.parent:
            return None
        is_there = view.get(Service, ObjectKey("n", resource.backend)) is not None
        condition = {"type": "Ready", "status": str(is_there), "message": " ".join(map(str, services))}
        conditions = [condition, condition] if resource.metadata.name == "twice" else [condition]
        name = "others.example/x" if resource.metadata.name == "foreign" else CONTROLLER_NAME
        return Status(entries=({"controllerName": name, "conditions": conditions},))


class OtherBuilder:
    type = Other
    page = "routes"
    field = "entries"
    condition_types = ()

    def build_status(self, view, resource, services):
        return Status(entries=())


def make(type_, name, namespace="n", labels=None, **fields):
    metadata = ObjectMeta(name=name, namespace=namespace, labels=labels or {}, uid="u", resource_version="7")
    return type_(metadata=metadata, **fields)


def route(name="r", parent="p", backend="b", **fields):
    return make(Route, name, parent=parent, backend=backend, **fields)


def node(name, *routes):
    objects = tuple(ObjectFindings(type=Route, key=ObjectKey("n", each)) for each in routes)
    return ServiceNode(key=ObjectKey("n", name), traffic_type="http", objects=objects)


class Stage(SimpleNamespace):
    def __init__(self, *resources, builders=None):
        snapshot = Snapshot(KINDS)
        by_type = {kind.type: [each for each in resources if type(each) is kind.type] for kind in KINDS}
        snapshot.apply([Replaced(type_, found) for type_, found in by_type.items()], source="s")
        builders = [RouteBuilder(), OtherBuilder()] if builders is None else builders
        statuses = ObjectStatuses(snapshot, KINDS, builders, TopologyRules())
        super().__init__(snapshot=snapshot, statuses=statuses, changed=[])
        statuses.on_changed(lambda subjects: self.changed.append([str(each) for each in subjects]))
        statuses.update(is_everything=True)

    def apply(self, *events):
        self.changed.clear()
        self.statuses.update(self.snapshot.apply(events, source="s"))
        return self.changed

    def set_services(self, **nodes):
        self.changed.clear()
        for name, found in nodes.items():
            self.statuses.set_service(ObjectKey("n", name), found)
        self.statuses.update()
        return self.changed

    @property
    def page(self):
        return {each["name"]: each for each in json.loads(self.statuses.render("routes"))}

    def find(self, name="r"):
        found = self.page.get(name)
        return found and found["parents"][0]["conditions"][0]


def test_a_status_is_built_for_every_object_of_the_kind_also_for_one_with_faults():
    stage = Stage(route(), route("s", faults=("x",)), make(Service, "b"), make(Other, "o"))
    assert stage.statuses.build_count == 3
    assert json.loads(stage.statuses.render("routes")) == [
        {"kind": "Other", "namespace": "n", "name": "o", "entries": []},
        *(
            {
                "kind": "Route",
                "namespace": "n",
                "name": name,
                "parents": [
                    {
                        "controllerName": "maesh.containo.us/mesh",
                        "conditions": [{"type": "Ready", "status": "True", "message": ""}],
                    }
                ],
            }
            for name in "rs"
        ),
    ]
    assert stage.statuses.pages == ("routes",)


def test_a_status_is_built_again_when_something_that_it_read_changes_and_only_then():
    stage = Stage(route(), route("s", backend="c"))
    assert stage.find()["status"] == "False"
    assert stage.apply(Applied(make(Service, "a"))) == []
    assert stage.apply(Applied(make(Service, "b"))) == [["Route.t r@n"]]
    assert stage.find()["status"] == "True"
    assert stage.statuses.build_count == 3


def test_a_changed_object_is_reported_though_its_status_is_the_same_so_that_it_is_repaired():
    stage = Stage(route())
    changed = msgspec.structs.replace(route(), metadata=ObjectMeta(name="r", namespace="n", resource_version="8"))
    assert stage.apply(Applied(changed)) == [["Route.t r@n"]]
    assert stage.statuses.find_wanted(ROUTE).resource_version == "8"


def test_a_version_of_an_object_without_another_change_is_reported_and_builds_nothing():
    stage = Stage(route())
    stage.changed.clear()
    stage.statuses.update({VersionRead(ROUTE.key, Route), VersionRead(ROUTE.key, Service)})
    assert stage.changed == [["Route.t r@n"]]
    assert stage.statuses.build_count == 1


def test_a_status_is_built_again_when_a_service_that_it_concerns_changes_or_no_longer_concerns_it():
    stage = Stage(route())
    assert stage.set_services(a=node("a", "r"), c=node("c")) == [["Route.t r@n"]]
    assert stage.find()["message"] == "a@n"
    assert stage.set_services(c=node("c", "r")) == [["Route.t r@n"]]
    assert stage.find()["message"] == "a@n c@n"
    assert stage.set_services(a=None, c=node("c", "r")) == [["Route.t r@n"]]
    assert stage.set_services(c=node("c")) == [["Route.t r@n"]]
    assert stage.find()["message"] == ""
    assert stage.set_services(c=node("c")) == []


def test_a_status_that_stays_the_same_is_not_reported():
    stage = Stage(route())
    stage.set_services(a=node("a", "r"))
    assert stage.set_services(a=node("a", "r")) == []
    assert stage.statuses.build_count == 3


def test_an_object_without_a_status_is_wanted_without_entries_and_a_gone_one_not_at_all():
    stage = Stage(route(parent=""))
    assert stage.page == {}
    wanted = stage.statuses.find_wanted(ROUTE)
    assert (wanted.kind.plural, wanted.field) == ("routes", "parents")
    assert (wanted.key, wanted.uid, wanted.resource_version) == (ObjectKey("n", "r"), "u", "7")
    assert wanted.entries == ()
    assert stage.statuses.list_subjects() == [ROUTE]
    assert stage.apply(Deleted(Route, ObjectKey("n", "r"))) == [["Route.t r@n"]]
    assert stage.statuses.find_wanted(ROUTE) is None
    assert "of 0 objects" in repr(stage.statuses)


def test_the_status_of_an_object_that_goes_goes_too():
    stage = Stage(route())
    stage.apply(Deleted(Route, ObjectKey("n", "r")))
    assert stage.page == {}
    assert stage.apply(Applied(make(Service, "b"))) == []


@pytest.mark.parametrize("change", [{"namespace": "kube-system"}, {"labels": {"app": "maesh"}}])
def test_an_object_that_the_mesh_ignores_has_no_status(change):
    stage = Stage(route(**change))
    assert stage.statuses.build_count == 0
    subject = Subject("Route.t", ObjectKey(change.get("namespace", "n"), "r"))
    assert stage.statuses.find_wanted(subject).entries == ()


def test_a_builder_that_raises_affects_only_its_object_which_keeps_its_status(caplog):
    stage = Stage(route("boom", backend=""), route("z"))
    before = stage.page["boom"]
    stage.apply(Applied(route("boom")))
    stage.apply(Applied(route("boom", parent="q")))
    assert stage.page["boom"] == before
    assert stage.find("z")["status"] == "False"
    assert [(record.levelno, record.exc_info[0]) for record in caplog.records] == [(logging.ERROR, RuntimeError)]
    assert "boom@n: its status could not be built: RuntimeError: boom boom" in caplog.messages[0]


@pytest.mark.parametrize(("name", "text"), [("twice", "condition twice"), ("foreign", "controllerName")])
def test_a_status_that_cannot_be_written_as_the_mesh_s_is_refused(name, text, caplog):
    stage = Stage(route(name))
    assert stage.page == {}
    assert text in caplog.messages[0]


def test_results_are_those_of_building_everything_again():
    stage = Stage(route(), route("s", parent=""))
    for event in (
        Applied(make(Service, "b")),
        Applied(route("s", backend="c")),
        Deleted(Service, ObjectKey("n", "b")),
        Applied(make(Service, "c")),
        Deleted(Route, ObjectKey("n", "r")),
    ):
        stage.apply(event)
        fresh = ObjectStatuses(stage.snapshot, KINDS, [RouteBuilder(), OtherBuilder()], TopologyRules())
        fresh.update(is_everything=True)
        assert stage.statuses.render("routes") == fresh.render("routes")


def test_without_builders_nothing_is_kept():
    stage = Stage(route(), builders=[])
    assert stage.set_services(a=node("a", "r")) == []
    assert stage.statuses.pages == ()
    assert stage.statuses.find_wanted(ROUTE) is None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"type": ServiceNode}, "nothing declares"),
        ({"page": "nodes"}, "page 'nodes'"),
        ({"page": "a/b"}, "page 'a/b'"),
    ],
)
def test_a_builder_that_does_not_fit_stops_the_start(change, text):
    builder = RouteBuilder()
    for name, value in change.items():
        setattr(builder, name, value)
    with pytest.raises(PluginError, match=text):
        Stage(builders=[builder])


def test_two_builders_of_one_kind_stop_the_start():
    with pytest.raises(PluginError, match="two builders"):
        Stage(builders=[RouteBuilder(), RouteBuilder()])
