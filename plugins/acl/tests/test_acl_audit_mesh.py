"""Audit mode and its report through a real mesh."""

import pytest

from maesh_testing import build_pod, send_request

from .test_acl_mesh import CLIENT, SERVER, STRANGER, allow, build_group

pytestmark = pytest.mark.integration

READS = ("HTTPRouteGroup", "api")


@pytest.fixture
def start_audited(start_mesh, start_upstream):
    """Start a mesh in audit mode in front of one server pod, and a stranger's pod beside."""

    def start(*objects, mode="audit", **options):
        upstream = start_upstream("app-1", SERVER)
        stranger = build_pod("stranger", STRANGER, "other")
        granted = [*allow(CLIENT, READS), build_group({"methods": ["GET"], "pathRegex": "/"})]
        flags = ("--acl", "--set", f"acl.mode={mode}")
        return start_mesh(
            *flags, servers=[upstream], account="server", objects=[stranger, *granted, *objects], **options
        )

    return start


def read_denials(mesh, is_expected):
    """Read the denials of a complete report. It is reused for a second, so it may be older than the last requests."""

    def read():
        report = send_request(mesh.api_port, path="/api/acl/denials").json
        return report["denials"] if report["complete"] and is_expected(report["denials"]) else None

    return mesh.wait_until(read, "a complete report of all denials")


def test_what_would_be_denied_passes_and_is_reported_with_its_account_by_all_workers(start_audited):
    mesh = start_audited()
    assert mesh.get(client=CLIENT).text == "app-1"
    assert [mesh.get("/secret", client=STRANGER).text for _ in range(4)] == ["app-1"] * 4
    (denial,) = read_denials(mesh, lambda denials: sum(each["count"] for each in denials) >= 4)
    assert (denial["mode"], denial["reason"], denial["count"]) == ("audit", "client", 4)
    assert denial["client"] == {"namespace": "test", "serviceAccount": "other"}
    assert (denial["path"], denial["destinations"]) == ("/secret", ["app@test"])
    line = 'maesh_acl_would_deny_total{reason="client",service="test/app:80"} 4.0'
    mesh.wait_until(lambda: line in mesh.read_metrics(), "the counters of all workers")


def test_an_enforced_service_denies_in_a_mesh_in_audit_mode(start_audited):
    mesh = start_audited()
    assert mesh.get(client=STRANGER).status == 200
    mesh.set_annotations({"maesh.containo.us/acl-mode": "enforce"})
    mesh.wait_until(lambda: mesh.get(client=STRANGER).status == 403, "an enforced service")
    assert mesh.get(client=CLIENT).status == 200
    denials = read_denials(mesh, lambda denials: len({each["mode"] for each in denials}) >= 2)
    assert {each["mode"] for each in denials} == {"audit", "enforce"}
