"""What is recorded before a signature, by a folder that several controllers share."""

import time

import pytest
from maesh_mtls.controller.authority.ca import make_authority
from maesh_mtls.controller.authority.effective import is_adopted, read_effective
from maesh_mtls.controller.authority.folder_store import FolderStore
from maesh_mtls.controller.authority.keeper import read_now
from maesh_mtls.controller.authority.signing import NodeRevokedError, prepare_signing
from maesh_mtls.controller.authority.state import parse_state, render_state, revoke
from maesh_mtls.controller.authority.stores import StoreConflictError, StoreError, StoreReadOnlyError

DAY = 86_400.0


@pytest.fixture
def store(tmp_path):
    store = FolderStore(tmp_path / "ca")
    store.write_now(make_authority(read_now()), "", version="")
    return store


async def prepare(store, node="a", lifetime_s=DAY):
    return await prepare_signing(store, store.load, node, lifetime_s, time.time())


async def test_the_authority_in_use_and_the_longest_life_are_recorded(store):
    assert not is_adopted(await store.load())
    stored = await prepare(store)
    assert is_adopted(stored)
    assert parse_state(stored.rotation).longest_s == DAY
    assert stored.files["signer.key"] == stored.files["tls.key"]
    assert read_effective(stored, read_now()).bundle.encode() == stored.files["tls.crt"]


async def test_nothing_is_written_if_nothing_is_new(store):
    version = (await prepare(store)).version
    assert (await prepare(store, lifetime_s=DAY / 2)).version == version
    assert (await prepare(store, lifetime_s=2 * DAY)).version != version


async def test_a_revoked_node_gets_no_certificate(store):
    stored = await prepare(store)
    state = revoke(parse_state(stored.rotation), "a", "", 0.0)
    await store.write({}, render_state(state), version=stored.version)
    with pytest.raises(NodeRevokedError):
        await prepare(store)
    await prepare(store, "b")


class Refusing:
    """A store whose writes fail."""

    place = "a store"

    def __init__(self, store, error):
        self._store, self._error, self.writes = store, error, 0

    async def load(self):
        return await self._store.load()

    async def write(self, files, rotation, *, version):
        self.writes += 1
        raise self._error


async def test_a_store_that_may_not_be_changed_is_used_as_it_is(store):
    stored = await prepare(Refusing(store, StoreReadOnlyError("read-only")))
    assert not is_adopted(stored)


async def test_nothing_is_signed_if_the_life_cannot_be_recorded(store):
    with pytest.raises(StoreError, match="away"):
        await prepare(Refusing(store, StoreError("away")))
    refusing = Refusing(store, StoreConflictError("changed"))
    with pytest.raises(StoreConflictError, match="being changed"):
        await prepare(refusing)
    assert refusing.writes == 5


async def test_nothing_is_signed_by_a_state_or_an_authority_that_cannot_be_read(store):
    stored = await store.load()
    await store.write({}, '{"phase": "other"}', version=stored.version)
    with pytest.raises(StoreError, match="state of the rotation"):
        await prepare(store)
