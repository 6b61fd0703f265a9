"""What plugins may ask of a cluster: requests, the watch of one object, and reviews."""

import asyncio
import contextlib

import msgspec
import pytest

from maesh_core.controller.cluster.cluster_api import PluginCluster
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind
from maesh_testing.api_server import FaultKind

KEY = ObjectKey("maesh", "settings")


class Map(Resource, frozen=True):
    data: dict[str, str] = msgspec.field(default_factory=dict)


MAPS = ResourceKind(name="ConfigMap", plural="configmaps", api_versions=("v1",), type=Map)


@pytest.fixture
async def cluster(api_server):
    async def load():
        return Access(server=api_server.url, headers={"Authorization": f"Bearer {api_server.token}"})

    client = KubernetesClient(Credentials(load))
    cluster = PluginCluster(client, pause=lambda _: asyncio.sleep(0.01))
    yield cluster
    await cluster.close()
    await client.close()


def apply(api_server, name="settings", **data):
    metadata = {"name": name, "namespace": "maesh"}
    api_server.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})


async def test_a_request_is_sent_and_answered(cluster, api_server):
    apply(api_server, a="1")
    body = await cluster.send("GET", "/api/v1/namespaces/maesh/configmaps/settings")
    assert msgspec.json.decode(body)["data"] == {"a": "1"}
    with pytest.raises(KubernetesError, match="404"):
        await cluster.send("GET", "/api/v1/namespaces/maesh/configmaps/other")


async def test_a_watch_yields_one_object_and_its_changes(cluster, api_server):
    apply(api_server, "other", a="0")
    problems = []
    async with contextlib.aclosing(cluster.watch_object(MAPS, KEY, report=problems.append)) as changes:
        assert await anext(changes) is None
        for value in ("1", "2"):
            apply(api_server, a=value)
            assert (await anext(changes)).data == {"a": value}
        apply(api_server, "other", a="3")
        api_server.delete("configmaps", "settings", "maesh")
        assert await anext(changes) is None
    assert [each for each in problems if each] == []


async def test_a_watch_continues_after_a_failure_and_reports_both(cluster, api_server):
    problems = []
    api_server.add_fault(FaultKind.STATUS, verb="list", resource="configmaps", status=403, reason="Forbidden")
    async with contextlib.aclosing(cluster.watch_object(MAPS, KEY, report=problems.append)) as changes:
        apply(api_server, a="1")
        assert (await anext(changes)).data == {"a": "1"}
        api_server.compact()
        api_server.end_watches("configmaps")
        apply(api_server, a="2")
        async for found in changes:
            if found.data == {"a": "2"}:
                break
    assert "403" in problems[0]
    assert problems[1] is None


async def test_an_error_in_the_program_reaches_whoever_reads_the_watch(cluster):
    def report(_):
        raise ValueError("cannot be reported")

    async with contextlib.aclosing(cluster.watch_object(MAPS, KEY, report=report)) as changes:
        with pytest.raises(ValueError, match="cannot be reported"):
            async for _ in changes:
                pass


async def test_tokens_and_access_are_reviewed(cluster, api_server):
    token = api_server.issue_token("tools", "viewer", audiences=["maesh-api"])
    owner = await cluster.review_token(token, ["maesh-api"])
    assert owner.username == "system:serviceaccount:tools:viewer"
    assert not await cluster.review_access(owner, "get", "/metrics")
