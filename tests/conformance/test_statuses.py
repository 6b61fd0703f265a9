"""Each way in which a status can be wrong is found."""

import pytest

from .statuses import CONTROLLER, find_status_difference

ROUTE = {
    "metadata": {"name": "split", "generation": 2},
    "spec": {"parentRefs": [{"kind": "Service", "name": "echo", "port": 80}]},
}


def build_parent(*, reason="ResolvedRefs", status="True", generation=2, controller=CONTROLLER, name="echo"):
    conditions = [("Accepted", "True", "Accepted"), ("ResolvedRefs", status, reason)]
    return {
        "parentRef": {"kind": "Service", "name": name, "port": 80},
        "controllerName": controller,
        "conditions": [
            {"type": each[0], "status": each[1], "reason": each[2], "observedGeneration": generation}
            for each in conditions
        ],
    }


def test_a_valid_status_has_no_difference():
    assert find_status_difference(ROUTE, [build_parent()]) == ""


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"reason": "BackendNotFound"}, "('ResolvedRefs', 'True', 'BackendNotFound')"),
        ({"status": "False"}, "('ResolvedRefs', 'False', 'ResolvedRefs')"),
        ({"generation": 1}, "the generations {1}, not 2"),
        ({"controller": "example.com/other"}, "the controller example.com/other"),
        ({"name": "other"}, "the parents"),
    ],
)
def test_a_wrong_status_is_found(changed, text):
    assert text in find_status_difference(ROUTE, [build_parent(**changed)])


def test_a_parent_without_an_entry_is_found():
    assert "the parents []" in find_status_difference(ROUTE, [])


def test_a_route_to_a_service_that_the_suite_does_not_have_must_say_so():
    route = {**ROUTE, "metadata": {"name": "mesh-grpc-weighted-backends", "generation": 2}}
    assert find_status_difference(route, [build_parent()])
    assert not find_status_difference(route, [build_parent(status="False", reason="BackendNotFound")])
