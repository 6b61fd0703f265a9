"""Candidates acquire, keep, lose and release the lease; also against an API server."""

import asyncio
from contextlib import suppress

import pytest

from maesh_core.controller.cluster.leader_election import LEASE_NAME, LEASE_S, RETRY_S, LeaderElection
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials

from .lease_world import TAKEN_S, WALL_S, start_second, world_of


async def test_the_first_candidate_takes_the_lease_at_once_and_keeps_it():
    async with world_of("a") as world:
        assert world.list_leaders() == ["a"]
        spec = world.lease["spec"]
        assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("a", LEASE_S, 0)
        assert spec["acquireTime"] == spec["renewTime"] == "2027-01-15T08:00:00.000000Z"
        await world.pass_time(100)
        assert world.leaders == ["a"]
        assert world.candidates["a"].changes == [(0.0, True)]
        assert world.lease["spec"]["acquireTime"] == spec["acquireTime"]
        assert world.lease["spec"]["renewTime"] > spec["renewTime"]
        assert world.lease["spec"]["leaseTransitions"] == 0
        assert 45 <= sum(method == "PUT" for method, _ in world.requests) <= 55


async def test_a_second_candidate_waits_and_knows_who_leads():
    async with world_of("a") as world:
        other = await start_second(world)
        await world.pass_time(100)
        assert world.leaders == ["a"]
        assert other.election.holder == "a"
        assert other.changes == []
        assert (other.election.is_leader, other.election.remaining_s) == (False, 0.0)
        assert repr(other.election) == "<LeaderElection b leader=False holder=a>"


@pytest.mark.parametrize("name", ["a", "b"])
async def test_one_of_two_simultaneous_candidates_leads(name):
    async with world_of(*sorted("ab", key=lambda each: each != name)) as world:
        await world.pass_time(30)
        assert world.leaders == [name]


@pytest.mark.parametrize("offset_s", [-7200.0, 0.0, 7200.0])
@pytest.mark.parametrize("wall_s", [0.0, WALL_S - 7200, WALL_S + 7200])
async def test_a_candidate_takes_over_an_expired_lease_whatever_the_wall_clocks_show(offset_s, wall_s):
    async with world_of("a") as world:
        await start_second(world, offset_s=offset_s, wall_s=wall_s)
        world.candidates["a"].cut()
        took_s = await world.pass_until(lambda: world.list_leaders() == ["b"], TAKEN_S)
        assert took_s > LEASE_S
        assert world.lease["spec"]["leaseTransitions"] == 1
        assert world.candidates["b"].election.holder == "b"


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.5, 0.75, 0.999])
async def test_a_candidate_takes_over_in_time_and_not_early_whatever_its_poll_interval(chance):
    async with world_of("a") as world:
        await world.pass_time(0.01)
        world.start("b", chance=lambda: chance)
        await world.pass_time(0.01)
        world.candidates["a"].cut()
        await world.pass_until(lambda: world.list_leaders() == ["b"], TAKEN_S)
        assert world.now > LEASE_S


async def test_a_lease_is_timed_from_the_arrival_of_the_answer_not_from_its_request():
    async with world_of("a") as world:
        await world.pass_time(1.6)
        other = world.start("b")
        other.line = lambda method: (2.5, 0.0, "")
        await world.pass_time(2.45)  # the lease is renewed at 4.0, and read at 4.1
        world.candidates["a"].cut()
        other.mend()
        await world.pass_until(lambda: world.list_leaders() == ["b"], 2 * TAKEN_S)
        assert world.now > 4.1 + LEASE_S


async def test_a_lead_ends_ten_seconds_after_the_last_successful_request_was_sent():
    async with world_of() as world:
        leader = world.start("a")
        leader.line = lambda method: (0.5, 0.5, "")
        sent_at = world.now
        assert await world.pass_until(world.list_leaders, LEASE_S) == 2.0
        leader.cut()
        await world.pass_time(sent_at + LEASE_S - world.now - 0.001)
        assert leader.election.is_leader
        await world.pass_time(0.002)
        assert not leader.election.is_leader
        await world.pass_time(6)
        assert [leads for _, leads in leader.changes] == [True, False]


async def test_the_end_of_a_lead_between_two_requests_is_reported():
    async with world_of("a") as world:
        leader = world.candidates["a"]
        leader.line = lambda method: (0.0, 0.0, "request")
        await world.pass_time(LEASE_S + RETRY_S)
        assert leader.changes == [(0.0, True), (pytest.approx(LEASE_S), False)]


async def test_a_lead_that_lapses_and_is_regained_within_one_poll_is_reported_as_two():
    async with world_of() as world:
        leader = world.start("a", chance=lambda: 0.0)
        await world.pass_time(0)
        leader.line = lambda method: (0.0, 0.0, "request")
        await world.pass_time(LEASE_S - 1.5)
        leader.line = lambda method: (0.6, 0.6, "")
        await world.pass_time(5)
        assert [leads for _, leads in leader.changes] == [True, False, True]


async def test_a_former_leader_becomes_a_candidate_again():
    async with world_of("a") as world:
        await start_second(world)
        world.candidates["a"].cut()
        await world.pass_until(lambda: world.list_leaders() == ["b"], TAKEN_S)
        world.candidates["a"].mend()
        await world.pass_time(20)
        assert world.candidates["a"].election.holder == "b"
        world.candidates["b"].cut()
        await world.pass_until(lambda: world.list_leaders() == ["a"], TAKEN_S)
        assert [leads for _, leads in world.candidates["a"].changes] == [True, False, True]


async def test_an_unfit_candidate_does_not_acquire_the_lease(caplog):
    async with world_of() as world:
        world.start("a").is_fit = False
        await world.pass_time(30)
        assert world.lease is None
        assert caplog.messages == []
        world.candidates["a"].is_fit = True
        await world.pass_until(lambda: world.list_leaders() == ["a"], RETRY_S * 1.2)


async def test_a_leader_that_becomes_unfit_lets_its_lease_lapse():
    async with world_of("a") as world:
        await start_second(world)
        world.candidates["a"].is_fit = False
        await world.pass_until(lambda: world.list_leaders() == [], LEASE_S)
        await world.pass_until(lambda: world.list_leaders() == ["b"], TAKEN_S - LEASE_S)
        await world.pass_time(30)
        assert world.leaders == ["a", "b"]


async def test_a_leader_that_is_fit_again_in_time_keeps_the_lease():
    async with world_of("a") as world:
        await start_second(world)
        world.candidates["a"].is_fit = False
        await world.pass_time(LEASE_S - 3)
        world.candidates["a"].is_fit = True
        await world.pass_time(30)
        assert world.leaders == ["a"]
        assert world.candidates["a"].changes == [(0.0, True)]


async def test_a_leader_that_stops_releases_the_lease():
    async with world_of("a") as world:
        await start_second(world)
        await world.candidates["a"].stop()
        assert world.list_leaders() == []
        assert world.lease["spec"]["holderIdentity"] == ""
        await world.pass_until(lambda: world.list_leaders() == ["b"], RETRY_S * 1.2)
        assert world.lease["spec"]["leaseTransitions"] == 1


async def test_a_candidate_that_does_not_lead_does_not_release_the_lease():
    async with world_of("a") as world:
        other = await start_second(world)
        await other.stop()
        assert world.lease["spec"]["holderIdentity"] == "a"


async def test_a_replaced_leader_does_not_release_the_lease_of_its_successor():
    async with world_of("a") as world:
        world.write({"holderIdentity": "x", "leaseDurationSeconds": 10})
        await world.candidates["a"].stop()
        assert world.lease["spec"]["holderIdentity"] == "x"


async def test_stopping_does_not_wait_long_for_a_hanging_server(caplog):
    async with world_of("a") as world:
        world.candidates["a"].cut()
        began = world.now
        await world.candidates["a"].stop()
        assert world.now - began < 2.0
        assert "could not be released" in caplog.text


async def test_a_lasting_lease_failure_is_logged_once(caplog):
    async with world_of("a") as world:
        world.candidates["a"].cut()
        await world.pass_time(60)
        world.candidates["a"].mend()
        await world.pass_time(10)
        world.candidates["a"].cut()
        await world.pass_time(60)
        assert sum("could not be read or renewed" in message for message in caplog.messages) == 2
        assert sum("can be read and renewed again" in message for message in caplog.messages) == 1


@pytest.fixture
async def client(api_server):
    access = Access(server=api_server.url, headers={"Authorization": f"Bearer {api_server.token}"})

    async def give():
        return access

    found = KubernetesClient(Credentials(give))
    yield found
    await found.close()


async def test_an_api_server_accepts_every_write_of_the_lease(api_server, client):
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
    now = [1000.0]
    first, second = (
        LeaderElection(client, namespace="maesh", identity=name, clock=lambda: now[0]) for name in ("a", "b")
    )
    for election in (first, second, first, second):
        await election.attempt()
    assert (first.is_leader, second.is_leader, second.holder) == (True, False, "a")
    now[0] += LEASE_S + 1
    await second.attempt()
    assert (first.is_leader, second.is_leader) == (False, True)
    await first.attempt()
    assert first.holder == "b"
    spec = api_server.get("leases", LEASE_NAME, "maesh")["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)


async def test_a_released_lease_is_written_to_the_api_server(api_server, client):
    api_server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
    has_led = asyncio.Event()
    election = LeaderElection(client, namespace="maesh", identity="a")
    task = asyncio.create_task(election.run(lambda _: has_led.set()))
    async with asyncio.timeout(60):
        await has_led.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    spec = api_server.get("leases", LEASE_NAME, "maesh")["spec"]
    assert (spec.get("holderIdentity") or "", spec["leaseDurationSeconds"]) == ("", 1)
    other = LeaderElection(client, namespace="maesh", identity="b")
    await other.attempt()
    assert other.is_leader
