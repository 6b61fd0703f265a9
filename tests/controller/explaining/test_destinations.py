"""The destinations of a request: backends of a rule with their shares, and responses in place of servers."""

from maesh_core.controller.explaining.destinations import (
    Destination,
    describe_part_filters,
    list_destinations,
    list_rule_destinations,
)
from maesh_core.controller.explaining.rules import ChosenRule
from maesh_core.model.configuration import Answer, Middleware, Part, Server, Service

P = "shop/web:80"
SERVICES = {
    f"{P}/rule/r": Service(
        parts=(
            Part(service=f"{P}/backend/shop/v1:80", weight=6),
            Part(service=f"{P}/backend/other/v2:8080/h2c", weight=1, middlewares=("g", "f")),
            Part(service=f"{P}/answer/0", weight=2),
            Part(service=P, weight=1),
        )
    ),
    f"{P}/backend/shop/v1:80": Service(servers=(Server(address="10.0.0.1", port=80),), encryption="strict"),
    f"{P}/backend/other/v2:8080/h2c": Service(servers=(Server(address="fd00::1", port=80),), scheme="h2c"),
    f"{P}/answer/0": Service(answer=Answer(status=500, reason="there is no such Service")),
    P: Service(),
}
CHOSEN = ChosenRule(f"{P}/rule/r", ("g",))
GONE = {"service": "v3", "namespace": "shop", "answer": {"status": 500, "reason": "there is no such Service"}}


def test_backends_of_a_rule_are_named_by_their_service_ports_with_their_shares():
    assert list_rule_destinations(SERVICES, CHOSEN, port_key=P, allowed=None) == [
        Destination(service="shop/v1:80", share=0.6, servers=("10.0.0.1:80",), scheme="http", encryption="strict"),
        Destination(service="other/v2:8080", share=0.1, servers=("[fd00::1]:80",), scheme="h2c"),
        Destination(
            service="shop/web:80/answer/0", share=0.2, servers=(), status=500, reason="there is no such Service"
        ),
        Destination(service="shop/web:80", share=0.1, servers=(), status=503, reason="no server is ready"),
    ]


def test_an_invalid_backend_has_the_name_that_the_rule_refers_to():
    chosen = CHOSEN._replace(document={"backends": [{"service": "v1", "namespace": "shop"}, GONE]})
    names = [each.service for each in list_rule_destinations(SERVICES, chosen, port_key=P, allowed=None)]
    assert names == ["shop/v1:80", "other/v2:8080", "shop/v3", "shop/web:80"]


def test_servers_that_a_middleware_does_not_allow_are_no_servers():
    first = list_rule_destinations(SERVICES, CHOSEN, port_key=P, allowed=[])[0]
    assert (first.servers, first.status) == ((), 503)


def test_a_rule_that_answers_has_one_destination_without_servers():
    services = {"r": Service(answer=Answer(status=500, reason="closed"))}
    assert list_rule_destinations(services, ChosenRule("r"), port_key=P, allowed=None) == [
        Destination(service="r", share=1.0, servers=(), status=500, reason="closed")
    ]


def test_filters_that_only_a_backend_has_are_named():
    middlewares = {"g": Middleware(kind="guard"), "f": Middleware(kind="headers")}
    assert list(describe_part_filters(SERVICES, CHOSEN, middlewares)) == [
        "other/v2:8080/h2c has filters of its own: headers"
    ]


def test_a_service_without_parts_is_its_own_destination():
    (found,) = list_destinations(SERVICES, f"{P}/backend/shop/v1:80", None)
    assert (found.share, found.servers, found.encryption) == (1.0, ("10.0.0.1:80",), "strict")
