"""The keeper alone, with statuses and a lease that a test controls, against an API server."""

import asyncio
import logging
from pathlib import Path

import msgspec
import pytest

from maesh_core.controller.cluster.status_keeper import BURST, PER_SECOND, StatusKeeper
from maesh_core.controller.kubernetes.paths import APPLY_PATCH, JSON
from maesh_core.controller.reports.object_checks import Subject
from maesh_core.controller.reports.object_statuses import WantedStatus
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Resource, ResourceKind
from maesh_core.plugin_system.hookspecs import CONTROLLER_NAME
from maesh_testing.api_server import FaultKind

CRDS = Path(__file__).resolve().parents[2] / "conformance" / "data" / "crds"
A = Subject("HTTPRoute", ObjectKey("shop", "a"))
WALL_S = 1_800_000_000.0
PARENT = {"group": "", "kind": "Service", "name": "web"}


def build_route(name="a", **more):
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"parentRefs": [PARENT], **more},
    }


def entry(status="True", controller=CONTROLLER_NAME, **more):
    condition = {"type": "Accepted", "status": status, "reason": "Accepted", "message": "", "observedGeneration": 1}
    return {"parentRef": PARENT, "controllerName": controller, "conditions": [condition | more]}


class Kept:
    """A keeper; `tell` is the watch, `entries` is what is wanted."""

    def __init__(self, server, client):
        self.server, self.client = server, client
        self.remaining_s = 10.0
        self.kind = ResourceKind(
            name="HTTPRoute", plural="httproutes", api_versions=("gateway.networking.k8s.io/v1",), type=Resource
        )
        self.now = 0.0
        self.entries = {}
        self.told = {}
        self.sent = []
        self.paused = []
        self.pauses = None
        self.before_write = lambda: None
        self.keeper = StatusKeeper(
            self,
            self,
            self,
            clock=lambda: self.now,
            wall_clock=lambda: WALL_S + self.now,
            pause=self.pause,
        )

    async def pause(self, seconds):
        self.paused.append(seconds)
        self.now += seconds
        await asyncio.sleep(0) if self.pauses is None else await self.pauses.get()

    async def send(self, method, path, body=None, *, query=None, content_type=JSON, timeout_s):
        assert 0 < timeout_s <= 5
        self.sent.append((method, path, content_type))
        if method == "PATCH":
            self.before_write()
        return await self.client.send(method, path, body, query=query, content_type=content_type, timeout_s=timeout_s)

    def find_wanted(self, subject):
        metadata = self.told.get(subject.key)
        if metadata is None:
            return None
        return WantedStatus(
            kind=self.kind,
            field="parents",
            key=subject.key,
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            entries=self.entries.get(subject.key, ()),
            condition_types=("Accepted",),
        )

    def tell(self):
        found = self.server.list("httproutes", "shop")
        self.told = {ObjectKey("shop", each["metadata"]["name"]): each["metadata"] for each in found}

    async def settle(self, *subjects):
        """Let the watch report, mark the subjects, and wait until nothing is under way."""
        self.tell()
        self.keeper.mark(subjects or (A,))
        await self.rest()

    async def rest(self, condition=None):
        async with asyncio.timeout(60):
            while True:
                if (condition or self.is_quiet)():
                    return
                await asyncio.sleep(0.001)

    def is_quiet(self):
        return self.keeper._queue.is_idle

    @property
    def methods(self):
        return [method for method, _, _ in self.sent]

    def parents(self, name="a"):
        return self.server.get("httproutes", name, "shop").get("status", {}).get("parents")


@pytest.fixture
async def kept(api_server, build_client):
    api_server.add_crds(CRDS)
    api_server.apply(build_route())
    kept = Kept(api_server, build_client(api_server))
    running = asyncio.create_task(kept.keeper.run())
    yield kept
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_status_is_applied_to_its_subresource_once(kept):
    kept.entries[A.key] = (entry(),)
    await kept.settle()
    path = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/a"
    assert kept.sent == [("GET", path, JSON), ("PATCH", f"{path}/status", APPLY_PATCH)]
    assert kept.parents() == [entry(lastTransitionTime="2027-01-15T08:00:00Z")]
    kept.keeper.mark([A])  # before the watch reports the write
    await kept.rest()
    await kept.settle()  # after it
    assert kept.methods == ["GET", "PATCH"]
    assert kept.keeper.writes == {("written",): 1}
    assert kept.keeper.failing == 0
    managers = kept.server.get("httproutes", "a", "shop")["metadata"]["managedFields"]
    assert [each["manager"] for each in managers if each["operation"] == "Apply"] == ["maesh-controller"]


async def test_a_status_that_is_right_already_is_read_once_and_not_written(kept):
    kept.server.patch(
        "httproutes", "a", {"status": {"parents": [entry(lastTransitionTime="2026-01-01T00:00:00Z")]}}, "shop"
    )
    kept.entries[A.key] = (entry(),)
    await kept.settle()
    await kept.settle()
    assert kept.methods == ["GET"]


async def test_a_time_changes_only_with_the_status(kept):
    kept.entries[A.key] = (entry(),)
    await kept.settle()
    kept.now = 60
    kept.entries[A.key] = (entry(message="more"),)
    await kept.settle()
    assert kept.parents() == [entry(message="more", lastTransitionTime="2027-01-15T08:00:00Z")]
    kept.entries[A.key] = (entry("False"),)
    await kept.settle()
    assert kept.parents() == [entry("False", lastTransitionTime="2027-01-15T08:01:00Z")]


async def test_entries_of_other_controllers_stay_and_those_of_the_mesh_go_when_none_is_wanted(kept):
    other = entry(controller="example.org/other", lastTransitionTime="2026-01-01T00:00:00Z")
    kept.server.patch("httproutes", "a", {"status": {"parents": [other]}}, "shop")
    kept.entries[A.key] = (entry(),)
    await kept.settle()
    assert kept.parents() == [other, entry(lastTransitionTime="2027-01-15T08:00:00Z")]
    kept.entries.clear()
    await kept.settle()
    assert kept.parents() == [other]


async def test_the_last_entry_goes_and_leaves_a_valid_status(kept):
    kept.entries[A.key] = (entry(),)
    await kept.settle()
    kept.entries.clear()
    await kept.settle()
    assert kept.parents() == []


async def test_an_object_without_entries_is_left_alone(kept):
    await kept.settle()
    assert kept.methods == ["GET"]
    assert kept.parents() is None


@pytest.mark.parametrize("parents", [[], [entry("False", lastTransitionTime="2026-01-01T00:00:00Z")]])
async def test_a_status_that_was_changed_is_repaired(kept, parents):
    kept.entries[A.key] = (entry(),)
    await kept.settle()
    kept.server.patch("httproutes", "a", {"status": {"parents": parents}}, "shop")
    await kept.settle()
    assert kept.parents() == [entry(lastTransitionTime="2027-01-15T08:00:00Z")]


async def test_nothing_is_written_from_an_outdated_object(kept):
    kept.entries[A.key] = (entry(),)
    kept.tell()
    kept.pauses = asyncio.Queue()
    kept.server.apply(build_route(hostnames=["a.example"]))
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert kept.methods == ["GET"]
    kept.tell()
    kept.pauses.put_nowait(None)
    await kept.rest()
    assert kept.methods == ["GET", "GET", "PATCH"]
    assert kept.keeper.failing == 0


async def test_a_write_that_comes_too_late_is_refused_and_repeated_from_the_new_object(kept):
    kept.entries[A.key] = (entry(),)
    other = entry(controller="example.org/other", lastTransitionTime="2026-01-01T00:00:00Z")

    def interfere():
        kept.before_write = lambda: None
        kept.server.patch("httproutes", "a", {"status": {"parents": [other]}}, "shop")
        kept.tell()

    kept.before_write = interfere
    await kept.settle()
    assert kept.methods == ["GET", "PATCH", "GET", "PATCH"]
    assert kept.parents() == [other, entry(lastTransitionTime="2027-01-15T08:00:00Z")]
    assert kept.keeper.writes == {("failed",): 1, ("written",): 1}


async def test_an_object_that_is_gone_is_no_error(kept):
    kept.entries[A.key] = (entry(),)
    kept.tell()
    kept.server.delete("httproutes", "a", "shop")
    kept.keeper.mark([A])
    await kept.rest()
    await kept.settle()
    assert kept.methods == ["GET"]
    assert kept.keeper.failing == 0


async def test_of_several_versions_the_one_that_is_served_is_used_and_remembered(kept):
    versions = ("gateway.networking.k8s.io/v2", "gateway.networking.k8s.io/v1beta1")
    kept.kind = msgspec.structs.replace(kept.kind, api_versions=versions)
    kept.entries[A.key] = (entry(),)
    await kept.settle()
    kept.entries.clear()
    await kept.settle()
    assert [path.split("/")[3] for _, path, _ in kept.sent] == ["v2", "v1beta1", "v1beta1", "v1beta1", "v1beta1"]
    assert kept.parents() == []


async def test_a_failed_write_is_repeated_and_logged_once_for_all_objects(kept, caplog):
    others = [Subject("HTTPRoute", ObjectKey("shop", name)) for name in "bc"]
    kept.server.apply([build_route("b"), build_route("c")])
    kept.entries = {each.key: (entry(),) for each in (A, *others)}
    kept.pauses = asyncio.Queue()
    kept.server.add_fault(FaultKind.STATUS, verb="patch", resource="httproutes/status", status=403, count=None)
    kept.tell()
    kept.keeper.mark([A, *others])
    await kept.rest(lambda: kept.keeper.failing == 3)
    kept.server.clear_faults()
    for _ in range(3):
        kept.pauses.put_nowait(None)
    await kept.rest()
    assert kept.parents("c") is not None
    levels = [(record.levelno, record.message.partition(":")[0]) for record in caplog.records]
    assert [level for level, _ in levels] == [logging.WARNING] * 2
    assert "cannot be written" in levels[0][1]
    assert "again" in levels[1][1]


async def test_nothing_is_sent_without_leadership_and_the_next_term_checks_everything(kept):
    kept.entries[A.key] = (entry(),)
    kept.remaining_s = 0.0
    await kept.settle()
    assert kept.sent == []
    kept.remaining_s = 10.0
    await kept.settle()
    kept.keeper.forget()
    await kept.settle()
    assert kept.methods == ["GET", "PATCH", "GET"]


async def test_a_lease_that_is_about_to_end_is_waited_for(kept):
    kept.entries[A.key] = (entry(),)
    kept.remaining_s = 0.5

    def renew(seconds):
        kept.remaining_s = 10.0

    kept.paused = type("Paused", (list,), {"append": lambda self, seconds: renew(seconds)})()
    await kept.settle()
    assert kept.methods == ["GET", "PATCH"]


class Instant(Kept):
    """Answers at once and by itself, so that many objects take no time."""

    async def send(self, method, path, body=None, *, query=None, content_type=JSON, timeout_s):
        self.sent.append((method, self.now, content_type))
        return msgspec.json.encode({"metadata": {"uid": "u", "resourceVersion": "1"}})

    def tell(self):
        self.told = {key: {"uid": "u", "resourceVersion": "1"} for key in self.entries}


async def test_writes_are_rate_limited_and_reads_are_not():
    stage = Instant(None, None)
    count = BURST + 100
    subjects = [Subject("HTTPRoute", ObjectKey("shop", f"r{number}")) for number in range(count)]
    stage.entries = {each.key: (entry(),) for each in subjects}
    running = asyncio.create_task(stage.keeper.run())
    await stage.settle(*subjects)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    times = [now for method, now, _ in stage.sent if method == "PATCH"]
    assert len(times) == count
    assert all(now == 0 for now in times[:BURST])
    for number, now in enumerate(times[BURST:], 1):
        assert now * PER_SECOND >= number - 4.001  # one for each writer


async def test_an_answer_that_is_no_object_is_an_error():
    stage = Instant(None, None)

    async def send(*args, **options):
        return b"[]"

    stage.send = send
    stage.entries[A.key] = (entry(),)
    stage.tell()
    with pytest.raises(KubernetesError, match="not an object with a status"):
        await stage.keeper.reconcile(A)
