"""What the status of a service's port says, above all why nothing serves it."""

import pytest

from maesh_core.controller.configuration.port_plan import PlacedPort, PortGroup
from maesh_core.controller.configuration.port_statuses import describe_port, describe_problem, describe_unserved_port
from maesh_core.model.keys import ObjectKey
from maesh_core.model.topology import AnswerNode, BackendNode, BranchNode, PortNode, RuleProblem, RuleTable, ServerNode

V1 = ObjectKey("shop", "v1")
IDLE = BackendNode(service=V1, weight=1, port=PortNode(number=80, unserved="no pod is ready"))
READY = BackendNode(service=V1, weight=1, port=PortNode(number=80, servers=(ServerNode(address="10.0.0.1", port=80),)))
MISSING = BackendNode(service=V1, weight=1, answer=AnswerNode(status=500, reason="there is no such Service"))


def explain(**changes: object) -> str:
    port = PortNode(number=80, unserved="no pod", **changes)  # type: ignore[arg-type]
    group = PortGroup(None, "http", (port,), {})
    return describe_port(PlacedPort(port, 5000), group, is_http=True).unserved


def divide(*backends: BackendNode) -> tuple[BranchNode, ...]:
    return (BranchNode(name="split", backends=backends),)


def rule(*backends: BackendNode) -> RuleTable:
    return RuleTable(no_match=AnswerNode(status=404, reason="no rule"), rules=divide(*backends))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "no pod"),
        ({"branches": divide(IDLE)}, "no backend of its split is ready (v1@shop: no pod is ready)"),
        ({"branches": divide()}, "its split has no backend with weight"),
        ({"branches": divide(IDLE, READY)}, ""),
        ({"rules": rule(IDLE)}, "no backend of its rules is ready (v1@shop: no pod is ready)"),
        ({"rules": rule(MISSING)}, "no backend of its rules is ready (v1@shop: there is no such Service)"),
        ({"rules": rule()}, ""),
        ({"rules": rule(IDLE, READY)}, ""),
    ],
)
def test_the_reason_is_that_of_what_gets_the_traffic(changes: dict[str, object], reason: str) -> None:
    assert explain(**changes) == reason


def test_the_own_entrypoint_is_the_one_that_is_shown_and_only_http_has_a_scheme() -> None:
    port = PortNode(number=443, app_protocol="https")
    group = PortGroup(None, None, (port,), {})
    shown = describe_port(PlacedPort(port, 5000, 16000), group, is_http=True)
    assert (shown.entrypoint, shown.has_own_entrypoint, shown.scheme) == (16000, True, "https")
    assert describe_port(PlacedPort(port, 5000), group, is_http=False).scheme == describe_unserved_port(port).scheme


def test_a_problem_names_its_rule_by_the_label_if_it_has_one() -> None:
    problem = RuleProblem(port=80, text="it is bad", rule="httproute/shop/a/0", label="first")
    assert describe_problem(problem) == "port 80: rule first: it is bad"
