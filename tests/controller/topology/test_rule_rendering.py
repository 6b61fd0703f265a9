"""Rules of a port in the topology: each with its object, matches in their order, backends, filters and answers."""

from maesh_core.controller.topology.rule_rendering import render_rules
from maesh_core.model.keys import ObjectKey
from maesh_core.model.matches import HttpMatch
from maesh_core.model.resources import Pod
from maesh_core.model.topology import (
    AnswerNode,
    BackendNode,
    BranchNode,
    FilterNode,
    OrderedMatch,
    PortNode,
    RuleTable,
    ServerNode,
)

KEY = ObjectKey("shop", "web")
V1 = BackendNode(
    service=ObjectKey("shop", "v1"),
    weight=9,
    port=PortNode(number=80, servers=(ServerNode(address="10.0.0.1", port=80),)),
)
GONE = BackendNode(service=ObjectKey("shop", "gone"), weight=1, answer=AnswerNode(500, "not there"), protocol="h2c")


def make_table(*rules: BranchNode) -> RuleTable:
    order = tuple(OrderedMatch(match=HttpMatch(path_prefix="/a"), rule=index) for index, _ in enumerate(rules))
    return RuleTable(no_match=AnswerNode(404, "none"), rules=rules, order=order)


def test_a_port_without_rules_shows_none() -> None:
    assert render_rules(KEY, PortNode(number=80)) == {}


def test_a_rule_is_shown_with_its_object_its_matches_its_backends_and_its_filters() -> None:
    rule = BranchNode(
        name="r",
        backends=(V1, GONE),
        filters=(FilterNode(name="F", value={"a": 1}),),
        origin=(Pod, ObjectKey("shop", "route")),
        label="first",
    )
    assert render_rules(KEY, PortNode(number=80, rules=make_table(rule)))["rules"] == {
        "rules": [
            {
                "key": "shop/web:80/rule/r",
                "kind": "Pod",
                "namespace": "shop",
                "object": "route",
                "label": "first",
                "matches": [{"place": 1, "pathPrefix": "/a"}],
                "filters": [{"name": "F", "value": {"a": 1}}],
                "backends": [
                    {"service": "v1", "namespace": "shop", "weight": 9, "port": 80, "ready": 1},
                    {
                        "service": "gone",
                        "namespace": "shop",
                        "weight": 1,
                        "protocol": "h2c",
                        "answer": {"status": 500, "reason": "not there"},
                    },
                ],
            }
        ],
        "noMatch": {"status": 404, "reason": "none"},
    }


def test_consumers_answers_and_services_that_get_copies_are_shown() -> None:
    table = make_table(BranchNode(name="r", answer=AnswerNode(500, "closed")))
    document = render_rules(KEY, PortNode(number=80, consumers={"test": table}, side_backends={"copies": V1}))
    assert document.keys() == {"consumers", "sideBackends"}
    assert document["consumers"]["test"]["rules"] == [
        {
            "key": "shop/web:80/consumer/test/r",
            "matches": [{"place": 1, "pathPrefix": "/a"}],
            "answer": {"status": 500, "reason": "closed"},
        }
    ]
    assert document["sideBackends"]["copies"]["service"] == "v1"


def test_a_value_that_cannot_be_shown_is_an_error_text() -> None:
    rule = BranchNode(name="r", filters=(FilterNode(name="F", value={"a": object()}),))
    shown = render_rules(KEY, PortNode(number=80, rules=make_table(rule)))["rules"]["rules"][0]["filters"]
    assert shown[0]["value"].startswith("cannot be shown")
