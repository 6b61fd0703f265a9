"""Candidates for the lease in a simulated world: time jumps from event to event, and a test controls the network."""

import asyncio
import heapq
import json
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any

import msgspec

from maesh_core.controller.cluster.leader_election import LEASE_NAME, RETRY_S, LeaderElection
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
    """Create a world and start its candidates. At its end, all candidates have ended."""
    world = World()
    for name in names:
        world.start(name, **options)
    try:
        await world.pass_time(0)
        yield world
    finally:
        world.check = lambda: None  # its findings have been raised
        for candidate in world.candidates.values():
            candidate._task.cancel()
        await world.pass_time(20)
        await asyncio.gather(*(each._task for each in world.candidates.values()), return_exceptions=True)


async def start_second(world, name="b", **options):
    """Start another candidate behind a leader, and let it look."""
    other = world.start(name, **options)
    await world.pass_time(RETRY_S * 2)
    return other


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
