"""The fixture `policy` checks manifests with assertions whose messages say what was found."""

import pytest

from maesh_core.errors import ConfigurationError

ACL = "examples/acl/acl.yaml"
SCENARIO = (
    "manifests: {path}\nplugins: [acl]\nrequests: [{{client: acl/web, service: products.acl, expect: {verdict}}}]"
)


@pytest.fixture
def mesh(policy, pytestconfig):
    return policy(pytestconfig.rootpath / ACL, plugins=["acl"])


def test_requests_are_allowed_and_denied(mesh):
    mesh.assert_allowed("acl/web", "products.acl", path="/products/1", by="web-may-read", goes_to="products", limits=[])
    mesh.assert_denied("acl/web", "acl/products", method="POST", path="/products", status=403)
    mesh.assert_denied("*", "acl/products")
    assert mesh.explain("acl/unknown", "acl/products").outcome == "denied"
    with pytest.raises(ConfigurationError):
        mesh.explain("acl/web", "acl/nothing")


def test_a_failed_assertion_shows_request_expectation_and_steps(mesh):
    with pytest.raises(AssertionError) as raised:
        mesh.assert_denied("acl/batch", "acl/products")
    lines = str(raised.value).splitlines()
    assert lines[0] == "GET / from acl/batch to acl/products"
    assert lines[1].startswith("  expected: denied, found: allowed (acl: TrafficTarget batch-may-do-all@acl allows it)")


def test_scenarios_are_run_against_a_mesh_or_their_own_manifests(mesh, policy, pytestconfig, tmp_path):
    path = tmp_path / "policy.yaml"
    path.write_text(SCENARIO.format(path=pytestconfig.rootpath / ACL, verdict="denied"))
    mesh.run(path)
    policy.run(path)
    path.write_text(SCENARIO.format(path=pytestconfig.rootpath / ACL, verdict="allowed"))
    for run in (mesh.run, policy.run):
        with pytest.raises(AssertionError, match="expected: allowed, found: denied"):
            run(path)


def test_a_plugin_that_is_not_installed_is_named(policy):
    with pytest.raises(AssertionError, match="plugin nothing is not installed"):
        policy(plugins=["nothing"])
