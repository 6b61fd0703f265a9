"""Memory that workers share: by name, through deaths, and back to zeros."""

import asyncio
import gc
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from maesh_core.proxy.worker import memory as memory_module
from maesh_core.proxy.worker.memory import WorkerMemory
from maesh_core.proxy.workers.memory_keeper import MemoryKeeper
from maesh_core.proxy.workers.memory_messages import DESCRIPTORS_VARIABLE


class World:
    """A parent, and workers of it in a thread."""

    def __init__(self, size):
        self.keeper = MemoryKeeper(size)
        self.workers = []
        self.thread = ThreadPoolExecutor(1)

    def start_worker(self, slot=0):
        sock, arena = self.keeper.attach(slot)
        self.workers.append(WorkerMemory(sock, arena))
        return self.workers[-1]

    async def share(self, worker, name="a", size=64):
        return await asyncio.get_running_loop().run_in_executor(self.thread, worker.share, name, size)

    async def settle(self):
        """Let the parent hear everything that was said."""
        for _ in range(5):
            await asyncio.sleep(0)

    async def forget(self, *regions):
        """Let the parent hear that regions are not needed any more; the caller must not hold them."""
        del regions
        # The thread still has what it shared last until it does something else.
        await asyncio.get_running_loop().run_in_executor(self.thread, gc.collect)
        await self.settle()


@pytest.fixture
async def open_world():
    worlds = []

    def open_(size=1 << 20):
        worlds.append(World(size))
        return worlds[-1]

    yield open_
    for world in worlds:
        for worker in world.workers:
            worker.close()
        world.keeper.close()
        world.thread.shutdown()


@pytest.fixture
def world(open_world):
    return open_world()


def is_shared(region):
    """Whether the bytes are the arena's."""
    return region.view.obj._objects is not None


async def test_workers_see_the_same_bytes_under_one_name_and_size(world):
    first, second = world.start_worker(0), world.start_worker(1)
    ours, theirs = await world.share(first), await world.share(second)
    assert is_shared(ours)
    assert theirs.view == bytes(64)
    ours.view.cast("q")[7] = -5
    assert theirs.view.cast("q")[7] == -5
    for other in (await world.share(second, "b"), await world.share(second, "a", 128)):
        assert other.view == bytes(other.view.nbytes)
    assert (await world.share(first)).view.obj is ours.view.obj


async def test_bytes_that_nobody_has_any_more_are_zeros_for_the_next(world):
    worker = world.start_worker()
    region = await world.share(worker)
    region.view[:] = b"x" * 64
    del region
    await world.forget()
    again = await world.share(worker)
    assert again.view == bytes(64)
    assert "1 regions, 64 of" in repr(world.keeper)


async def test_a_cast_of_the_view_keeps_the_bytes(world):
    worker = world.start_worker()
    cells = (await world.share(worker)).view.cast("q")
    await world.forget()
    cells[0] = 7
    assert (await world.share(worker)).view.cast("q")[0] == 7
    assert (await world.share(worker, "b")).view == bytes(64)


async def test_sizes_that_take_the_same_room_are_regions_of_their_own(world):
    worker = world.start_worker()
    first, second = await world.share(worker, "a", 57), await world.share(worker, "a", 60)
    first.view[0] = 7
    assert (second.view[0], second.view.nbytes) == (0, 60)
    del first
    await world.forget()
    second.view[1] = 5
    assert (await world.share(worker, "b")).view == bytes(64)
    assert (await world.share(worker, "a", 60)).view[1] == 5


async def test_bytes_stay_as_long_as_one_worker_has_them(world):
    first, second = world.start_worker(0), world.start_worker(1)
    kept, left = await world.share(first), await world.share(second)
    kept.view[0] = 7
    del left
    await world.forget()
    assert (await world.share(second)).view[0] == 7


async def test_what_a_dead_worker_had_is_its_successors_until_that_has_settled(world):
    former = world.start_worker()
    regions = [await world.share(former, name) for name in ("limit", "gone")]
    for region in regions:
        region.view[0] = 7
    former.close()  # before the regions go: a process that is killed says no more
    await world.settle()
    successor = world.start_worker()
    kept = await world.share(successor, "limit")
    assert kept.view[0] == 7
    successor.settle()
    await world.settle()
    assert kept.view[0] == 7
    assert (await world.share(successor, "gone")).view[0] == 0
    assert (await world.share(successor, "limit")).view[0] == 7


async def test_a_worker_that_settles_takes_nothing_from_other_slots(world):
    first, second = world.start_worker(0), world.start_worker(1)
    region = await world.share(first)
    region.view[0] = 7
    second.settle()
    await world.settle()
    assert (await world.share(second)).view[0] == 7


async def test_where_there_is_no_room_a_region_is_the_workers_own_and_that_is_told_once(open_world, caplog):
    world = open_world(size=128)
    worker = world.start_worker()
    regions = [await world.share(worker, str(number)) for number in range(4)]
    assert [is_shared(region) for region in regions] == [True, True, False, False]
    regions[3].view[0] = 1
    assert regions[2].view == bytes(64)
    assert caplog.text.count("is full") == 1


async def test_a_parent_that_is_gone_or_does_not_answer_leaves_private_regions(world, caplog, monkeypatch):
    monkeypatch.setattr(memory_module, "ANSWER_LIMIT_S", 0.01)
    silent, orphan = world.start_worker(), world.start_worker()
    assert not is_shared(silent.share("a", 64))  # the parent's loop is this one, which waits here
    await world.settle()
    world.keeper.close()
    assert not is_shared(await world.share(orphan))
    assert caplog.text.count("cannot use shared memory") == 2


async def test_what_is_no_wish_ends_the_conversation_and_nothing_else(world, caplog):
    worker, other = world.start_worker(), world.start_worker(1)
    worker._sock.send(b"\xc1")
    await world.settle()
    assert "invalid memory request from worker 0" in caplog.text
    assert not is_shared(await world.share(worker))
    assert is_shared(await world.share(other))


@pytest.mark.parametrize(("name", "size"), [("a", 0), ("a", -1), ("a", (1 << 24) + 1), ("a" * 17000, 8)])
async def test_what_can_be_no_region_is_refused(world, name, size):
    with pytest.raises(ValueError):
        world.start_worker().share(name, size)


async def test_a_worker_takes_over_the_descriptors_that_its_environment_names(world, monkeypatch):
    sock, arena = world.keeper.attach(0)
    monkeypatch.setenv(DESCRIPTORS_VARIABLE, f"3,{sock.detach()},{os.dup(arena)}")
    world.workers.append(WorkerMemory.inherit())
    assert is_shared(await world.share(world.workers[-1]))
    assert world.workers[-1].slot == 3
    assert DESCRIPTORS_VARIABLE not in os.environ
    assert not is_shared(WorkerMemory.inherit().share("a", 8))
