"""Objects are read and written with patience, and never over what somebody else wrote."""

from typing import Any

import pytest
import yaml

from maesh_core.controller.dns.objects import CONFIG_MAPS, CONFLICT_LIMIT, ObjectStore
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import find_access
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_testing.api_server import ApiServer, FaultKind

KEY = ObjectKey("kube-system", "coredns")
MAP: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"namespace": KEY.namespace, "name": KEY.name},
}


class Time:
    """A clock that only pauses move."""

    def __init__(self):
        self.now = 0.0

    async def pause(self, seconds):
        self.now += seconds


@pytest.fixture
def time():
    return Time()


@pytest.fixture
async def store(api_server, tmp_path, time):
    credentials = find_access(str(api_server.write_kubeconfig(tmp_path / "kubeconfig")), "", {})
    client = KubernetesClient(credentials)
    yield ObjectStore(client, pause=time.pause, clock=lambda: time.now)
    await client.close()


def append(found):
    return None if found is None else {**found, "data": {"key": (found.get("data") or {}).get("key", "") + "+"}}


async def write(store, edit=append):
    return await store.write(CONFIG_MAPS, KEY, before=await store.read(CONFIG_MAPS, KEY), edit=edit)


async def test_an_object_is_made_changed_and_deleted(api_server, store):
    assert await store.read(CONFIG_MAPS, KEY) is None
    assert await write(store, lambda _: MAP)
    assert await write(store)
    assert api_server.get("configmaps", "coredns", "kube-system")["data"] == {"key": "+"}
    assert not await write(store, lambda found: found)
    assert await write(store, lambda _: None)
    assert api_server.find("configmaps", "coredns", "kube-system") is None
    assert not await write(store, lambda _: None)


async def test_objects_of_lists_say_what_they_are(api_server, store):
    api_server.apply({**MAP, "metadata": {**MAP["metadata"], "labels": {"a": "b"}}})
    assert await store.list(CONFIG_MAPS, "kube-system", selector="a=c") == []
    (found,) = await store.list(CONFIG_MAPS, "kube-system", selector="a=b")
    assert found == await store.read(CONFIG_MAPS, KEY)


async def test_a_write_is_made_again_on_the_fresh_object(api_server, store):
    api_server.apply(MAP)
    old = await store.read(CONFIG_MAPS, KEY)
    api_server.patch("configmaps", "coredns", {"data": {"key": "theirs"}}, "kube-system")
    assert await store.write(CONFIG_MAPS, KEY, before=old, edit=append)
    assert api_server.get("configmaps", "coredns", "kube-system")["data"] == {"key": "theirs+"}


async def test_an_object_of_another_owner_is_edited(api_server, store):
    api_server.apply({**MAP, "data": {"key": "theirs"}})
    edit = lambda found: append(found) if found else MAP  # noqa: E731
    assert await store.write(CONFIG_MAPS, KEY, before=None, edit=edit)
    assert api_server.get("configmaps", "coredns", "kube-system")["data"] == {"key": "theirs+"}


async def test_an_object_that_vanished_is_not_recreated(api_server, store):
    api_server.apply(MAP)
    old = await store.read(CONFIG_MAPS, KEY)
    api_server.delete("configmaps", "coredns", "kube-system")
    assert not await store.write(CONFIG_MAPS, KEY, before=old, edit=append)


async def test_a_namespace_that_is_not_there_is_an_error(store):
    fresh = {**MAP, "metadata": {"name": "a"}}
    with pytest.raises(KubernetesError, match="404"):
        await store.write(CONFIG_MAPS, ObjectKey("nowhere", "a"), before=None, edit=lambda found: found or fresh)


async def test_endless_conflicts_are_an_error(api_server, store):
    api_server.apply(MAP)
    fault = api_server.add_fault(FaultKind.CONFLICT, verb="update", count=None)
    with pytest.raises(KubernetesError, match="ConfigMap kube-system/coredns: it changes too often to be written"):
        await write(store)
    assert fault.hits == CONFLICT_LIMIT


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": FaultKind.CLOSE_BEFORE},
        {"kind": FaultKind.CLOSE_AFTER},
        {"kind": FaultKind.STATUS, "status": 503},
        {"kind": FaultKind.STATUS, "status": 429, "retry_after_s": 1},
    ],
)
@pytest.mark.parametrize("verb", ["create", "update", "delete"])
async def test_a_short_absence_is_waited_for(api_server, store, time, fault, verb):
    if verb != "create":
        api_server.apply(MAP)
    edit = {"create": lambda found: found or MAP, "update": lambda found: {**found, "data": {"key": "+"}}}.get(verb)
    api_server.add_fault(**fault, verb=verb, count=3)
    await write(store, edit or (lambda _: None))
    assert (api_server.find("configmaps", "coredns", "kube-system") is None) == (verb == "delete")
    assert time.now > 0


async def test_a_long_absence_of_the_api_server_is_an_error(api_server, store, time):
    api_server.add_fault(FaultKind.STATUS, status=503, count=None)
    with pytest.raises(KubernetesError, match="503"):
        await store.read(CONFIG_MAPS, KEY)
    assert 20 < time.now <= 30


async def test_a_forbidden_request_is_reported_at_once(api_server, store, time):
    api_server.set_rules("admin", [])
    with pytest.raises(KubernetesError, match="403"):
        await store.read(CONFIG_MAPS, KEY)
    assert time.now == 0


@pytest.mark.parametrize("body", [b"[]", b"<html>", b"\xff"])
async def test_an_answer_that_is_no_object_is_an_error(api_server, store, body):
    api_server.apply(MAP)
    api_server.add_fault(FaultKind.GARBAGE, body=body)
    with pytest.raises(KubernetesError, match="not an object"):
        await store.read(CONFIG_MAPS, KEY)


async def test_a_server_that_is_another_is_not_waited_for(tmp_path, time):
    with ApiServer(tls=True) as server, ApiServer(tls=True) as other:
        document = yaml.safe_load(server.write_kubeconfig(tmp_path / "kubeconfig").read_text())
        document["clusters"][0]["cluster"]["server"] = other.url
        (tmp_path / "kubeconfig").write_text(yaml.safe_dump(document))
        client = KubernetesClient(find_access(str(tmp_path / "kubeconfig"), "", {}))
        with pytest.raises(KubernetesError, match=r"TLS: .*certificate verify failed"):
            await ObjectStore(client, pause=time.pause, clock=lambda: time.now).read(CONFIG_MAPS, KEY)
        await client.close()
    assert time.now == 0
