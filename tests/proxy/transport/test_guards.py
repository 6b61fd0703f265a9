"""Which services have guards."""

from maesh_core.model.configuration import HttpBranch, HttpRouter, Middleware, Part, Section, Service
from maesh_core.proxy.transport.guards import list_guarded, list_reached

SECTION = Section(
    routers={
        "a": HttpRouter(entrypoint=1, hosts=(), service="a", middlewares=("m1", "m2")),
        "b": HttpRouter(entrypoint=1, hosts=(), service="b", middlewares=("m1",)),
        "c": HttpRouter(
            entrypoint=1, hosts=(), service="c", middlewares=("m2",), branches=(HttpBranch(service="c/x"),)
        ),
        "closed": HttpRouter(entrypoint=1, hosts=(), middlewares=("m2",)),
    },
    services={"a": Service(), "c/x": Service(parts=(Part(service="c/x/1", weight=1), Part(service="c/x/2", weight=1)))},
    middlewares={"m1": Middleware(kind="retry"), "m2": Middleware(kind="acl")},
)


def test_services_of_routers_with_a_guard_are_guarded_with_their_branches_and_parts():
    assert list_guarded(SECTION, {"acl"}) == {"a", "c", "c/x", "c/x/1", "c/x/2"}


def test_without_guards_nothing_is_guarded():
    assert list_guarded(SECTION, {"other"}) == list_guarded(SECTION, ()) == frozenset()


def test_routers_that_do_not_exist_reach_nothing():
    assert list_reached(SECTION, ("absent", "closed", "b")) == {"b"}
