"""The keeper alone, with an engine and a lease that a test controls, against an API server."""

import asyncio

import msgspec
import pytest

from maesh_core.controller.cluster.shadow_keeper import CONFLICT_LIMIT, ShadowKeeper
from maesh_core.controller.cluster.shadow_services import DesiredShadowService, ShadowPort, build_object
from maesh_core.errors import KubernetesError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Service
from maesh_testing.api_server import FaultKind

from .shadow_objects import NAME, NOTE, get, targets

A = ObjectKey("shop", "a")


class FakeEngine:
    """What an engine would say; `tell` is the watch."""

    def __init__(self, server):
        self.server = server
        self.desired = {}
        self.services = {}
        self.errors = {}

    def find_desired_shadow(self, key):
        return self.desired.get(key)

    def find_service(self, key):
        return self.services.get(key)

    def set_outside_errors(self, key, errors):
        self.errors[key] = errors

    def set_desired(self, *ports, key=A):
        self.desired[key] = DesiredShadowService(
            service=key, ports=tuple(ShadowPort(number, "x", "TCP", to) for number, to in ports)
        )

    def tell(self):
        found = self.server.list("services", "maesh")
        self.services = {each.key: each for each in (msgspec.convert(each, Service) for each in found)}


class Leadership:
    remaining_s = 10.0


class Client:
    """Keeps what is sent, and sends it on."""

    def __init__(self, client):
        self.client = client
        self.sent = []
        self.before = []

    async def send(self, method, path, body=None, *, timeout_s):
        self.sent.append((method, timeout_s))
        if self.before:
            self.before.pop(0)()
        return await self.client.send(method, path, body, timeout_s=timeout_s)


class Kept:
    def __init__(self, server, client):
        self.engine, self.leadership, self.client = FakeEngine(server), Leadership(), Client(client)
        self.pauses = asyncio.Queue()
        self.paused = []
        self.keeper = ShadowKeeper(self.client, self.engine, self.leadership, mesh_namespace="maesh", pause=self.pause)

    async def pause(self, seconds):
        self.paused.append(seconds)
        await self.pauses.get()

    async def rest(self, condition=None):
        """Wait until nothing is under way, or a condition holds."""
        async with asyncio.timeout(60):
            while True:
                if (condition or self.is_quiet)():
                    return
                await asyncio.sleep(0.001)

    def is_quiet(self):
        return not self.keeper._queue.has_work


@pytest.fixture
async def kept(api_server, build_client):
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
    kept = Kept(api_server, build_client(api_server))
    running = asyncio.create_task(kept.keeper.run())
    yield kept
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_an_existing_shadow_service_is_not_written_before_it_is_reported(kept, api_server):
    kept.engine.set_desired((80, 10001))
    api_server.apply(
        build_object(DesiredShadowService(service=A, ports=(ShadowPort(80, "x", "TCP", 10000),)), "maesh", None)
    )
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert targets(get(api_server)) == {80: 10000}
    assert kept.engine.errors == {}
    kept.engine.tell()
    kept.keeper.mark([A])
    await kept.rest()
    assert targets(get(api_server)) == {80: 10001}
    assert [method for method, _ in kept.client.sent] == ["POST", "GET", "PUT"]


async def test_an_existing_shadow_service_that_is_never_reported_becomes_an_error(kept, api_server):
    kept.engine.set_desired((80, 10001))
    api_server.apply(
        build_object(DesiredShadowService(service=A, ports=(ShadowPort(80, "x", "TCP", 10000),)), "maesh", None)
    )
    kept.keeper.mark([A])
    for tries in range(1, CONFLICT_LIMIT + 2):
        await kept.rest(lambda tries=tries: len(kept.paused) == tries)
        assert bool(kept.engine.errors) == (tries > CONFLICT_LIMIT)
        kept.pauses.put_nowait(None)
    assert "already exists" in kept.engine.errors[A][0]


async def test_a_foreign_service_with_the_name_of_a_shadow_service_is_checked_repeatedly(kept, api_server, service):
    api_server.apply({**service(NAME, 7, namespace="maesh"), "apiVersion": "v1"})
    kept.engine.tell()
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    for tries in range(1, 5):
        await kept.rest(lambda tries=tries: len(kept.paused) == tries)
        assert "has the name of its shadow service" in kept.engine.errors[A][0]
        kept.pauses.put_nowait(None)
    api_server.delete("services", NAME, "maesh")
    kept.engine.tell()
    kept.pauses.put_nowait(None)
    await kept.rest(lambda: kept.engine.errors[A] == ())
    assert targets(get(api_server)) == {80: 10000}
    assert kept.keeper.is_idle


@pytest.mark.parametrize("moment", [0, 1])
async def test_a_change_since_the_last_report_is_not_overwritten(kept, api_server, moment):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    kept.engine.set_desired((80, 10001))

    def change():
        api_server.patch(
            "services", NAME, {"spec": {"ports": [{"name": "x", "port": 80, "targetPort": 10002}]}}, "maesh"
        )

    kept.client.before = [lambda: None] * moment + [change]
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert targets(get(api_server)) == {80: 10002}


async def test_the_write_uses_the_desired_state_of_its_own_time(kept, api_server):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    kept.engine.set_desired((80, 10001))
    kept.client.before = [lambda: kept.engine.set_desired((80, 10002))]
    kept.keeper.mark([A])
    await kept.rest()
    assert targets(get(api_server)) == {80: 10002}


async def test_a_shadow_service_that_was_already_deleted_is_no_error(kept, api_server):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    api_server.delete("services", NAME, "maesh")
    kept.engine.desired.clear()
    kept.keeper.mark([A])
    await kept.rest()
    assert kept.keeper.is_idle
    assert kept.engine.errors == {A: ()}


async def test_a_shadow_service_that_changed_since_its_report_is_not_deleted(kept, api_server):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    api_server.patch("services", NAME, {"metadata": {"annotations": {NOTE: "x"}}}, "maesh")
    kept.engine.desired.clear()
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert get(api_server)["metadata"]["annotations"][NOTE] == "x"
    kept.engine.tell()
    kept.pauses.put_nowait(None)
    await kept.rest(lambda: get(api_server) is None)


@pytest.mark.parametrize(("remaining_s", "timeout_s"), [(10.0, 5.0), (3.5, 2.5)])
async def test_no_write_outlasts_the_lease(kept, remaining_s, timeout_s):
    kept.leadership.remaining_s = remaining_s
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    assert kept.client.sent == [("POST", timeout_s)]


async def test_a_write_that_the_lease_leaves_no_time_for_waits_for_its_renewal(kept, api_server):
    kept.leadership.remaining_s = 0.5
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert kept.client.sent == []
    kept.leadership.remaining_s = 10.0
    for _ in kept.paused:
        kept.pauses.put_nowait(None)
    await kept.rest()
    assert get(api_server)


async def test_a_lease_that_expires_between_two_requests_prevents_the_second(kept, api_server):
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    kept.engine.tell()
    kept.engine.set_desired((80, 10001))
    kept.client.before = [lambda: setattr(kept.leadership, "remaining_s", 0.9)]
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert [method for method, _ in kept.client.sent] == ["POST", "GET"]
    kept.leadership.remaining_s = 10.0
    for _ in kept.paused:
        kept.pauses.put_nowait(None)
    await kept.rest()
    assert targets(get(api_server)) == {80: 10001}


async def test_a_keeper_without_the_lease_drops_marked_services(kept, api_server):
    kept.leadership.remaining_s = 0.0
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest()
    assert kept.client.sent == []
    kept.leadership.remaining_s = 10.0
    kept.keeper.mark([ObjectKey("shop", "other")])
    await kept.rest()
    assert get(api_server) is None


async def test_a_failed_write_is_retried_once_however_often_its_service_is_marked(kept, api_server):
    fault = api_server.add_fault(FaultKind.STATUS, verb="create", resource="services", count=None)
    kept.engine.set_desired((80, 10000))
    for _ in range(5):
        kept.keeper.mark([A])
        await kept.rest()
    assert fault.hits == 5
    assert len(kept.paused) == 1
    assert kept.engine.errors[A]
    api_server.clear_faults()
    kept.pauses.put_nowait(None)
    await kept.rest(lambda: get(api_server))
    await kept.rest()
    assert kept.engine.errors == {A: ()}


async def test_a_former_leader_withdraws_its_reported_errors(kept, api_server):
    api_server.add_fault(FaultKind.STATUS, verb="create", resource="services", count=None)
    kept.engine.set_desired((80, 10000))
    kept.keeper.mark([A])
    await kept.rest(lambda: kept.paused)
    assert kept.engine.errors[A]
    kept.leadership.remaining_s = 0.0
    kept.keeper.forget()
    await kept.rest(lambda: kept.keeper.is_idle)
    assert kept.engine.errors == {A: ()}


async def test_a_request_that_fails_after_the_lease_was_lost_is_not_reported(kept, api_server):
    api_server.add_fault(FaultKind.CLOSE_BEFORE, verb="create", resource="services")
    kept.engine.set_desired((80, 10000))
    kept.client.before = [lambda: setattr(kept.leadership, "remaining_s", 0.0)]
    kept.keeper.mark([A])
    await kept.rest()
    assert kept.engine.errors == {}
    assert kept.keeper.is_idle


@pytest.mark.parametrize("verb", ["create", "get"])
async def test_an_answer_that_is_not_a_service_is_an_error(kept, api_server, verb):
    if verb == "get":
        kept.engine.set_desired((80, 10000))
        await kept.keeper.reconcile(A)
        kept.engine.tell()
    kept.engine.set_desired((80, 10001))
    api_server.add_fault(FaultKind.GARBAGE, verb=verb, resource="services")
    with pytest.raises(KubernetesError, match="is not a Service"):
        await kept.keeper.reconcile(A)


async def test_a_write_that_fails_is_logged_once_and_once_more_when_it_succeeds(kept, api_server, caplog):
    kept.engine.set_desired((80, 5000))
    api_server.add_fault(FaultKind.STATUS, verb="create", resource="services", count=None)
    await kept.keeper._process(A)
    await kept.keeper._process(A)
    (failure,) = caplog.messages
    assert failure.startswith("service a@shop: its shadow service cannot be written")
    assert kept.keeper.failing == 1
    api_server.clear_faults()
    await kept.keeper._process(A)
    kept.engine.tell()
    await kept.keeper._process(A)
    assert [text.partition(": its")[0] for text in caplog.messages[1:]] == ["service a@shop: no longer"]
    assert dict(kept.keeper.writes) == {("create", "failed"): 2, ("create", "written"): 1}
    kept.keeper.forget()
