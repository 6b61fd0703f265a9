"""Splits through a real mesh: what clients get, and what a change of the split does."""

from collections import Counter

from maesh_testing import build_service, send_request

NAMESPACE = "test"


def build_split(weights, *, matches=(), name="canary"):
    backends = [{"service": service, "weight": weight} for service, weight in weights.items()]
    references = [{"kind": "HTTPRouteGroup", "name": group} for group in matches]
    return {
        "apiVersion": "split.smi-spec.io/v1alpha4",
        "kind": "TrafficSplit",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"service": "app", "backends": backends, "matches": references},
    }


GROUP = {
    "apiVersion": "specs.smi-spec.io/v1alpha4",
    "kind": "HTTPRouteGroup",
    "metadata": {"name": "beta", "namespace": NAMESPACE},
    "spec": {"matches": [{"name": "beta", "headers": [{"X-Group": "^beta$"}]}]},
}


def start_split(start_mesh, start_upstream, split, *more, flags=()):
    objects = []
    for name in ("v1", "v2"):
        upstream = start_upstream(name)
        objects += build_service(name, [(upstream.address, upstream.port)])
    return start_mesh(*flags, objects=[*objects, split, *more])


def test_requests_are_divided_as_the_split_says_and_as_it_says_next(start_mesh, start_upstream):
    mesh = start_split(start_mesh, start_upstream, build_split({"v1": 3, "v2": 1}))
    assert Counter(mesh.get().text for _ in range(40)) == {"v1": 30, "v2": 10}
    topology = send_request(mesh.api_port, path="/api/topology/current").json
    assert topology["services"]["v1@test"]["backendOf"] == ["canary@test"]
    assert topology["trafficSplits"]["canary@test"]["errors"] == []
    mesh.manifests.write("more.json", [])
    mesh.wait_until(lambda: mesh.get().text == "app-1", "the service's own pod")


def test_matching_requests_go_to_the_backend_and_the_rest_to_the_service(start_mesh, start_upstream):
    mesh = start_split(start_mesh, start_upstream, build_split({"v2": 1}, matches=["beta"]), GROUP)
    assert mesh.get(headers={"X-Group": "beta"}).text == "v2"
    assert mesh.get(headers={"X-Group": "alpha"}).text == "app-1"


def test_without_the_plugin_a_split_is_not_read_and_the_service_serves(start_mesh, start_upstream):
    mesh = start_split(start_mesh, start_upstream, build_split({"v1": 1}), flags=("--no-smi",))
    assert mesh.get().text == "app-1"


def test_a_split_and_middlewares_work_together(start_mesh, start_upstream):
    mesh = start_split(start_mesh, start_upstream, build_split({"v1": 1, "v2": 1}))
    mesh.set_annotations({"retry-attempts": "2", "ratelimit-average": "1000000"})
    configuration = "/configuration"
    mesh.wait_until(lambda: "ratelimit" in send_request(mesh.admin_port, path=configuration).text, "the annotations")
    assert Counter(mesh.get().text for _ in range(20)) == {"v1": 10, "v2": 10}
