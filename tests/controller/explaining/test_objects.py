"""An explanation shows what is wrong with the objects that it looked at, and with no others."""

from maesh_core.controller.explaining.objects import ObjectRemarks, collect_remarks
from maesh_core.model.keys import ObjectKey


def build_service(*, splits=(), errors=(), notices=()):
    return {"trafficSplits": list(splits), "errors": list(errors), "notices": list(notices)}


def build_named(name, **more):
    return {"name": name, "namespace": "shop", **more}


TOPOLOGY = {
    "services": {
        "web@shop": build_service(splits=["canary@shop"], notices=["web notice"]),
        "v1@shop": build_service(errors=["v1 error"]),
        "v2@shop": build_service(splits=["loop@shop"]),
        "other@shop": build_service(errors=["not looked at"]),
    },
    "pods": {},
    "trafficSplits": {
        "canary@shop": build_named("canary", backends=[{"service": "v1"}, {"service": "v2"}], errors=["split error"]),
        "loop@shop": build_named("loop", backends=[{"service": "web"}, {"service": "gone"}]),
        "far@shop": build_named("far", backends=[], errors=["not looked at"]),
    },
    "serviceTrafficTargets": {
        "v1@shop:t@shop": build_named(
            "t", service="v1@shop", errors=["target error"], rules=[{"kind": "TCPRoute", "name": "r"}]
        ),
        "v2@shop:t@shop": build_named("t", service="v2@shop", errors=["target error", "and more"]),
        "other@shop:u@shop": build_named("u", service="other@shop", errors=["not looked at"]),
    },
}


def collect(*objects, topology=TOPOLOGY, pods=()):
    return collect_remarks(topology, objects, service=ObjectKey("shop", "web"), pods=pods)


def build(kind, name, errors=(), notices=()):
    return ObjectRemarks(kind=kind, namespace="shop", name=name, errors=errors, notices=notices)


def test_a_service_its_splits_their_services_and_all_their_targets_are_looked_at_once():
    assert collect() == (
        build("Service", "web", notices=("web notice",)),
        build("Service", "v1", ("v1 error",)),
        build("TrafficSplit", "canary", ("split error",)),
        build("TrafficTarget", "t", ("target error", "and more")),
    )


def test_what_the_controller_says_of_objects_is_joined_to_what_the_topology_does():
    told = [
        {"kind": "TrafficTarget", "namespace": "shop", "name": "t", "errors": ["target error", "third"], "notices": []},
        {"kind": "TCPRoute", "namespace": "shop", "name": "r", "errors": [], "notices": ["nobody names it"]},
        {"kind": "Pod", "namespace": "shop", "name": "p", "errors": [], "notices": ["shares its address"]},
        {"kind": "Pod", "namespace": "shop", "name": "q", "errors": ["not looked at"], "notices": []},
        {"kind": "TrafficTarget", "namespace": "other", "name": "t", "errors": ["not looked at"], "notices": []},
        {"kind": "Service"},
    ]
    found = collect(*told, pods=[ObjectKey("shop", "p")])
    assert found[3:] == (
        build("TrafficTarget", "t", ("target error", "and more", "third")),
        build("TCPRoute", "r", notices=("nobody names it",)),
        build("Pod", "p", notices=("shares its address",)),
    )


def test_of_what_is_well_nothing_is_said():
    assert collect(topology={"services": {"web@shop": build_service()}}) == ()
