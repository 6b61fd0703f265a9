"""Faults through a real mesh: what clients get, and what servers and metrics see of it."""

import pytest

pytestmark = pytest.mark.integration


def test_a_failed_request_reaches_no_server_and_is_counted_as_an_answer_of_the_mesh(start_mesh):
    annotations = {"fault-abort": "503", "retry-attempts": "3", "retry-on": "5xx"}
    mesh = start_mesh("--fault", annotations=annotations)
    answer = mesh.get()
    assert (answer.status, answer.headers["X-Maesh-Reason"]) == (503, "a fault was injected")
    assert mesh.upstreams[0].count == 0
    assert 'reason="a fault was injected"' in mesh.read_metrics()


def test_a_delayed_request_is_answered_by_a_server_or_by_the_fault(start_mesh):
    mesh = start_mesh("--fault", annotations={"fault-delay": "10ms"})
    assert mesh.get().text == "app-1"
    mesh.set_annotations({"fault-delay": "10ms", "fault-abort": "500"})
    mesh.wait_until(lambda: mesh.get().status == 500, "a late fault")


def test_a_share_of_nothing_concerns_no_request(start_mesh):
    annotations = {"fault-abort": "503", "fault-abort-percent": "0", "fault-delay": "1m", "fault-delay-percent": "0"}
    mesh = start_mesh("--fault", annotations=annotations)
    assert {mesh.get().text for _ in range(10)} == {"app-1"}
