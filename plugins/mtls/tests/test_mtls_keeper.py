"""A store that changes, and the authority that signs meanwhile."""

import asyncio
from datetime import UTC, datetime

import pytest
from maesh_mtls.controller.authority.ca import make_authority, read_authority
from maesh_mtls.controller.authority.folder_store import FolderStore
from maesh_mtls.controller.authority.keeper import ORIGIN, AuthorityKeeper, AuthorityUnavailableError, read_now
from maesh_mtls.controller.authority.secret_store import SecretStore
from maesh_mtls.controller.authority.stores import StoreConflictError, Stored, StoreError

from maesh_core.plugin import ObjectKey
from maesh_testing.api_server import FaultKind

from .certificates import encode, make_key, make_signer
from .clusters import NAMESPACE, FakeController, apply_secret, open_cluster, running, wait_until

KEY = ObjectKey(NAMESPACE, "maesh-ca")


@pytest.fixture
async def cluster(api_server):
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    async with open_cluster(api_server) as cluster:
        yield cluster


@pytest.fixture
def build(api_server, cluster):
    """Build the keeper of a replica."""

    def build(**options):
        controller = FakeController(api_server, cluster)
        store = SecretStore(cluster, KEY, report=lambda problem: controller.report("store", problem))
        options = {"make": make_authority, "pause": lambda _: asyncio.sleep(0.01), **options}
        return AuthorityKeeper(store, read=read_authority, report=controller.report, **options), controller

    return build


async def test_replicas_that_start_together_make_one_authority(build, api_server):
    keepers = [build()[0] for _ in range(3)]
    async with running(*keepers):
        await wait_until(lambda: all(keeper.current for keeper in keepers))
    assert len({encode(keeper.current.certificate) for keeper in keepers}) == 1
    assert len(api_server.list("secrets", NAMESPACE)) == 1


async def test_a_given_authority_is_used_and_not_changed(build, api_server):
    signer = make_signer()
    apply_secret(api_server, signer)
    before = api_server.get("secrets", KEY.name, NAMESPACE)
    keeper, controller = build()
    async with running(keeper):
        await wait_until(lambda: keeper.current)
    assert keeper.get().certificate == signer.certificate
    assert api_server.get("secrets", KEY.name, NAMESPACE) == before
    assert controller.problems == {}


async def test_a_replaced_secret_signs_from_then_on(build, api_server):
    keeper, _ = build()
    changes = []
    keeper.on_change(lambda: changes.append(keeper.current))
    new = make_signer()
    async with running(keeper):
        await wait_until(lambda: keeper.current)
        apply_secret(api_server, new)
        await wait_until(lambda: keeper.get().certificate == new.certificate)
    assert len(changes) == 2


async def test_a_signature_reads_the_secret_and_does_not_wait_for_its_watch(build, api_server):
    keeper, _ = build()
    new = make_signer()
    with pytest.raises(AuthorityUnavailableError, match="no authority yet"):
        await keeper.load()
    apply_secret(api_server, new)
    assert (await keeper.load()).certificate == new.certificate


class SteeredStore:
    """A store whose reads and watch yield what a test puts into them."""

    place = "a store"

    def __init__(self, *watched):
        self.reads, self._watched, self.has_ended = [], watched, asyncio.Event()

    async def load(self):
        found = self.reads.pop(0)
        if isinstance(found, Exception):
            raise found
        return await found if isinstance(found, asyncio.Future) else found

    async def write(self, files, rotation, *, version):
        raise AssertionError

    async def watch(self):
        for stored in self._watched:
            yield stored
        self.has_ended.set()
        await asyncio.Event().wait()


def open_steered(*watched, problems=None):
    """Build the keeper of such a store, and the list of the certificates that it uses."""
    store, used = SteeredStore(*watched), []
    report = ({} if problems is None else problems).__setitem__
    keeper = AuthorityKeeper(store, read=read_authority, make=None, report=report, pause=lambda _: asyncio.sleep(0))
    keeper.on_change(lambda: used.append(encode(keeper.get().certificate).encode()))
    return keeper, store, used


@pytest.fixture
def versions():
    """Make two contents of a store, the older one first."""
    return [Stored(files=make_authority(read_now()), version=str(number)) for number in (1, 2)]


async def test_a_watch_that_is_late_does_not_put_the_former_authority_back(versions):
    old, new = versions
    keeper, store, used = open_steered(old)
    store.reads = [new, new]
    await keeper.load()
    async with running(keeper):
        await store.has_ended.wait()
    assert used == [new.files["tls.crt"]]


async def test_a_read_that_ends_late_does_not_put_the_former_authority_back(versions):
    old, new = versions
    keeper, store, used = open_steered()
    late = asyncio.get_running_loop().create_future()
    store.reads = [late, new]
    first = asyncio.create_task(keeper.load())
    await asyncio.sleep(0)
    await keeper.load()
    late.set_result(old)
    await first
    assert used == [new.files["tls.crt"]]


async def test_a_store_that_cannot_be_read_after_a_change_is_read_again(versions):
    problems = {}
    keeper, store, used = open_steered(versions[0], problems=problems)
    store.reads = [StoreError("away"), StoreError("away"), versions[0]]
    async with running(keeper):
        await store.has_ended.wait()
    assert used == [versions[0].files["tls.crt"]]
    assert problems == {ORIGIN: None}


async def test_wrong_content_keeps_the_last_good_authority_and_is_reported(build, api_server, caplog):
    keeper, controller = build()
    good, other = make_signer(), make_signer()
    apply_secret(api_server, good)
    async with running(keeper):
        await wait_until(lambda: keeper.current)
        apply_secret(api_server, other, **{"tls.key": encode(make_key())})
        await wait_until(lambda: controller.problems)
        assert (await keeper.load()).certificate == good.certificate
        (problem,) = controller.problems.values()
        assert "Secret maesh/maesh-ca: the certificate in tls.crt belongs to another key" in problem
        assert problem.endswith("; the former authority stays in use")
        assert sum(record.levelname == "ERROR" for record in caplog.records) == 1
        assert read_problem(keeper) == 1
        apply_secret(api_server, good)
        await wait_until(lambda: not controller.problems)
    assert read_problem(keeper) == 0
    assert "PRIVATE KEY" not in caplog.text


def read_problem(keeper):
    families = {family.name: family for family in keeper.collect_metrics()}
    ((_, ends),) = families["maesh_mtls_authority_expiry_seconds"].samples
    assert ends > datetime.now(UTC).timestamp()
    ((_, value),) = families["maesh_mtls_authority_problem"].samples
    return value


async def test_an_api_server_that_is_away_signs_nothing(build, api_server):
    keeper, _ = build()
    apply_secret(api_server, make_signer())
    assert await keeper.load()
    api_server.stop_listening()
    with pytest.raises(AuthorityUnavailableError):
        await keeper.load()
    api_server.resume()
    assert await keeper.load()


async def test_a_deleted_secret_is_restored_with_the_same_authority(build, api_server):
    keepers = [build()[0] for _ in range(2)]
    async with running(*keepers):
        await wait_until(lambda: all(keeper.current for keeper in keepers))
        before = keepers[0].get().certificate
        api_server.delete("secrets", KEY.name, NAMESPACE)
        await wait_until(lambda: api_server.find("secrets", KEY.name, NAMESPACE))
        assert {(await keeper.load()).certificate for keeper in keepers} == {before}


async def test_a_secret_that_may_not_be_created_is_waited_for(build, api_server):
    rule = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}
    api_server.set_rules(api_server.token, [rule])
    keeper, controller = build()
    signer = make_signer()
    async with running(keeper):
        await wait_until(lambda: controller.problems.get(ORIGIN))
        assert "cannot be created" in controller.problems[ORIGIN]
        apply_secret(api_server, signer)
        await wait_until(lambda: keeper.current)
        await wait_until(lambda: not controller.problems)
    assert keeper.get().certificate == signer.certificate


async def test_a_failed_creation_is_tried_again(build, api_server):
    api_server.add_fault(FaultKind.STATUS, verb="create", resource="secrets", status=500, count=3)
    keeper, _ = build()
    async with running(keeper):
        await wait_until(lambda: keeper.current)


async def test_a_missing_authority_is_not_made_where_that_is_not_allowed(tmp_path):
    problems = {}
    store = FolderStore(tmp_path / "ca")
    keeper = AuthorityKeeper(store, read=read_authority, make=None, report=problems.__setitem__)
    async with running(keeper):
        await wait_until(lambda: problems)
    assert problems == {ORIGIN: f"{tmp_path / 'ca'}: it is missing"}
    assert not (tmp_path / "ca").exists()


async def test_a_conflict_means_that_another_replica_was_first(build, api_server, monkeypatch):
    keeper, controller = build()
    signer = make_signer()
    write = keeper.store.write

    async def lose(files, rotation, *, version):
        apply_secret(api_server, signer)
        with pytest.raises(StoreConflictError):
            await write(files, rotation, version=version)
        raise StoreConflictError("another was first")

    monkeypatch.setattr(SecretStore, "write", lambda self, *args, **kwargs: lose(*args, **kwargs))
    async with running(keeper):
        await wait_until(lambda: keeper.current)
    assert keeper.get().certificate == signer.certificate
    assert controller.problems == {}
