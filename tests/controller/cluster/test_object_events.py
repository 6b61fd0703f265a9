import asyncio
import json
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest

from maesh_core.controller.cluster import object_events
from maesh_core.controller.cluster.object_events import (
    AGAIN_S,
    BURST,
    MESSAGE_LIMIT_BYTES,
    PER_SECOND,
    EventRecorder,
)
from maesh_core.controller.discovery.documents.validation import is_subdomain
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.controller.kubernetes.paths import JSON, MERGE_PATCH
from maesh_core.controller.reports.object_checks import Subject
from maesh_core.errors import KubernetesError
from maesh_core.model.findings import Findings
from maesh_core.model.keys import ObjectIdentity, ObjectKey
from maesh_testing.commands import wait_until

WALL_S = 1_800_000_000.0
WEB = Subject("Service", ObjectKey("apps", "web"))
SERVICE = ObjectIdentity("v1", "Service", WEB.key, "u1")
SPLIT = ObjectIdentity("split.smi-spec.io/v1alpha4", "TrafficSplit", ObjectKey("apps", "canary"), "u2")


class Stage:
    """A recorder between errors that a test sets and an API server that answers as it says."""

    def __init__(self):
        self.now = 1000.0
        self.pauses = []
        self.is_leader = True
        self.errors = {}
        self.sent = []
        self.answer = lambda method, body: None
        self.on_pause = lambda: None
        self.recorder = EventRecorder(
            self,
            self._find,
            self,
            clock=lambda: self.now,
            wall_clock=lambda: WALL_S + self.now,
            pause=self._pause,
        )

    def _find(self, subject):
        found = self.errors.get(subject, {})
        return {key: each if isinstance(each, Findings) else Findings(each) for key, each in found.items()}

    async def _pause(self, seconds):
        self.pauses.append(seconds)
        self.now += seconds
        self.on_pause()
        await asyncio.sleep(0)

    async def send(self, method, path, body=None, *, content_type=JSON, timeout_s):
        assert 0 < timeout_s < 10
        self.sent.append((method, path, content_type, json.loads(msgspec.json.encode(body))))
        await asyncio.sleep(0)
        error = self.answer(method, body)
        if error is not None:
            raise error
        return b"{}"

    async def mark(self, *services):
        """Mark services, and have all written that is to be written."""
        self.recorder.mark(services or tuple(self.errors))
        await self.settle()

    async def settle(self):
        quiet = 0
        while quiet < 20:
            before = len(self.sent), len(self.pauses)
            await asyncio.sleep(0)
            quiet = quiet + 1 if before == (len(self.sent), len(self.pauses)) else 0

    @property
    def messages(self):
        return [body["message"] for method, _, _, body in self.sent if method == "POST"]


@asynccontextmanager
async def running():
    stage = Stage()
    task = asyncio.create_task(stage.recorder.run())
    try:
        yield stage
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def refuse(status):
    return KubernetesError(f"the server says {status}", status=status)


# --- what is written -----------------------------------------------------------------------------------------------


async def test_an_error_is_an_event_on_its_object():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("port 80: no server",)}}
        await stage.mark()
        ((method, path, _, event),) = stage.sent
        assert (method, path) == ("POST", "/api/v1/namespaces/apps/events")
        name = event["metadata"].pop("name")
        assert name.startswith("web.")
        assert event == {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": "apps"},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Service",
                "namespace": "apps",
                "name": "web",
                "uid": "u1",
            },
            "reason": "MeshError",
            "message": "port 80: no server",
            "type": "Warning",
            "source": {"component": "maesh-controller"},
            "reportingComponent": "maesh-controller",
            "firstTimestamp": "2027-01-15T08:16:40Z",
            "lastTimestamp": "2027-01-15T08:16:40Z",
            "count": 1,
        }


async def test_a_notice_is_a_normal_event_of_its_own_reason():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: Findings(("bad",), ("odd",))}}
        await stage.mark()
        found = [(body["type"], body["reason"], body["message"]) for _, _, _, body in stage.sent]
        assert found == [("Warning", "MeshError", "bad"), ("Normal", "MeshNotice", "odd")]


async def test_each_error_of_each_object_is_one_event_of_its_own_name():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("one", "two"), SPLIT: ("one",)}}
        await stage.mark()
        assert stage.messages == ["one", "two", "one"]
        names = [body["metadata"]["name"] for _, _, _, body in stage.sent]
        assert len(set(names)) == 3
        assert stage.sent[2][3]["involvedObject"]["kind"] == "TrafficSplit"


async def test_a_recreated_object_has_events_of_its_own():
    async with running() as stage:
        for uid in ("u1", "u2", "u2"):
            stage.errors = {WEB: {SERVICE._replace(uid=uid): ("one",)}}
            await stage.mark()
        assert [body["involvedObject"]["uid"] for _, _, _, body in stage.sent] == ["u1", "u2"]
        assert stage.sent[0][3]["metadata"]["name"] != stage.sent[1][3]["metadata"]["name"]


@pytest.mark.parametrize(
    "name",
    [
        *("web", "a" * 63, "a" * 253, "a" * 199 + ".b" + "c" * 50, "a" * 199 + "-b", "a" * 198 + "--" + "b" * 20),
        *("a." * 126 + "a", "a" + "-" * 240 + "a"),
    ],
)
async def test_every_name_makes_the_valid_name_of_an_event(name):
    async with running() as stage:
        stage.errors = {WEB: {SPLIT._replace(key=ObjectKey("apps", name)): ("one",)}}
        await stage.mark()
        assert is_subdomain(stage.sent[0][3]["metadata"]["name"])
        assert stage.sent[0][3]["involvedObject"]["name"] == name


async def test_the_event_of_an_object_without_namespace_is_in_the_default_one():
    async with running() as stage:
        stage.errors = {WEB: {ObjectIdentity("v1", "Namespace", ObjectKey("", "apps"), "u"): ("one",)}}
        await stage.mark()
        ((_, path, _, event),) = stage.sent
        assert path == "/api/v1/namespaces/default/events"
        assert (event["metadata"]["namespace"], event["involvedObject"]["namespace"]) == ("default", "")


@pytest.mark.parametrize("letter", ["x", "é", "漢", "🙂"])
async def test_a_message_is_cut_between_two_letters(letter):
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: (letter * 5000, letter * 5001, letter)}}
        await stage.mark()
        assert len(stage.messages) == 2  # the long ones are told apart by nothing that is shown
        assert MESSAGE_LIMIT_BYTES - 4 <= len(stage.messages[0].encode()) <= MESSAGE_LIMIT_BYTES
        assert set(stage.messages[0]) == {letter, "…"}
        assert stage.messages[1] == letter


async def test_a_message_of_exactly_the_limit_is_whole():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("x" * MESSAGE_LIMIT_BYTES,)}}
        await stage.mark()
        assert stage.messages == ["x" * MESSAGE_LIMIT_BYTES]


async def test_a_text_that_no_encoding_has_is_written_all_the_same():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("no \ud800 text",)}}
        await stage.mark()
        assert stage.messages == ["no ? text"]


# --- how often -----------------------------------------------------------------------------------------------------


async def test_what_was_reported_is_not_reported_again_however_often_it_is_marked():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("one",)}}
        for _ in range(5):
            await stage.mark()
            stage.now += 60
        assert stage.messages == ["one"]


async def test_what_lasts_is_reported_again_and_what_has_gone_is_not(monkeypatch):
    monkeypatch.setattr(object_events, "LOOK_S", 0.0)  # looks all the time, as time does not pass by itself
    async with running() as stage:
        other = Subject("Service", ObjectKey("apps", "api"))
        stage.errors = {WEB: {SERVICE: ("one",)}, other: {SERVICE._replace(key=other.key): ("two",)}}
        await stage.mark()
        del stage.errors[other]
        stage.now += AGAIN_S - 1
        await stage.settle()
        assert stage.messages == ["one", "two"]
        stage.now += 1
        await asyncio.sleep(0.001)
        await stage.settle()
        assert stage.messages == ["one", "two", "one"]
        assert [body["count"] for _, _, _, body in stage.sent] == [1, 1, 2]


async def test_what_lasts_is_reported_again_also_while_new_errors_come():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("old",)}}
        await stage.mark()
        for number in range(20):
            stage.now += AGAIN_S / 15
            other = Subject("Service", ObjectKey("apps", f"s{number}"))
            stage.errors[other] = {SERVICE._replace(key=other.key): ("new",)}
            await stage.mark(other)
            del stage.errors[other]
        assert stage.messages.count("old") == 2
        assert stage.messages.count("new") == 20


async def test_an_error_that_comes_back_is_reported_when_its_time_has_come():
    async with running() as stage:
        for pause_s in (0, 10, AGAIN_S):
            stage.now += pause_s
            stage.errors = {WEB: {SERVICE: ("one",)}}
            await stage.mark()
            stage.errors = {}
            await stage.mark(WEB)
        assert [body["count"] for _, _, _, body in stage.sent] == [1, 2]


async def test_many_events_are_written_at_once_and_more_than_that_one_after_another():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: tuple(f"error {number}" for number in range(BURST + 6))}}
        await stage.mark()
        assert stage.messages == [f"error {number}" for number in range(BURST + 6)]
        assert stage.pauses == [1 / PER_SECOND] * 6
        stage.now += 10
        stage.errors = {WEB: {SERVICE: tuple(f"more {number}" for number in range(30))}}
        await stage.mark()
        assert len(stage.pauses) == 6 + 30 - 10 * PER_SECOND


async def test_what_was_saved_up_is_not_more_than_a_burst():
    async with running() as stage:
        stage.now += 10_000
        stage.errors = {WEB: {SERVICE: tuple(f"error {number}" for number in range(BURST + 1))}}
        await stage.mark()
        assert len(stage.pauses) == 1


# --- what is there already, and what fails -------------------------------------------------------------------------


async def test_an_event_that_is_there_is_counted_up(monkeypatch):
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("one",)}}
        await stage.mark()
        stage.answer = lambda method, body: refuse(409) if method == "POST" else None
        for _ in range(2):
            stage.now += AGAIN_S
            await stage.mark()
        patches = [sent for sent in stage.sent if sent[0] == "PATCH"]
        name = stage.sent[0][3]["metadata"]["name"]
        assert [(path, content_type) for _, path, content_type, _ in patches] == [
            (f"/api/v1/namespaces/apps/events/{name}", MERGE_PATCH)
        ] * 2
        assert [body["count"] for _, _, _, body in patches] == [2, 3]
        assert set(patches[0][3]) == {"count", "lastTimestamp"}
        assert patches[1][3]["lastTimestamp"] == "2027-01-15T09:16:40Z"


async def test_an_event_of_an_earlier_controller_counts_at_least_two():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("one",)}}
        stage.answer = lambda method, body: refuse(409) if method == "POST" else None
        await stage.mark()
        stage.now += AGAIN_S
        await stage.mark()
        assert [body["count"] for method, _, _, body in stage.sent if method == "PATCH"] == [2, 3]


@pytest.mark.parametrize("status", [0, 403, 404, 422, 500])
async def test_an_event_that_cannot_be_written_is_dropped(status):
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("one", "two")}}
        stage.answer = lambda method, body: refuse(status)
        await stage.mark()
        assert stage.messages == ["one", "two"]
        stage.answer = lambda method, body: None
        await stage.mark()
        assert len(stage.sent) == 2
        stage.now += AGAIN_S
        await stage.mark()
        assert len(stage.sent) == 4


async def test_an_event_that_went_before_it_could_be_counted_up_is_dropped():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: ("one",)}}
        stage.answer = lambda method, body: refuse(409 if method == "POST" else 404)
        await stage.mark()
        assert [method for method, _, _, _ in stage.sent] == ["POST", "PATCH"]


# --- who may write -------------------------------------------------------------------------------------------------


async def test_a_controller_that_does_not_lead_writes_nothing_and_all_once_it_leads():
    async with running() as stage:
        stage.is_leader = False
        stage.errors = {WEB: {SERVICE: ("one",)}}
        await stage.mark()
        assert stage.sent == []
        assert repr(stage.recorder) == "<EventRecorder pending=0 written=0>"
        stage.is_leader = True
        await stage.mark()
        assert stage.messages == ["one"]


async def test_a_lead_that_ends_while_events_wait_ends_them():
    async with running() as stage:
        stage.errors = {WEB: {SERVICE: tuple(f"error {number}" for number in range(BURST + 5))}}
        stage.on_pause = lambda: setattr(stage, "is_leader", False)
        await stage.mark()
        assert len(stage.messages) == BURST
        assert len(stage.pauses) == 1
        assert "pending=0" in repr(stage.recorder)


async def test_an_error_that_is_gone_when_its_turn_comes_is_not_reported():
    async with running() as stage:
        errors = tuple(f"error {number}" for number in range(BURST + 5))
        stage.errors = {WEB: {SERVICE: errors}}
        stage.on_pause = lambda: stage.errors.update({WEB: {SERVICE: errors[-1:]}})
        await stage.mark()
        assert stage.messages == [*errors[:BURST], errors[-1]]
        assert "pending=0" in repr(stage.recorder)


# --- bounds --------------------------------------------------------------------------------------------------------


async def test_memory_is_bounded_whatever_is_wrong(monkeypatch):
    monkeypatch.setattr(object_events, "PENDING_LIMIT", 100)
    monkeypatch.setattr(object_events, "REMEMBERED_LIMIT", 150)
    async with running() as stage:
        for turn in range(4):
            stage.errors = {WEB: {SERVICE: tuple(f"{turn} {number} {'x' * 9999}" for number in range(300))}}
            stage.recorder.mark([WEB])
            assert "pending=100 " in repr(stage.recorder)
            await stage.settle()
        assert "pending=0 written=150" in repr(stage.recorder)
        assert len(stage.sent) == 400


async def test_the_longest_unwritten_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(object_events, "REMEMBERED_LIMIT", 2)
    async with running() as stage:
        for text in ("one", "two"):
            stage.errors = {WEB: {SERVICE: (text,)}}
            await stage.mark()
        stage.now += AGAIN_S
        for text in ("one", "three", "one", "two"):
            stage.errors = {WEB: {SERVICE: (text,)}}
            await stage.mark()
        assert stage.messages == ["one", "two", "one", "three", "two"]


# --- against an API server -----------------------------------------------------------------------------------------


async def test_an_api_server_takes_what_is_written(api_server):
    access = Access(server=api_server.url, headers={"Authorization": f"Bearer {api_server.token}"})

    async def give():
        return access

    long_key = ObjectKey("apps", "a" * 199 + "." + "b" * 53)
    errors = {
        SERVICE: Findings(("port 80: no server", "漢" * 2000)),
        SPLIT._replace(key=long_key): Findings(("one",)),
        ObjectIdentity("v1", "Namespace", ObjectKey("", "apps"), "u"): Findings((), ("one",)),
    }
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "apps"}})
    stage = Stage()
    client = KubernetesClient(Credentials(give))
    for life in (1, 2):  # the second finds what the first has written
        recorder = EventRecorder(client, lambda subject: errors, stage, clock=lambda: stage.now, pause=stage._pause)
        task = asyncio.create_task(recorder.run())
        recorder.mark([WEB])

        def is_done(life=life):
            return [event["count"] for event in api_server.list("events")] == [life] * 4

        await asyncio.to_thread(wait_until, is_done, "every event is counted")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await client.close()
    assert sum(call.resource == "events" for call in api_server.calls) == 12
