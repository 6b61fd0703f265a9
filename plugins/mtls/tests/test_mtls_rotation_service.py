"""The service of a controller that follows the authority and does the steps of a rotation, in fake time."""

import asyncio
from types import SimpleNamespace

import msgspec
import pytest
from maesh_mtls.controller.authority.effective import get_key_id, is_adopted, read_effective
from maesh_mtls.controller.authority.keeper import read_now
from maesh_mtls.controller.authority.state import RENEW, SETTLED, SPREAD, parse_state, render_state, revoke
from maesh_mtls.controller.authority.stores import StoreConflictError, StoreError
from maesh_mtls.controller.rotation.service import ORIGIN, RotationService
from maesh_mtls.trust import hash_trust

from maesh_core.model.topology import PodNode
from maesh_core.plugin import ConfigurationError, MeshNode, ObjectKey

NODE = MeshNode(name="a", proxies=(PodNode(key=ObjectKey("maesh", "p"), service_account="x", address="10.0.0.1"),))


async def test_the_leader_records_the_authority_and_all_nodes_learn_it(world):
    await world.service.look()
    stored = world.read()
    assert is_adopted(stored)
    assert world.rules.describe_mesh() is None, "it was not recorded when it was read"
    await world.service.look()
    effective = read_effective(stored, read_now())
    share = world.rules.describe_mesh()
    assert (share.trust, share.authority) == (hash_trust(effective.bundle), get_key_id(effective))
    assert world.controller.refreshed == 1
    await world.service.look()
    assert world.controller.refreshed == 1


async def test_only_the_leader_writes(world):
    world.controller.is_leader = False
    await world.service.look()
    assert not is_adopted(world.read())
    world.controller.is_leader = True
    await world.service.look()
    assert is_adopted(world.read())


async def test_a_rotation_follows_the_reports_of_proxies(world):
    await world.service.look()
    world.replace_authority()
    phases = []
    for _ in range(6):
        await world.service.look()
        phases.append(world.get_phase())
        world.follow()
        world.now += 61
    assert phases == [SPREAD, RENEW, SETTLED, SETTLED, SETTLED, SETTLED]


async def test_another_leader_continues_a_rotation(world):
    await world.service.look()
    world.replace_authority()
    await world.service.look()
    world.follow()
    world.now += 61
    other = world.start_service(world.controller)
    await other.look()
    assert world.get_phase() == RENEW


async def test_a_rotation_waits_for_a_proxy_that_has_not_followed(world):
    await world.service.look()
    world.follow()
    world.replace_authority()
    await world.service.look()
    world.now += 61
    await world.service.look()
    assert world.get_phase() == SPREAD
    samples = {each.name: each.samples for each in world.service.collect_metrics()}
    assert samples["maesh_mtls_rotation_waiting"] == (((), 1),)
    assert dict(samples["maesh_mtls_rotation_phase"])[("spread",)] == 1
    assert dict(samples["maesh_mtls_proxies"]) == {("valid",): 1}
    assert dict(samples["maesh_mtls_proxies_current"]) == {("false", "true"): 1}


@pytest.mark.parametrize(
    "facts", [{"state": "none"}, {"state": "expired", "starts": "1", "ends": "2"}], ids=["none", "expired"]
)
async def test_a_proxy_without_a_valid_certificate_is_not_waited_for(world, facts):
    await world.service.look()
    world.set_report(facts)
    world.replace_authority()
    await world.service.look()
    world.now += 61
    await world.service.look()
    assert world.get_phase() == RENEW


@pytest.mark.parametrize("change", ["silent", "inactive", "controllers"])
async def test_a_rotation_waits_for_what_it_does_not_know(world, change):
    stored = await world.store.load()
    state = msgspec.structs.replace(parse_state(stored.rotation), longest_s=3600.0)
    await world.store.write({}, render_state(state), version=stored.version)
    await world.service.look()
    world.replace_authority()
    await world.service.look()
    world.follow()
    if change == "silent":
        world.set_report({})
    elif change == "inactive":
        world.set_report(world.controller.reports[0].transport.facts, ready=False)
    else:
        world.controller.is_complete = False
    world.now += 61
    await world.service.look()
    assert world.get_phase() == SPREAD


async def test_revocations_are_passed_on_by_every_controller(world):
    world.controller.is_leader = False
    stored = world.read()
    state = revoke(revoke(parse_state(stored.rotation), "a", "", 0.0), "b", "0A", world.now)
    world.store.write_now({}, render_state(state), version=stored.version)
    await world.service.look()
    assert world.rules.describe_node(NODE) is None
    assert world.rules.describe_node(msgspec.structs.replace(NODE, name="b")).revoked == ("0A",)
    assert world.rules.is_revoked("a", "01")
    assert world.rules.is_revoked("b", "0A")
    assert not world.rules.is_revoked("b", "0B")
    assert world.controller.refreshed == 1


async def test_the_leader_drops_revocations_of_certificates_that_have_ended(world):
    stored = world.read()
    state = revoke(parse_state(stored.rotation), "b", "0A", world.now)
    world.store.write_now({}, render_state(state), version=stored.version)
    await world.service.look()
    assert len(parse_state(world.read().rotation).revoked) == 1
    world.now += 38 * 86_400
    await world.service.look()
    assert parse_state(world.read().rotation).revoked == ()


async def test_revocations_are_known_before_the_first_configuration(world):
    stored = world.read()
    world.store.write_now({}, render_state(revoke(parse_state(""), "a", "", 0.0)), version=stored.version)
    await world.service.prepare()
    assert world.rules.describe_node(NODE) is None


async def test_a_store_that_cannot_be_read_stops_the_start(world):
    class Broken:
        place = "a store"

        def __init__(self):
            self.attempts = 0

        async def load(self):
            self.attempts += 1
            raise StoreError("away")

        async def write(self, files, rotation, *, version):
            raise AssertionError

        def watch(self):
            raise AssertionError

    broken = Broken()
    service = RotationService(
        world.controller, broken, world.rules, step_s=1.0, now=lambda: world.now, pause=world.pause
    )
    with pytest.raises(ConfigurationError, match="a store: away"):
        await service.prepare()
    assert broken.attempts == 30


async def test_a_write_that_another_controller_overtakes_is_dropped(world, monkeypatch):
    async def refuse(*_, **__):
        raise StoreConflictError("changed")

    service = world.service
    service._store = SimpleNamespace(load=world.store.load, write=refuse, place="a store")
    await service.look()
    assert world.controller.problems == {}
    assert not is_adopted(world.read())


async def test_an_authority_that_cannot_be_used_is_a_problem_and_the_one_in_use_stays(world, caplog):
    await world.service.look()
    before = world.read()
    world.store.write_now({"tls.key": b"damaged"}, before.rotation, version=before.version)
    for _ in range(2):
        await world.service.look()
    assert "tls.key is missing, or is not an unencrypted key in PEM" in world.controller.problems[ORIGIN]
    assert sum("the authority in use stays" in text for text in caplog.messages) == 1
    assert read_effective(world.read(), read_now()).bundle == read_effective(before, read_now()).bundle
    stored = world.read()
    world.store.write_now({"tls.key": before.files["tls.key"]}, stored.rotation, version=stored.version)
    await world.service.look()
    assert world.controller.problems == {}


async def test_the_service_looks_when_it_is_woken(world):
    world.service._pause = lambda _: asyncio.Event().wait()
    running = asyncio.create_task(world.service.run())
    async with asyncio.timeout(60):
        while not is_adopted(world.read()) or world.rules.describe_mesh() is None:  # noqa: ASYNC110 - a thread reads
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
