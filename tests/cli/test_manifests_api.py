"""What commands of plugins read with `--manifests`."""

import json

import pytest

from maesh_core.cli.manifests_api import build_manifests_api
from maesh_core.errors import ConfigurationError
from maesh_core.plugin_system.metadata import list_installed
from maesh_core.settings import ManifestCommandSettings

MANIFEST = """
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
   "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}},
  {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
   "spec": {"serviceAccountName": "web"}, "status": {"podIP": "10.0.0.1", "phase": "Running"}}
]}
"""


@pytest.fixture
async def api(tmp_path):
    (tmp_path / "web.json").write_text(MANIFEST)
    (acl,) = (plugin for plugin in list_installed() if plugin.name == "acl")
    return await build_manifests_api(ManifestCommandSettings(), (str(tmp_path),), acl)


async def test_the_plugin_of_the_command_is_enabled(api):
    configuration = json.loads(await api.fetch("/api/configuration/current"))
    assert configuration["plugins"] == ["acl"]
    assert json.loads(await api.fetch("/api/topology/current"))["services"]["web@shop"]["additions"]["acl"]
    assert json.loads(await api.fetch("/api/objects")) == []


async def test_workloads_count_as_pods(tmp_path):
    (tmp_path / "web.json").write_text(
        """{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"selector": {"matchLabels": {"app": "web"}},
                     "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"serviceAccountName": "web"}}}}"""
    )
    api = await build_manifests_api(ManifestCommandSettings(), (str(tmp_path),))
    (pod,) = json.loads(await api.fetch("/api/pods?namespace=shop&name=web"))["pods"]
    assert pod["serviceAccount"] == "web"


async def test_pods_are_found_by_name_and_by_address(api):
    for query in ("namespace=shop&name=web-1", "address=10.0.0.1"):
        (pod,) = json.loads(await api.fetch(f"/api/pods?{query}"))["pods"]
        assert (pod["name"], pod["serviceAccount"]) == ("web-1", "web")
    assert json.loads(await api.fetch("/api/pods?namespace=shop&name=other"))["pods"] == []


async def test_the_state_of_a_controller_is_refused(api):
    with pytest.raises(ConfigurationError, match="manifests do not have /api/status/nodes"):
        await api.fetch("/api/status/nodes")
    with pytest.raises(ConfigurationError, match="cannot be changed by /x"):
        await api.post("/x", b"{}")
