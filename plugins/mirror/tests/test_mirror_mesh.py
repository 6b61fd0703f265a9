"""Mirroring through a real mesh: what the other service gets, and that nobody notices what becomes of it."""

import pytest

from maesh_testing import build_pod, build_service, wait_until

MIRRORED = {"mirror-service": "next.test:80"}


def read_outcomes(mesh):
    """Read the copies of the proxy's metrics, by outcome."""
    found = {}
    for line in mesh.read_metrics().splitlines():
        if line.startswith("maesh_service_copies_total{"):
            labels, _, value = line.rpartition(" ")
            found[labels.rpartition('outcome="')[2].partition('"')[0]] = int(float(value))
    return found


@pytest.fixture
def start_mirrored(start_mesh, start_upstream):
    """Start a mesh whose service has a mirror; return it and the server that gets copies."""

    def start(*flags, annotations=MIRRORED, objects=(), **options):
        side = start_upstream("next-1")
        others = objects or build_service("next", [(side.address, side.port)])
        return start_mesh(*flags, annotations=annotations, objects=others, **options), side

    return start


def test_the_other_service_gets_copies_whose_responses_nobody_sees(start_mirrored):
    mesh, side = start_mirrored()
    side.status, side.body = 500, b"broken"
    for number in range(5):
        assert mesh.get(f"/{number}?q", headers={"X-A": "1"}).text == "app-1"
    wait_until(lambda: side.count == 5, "all copies")
    assert sorted(each.path for each in side.requests) == [f"/{number}?q" for number in range(5)]
    assert {each.headers["host"] for each in side.requests} == {"app.test.maesh"}
    assert {each.headers["x-a"] for each in side.requests} == {"1"}
    wait_until(lambda: read_outcomes(mesh) == {"answered": 5}, "the metric")
    assert mesh.upstreams[0].count == 5
    counted = [line for line in mesh.read_metrics().splitlines() if line.startswith("maesh_service_requests_total{")]
    assert [line.rpartition(" ")[2] for line in counted] == ["5.0"]


def test_a_share_of_the_requests_is_copied(start_mirrored):
    mesh, side = start_mirrored(annotations={**MIRRORED, "mirror-percent": "50"})
    for _ in range(60):
        assert mesh.get().status == 200
    wait_until(lambda: 5 < sum(read_outcomes(mesh).values()) == side.count, "copies and the metric")
    assert side.count < 55


def test_an_unreachable_or_missing_mirror_does_not_affect_the_service(start_mirrored):
    mesh, side = start_mirrored()
    side.close()
    for _ in range(5):
        assert mesh.get().text == "app-1"
    wait_until(lambda: sum(read_outcomes(mesh).values()) == 5, "the metric")
    assert "answered" not in read_outcomes(mesh)
    mesh.set_annotations({"mirror-service": "gone.test:80"})
    wait_until(lambda: mesh.describe_service()["notices"], "a notice")
    assert "there is no service port gone.test:80" in mesh.describe_service()["notices"][0]
    assert mesh.get().text == "app-1"


def test_a_body_is_copied_with_its_request_and_a_large_one_is_not(start_mirrored):
    mesh, side = start_mirrored(annotations={**MIRRORED, "mirror-body-limit": "100000"})
    for body in (b"small", b"x" * 100_000, b"y" * 100_001):
        assert mesh.send("POST", "/", body=body).text == "app-1"
    wait_until(lambda: side.count == 2, "two copies")
    assert sorted(len(each.body) for each in side.requests) == [5, 100_000]
    assert [len(each.body) for each in mesh.upstreams[0].requests] == [5, 100_000, 100_001]
    skipped = 'maesh_mirror_skipped_total{reason="body-too-large",service="test/app:80"} 1'
    wait_until(lambda: skipped in mesh.read_metrics(), "the metric of skipped copies")


def test_access_control_decides_which_copies_are_sent(start_mirrored, start_upstream):
    targets = [
        {
            "apiVersion": "access.smi-spec.io/v1alpha3",
            "kind": "TrafficTarget",
            "metadata": {"name": f"to-{account}", "namespace": "test"},
            "spec": {
                "destination": {"kind": "ServiceAccount", "name": account, "namespace": "test"},
                "sources": [{"kind": "ServiceAccount", "name": "caller", "namespace": "test"}],
                "rules": [{"kind": "HTTPRouteGroup", "name": account}],
            },
        }
        for account in ("server", "next")
    ]
    groups = [
        {
            "apiVersion": "specs.smi-spec.io/v1alpha4",
            "kind": "HTTPRouteGroup",
            "metadata": {"name": account, "namespace": "test"},
            "spec": {"matches": [{"name": "all", "pathRegex": path}]},
        }
        for account, path in (("server", "/"), ("next", "/read"))
    ]
    app, side = start_upstream("app-1", "127.0.2.1"), start_upstream("next-1", "127.0.2.2")
    objects = [
        *build_service("next", [(side.address, side.port)], account="next"),
        build_pod("client", "127.0.1.1", "caller"),
        *targets,
        *groups,
    ]
    mesh, _ = start_mirrored("--acl", servers=[app], account="server", objects=objects)
    for path in ("/read/1", "/write", "/read/2"):
        assert mesh.get(path, client="127.0.1.1").text == "app-1"
    wait_until(lambda: read_outcomes(mesh) == {"answered": 2, "denied": 1}, "the metric")
    assert sorted(each.path for each in side.requests) == ["/read/1", "/read/2"]
    assert mesh.get("/read/3", client="127.0.1.2").status == 403
    assert side.count == 2
