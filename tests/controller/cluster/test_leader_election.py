"""Candidates in a world of their own: time jumps from event to event, and the network does what a test says."""

import asyncio
import heapq
import json
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maesh_core.controller.cluster.leader_election import LEASE_NAME, LEASE_S, LONGEST_LEASE_S, RETRY_S, LeaderElection
from maesh_core.controller.kubernetes.client import KubernetesClient
from maesh_core.controller.kubernetes.credentials import Access, Credentials
from maesh_core.errors import KubernetesError

COLLECTION = "/apis/coordination.k8s.io/v1/namespaces/maesh/leases"
PATH = f"{COLLECTION}/{LEASE_NAME}"
WALL_S = 1_800_000_000.0
TAKEN_S = 15.0
"""Within so long another takes over, with the looks that it takes."""
STEPS = 12
"""Rounds of the loop within which all that can go on without time has gone on."""


class World:
    """Time, the API server, and the candidates: at no instant may two of them lead."""

    def __init__(self):
        self.now = 0.0
        self._events = []
        self._numbers = count()
        self.lease = None
        self._versions = count(1)
        self.requests = []
        self.garble = None
        self.candidates = {}
        self.leaders = []

    # Time

    def call_later(self, delay_s, callback):
        heapq.heappush(self._events, (self.now + delay_s, next(self._numbers), callback))

    async def sleep(self, seconds):
        future = asyncio.get_running_loop().create_future()
        self.call_later(seconds, lambda: future.done() or future.set_result(None))
        await future

    async def settle(self):
        for _ in range(STEPS):
            self.check()
            await asyncio.sleep(0)
        self.check()

    def check(self):
        leaders = self.list_leaders()
        assert len(leaders) < 2, f"{leaders} lead at {self.now}"
        if leaders and (not self.leaders or self.leaders[-1] != leaders[0]):
            self.leaders.append(leaders[0])

    def list_leaders(self):
        return [name for name, candidate in self.candidates.items() if candidate.election.is_leader]

    async def pass_time(self, seconds):
        end = self.now + seconds
        await self.settle()
        while self._events and self._events[0][0] <= end:
            self.now, _, callback = heapq.heappop(self._events)
            callback()
            await self.settle()
        self.now = end
        await self.settle()

    async def pass_until(self, is_reached, limit_s):
        """Let time pass until something is so, and say how long it took."""
        began = self.now
        await self.settle()
        while not is_reached():
            assert self._events, "nothing goes on"
            assert self._events[0][0] - began <= limit_s, f"not so after {limit_s} s"
            self.now, _, callback = heapq.heappop(self._events)
            callback()
            await self.settle()
        return self.now - began

    # The API server

    def serve(self, method, path, body):
        self.requests.append((method, path))
        if method == "GET":
            assert path == PATH
            if self.lease is None:
                raise KubernetesError("not found", status=404, reason="NotFound")
            return msgspec.json.encode(self.lease) if self.garble is None else self.garble
        found = json.loads(msgspec.json.encode(body))
        assert (found["apiVersion"], found["kind"]) == ("coordination.k8s.io/v1", "Lease")
        assert (found["metadata"]["name"], found["metadata"]["namespace"]) == (LEASE_NAME, "maesh")
        version = found["metadata"].get("resourceVersion", "")
        if method == "POST":
            assert (path, version) == (COLLECTION, "")
            if self.lease is not None:
                raise KubernetesError("already exists", status=409, reason="AlreadyExists")
        else:
            assert (method, path) == ("PUT", PATH)
            assert version, "a lease is written over blindly"
            if self.lease is None:
                raise KubernetesError("not found", status=404, reason="NotFound")
            if version != self.lease["metadata"]["resourceVersion"]:
                raise KubernetesError("the object has been modified", status=409, reason="Conflict")
        assert found["spec"]["leaseDurationSeconds"] > 0
        assert 0 <= found["spec"]["leaseTransitions"] < 2**31
        self.write(found["spec"])
        return msgspec.json.encode(self.lease)

    def write(self, spec):
        """Write the lease, as who may do everything can."""
        self.lease = {"metadata": {"name": LEASE_NAME, "resourceVersion": str(next(self._versions))}}
        if spec is not None:
            self.lease["spec"] = spec

    # The candidates

    def start(self, name, **options):
        self.candidates[name] = candidate = Candidate(self, name, **options)
        candidate.start()
        return candidate


class Candidate:
    """A controller's election, with its own clocks, and its line to the API server.

    `line` says of each request how long it takes there and back, and whether `request` or `answer` is lost.
    """

    def __init__(self, world, name, *, offset_s=0.0, wall_s=WALL_S, chance=lambda: 0.5):
        self.world = world
        self.line = lambda method: (0.0, 0.0, "")
        self.is_fit = True
        self.changes = []
        self.election = LeaderElection(
            self,
            namespace="maesh",
            identity=name,
            is_fit=lambda: self.is_fit,
            clock=lambda: world.now + offset_s,
            wall_clock=lambda: world.now + wall_s,
            pause=world.sleep,
            chance=chance,
        )

    def start(self):
        self._task = asyncio.create_task(self.election.run(lambda leads: self.changes.append((self.world.now, leads))))

    async def stop(self):
        self._task.cancel()
        await self.world.pass_until(self._task.done, 10.0)
        with suppress(asyncio.CancelledError):
            await self._task

    def cut(self):
        """Let no request through any more; each waits for its time-out."""
        self.line = lambda method: (0.0, 100.0, "request")

    def mend(self):
        self.line = lambda method: (0.0, 0.0, "")

    async def send(self, method, path, body=None, *, timeout_s):
        there_s, back_s, lost = self.line(method)
        outcome = []

        def execute():
            try:
                outcome.append(self.world.serve(method, path, body))
            except KubernetesError as error:
                outcome.append(error)

        if lost != "request":
            self.world.call_later(there_s, execute)  # also when nobody waits for it any more
        await self.world.sleep(min(there_s + back_s, timeout_s))
        if lost or not outcome or there_s + back_s > timeout_s:
            raise KubernetesError(f"{method} {path}: no answer in time")
        if isinstance(outcome[0], KubernetesError):
            raise outcome[0]
        return outcome[0]


@asynccontextmanager
async def world_of(*names, **options):
    """Make a world and start candidates; whoever leads is in it alone. Nobody is left at its end."""
    world = World()
    for name in names:
        world.start(name, **options)
    try:
        await world.pass_time(0)
        yield world
    finally:
        world.check = lambda: None  # what it has found is told already
        for candidate in world.candidates.values():
            candidate._task.cancel()
        await world.pass_time(20)
        await asyncio.gather(*(each._task for each in world.candidates.values()), return_exceptions=True)


async def start_second(world, name="b", **options):
    """Start another candidate behind a leader, and let it look."""
    other = world.start(name, **options)
    await world.pass_time(RETRY_S * 2)
    return other


# --- taking and keeping --------------------------------------------------------------------------------------------


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
async def test_of_two_that_come_together_one_leads(name):
    async with world_of(*sorted("ab", key=lambda each: each != name)) as world:
        await world.pass_time(30)
        assert world.leaders == [name]


@pytest.mark.parametrize("offset_s", [-7200.0, 0.0, 7200.0])
@pytest.mark.parametrize("wall_s", [0.0, WALL_S - 7200, WALL_S + 7200])
async def test_another_takes_over_from_one_that_renews_no_more_whatever_the_clocks_say(offset_s, wall_s):
    async with world_of("a") as world:
        await start_second(world, offset_s=offset_s, wall_s=wall_s)
        world.candidates["a"].cut()
        took_s = await world.pass_until(lambda: world.list_leaders() == ["b"], TAKEN_S)
        assert took_s > LEASE_S
        assert world.lease["spec"]["leaseTransitions"] == 1
        assert world.candidates["b"].election.holder == "b"


@pytest.mark.parametrize("chance", [0.0, 0.25, 0.5, 0.75, 0.999])
async def test_another_takes_over_in_time_and_not_before_however_often_it_looks(chance):
    async with world_of("a") as world:
        await world.pass_time(0.01)
        world.start("b", chance=lambda: chance)
        await world.pass_time(0.01)
        world.candidates["a"].cut()
        await world.pass_until(lambda: world.list_leaders() == ["b"], TAKEN_S)
        assert world.now > LEASE_S


async def test_a_record_counts_from_when_it_was_sure_to_be_so_and_not_from_when_it_was_asked_for():
    async with world_of("a") as world:
        await world.pass_time(1.6)
        other = world.start("b")
        other.line = lambda method: (2.5, 0.0, "")
        await world.pass_time(2.45)  # the lease is renewed at 4.0, and read at 4.1
        world.candidates["a"].cut()
        other.mend()
        await world.pass_until(lambda: world.list_leaders() == ["b"], 2 * TAKEN_S)
        assert world.now > 4.1 + LEASE_S


async def test_a_lead_ends_ten_seconds_after_the_last_success_was_asked_for_and_says_so():
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


async def test_the_end_of_a_lead_is_reported_when_it_comes_between_two_requests():
    async with world_of("a") as world:
        leader = world.candidates["a"]
        leader.line = lambda method: (0.0, 0.0, "request")
        await world.pass_time(LEASE_S + RETRY_S)
        assert leader.changes == [(0.0, True), (pytest.approx(LEASE_S), False)]


async def test_a_lead_that_lapsed_and_was_taken_again_within_one_look_is_two():
    async with world_of() as world:
        leader = world.start("a", chance=lambda: 0.0)
        await world.pass_time(0)
        leader.line = lambda method: (0.0, 0.0, "request")
        await world.pass_time(LEASE_S - 1.5)
        leader.line = lambda method: (0.6, 0.6, "")
        await world.pass_time(5)
        assert [leads for _, leads in leader.changes] == [True, False, True]


async def test_one_that_lost_the_lease_stands_again():
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


# --- conflicts and lost answers ------------------------------------------------------------------------------------


async def test_who_writes_second_loses():
    async with world_of() as world:
        for name, there_s in (("a", 0.1), ("b", 0.2)):
            world.start(name).line = lambda method, there_s=there_s: (there_s, 0.0, "")
        await world.pass_time(30)
        assert world.leaders == ["a"]
        assert world.candidates["b"].changes == []


async def test_who_takes_over_second_loses():
    async with world_of("a") as world:
        await start_second(world, "b")
        await start_second(world, "c")
        world.candidates["a"].cut()
        for name, there_s in (("b", 1.0), ("c", 0.9)):
            world.candidates[name].line = lambda method, there_s=there_s: (there_s, 0.0, "")
        await world.pass_time(40)
        assert len(world.leaders) == 2


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_lease_that_was_taken_while_the_answer_was_lost_is_kept_by_who_took_it(method):
    async with world_of() as world:
        if method == "PUT":
            world.write({"holderIdentity": "", "leaseDurationSeconds": 1})
        candidate = world.start("a")
        candidate.line = lambda asked: (0.0, 0.0, "answer" if asked == method else "")
        await world.pass_time(0)
        assert world.lease["spec"]["holderIdentity"] == "a"
        assert world.list_leaders() == []
        candidate.mend()
        await world.pass_until(lambda: world.list_leaders() == ["a"], RETRY_S * 1.2)
        assert world.lease["spec"]["leaseTransitions"] == (1 if method == "PUT" else 0)


async def test_a_leader_whose_answers_are_lost_leads_no_longer_than_its_last_success():
    async with world_of("a") as world:
        leader = world.candidates["a"]
        await start_second(world)
        leader.line = lambda method: (0.0, 0.0, "answer" if method == "PUT" else "")
        until = world.now + leader.election.remaining_s
        await world.pass_time(60)
        assert leader.changes[-1][0] == pytest.approx(until)
        assert world.leaders == ["a"]  # the record is renewed all the time: nobody can know better
        leader.mend()
        await world.pass_until(lambda: world.list_leaders() == ["a"], RETRY_S * 1.2)


async def test_a_write_that_arrives_late_harms_nobody():
    async with world_of("a") as world:
        await start_second(world)
        leader = world.candidates["a"]
        leader.line = lambda method: (0.0, 0.0, "") if method == "GET" else (12.0, 0.0, "")
        await world.pass_time(3)
        leader.cut()
        await world.pass_time(60)
        assert world.leaders == ["a", "b"]


async def test_a_conflict_at_a_renewal_does_not_end_the_lead():
    async with world_of("a") as world:
        leader = world.candidates["a"]

        def touch(method):
            if method == "PUT":
                world.write(world.lease["spec"])
            return (0.0, 0.0, "")

        leader.line = touch
        await world.pass_time(RETRY_S * 2.5)
        assert world.list_leaders() == ["a"]
        leader.mend()
        await world.pass_time(30)
        assert leader.changes == [(0.0, True)]


# --- being unfit, and stopping -------------------------------------------------------------------------------------


async def test_one_that_is_unfit_takes_nothing(caplog):
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


async def test_a_leader_that_is_fit_again_in_time_goes_on():
    async with world_of("a") as world:
        await start_second(world)
        world.candidates["a"].is_fit = False
        await world.pass_time(LEASE_S - 3)
        world.candidates["a"].is_fit = True
        await world.pass_time(30)
        assert world.leaders == ["a"]
        assert world.candidates["a"].changes == [(0.0, True)]


async def test_a_leader_that_stops_leaves_the_lease_to_the_next_look():
    async with world_of("a") as world:
        await start_second(world)
        await world.candidates["a"].stop()
        assert world.list_leaders() == []
        assert world.lease["spec"]["holderIdentity"] == ""
        await world.pass_until(lambda: world.list_leaders() == ["b"], RETRY_S * 1.2)
        assert world.lease["spec"]["leaseTransitions"] == 1


async def test_one_that_does_not_lead_leaves_the_lease_alone_when_it_stops():
    async with world_of("a") as world:
        other = await start_second(world)
        await other.stop()
        assert world.lease["spec"]["holderIdentity"] == "a"


async def test_a_leader_that_was_replaced_without_knowing_gives_nothing_up():
    async with world_of("a") as world:
        world.write({"holderIdentity": "x", "leaseDurationSeconds": 10})
        await world.candidates["a"].stop()
        assert world.lease["spec"]["holderIdentity"] == "x"


async def test_the_end_does_not_wait_long_for_a_server_that_hangs(caplog):
    async with world_of("a") as world:
        world.candidates["a"].cut()
        began = world.now
        await world.candidates["a"].stop()
        assert world.now - began < 2.0
        assert "could not be released" in caplog.text


async def test_a_failure_that_lasts_is_logged_once(caplog):
    async with world_of("a") as world:
        world.candidates["a"].cut()
        await world.pass_time(60)
        world.candidates["a"].mend()
        await world.pass_time(10)
        world.candidates["a"].cut()
        await world.pass_time(60)
        assert sum("could not be read or renewed" in message for message in caplog.messages) == 2


# --- records that no controller has written ------------------------------------------------------------------------

HOSTILE: dict[str, dict[str, Any] | None] = {
    "negative duration": {"holderIdentity": "a", "leaseDurationSeconds": -5, "leaseTransitions": -3},
    "own, short": {"holderIdentity": "a", "leaseDurationSeconds": 1},
    "no duration": {"holderIdentity": "x", "leaseDurationSeconds": 0},
    "short duration": {"holderIdentity": "x", "leaseDurationSeconds": 1},
    "huge duration": {"holderIdentity": "x", "leaseDurationSeconds": 2**31 - 1, "leaseTransitions": 2**31 - 1},
    "nothing in it": {},
    "no spec": None,
    "nobody": {"holderIdentity": "", "leaseDurationSeconds": 10},
    "strange times": {"holderIdentity": "x", "renewTime": "9999-12-31T23:59:59Z", "acquireTime": "never"},
    "another": {"holderIdentity": "x", "leaseDurationSeconds": 10},
}


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("record", HOSTILE)
async def test_a_record_that_a_stranger_wrote_makes_no_two_leaders_and_one_in_the_end(record, is_cut):
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
async def test_a_record_that_stood_there_before_is_taken_in_the_end(record):
    async with world_of() as world:
        world.write(HOSTILE[record])
        world.start("b")
        world.start("c")
        await world.pass_until(world.list_leaders, LONGEST_LEASE_S + TAKEN_S)
        await world.pass_time(60)
        assert len(world.leaders) == 1


async def test_a_lease_that_was_deleted_is_made_again_by_who_leads():
    async with world_of("a") as world:
        await start_second(world)
        world.lease = None
        await world.pass_time(60)
        assert world.leaders == ["a"]
        assert world.lease["spec"]["holderIdentity"] == "a"


async def test_a_lease_that_was_deleted_is_free_for_others_when_its_time_is_over():
    async with world_of("a") as world:
        await start_second(world)
        world.candidates["a"].cut()
        world.lease = None
        assert await world.pass_until(lambda: world.list_leaders() == ["b"], TAKEN_S) > LEASE_S - RETRY_S


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"null", b"{}", b"[" * 100_000, b"\xff", b'{"spec":7}', b'{"metadata":{},"spec":{}}']
)
async def test_an_answer_that_is_no_lease_is_neither_taken_nor_written_over(body):
    async with world_of("a") as world:
        await start_second(world)
        world.garble = body
        world.requests.clear()
        await world.pass_time(60)
        assert world.list_leaders() == []
        assert {method for method, _ in world.requests} == {"GET"}
        world.garble = None
        await world.pass_until(world.list_leaders, TAKEN_S)


# --- whatever happens ----------------------------------------------------------------------------------------------

NAMES = "abcd"


class Chaos:
    """Lines that delay and lose, candidates that come, go, freeze and fall ill, and records of strangers."""

    def __init__(self, world, chance):
        self.world = world
        self.chance = chance
        self._fresh = count()

    def line(self, method):
        lost = self.chance.choice(("", "", "", "request", "answer"))
        delays = (0.0, 0.0, 0.01, 0.3, 1.0, 2.4, 2.9, 6.0, 11.0)
        return self.chance.choice(delays), self.chance.choice(delays), lost

    def start(self):
        name = f"{self.chance.choice(NAMES)}{next(self._fresh)}"
        offset_s = self.chance.choice((0.0, -3600.0, 86400.0))
        wall_s = self.chance.choice((0.0, WALL_S, WALL_S + 3600))
        candidate = self.world.start(name, offset_s=offset_s, wall_s=wall_s, chance=self.chance.random)
        candidate.line = self.line

    async def step(self):
        candidates = list(self.world.candidates.items())
        action = self.chance.choice(("line", "line", "cut", "mend", "fit", "unfit", "stop", "start", "forge", "pass"))
        if action == "start" and len(candidates) < len(NAMES):
            self.start()
        elif action == "forge":
            self.world.write(
                self.chance.choice(
                    [
                        HOSTILE[name]
                        for name in HOSTILE
                        if HOSTILE[name] is None or HOSTILE[name].get("holderIdentity") != "a"
                    ]
                )
            )
        elif candidates:
            name, candidate = self.chance.choice(candidates)
            if action in ("cut", "mend"):
                getattr(candidate, action)()
            elif action in ("fit", "unfit"):
                candidate.is_fit = action == "fit"
            elif action == "line":
                candidate.line = self.line
            elif action == "stop":
                await candidate.stop()
                assert not candidate.election.is_leader
                del self.world.candidates[name]
        await self.world.pass_time(self.chance.choice((0.0, 0.1, 1.0, 3.0, 9.9, 10.1, 20.0)))

    async def calm_down(self):
        """In the end everything is well again: one leads, and goes on."""
        if not self.world.candidates:
            self.start()
        for candidate in self.world.candidates.values():
            candidate.mend()
            candidate.is_fit = True
        await self.world.pass_time(LONGEST_LEASE_S + 2 * TAKEN_S)
        (leader,) = self.world.list_leaders()
        await self.world.pass_time(60)
        assert self.world.list_leaders() == [leader]
        assert self.world.leaders[-1] == leader


async def live_through(chance, length):
    async with world_of() as world:
        chaos = Chaos(world, chance)
        for _ in range(2):
            chaos.start()
        for _ in range(length):
            await chaos.step()
        await chaos.calm_down()


@settings(max_examples=60)
@given(st.randoms(use_true_random=False), st.integers(1, 25))
@pytest.mark.slow
def test_whatever_happens_there_are_never_two_leaders_and_one_in_the_end(chance, length):
    asyncio.run(live_through(chance, length))


SIXTEENTHS = st.integers(0, 48).map(lambda number: number / 16)


@settings(max_examples=150)
@given(st.lists(SIXTEENTHS, min_size=8, max_size=8), st.sampled_from([0.0, 0.3, 0.999]), st.sampled_from([0.0, 0.7]))
@pytest.mark.slow
def test_a_leader_that_vanishes_never_overlaps_with_the_next(delays, chance, other_chance):
    begins, lasts, *lines = delays

    async def live():
        async with world_of() as world:
            for name, draw, (there, back) in (("a", chance, lines[:2]), ("b", other_chance, lines[2:4])):
                candidate = world.start(name, chance=lambda draw=draw: draw)
                candidate.line = lambda method, there=there, back=back: (there, back, "")
                await world.pass_time(begins)
            await world.pass_time(10 + lasts)
            (world.candidates[world.leaders[-1]] if world.leaders else candidate).cut()
            for each in world.candidates.values():
                if each.line("GET")[2] == "":
                    each.line = lambda method: (lines[4] / 16, lines[5] / 16, "")
            await world.pass_time(3 * TAKEN_S)
            assert world.list_leaders()

    asyncio.run(live())


# --- against an API server -----------------------------------------------------------------------------------------


@pytest.fixture
async def client(api_server):
    access = Access(server=api_server.url, headers={"Authorization": f"Bearer {api_server.token}"})

    async def give():
        return access

    found = KubernetesClient(Credentials(give))
    yield found
    await found.close()


async def test_an_api_server_takes_all_that_is_written(api_server, client):
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
    async with asyncio.timeout(20):
        await has_led.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    spec = api_server.get("leases", LEASE_NAME, "maesh")["spec"]
    assert (spec.get("holderIdentity") or "", spec["leaseDurationSeconds"]) == ("", 1)
    other = LeaderElection(client, namespace="maesh", identity="b")
    await other.attempt()
    assert other.is_leader
