"""The pages behind the commands: who may change what, and what a request does to the store."""

import msgspec
import pytest
from maesh_mtls.controller.authority.effective import is_adopted
from maesh_mtls.controller.authority.stores import StoreConflictError, StoreError, StoreReadOnlyError
from maesh_mtls.controller.rotation.action_pages import RevocationPage, RotationPage, StatusPage

from maesh_core.plugin import PageRequest, PostRequest

LOCAL = "127.0.0.1"
REMOTE = "10.0.0.9"


class Pages:
    """The pages of a world, or those of another store."""

    def __init__(self, world, store=None):
        store = store or world.store
        self.status = StatusPage(world.controller, store, now=lambda: world.now)
        self.rotation = RotationPage(store, world.service, now=lambda: world.now)
        self.revocations = RevocationPage(store, world.service, now=lambda: world.now)


async def post(page, body, *, remote=LOCAL, caller=""):
    encoded = body if isinstance(body, bytes) else msgspec.json.encode(body)
    response = await page.respond_to_post(PostRequest(body=encoded, remote=remote, caller=caller))
    assert response.headers["Cache-Control"] == "no-store"
    return response.status, response.body.decode().strip()


async def read_status(page):
    response = await page.respond(PageRequest())
    return response.status, msgspec.json.decode(response.body) if response.status == 200 else response.body.decode()


@pytest.mark.parametrize(
    ("remote", "caller", "status"), [(REMOTE, "", 403), (REMOTE, "ann", 200), (LOCAL, "", 200), ("::1", "", 200)]
)
async def test_only_proven_callers_and_this_machine_may_change_anything(world, remote, caller, status):
    pages = Pages(world)
    await world.service.look()
    before = world.read()
    assert (await post(pages.revocations, {"node": "a"}, remote=remote, caller=caller))[0] == status
    assert (await post(pages.rotation, {"action": "start"}, remote=remote, caller=caller))[0] == status
    assert (world.read() == before) == (status == 403)


async def test_a_rotation_is_started_and_aborted(world):
    pages = Pages(world)
    assert await post(pages.rotation, {"action": "start"}) == (200, "a rotation was asked for")
    assert is_adopted(world.read()), "the former authority stays in use"
    assert (await post(pages.rotation, {"action": "start"}))[0] == 409
    assert (await post(pages.rotation, {"action": "abort"}))[0] == 409, "nothing was spread yet"
    await world.service.look()
    assert await post(pages.rotation, {"action": "abort"}) == (200, "the rotation was aborted")
    assert (await post(pages.rotation, {"action": "proceed"}))[0] == 200


async def test_a_node_is_revoked_and_that_is_undone(world):
    pages = Pages(world)
    assert await post(pages.revocations, {"node": "a"}) == (200, "node a is revoked")
    assert await post(pages.revocations, {"node": "a"}) == (409, "it is revoked already")
    assert await post(pages.revocations, {"node": "a", "serial": "abc"}) == (
        200,
        "certificate 0ABC of node a is revoked",
    )
    _, report = await read_status(pages.status)
    assert [(each["node"], each["serial"]) for each in report["revoked"]] == [("a", ""), ("a", "0ABC")]
    assert (await post(pages.revocations, {"node": "a", "undo": True}))[0] == 200
    assert await post(pages.revocations, {"node": "a", "undo": True}) == (409, "it is not revoked")


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff", {"node": "A B"}, {"node": "a", "serial": "xyz"}, {"node": "a", "other": 1}, {"serial": "0A"}, [1]],
)
async def test_a_wrong_body_is_refused(world, body):
    assert (await post(Pages(world).revocations, body))[0] == 400
    assert (await post(Pages(world).rotation, body))[0] == 400


class Failing:
    """A store that cannot be used, or only read."""

    place = "a store"

    def __init__(self, store, *, reading=None, writing=None):
        self._store, self._reading, self._writing = store, reading, writing

    async def load(self):
        if self._reading is not None:
            raise self._reading
        return await self._store.load()

    async def write(self, files, rotation, *, version):
        raise self._writing


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreConflictError("changed"), 503), (StoreError("away"), 503), (StoreReadOnlyError("read-only"), 409)],
)
async def test_a_store_that_cannot_be_changed_is_said(world, error, status):
    pages = Pages(world, Failing(world.store, writing=error))
    assert (await post(pages.revocations, {"node": "a"}))[0] == status


async def test_a_store_that_cannot_be_read_is_said(world):
    pages = Pages(world, Failing(world.store, reading=StoreError("away")))
    assert await read_status(pages.status) == (503, "away\n")


async def test_pages_that_change_something_answer_no_other_request(world):
    response = await Pages(world).rotation.respond(PageRequest())
    assert (response.status, response.headers["Allow"]) == (405, "POST")


async def test_the_status_names_the_authority_the_phase_and_the_nodes(world):
    pages = Pages(world)
    await world.service.look()
    world.follow()
    status, report = await read_status(pages.status)
    assert status == 200
    assert report["signer"] == report["trusted"][0]
    assert report["rotation"] == {"phase": "settled", "since": "", "until": "", "waiting": []}
    (node,) = report["nodes"]
    assert (node["node"], node["state"], node["trust"], node["signer"], node["revoked"]) == (
        *("a", "valid", True, True, False),
    )
    assert report["problems"] == []
    assert "PRIVATE" not in str(report)

    await post(pages.rotation, {"action": "start"})
    await world.service.look()
    _, report = await read_status(pages.status)
    assert (report["rotation"]["phase"], report["rotation"]["waiting"]) == ("spread", ["a"])
    assert len(report["trusted"]) == 2
    assert [each["trust"] for each in report["nodes"]] == [False]


async def test_the_status_asks_the_other_controllers_once(world):
    status, _ = await read_status(Pages(world).status)
    assert (status, world.controller.lists) == (200, 1)


async def test_what_is_wrong_is_a_problem_of_the_status(world):
    pages = Pages(world)
    _, report = await read_status(pages.status)
    assert report["problems"] == [
        "the leader has not recorded the authority yet, so nothing is rotated in phases",
        "a: its proxy reports nothing to any controller",
    ]
    await world.service.look()
    world.follow()
    world.now += 80_000
    _, report = await read_status(pages.status)
    assert report["problems"] == ["a: the certificate ends in 107m and was not renewed"]
    world.now += 3600 * 86_400
    world.set_report({"state": "none"})
    _, report = await read_status(pages.status)
    assert report["problems"][0].startswith("the authority ends in 49d: replace it")
    assert report["problems"][1:] == ["a: the proxy has no certificate"]
    world.now += 60 * 86_400
    _, report = await read_status(pages.status)
    assert "run `maesh mtls rotate` now" in report["problems"][0]


async def test_an_authority_that_cannot_be_used_is_a_problem_of_the_status(world):
    stored = world.read()
    world.store.write_now({"tls.key": b"damaged"}, "", version=stored.version)
    status, report = await read_status(Pages(world).status)
    assert (status, report["signer"]) == (200, None)
    assert report["problems"][0].startswith("the authority cannot be used: tls.key")
