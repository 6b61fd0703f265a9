"""An authority in, a ConfigMap out: written and repaired by the leader only."""

import asyncio
import base64

import pytest
from maesh_mtls.controller.authority.ca import make_authority, read_authority, render_certificates
from maesh_mtls.controller.authority.keeper import AuthorityKeeper
from maesh_mtls.controller.authority.secret_store import SecretStore
from maesh_mtls.controller.authority.trust_config_map import BUNDLE, TrustConfigMap

from maesh_core.plugin import ObjectKey
from maesh_testing.api_server import FaultKind

from .certificates import encode, make_signer
from .clusters import NAMESPACE, FakeController, apply_secret, open_cluster, running, wait_until

NAME = "maesh-trust"


@pytest.fixture
async def cluster(api_server):
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    async with open_cluster(api_server) as cluster:
        yield cluster


@pytest.fixture
def build(api_server, cluster):
    def build(*, is_leader=True):
        controller = FakeController(api_server, cluster, is_leader=is_leader)
        store = SecretStore(cluster, ObjectKey(NAMESPACE, "maesh-ca"), report=lambda _: None)
        keeper = AuthorityKeeper(store, read=read_authority, make=make_authority, report=controller.report)
        key = ObjectKey(NAMESPACE, NAME)
        trust = TrustConfigMap(controller, cluster, key, keeper, pause=lambda _: asyncio.sleep(0.05))
        return controller, keeper, trust

    return build


def read_bundle(api_server):
    found = api_server.find("configmaps", NAME, NAMESPACE)
    return found["data"].get(BUNDLE) if found else None


def count_writes(trust):
    return trust.collect_metrics()[0].samples[0][1]


async def test_the_leader_writes_the_certificates_to_trust(build, api_server):
    _, keeper, trust = build()
    async with running(keeper, trust):
        await wait_until(lambda: read_bundle(api_server))
        assert read_bundle(api_server) == keeper.get().bundle
        new = make_signer()
        apply_secret(api_server, new)
        await wait_until(lambda: read_bundle(api_server) == new.bundle)
        await wait_until(lambda: count_writes(trust) == 2)


async def test_a_controller_that_does_not_lead_writes_nothing_until_it_does(build, api_server):
    controller, keeper, trust = build(is_leader=False)
    async with running(keeper, trust):
        await wait_until(lambda: keeper.current and trust._is_read)
        await trust.check()
        assert read_bundle(api_server) is None
        controller.is_leader = True
        await wait_until(lambda: read_bundle(api_server))


async def test_a_changed_or_deleted_config_map_is_repaired(build, api_server):
    _, keeper, trust = build()
    async with running(keeper, trust):
        await wait_until(lambda: read_bundle(api_server))
        bundle = keeper.get().bundle
        change = {"data": {BUNDLE: make_signer().bundle, "other": "x"}, "metadata": {"labels": {"team": "a"}}}
        api_server.patch("configmaps", NAME, change, NAMESPACE)
        await wait_until(lambda: read_bundle(api_server) == bundle)
        found = api_server.get("configmaps", NAME, NAMESPACE)
        assert found["data"]["other"] == "x"
        assert found["metadata"]["labels"]["team"] == "a"
        api_server.delete("configmaps", NAME, NAMESPACE)
        await wait_until(lambda: read_bundle(api_server) == bundle)


async def test_two_leaders_that_write_at_the_same_time_do_not_overwrite_each_other(build, api_server):
    _, keeper, trust = build()
    _, other_keeper, other = build()
    api_server.add_fault(FaultKind.CONFLICT, verb="update", resource="configmaps")
    async with running(keeper, trust, other_keeper, other):
        await wait_until(lambda: read_bundle(api_server))
        new = make_signer()
        apply_secret(api_server, new)
        await wait_until(lambda: read_bundle(api_server) == new.bundle)


async def test_a_controller_whose_watch_is_behind_does_not_publish_a_former_authority(build, api_server):
    old, new = make_signer(), make_signer()
    apply_secret(api_server, old)
    _, keeper, trust = build()
    await keeper.load()
    apply_secret(api_server, new)
    async with running(trust):
        await wait_until(lambda: count_writes(trust) == 1)
    assert read_bundle(api_server) == new.bundle


async def test_a_failure_is_reported_until_it_is_over(build, api_server):
    controller, keeper, trust = build()
    fault = api_server.add_fault(FaultKind.STATUS, verb="create", resource="configmaps", status=403, count=None)
    async with running(keeper, trust):
        await wait_until(lambda: controller.problems)
        assert "ConfigMap maesh/maesh-trust: POST" in controller.problems["mtls trust"]
        assert fault.hits
        api_server.clear_faults()
        await wait_until(lambda: read_bundle(api_server))
        await wait_until(lambda: not controller.problems)


def test_only_certificates_are_published():
    signer, other = make_signer(), make_signer()
    text = encode(signer.key) + signer.bundle + "a note\n" + other.bundle + signer.bundle
    assert render_certificates(text) == signer.bundle + other.bundle


async def test_a_key_among_the_trusted_certificates_is_not_published(build, api_server):
    signer = make_signer()
    apply_secret(api_server, signer, **{"ca.crt": signer.bundle + encode(signer.key)})
    _, keeper, trust = build()
    async with running(keeper, trust):
        await wait_until(lambda: read_bundle(api_server))
    assert read_bundle(api_server) == signer.bundle
    secret = api_server.get("secrets", "maesh-ca", NAMESPACE)
    assert b"PRIVATE KEY" in base64.b64decode(secret["data"]["ca.crt"])
