"""A Secret of a real API server: read, and changed unless somebody else was first."""

import asyncio
import base64
import contextlib

import pytest
from maesh_mtls.controller.authority.secret_store import ROTATION, SecretStore
from maesh_mtls.controller.authority.stores import StoreConflictError, Stored, StoreError

from maesh_core.plugin import ObjectKey
from maesh_testing.api_server import FaultKind

from .clusters import NAMESPACE, open_cluster, wait_until

FILES = {"tls.crt": b"certificate", "tls.key": b"key"}
KEY = ObjectKey(NAMESPACE, "maesh-ca")


def encode(text):
    return base64.b64encode(text.encode()).decode()


@pytest.fixture
async def cluster(api_server):
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    async with open_cluster(api_server) as cluster:
        yield cluster


@pytest.fixture
def problems():
    return []


@pytest.fixture
def store(cluster, problems):
    return SecretStore(cluster, KEY, report=problems.append)


def read_secret(api_server):
    return api_server.get("secrets", KEY.name, NAMESPACE)


async def test_a_missing_secret_is_empty_and_is_made_by_the_first_write(store, api_server):
    assert await store.load() == Stored()
    version = await store.write(FILES, "", version="")
    assert await store.load() == Stored(files=FILES, version=version)
    secret = read_secret(api_server)
    assert secret["type"] == "kubernetes.io/tls"
    assert secret["data"]["tls.key"] == encode("key")


async def test_of_two_that_make_it_one_gets_a_conflict(cluster, problems):
    stores = [SecretStore(cluster, KEY, report=problems.append) for _ in range(2)]
    results = await asyncio.gather(*(each.write(FILES, "", version="") for each in stores), return_exceptions=True)
    assert [type(each) for each in results if not isinstance(each, str)] == [StoreConflictError]


async def test_only_the_named_files_change(store, api_server):
    version = await store.write({**FILES, "ca.crt": b"root"}, '{"phase":1}', version="")
    extra = {"metadata": {"labels": {"team": "a"}, "annotations": {"note": "x"}}, "data": {"other": encode("y")}}
    version = api_server.patch("secrets", KEY.name, extra, NAMESPACE)["metadata"]["resourceVersion"]
    version = await store.write({"ca.crt": None, "signer.key": b"former"}, "", version=version)
    stored = await store.load()
    assert dict(stored.files) == {**FILES, "signer.key": b"former"}
    assert (stored.rotation, stored.version) == ("", version)
    secret = read_secret(api_server)
    assert secret["data"]["other"] == encode("y")
    assert secret["metadata"]["annotations"] == {"note": "x"}
    assert secret["metadata"]["labels"]["team"] == "a"


async def test_a_change_that_is_based_on_another_version_is_refused(store, api_server):
    version = await store.write(FILES, '{"phase":1}', version="")
    assert read_secret(api_server)["metadata"]["annotations"] == {ROTATION: '{"phase":1}'}
    api_server.patch("secrets", KEY.name, {"data": {"tls.crt": encode("by hand")}}, NAMESPACE)
    for based_on in (version, "", "1"):
        with pytest.raises(StoreConflictError):
            await store.write({"ca.crt": b"root"}, "", version=based_on)
    assert "ca.crt" not in read_secret(api_server)["data"]


async def test_a_change_right_before_the_write_is_a_conflict(store, api_server):
    version = await store.write(FILES, "", version="")
    api_server.add_fault(FaultKind.CONFLICT, verb="update", resource="secrets")
    with pytest.raises(StoreConflictError):
        await store.write({"ca.crt": b"root"}, "", version=version)


async def test_an_error_of_the_server_does_not_repeat_what_was_sent(store, api_server):
    api_server.add_fault(FaultKind.STATUS, resource="secrets", status=422, reason="Invalid", message=encode("key"))
    with pytest.raises(StoreError, match="422 Invalid") as caught:
        await store.write(FILES, "", version="")
    assert encode("key") not in str(caught.value)
    assert "key" not in repr(Stored(files=FILES)).replace("tls.key", "")


async def test_what_is_not_base64_is_an_error(store, api_server):
    metadata = {"name": KEY.name, "namespace": NAMESPACE}
    api_server.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {"tls.crt": "%"}})
    with pytest.raises(StoreError, match=r"tls\.crt is not base64"):
        await store.load()


async def test_an_empty_file_of_cert_manager_counts_as_missing(store, api_server):
    metadata = {"name": KEY.name, "namespace": NAMESPACE}
    data = {"ca.crt": "", "tls.crt": encode("a"), "tls.key": encode("b")}
    api_server.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data})
    assert dict((await store.load()).files) == {"tls.crt": b"a", "tls.key": b"b"}


async def test_a_watch_yields_the_content_and_its_changes(store, api_server, problems):
    async with contextlib.aclosing(store.watch()) as changes:
        assert await anext(changes) == Stored()
        version = await store.write(FILES, "", version="")
        assert await anext(changes) == Stored(files=FILES, version=version)
        api_server.patch("secrets", KEY.name, {"data": {"tls.crt": "%"}}, NAMESPACE)
        api_server.patch("secrets", KEY.name, {"data": {"tls.crt": encode("new")}}, NAMESPACE)
        assert (await anext(changes)).files["tls.crt"] == b"new"
        assert problems[-2:] == ["Secret maesh/maesh-ca: tls.crt is not base64", None]
        api_server.delete("secrets", KEY.name, NAMESPACE)
        assert await anext(changes) == Stored()


async def test_a_watch_reads_only_its_own_secret(store, api_server):
    name = {"resourceNames": [KEY.name], "resources": ["secrets"], "namespace": NAMESPACE}
    rules = [{"apiGroups": [""], "verbs": ["list", "watch", "get"], **name}]
    api_server.set_rules(api_server.token, rules)
    api_server.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "other", "namespace": NAMESPACE}})
    async with contextlib.aclosing(store.watch()) as changes:
        assert await anext(changes) == Stored()
    listed = [call for call in api_server.calls if call.resource == "secrets"]
    assert {(call.namespace, call.name) for call in listed} == {(NAMESPACE, KEY.name)}


async def test_a_watch_that_is_not_permitted_is_reported(store, api_server, problems):
    api_server.set_rules(api_server.token, [])
    async with contextlib.aclosing(store.watch()) as changes:
        waiting = asyncio.ensure_future(anext(changes))
        await wait_until(lambda: problems)
        assert "403" in problems[0]
        api_server.set_rules(api_server.token, None)
        assert await waiting == Stored()
