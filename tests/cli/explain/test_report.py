"""An explanation reads from the client to the end, and then says what is wrong on the way, each thing once."""

from maesh_core.cli.explain.report import PROBLEMS_SHOWN, REMARKS_SHOWN, render_explanation
from maesh_core.controller.explaining.destinations import Destination
from maesh_core.controller.explaining.explanation import Explanation
from maesh_core.controller.explaining.objects import ObjectRemarks


def build(*, kind="http", status=200, **more):
    fields = {"client": "c", "service": "shop/web", "port": 80, "traffic_type": kind, "steps": ("step",)}
    return Explanation(**{**fields, "is_admitted": status == 200, "status": status, **more})


def build_remarks(kind, name, *errors, notices=()):
    return ObjectRemarks(kind=kind, namespace="shop", name=name, errors=errors, notices=notices)


def render(**fields):
    return render_explanation(build(**fields)).splitlines()


def test_what_is_let_in_goes_to_its_destinations():
    destinations = (
        Destination(service="v1", share=0.9, servers=("10.0.0.1:80", "10.0.0.2:80")),
        Destination(service="v2", share=0.1, servers=()),
    )
    assert render(destinations=destinations) == [
        "step",
        "it is allowed, and goes to",
        "  v1  90.00%  10.0.0.1:80, 10.0.0.2:80",
        "  v2  10.00%  no ready server",
    ]


def test_a_destination_shows_its_scheme_with_what_selects_it():
    destinations = (
        Destination(service="v1", share=0.5, servers=("10.0.0.1:80",), scheme="h2c", scheme_source="appProtocol grpc"),
        Destination(service="v2", share=0.5, servers=("10.0.0.2:80",), scheme="http"),
    )
    assert render(destinations=destinations)[2:] == [
        "  v1  50.00%  10.0.0.1:80  h2c (appProtocol grpc)",
        "  v2  50.00%  10.0.0.2:80  http (default)",
    ]


def test_a_middleware_that_did_not_say_may_still_refuse():
    assert render(undecided=("auth", "quota"))[1] == "it is allowed, unless auth or quota refuses it, and goes to"


def test_what_is_not_let_in_ends_with_what_the_client_meets():
    assert render(status=403)[-1] == "the response is 403"
    assert render(status=0, kind="tcp")[-1] == "the connection is closed"
    assert render(status=0, kind="udp")[-1] == "the datagram is dropped"


def test_errors_and_notices_of_the_objects_follow_and_none_is_said_twice():
    objects = (
        build_remarks(
            "Service", "web", "service error", notices=("TrafficTarget t@shop: no group; it grants nothing",)
        ),
        build_remarks("TrafficTarget", "t", "no group"),
        build_remarks("TrafficTarget", "u", "no group"),
    )
    assert render(status=404, steps=("closed: service error",), objects=objects) == [
        "closed: service error",
        "the response is 404",
        "",
        "notice: Service shop/web: TrafficTarget t@shop: no group; it grants nothing",
        "error: TrafficTarget shop/u: no group",
    ]


def test_what_could_not_be_read_is_said_too():
    assert render(status=403, problems={"a.yaml document 5": "TrafficTarget: unknown\nfield"})[-2:] == [
        "",
        "not read and therefore ignored: a.yaml document 5: TrafficTarget: unknown field",
    ]


def test_of_many_the_first_are_shown():
    notices = tuple(f"notice {number:03}" for number in range(50))
    lines = render(
        objects=(build_remarks("Service", "web", notices=notices),), problems={str(i): "bad" for i in range(20)}
    )
    rests = [line for line in lines if line.startswith("...")]
    assert rests == [
        f"... and {50 - REMARKS_SHOWN} more, see --json",
        f"... and {20 - PROBLEMS_SHOWN} more, see --json",
    ]


def test_no_name_in_a_step_begins_another_line():
    assert (
        render(steps=("target \x1b[31ma\nit is allowed, and goes to",))[0]
        == r"target \x1b[31ma\nit is allowed, and goes to"
    )


def test_a_destination_shows_its_mode_unless_it_is_off():
    destinations = (
        Destination(service="v1", share=0.5, servers=("10.0.0.1:80",), scheme="http", encryption="strict"),
        Destination(service="v2", share=0.5, servers=("10.0.0.2:80",), encryption="permissive"),
    )
    assert render(destinations=destinations)[2:] == [
        "  v1  50.00%  10.0.0.1:80  http (default)  encryption strict",
        "  v2  50.00%  10.0.0.2:80  encryption permissive",
    ]
