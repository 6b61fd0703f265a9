"""Leases that are deleted, invalid, or written by somebody other than a controller."""

import pytest

from maesh_core.controller.cluster.leader_election import LEASE_S, LONGEST_LEASE_S, RETRY_S

from .lease_world import HOSTILE, TAKEN_S, start_second, world_of


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("record", HOSTILE)
async def test_a_foreign_lease_record_never_causes_two_leaders_and_ends_with_one(record, is_cut):
    async with world_of("a") as world:
        await start_second(world)
        world.write(HOSTILE[record])
        if is_cut:
            world.candidates["a"].cut()
        await world.pass_time(LONGEST_LEASE_S + TAKEN_S)
        assert len(world.list_leaders()) == 1


@pytest.mark.parametrize("record", [name for name in HOSTILE if name not in ("negative duration", "own, short")])
async def test_a_leader_that_finds_another_record_no_longer_leads(record):
    async with world_of("a") as world:
        await world.pass_time(1)
        world.write(HOSTILE[record])
        await world.pass_until(lambda: not world.list_leaders(), RETRY_S)


@pytest.mark.parametrize("record", HOSTILE)
async def test_a_foreign_lease_record_from_before_the_start_is_taken_over_in_the_end(record):
    async with world_of() as world:
        world.write(HOSTILE[record])
        world.start("b")
        world.start("c")
        await world.pass_until(world.list_leaders, LONGEST_LEASE_S + TAKEN_S)
        await world.pass_time(60)
        assert len(world.leaders) == 1


async def test_the_leader_recreates_a_deleted_lease():
    async with world_of("a") as world:
        await start_second(world)
        world.lease = None
        await world.pass_time(60)
        assert world.leaders == ["a"]
        assert world.lease["spec"]["holderIdentity"] == "a"


async def test_another_candidate_acquires_a_deleted_lease_after_it_would_have_expired():
    async with world_of("a") as world:
        await start_second(world)
        world.candidates["a"].cut()
        world.lease = None
        assert await world.pass_until(lambda: world.list_leaders() == ["b"], TAKEN_S) > LEASE_S - RETRY_S


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b"{}", b"[" * 100_000, b"\xff", b'{"spec":7}', b'{"metadata":{},"spec":{}}']
)
async def test_an_answer_that_is_not_a_lease_causes_no_write_and_no_leader(body):
    async with world_of("a") as world:
        await start_second(world)
        world.garble = body
        world.requests.clear()
        await world.pass_time(60)
        assert world.list_leaders() == []
        assert {method for method, _ in world.requests} == {"GET"}
        world.garble = None
        await world.pass_until(world.list_leaders, TAKEN_S)
