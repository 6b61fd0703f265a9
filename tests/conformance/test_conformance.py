"""The mesh conformance suite of the Gateway API: every case, by `maesh up` and in a cluster, in each form.

Unlike the project's own runner, this one compares everything that is written in a case, also `Location`, the rewritten
path and Host, and the statuses of the routes.
"""

from functools import partial

import pytest

from .calling import call, find_difference
from .cases import load_suite
from .statuses import find_status_difference

pytestmark = pytest.mark.integration

SUITE = load_suite()
OWN_FEATURE = "MeshClusterIPMatching"
"""With shared entrypoints, a request reaches the Service that its Host names."""


def run_case(case, mesh, pods):
    """Run a case; return each request with what is not as wanted."""
    mesh.apply(case.load())
    failures = []
    for request in case.requests:
        source = pods.find(request.client.namespace, request.client.app).address
        if request.to == "pod":
            pod = pods.find(request.pod.namespace, request.pod.app)
            address = (pod.address, pod.port)
        else:
            name, _, namespace = request.host.partition(".")
            address = mesh.find_entrypoint(namespace or request.client.namespace, name, request.port)
        difference = find_difference(request, partial(call, request, address, source))
        if difference:
            failures.append(f"{request.method} {request.host}:{request.port}{request.target}: {difference}")
    return failures


@pytest.mark.parametrize("case", SUITE.cases, ids=lambda case: case.name)
def test_a_case_of_the_suite_passes(case, mesh, echo_pods, results):
    failures = run_case(case, mesh, echo_pods)
    statuses = mesh.list_statuses()
    for route in mesh.list_routes():
        key = (route["kind"], route["metadata"]["name"])
        if difference := find_status_difference(route, statuses[key]):
            failures.append(f"{' '.join(key)}: {difference}")
    text = "\n".join(failures)
    found = results[mesh.form.mode]
    found[case.name] = found.get(case.name) or text
    if OWN_FEATURE in case.features and not mesh.form.is_own:
        assert text, "it passes, so the documentation is wrong"
    else:
        assert not text, text
