"""States are built from manifests, whose workloads count as pods, and from a cluster with manifests applied to it."""

import asyncio
import json

import pytest

from maesh_core.controller.comparing.comparison import compare_states
from maesh_core.controller.mesh_states.clients import Account
from maesh_core.controller.mesh_states.reading import RecordedObjects, build_manifest_state, read_cluster
from maesh_core.errors import StartupError
from maesh_core.model.keys import ObjectKey
from maesh_core.settings import ControllerSettings

from .states import build_batch, build_object, build_pod, build_service, build_shop, build_target, load

PLUGINS = ("acl", "smi")


def write(folder, *documents):
    folder.mkdir(exist_ok=True)
    content = {"apiVersion": "v1", "kind": "List", "items": documents}
    (folder / "objects.json").write_text(json.dumps(content))
    return folder


def build_deployment(name, account):
    template = {"metadata": {"labels": {"app": name}}, "spec": {"serviceAccountName": account, "containers": []}}
    return build_object("Deployment", name, "apps/v1", spec={"replicas": 3, "template": template})


def test_workloads_of_manifests_are_servers_and_clients(tmp_path):
    documents = [
        build_service("app"),
        build_deployment("app", "app"),
        build_deployment("web", "web"),
        build_target("one", "app", ["web"]),
    ]
    settings = ControllerSettings(paths=(str(write(tmp_path / "manifests", *documents)),))
    state = asyncio.run(build_manifest_state(settings, load(PLUGINS), "manifests"))
    assert state.label == "manifests"
    assert state.name_client(Account("shop", "web")) == "shop/web"
    assert len(state.topology["services"]["app@shop"]["ports"][0]["servers"]) == 1


def apply(tmp_path, *documents):
    """Build the state of recorded objects, and the state after these documents were applied to them."""
    loaded = load(PLUGINS)
    recorded = RecordedObjects(
        ControllerSettings(), loaded, [build_batch(build_shop(build_target("one", "app", ["web"])), loaded)]
    )
    folder = str(write(tmp_path / "applied", *documents))
    return (
        recorded.build_state("cluster"),
        asyncio.run(recorded.build_applied([folder], is_recursive=False, label="applied")),
    )


def test_manifests_are_applied_to_recorded_objects_and_others_stay(tmp_path):
    old, new = apply(tmp_path, build_target("two", "app", ["batch"]), build_service("more"))
    found = compare_states(old, new)
    assert [(each.change, each.clients, each.service) for each in found.access] == [
        ("opens", ("shop/batch",), "shop/app")
    ]
    assert [(each.change, each.service) for each in found.ports] == [("added", "shop/more")]
    assert ObjectKey("shop", "app-v1") in new.list_services()


def test_an_object_that_is_applied_replaces_the_recorded_one(tmp_path):
    old, new = apply(tmp_path, build_target("one", "app", ["batch"]))
    assert {(each.change, each.clients) for each in compare_states(old, new).access} == {
        ("opens", ("shop/batch",)),
        ("closes", ("shop/web",)),
    }


def test_a_path_that_does_not_exist_is_an_error():
    loaded = load(PLUGINS)
    recorded = RecordedObjects(ControllerSettings(), loaded, [build_batch([], loaded)])
    with pytest.raises(StartupError, match="/nonexistent: no such file or folder"):
        asyncio.run(recorded.build_applied(["/nonexistent"], is_recursive=False, label=""))


def test_the_objects_of_a_cluster_are_read_once(api_server, tmp_path):
    api_server.apply([build_service("app"), build_pod("app-0", "10.0.0.1", "app", app="app")])
    path = api_server.write_kubeconfig(tmp_path / "kubeconfig")
    settings = ControllerSettings(kubeconfig=str(path))
    objects = asyncio.run(read_cluster(settings, load(PLUGINS)))
    state = objects.build_state("cluster")
    assert state.list_services() == [ObjectKey("shop", "app")]
    assert state.name_client(Account("shop", "app")) == "shop/app-0"


def test_a_cluster_that_cannot_be_read_is_an_error(tmp_path, unused_tcp_port, monkeypatch):
    settings = ControllerSettings(master_url=f"http://127.0.0.1:{unused_tcp_port}")
    with pytest.raises(StartupError, match="the cluster cannot be read"):
        asyncio.run(read_cluster(settings, load(PLUGINS)))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    with pytest.raises(StartupError, match="there is no cluster"):
        asyncio.run(read_cluster(ControllerSettings(), load(PLUGINS)))
