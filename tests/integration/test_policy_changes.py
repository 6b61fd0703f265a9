"""What `maesh diff` and `maesh simulate` compute is what a running mesh does, before and after a change is applied."""

import json
import shutil

import pytest

from maesh_testing import build_pod

pytestmark = pytest.mark.integration
CLIENT, SERVER = "127.0.1.1", "127.0.2.1"
SCENARIO = """
manifests: {path}
plugins: [acl]
requests: [{{client: test/caller, service: test/app, method: {method}, path: {path_}, expect: {expect}}}]
"""


def build_rules(*methods):
    """Build a target and a route group that allow these methods below /a."""
    spec = {
        "destination": {"kind": "ServiceAccount", "name": "server", "namespace": "test"},
        "sources": [{"kind": "ServiceAccount", "name": "caller", "namespace": "test"}],
        "rules": [{"kind": "HTTPRouteGroup", "name": "api"}],
    }
    matches = [{"name": "a", "pathRegex": "/a", "methods": list(methods)}]
    metadata = {"namespace": "test"}
    return [
        {
            "apiVersion": "access.smi-spec.io/v1alpha3",
            "kind": "TrafficTarget",
            "metadata": {**metadata, "name": "open"},
            "spec": spec,
        },
        {
            "apiVersion": "specs.smi-spec.io/v1alpha4",
            "kind": "HTTPRouteGroup",
            "metadata": {**metadata, "name": "api"},
            "spec": {"matches": matches},
        },
    ]


def test_an_opened_example_is_denied_before_and_answered_after_the_change(
    start_mesh, start_upstream, run_maesh, tmp_path
):
    client = build_pod("caller", CLIENT, "caller")
    upstream = start_upstream("app-1", SERVER)
    mesh = start_mesh("--acl", servers=[upstream], account="server", objects=[client, *build_rules("GET")])
    old = tmp_path / "old"
    shutil.copytree(mesh.manifests.path, old)
    new = tmp_path / "new"
    shutil.copytree(old, new)
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": [client, *build_rules("GET", "PUT")]})
    (new / "more.json").write_text(content)

    found = run_maesh("diff", old, new, "--acl", "--json", "--fail-on", "opens-access")
    assert found.status == 3
    (change,) = json.loads(found.stdout)["access"]
    example = change["example"]
    assert (change["change"], change["clients"], example["method"]) == ("opens", ["test/caller"], "PUT")

    def send():
        return mesh.send(example["method"], example["path"], client=CLIENT).status

    assert send() == change["old"]["status"] == 403
    mesh.manifests.write("more.json", content)
    mesh.wait_until(lambda: send() == 200, "the new rules")

    for folder, expect in ((old, "denied"), (new, "allowed")):
        scenario = tmp_path / f"{expect}.yaml"
        scenario.write_text(SCENARIO.format(path=folder, method="PUT", path_=example["path"], expect=expect))
        assert run_maesh("simulate", scenario).status == 0


def test_manifests_are_compared_with_a_cluster_as_if_they_were_applied(api_server, run_maesh, tmp_path):
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "app", "namespace": "shop"},
        "spec": {"selector": {"app": "app"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    metadata = {"name": "app", "namespace": "shop", "annotations": {"maesh.containo.us/retry-attempts": "4"}}
    api_server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, service])
    kubeconfig = api_server.write_kubeconfig(tmp_path / "kubeconfig")
    folder = tmp_path / "deploy"
    folder.mkdir()
    (folder / "app.json").write_text(json.dumps({**service, "metadata": metadata}))
    found = run_maesh("diff", "cluster", folder, "--kubeconfig", kubeconfig, "--fail-on", "changes")
    assert found.status == 3
    assert "Limits\n  shop/app:80  GET /\n" in found.stdout
    assert "+  retry: up to 4 attempts, after connect-failure" in found.stdout
    again = run_maesh("diff", folder, folder, "--fail-on", "changes")
    assert again.status == 0
