"""A controller that is killed at any of its requests, before it has an effect or without hearing of it, breaks no law:

a port that was written for a service stays with it for as long as the service wants one, no two services ever have one
port, and in the end every service has its ports, none is lost, and nothing is left of services that are gone.
"""

import asyncio
import itertools
import random

import pytest

from maesh_testing.api_server import ApiServer, FaultKind

pytestmark = pytest.mark.slow

LIMIT = 3
RANGES = {"tcp": ("TCP", range(10000, 10000 + LIMIT)), "udp": ("UDP", range(15000, 15000 + LIMIT))}
HTTP = range(5000, 5100)
TYPE = "mesh.traefik.io/traffic-type"


def read_claims(found):
    """Return the exclusive traffic type of each port number of a user's service, and the numbers that HTTP carries."""
    type_ = found["metadata"].get("annotations", {}).get(TYPE, "http")
    protocol = RANGES[type_][0] if type_ in RANGES else "TCP"
    numbers = [port["port"] for port in found["spec"]["ports"] if port["protocol"] == protocol]
    return dict.fromkeys(numbers, type_)


class Laws:
    """Looks at every change of the API server at the moment when it happens."""

    def __init__(self, server):
        self.broken = []
        self.claims = {}
        self.shadows = {}
        self.published = {}
        server.on_change(self.look)

    def look(self, kind, plural, found):
        if plural != "services":
            return
        metadata = found["metadata"]
        if metadata["namespace"] == "shop":
            self.claims[metadata["name"]] = {} if kind == "DELETED" else read_claims(found)
            for (name, number), (type_, _) in list(self.published.items()):
                if self.claims.get(name, {}).get(number) != type_:
                    del self.published[name, number]
        elif metadata["namespace"] == "maesh":
            name = metadata["annotations"]["maesh.containo.us/shadow-of-service"]
            ports = () if kind == "DELETED" else found["spec"]["ports"]
            self.look_at_shadow(name, {port["port"]: (port["protocol"], port["targetPort"]) for port in ports})

    def look_at_shadow(self, name, ports):
        self.shadows[name] = ports
        for (owner, number), (_, target) in self.published.items():
            if owner == name and ports.get(number, ("", None))[1] != target:
                self.broken.append(f"{name}:{number} had {target}, and now {ports.get(number)}")
        for number, (protocol, target) in ports.items():
            for type_, (transport, range_) in RANGES.items():
                if protocol == transport and target in range_:
                    if self.claims.get(name, {}).get(number) == type_:
                        self.published[name, number] = (type_, target)
                    self.look_for_others(name, number, protocol, target)

    def look_for_others(self, name, number, protocol, target):
        for other, ports in dict(self.shadows).items():
            for its_number, its_port in ports.items():
                if its_port == (protocol, target) and (other, its_number) != (name, number):
                    self.broken.append(f"{name}:{number} and {other}:{its_number} have {target}")

    def is_settled(self):
        """Whether every service has all of its ports as far as there are any, and nothing else is there."""
        wanted = {name: claims for name, claims in self.claims.items() if claims}
        had = {name: ports for name, ports in dict(self.shadows).items() if ports}
        if not had.keys() <= wanted.keys():
            return False
        counts = dict.fromkeys(RANGES, 0)
        missing = dict.fromkeys(RANGES, 0)
        for name, claims in wanted.items():
            ports = had.get(name, {})
            if not ports.keys() <= claims.keys():
                return False
            for number, type_ in claims.items():
                protocol, target = ports.get(number, ("", 0))
                if type_ in RANGES:
                    is_there = protocol == RANGES[type_][0] and target in RANGES[type_][1]
                    counts[type_] += is_there
                    missing[type_] += not is_there
                    if ports.get(number) and not is_there:
                        return False
                elif target not in HTTP:
                    return False
        return all(counts[type_] == LIMIT or not missing[type_] for type_ in RANGES)


def never(method, path):
    return ""


class Life:
    """One API server, and the lives of the controllers that keep its shadow services, one after another."""

    def __init__(self, server, fleet, service):
        self.server, self.fleet, self.service = server, fleet, service
        self.laws = Laws(server)

    def live(self, kill=never):
        self.fleet.begin(kill=kill, limit_tcp_port=LIMIT, udp_limit=LIMIT)

    async def rest(self):
        """Wait until all is settled; a controller that is killed meanwhile has a successor."""
        try:
            await self.fleet.until(self.go_on)
        except TimeoutError:
            raise AssertionError(f"{self.laws.shadows} for {self.laws.claims}, {self.fleet.replicas}") from None

    async def go_on(self):
        await self.bury()
        if not self.fleet.replicas:
            self.live()
            return False
        return self.laws.is_settled()

    async def bury(self):
        for replica in [each for each in self.fleet.replicas if not each.is_alive]:
            self.fleet.replicas.remove(replica)
            await replica.crash()

    async def finish(self):
        """Fill every range to the last port: none was lost; then take all away: nothing is left."""
        await self.rest()
        for each in self.server.list("services", "shop"):
            self.server.delete("services", each["metadata"]["name"], "shop")
        await self.rest()
        for type_, number in itertools.product(RANGES, range(LIMIT)):
            self.server.apply(self.service(f"fill-{type_}-{number}", 7, type_=type_))
        await self.rest()
        assert self.laws.broken == []
        await self.fleet.end()


@pytest.fixture
def begin_life(build_fleet, service):
    servers = []

    def begin():
        server = ApiServer()
        server.start()
        servers.append(server)
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "maesh"}})
        return Life(server, build_fleet(server), service)

    yield begin
    for server in servers:
        server.stop()


def act(life):
    """Return the steps of the scenario, each a change that a user makes."""
    apply, service, delete = life.server.apply, life.service, life.server.delete
    yield lambda: apply([service("a", 80, 81, type_="tcp"), service("w", 80), service("u", 53, 54, type_="udp")])
    yield lambda: apply(service("b", 90, type_="tcp"))  # the last port
    yield lambda: apply(service("a", 80, 82, type_="tcp"))  # one port moves, at the limit
    yield lambda: apply(service("w", 80, type_="tcp"))  # waits
    yield lambda: delete("services", "b", "shop")
    yield lambda: apply(service("u", 53, (80, "TCP"), type_="udp"))
    yield lambda: apply(service("a", 80))  # another type
    yield lambda: (delete("services", "w", "shop"), apply(service("c", 1, 2, 3, type_="tcp")))


class Killer:
    """Kills at the n-th call of those that count, at that moment; tells whether it has."""

    def __init__(self, number, moment, counts):
        self.left, self.moment, self.counts = number, moment, counts
        self.victim = None

    def __call__(self, method, path):
        if self.counts(method, path):
            self.left -= 1
            if self.left == 0:
                self.victim = (method, path)
                return self.moment
        return ""


async def live_through(life, killer):
    """Act the scenario with a controller that is killed where the killer says; give whether it was."""
    steps = act(life)
    next(steps)()
    life.live(killer)
    await life.rest()
    for step in steps:
        step()
        await life.rest()
    await life.finish()
    return killer.victim is not None


async def kill_everywhere(begin_life, *, counts, moment, first, step, at_once=6):
    """Live through the scenario again and again, with one kill each, later every time, until none happens any more."""
    numbers = itertools.count(first, step)
    while True:
        killers = [Killer(next(numbers), moment, counts) for _ in range(at_once)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(live_through(begin_life(), killer)) for killer in killers]
        if not all(task.result() for task in tasks):
            return


def is_write(method, path):
    return method in ("POST", "PUT", "DELETE") and "/services" in path


def is_read(method, path):
    return method in ("GET", "WATCH") and "/leases/" not in path


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_controller_that_is_killed_at_any_of_its_writes_breaks_no_law(begin_life, moment):
    await kill_everywhere(begin_life, counts=is_write, moment=moment, first=1, step=1)


async def test_a_controller_that_is_killed_at_any_of_its_reads_breaks_no_law(begin_life):
    await kill_everywhere(begin_life, counts=is_read, moment="before", first=1, step=1)


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_controller_that_is_killed_as_it_takes_the_lease_or_renews_it_breaks_no_law(begin_life, moment):
    killers = [Killer(number, moment, lambda _, path: "/leases" in path) for number in range(1, 7)]
    async with asyncio.TaskGroup() as group:
        for killer in killers:
            group.create_task(live_through(begin_life(), killer))


NAMES = "abcd"


class Chance:
    """A scenario by chance: what users do, and what befalls controllers and the API server."""

    def __init__(self, life, seed):
        self.life, self.random = life, random.Random(seed)
        self.deeds = [*[self.change] * 6, self.delete, self.delete, self.kill_later, self.kill_later, self.crash]
        self.deeds += [self.stop, self.join, self.fail, self.fail, self.cut, self.compact, self.restart, self.freeze]

    async def live(self):
        self.life.live(self.draw_killer())
        for _ in range(25):
            await self.random.choice(self.deeds)()
            if self.random.random() < 0.3:
                self.thaw()
                await self.life.rest()
            else:
                await asyncio.sleep(self.random.choice((0, 0.002, 0.01)))
                self.life.fleet.skip(self.random.choice((0, 0.1)))
                await self.life.go_on()
        self.life.server.clear_faults()
        self.thaw()
        for replica in self.life.fleet.replicas:
            replica.client.kill = never
        await self.life.finish()

    def draw_killer(self):
        return Killer(self.random.randrange(1, 12), self.random.choice(("before", "after")), is_write)

    async def change(self):
        type_ = self.random.choice(("tcp", "tcp", "udp", "http"))
        ports = self.random.sample((1, 2, 3), self.random.randrange(1, 4))
        self.life.server.apply(self.life.service(self.random.choice(NAMES), *ports, type_=type_))

    async def delete(self):
        name = self.random.choice(NAMES)
        if self.life.server.find("services", name, "shop"):
            self.life.server.delete("services", name, "shop")

    async def kill_later(self):
        self.random.choice(self.life.fleet.replicas).client.kill = self.draw_killer()

    async def crash(self):
        await self.random.choice(self.life.fleet.replicas).crash()

    async def stop(self):
        replica = self.random.choice(self.life.fleet.replicas)
        replica.client.running.set()
        await replica.stop()

    async def join(self):
        if len(self.life.fleet.replicas) < 3:
            self.life.live(self.draw_killer())

    async def freeze(self):
        self.random.choice(self.life.fleet.replicas).client.running.clear()
        if self.random.random() < 0.5:
            self.life.fleet.skip(11)
            self.life.live()

    def thaw(self):
        for replica in self.life.fleet.replicas:
            replica.client.running.set()

    async def fail(self):
        kind = self.random.choice(
            (FaultKind.CLOSE_BEFORE, FaultKind.CLOSE_AFTER, FaultKind.STATUS, FaultKind.CONFLICT, FaultKind.CUT_JSON)
        )
        verb = self.random.choice(("create", "update", "delete", "get", "list"))
        self.life.server.add_fault(kind, verb=verb, resource="services", skip=self.random.randrange(3))

    async def cut(self):
        self.life.server.cut_connections()

    async def compact(self):
        self.life.server.compact()
        self.life.server.end_watches()

    async def restart(self):
        self.life.server.stop_listening()
        await asyncio.sleep(0.002)
        self.life.server.resume()


@pytest.mark.parametrize("first", range(0, 100, 10))
async def test_whatever_happens_no_law_is_broken(begin_life, first):
    async def live(seed):
        try:
            await Chance(begin_life(), seed).live()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise

    async with asyncio.TaskGroup() as group:
        for seed in range(first, first + 10):
            group.create_task(live(seed))
