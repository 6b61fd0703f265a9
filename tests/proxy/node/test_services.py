"""Services in the node's parent: what they hand over reaches every worker, and one that fails starts again."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from maesh_core.model.metrics import MetricFamily
from maesh_core.model.names import NAME_ADDRESSES, NameAddresses, decode_addresses
from maesh_core.proxy.node.services import LONGEST_PAUSE_S, STARTING_LIMIT_S, STEADY_S, NodeServices, Parent
from maesh_core.proxy.workers.messages import HandOver

from .in_process_proxy import FakePlugins, World


class FakeLink:
    """A worker that keeps what it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Any, bytes]] = []

    def send(self, order: Any, *, payload: bytes = b"") -> None:
        self.sent.append((order, payload))


class FakeWorkers:
    def __init__(self, *links: Any) -> None:
        self.joined = list(links)


class FakeService:
    """Runs a function with the parent."""

    def __init__(self, parent: Parent, work: Callable[[Parent], Any], name: str = "renewal") -> None:
        self.name = name
        self.parent = parent
        self._work = work

    async def run(self) -> None:
        await self._work(self.parent)


class Time:
    """A clock that a pause moves on."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now_s

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now_s += seconds
        await asyncio.sleep(0)


def load_with(work: Callable[[Parent], Any], *plugins: str) -> Callable[..., list[FakeService]]:
    return lambda settings, open_parent: [FakeService(open_parent(name), work) for name in plugins or ("mtls",)]


def build(*links: Any) -> tuple[NodeServices, Parent]:
    """Build the services of one plugin; give the parent as it sees it."""
    found: list[Parent] = []

    def load(settings: Any, open_parent: Callable[[str], Parent]) -> list[FakeService]:
        found.append(open_parent("mtls"))
        return []

    return NodeServices("settings", FakeWorkers(*links), load, name="n1"), found[0]


def test_a_service_knows_the_node() -> None:
    _, parent = build()
    assert (parent.settings, parent.name) == ("settings", "n1")


def test_a_payload_reaches_every_joined_worker_and_each_later_one() -> None:
    one, other, later = FakeLink(), FakeLink(), FakeLink()
    services, parent = build(one, other)
    parent.hand("mtls", b"old")
    parent.hand("mtls", b"new")
    services.introduce(later)  # type: ignore[arg-type]
    assert one.sent == other.sent == [(HandOver(name="mtls"), b"old"), (HandOver(name="mtls"), b"new")]
    assert later.sent == [(HandOver(name="mtls"), b"new")]


def test_a_payload_that_comes_while_a_worker_is_introduced_reaches_it_once() -> None:
    link: Any = FakeLink()
    services, parent = build()
    parent.hand("mtls", b"old")
    version = services.introduce(link)
    parent.hand("mtls", b"new")
    version = services.introduce(link, since=version)
    services.introduce(link, since=version)
    assert [payload for _, payload in link.sent] == [b"old", b"new"]


class ResolvingService(FakeService):
    """Keeps the names that it receives; one of them makes it fail."""

    def __init__(self, parent: Parent) -> None:
        super().__init__(parent, lambda _: asyncio.sleep(0), "egress")
        self.received: list[frozenset[str]] = []

    def receive_names(self, names: frozenset[str]) -> None:
        self.received.append(names)
        if "bad" in names:
            raise RuntimeError("no")


def test_names_of_the_configuration_reach_the_service_that_resolves_them(caplog: pytest.LogCaptureFixture) -> None:
    found: list[ResolvingService] = []

    def load(settings: Any, open_parent: Callable[[str], Parent]) -> list[FakeService]:
        found.append(ResolvingService(open_parent("egress")))
        return [*found, FakeService(open_parent("mtls"), lambda _: asyncio.sleep(0))]

    services = NodeServices(None, FakeWorkers(), load)
    assert services.wants_names
    for names in ({"a"}, {"a"}, {"bad"}, set()):
        services.share_names(frozenset(names))
    assert found[0].received == [{"a"}, {"bad"}, frozenset()]
    assert "service egress failed: RuntimeError: no" in caplog.text


def test_without_such_a_service_nobody_wants_names() -> None:
    assert not build()[0].wants_names


def test_published_addresses_reach_every_worker() -> None:
    link, later = FakeLink(), FakeLink()
    services, parent = build(link)
    table = {"a": NameAddresses(("203.0.113.1",)), "b": NameAddresses(problem="does not exist")}
    parent.publish_addresses(table)
    services.introduce(later)  # type: ignore[arg-type]
    for each in (link, later):
        ((order, payload),) = each.sent
        assert order == HandOver(name=NAME_ADDRESSES)
        assert decode_addresses(payload) == table


def test_reports_of_each_plugin_are_kept_until_the_next() -> None:
    services = NodeServices(None, FakeWorkers())
    assert (services.collect_metrics(), services.read_state()) == ([], {})
    services, parent = build()
    family = MetricFamily(name="maesh_certificate_expiry_seconds", type="gauge", help="x", samples=(((), 5),))
    parent.report([family], {"expires": "soon"})
    assert (services.collect_metrics(), services.read_state()) == ([family], {"mtls": {"expires": "soon"}})
    parent.report([], {})
    assert (services.collect_metrics(), services.read_state()) == ([], {})


class StartingService(FakeService):
    """Is starting until a test ends that."""

    is_starting = True


def test_a_node_waits_for_a_service_that_is_starting_for_a_while_after_its_configuration() -> None:
    time = Time()
    found: list[StartingService] = []

    def load(settings: Any, open_parent: Callable[[str], Parent]) -> list[StartingService]:
        found.append(StartingService(open_parent("mtls"), lambda parent: None))
        return found

    services = NodeServices(None, FakeWorkers(), load, clock=time)
    time.now_s = 10 * STARTING_LIMIT_S
    assert services.is_starting, "without a configuration, nobody waits for the node"
    services.note_configured()
    time.now_s += STARTING_LIMIT_S - 1
    services.note_configured()
    assert services.is_starting
    time.now_s += 1
    assert not services.is_starting
    time.now_s -= 1
    found[0].is_starting = False
    assert not services.is_starting


def test_a_node_waits_for_no_service_that_does_not_say_that_it_is_starting() -> None:
    services = NodeServices(None, FakeWorkers(), load_with(lambda parent: None))
    assert not services.is_starting


async def run_until(services: NodeServices, is_enough: Callable[[], bool]) -> None:
    task = asyncio.create_task(services.run())
    while not is_enough():
        assert not task.done()
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_service_that_fails_or_ends_is_started_again_after_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    time, runs = Time(), 0

    async def work(_: Parent) -> None:
        nonlocal runs
        runs += 1
        if runs % 2:
            raise RuntimeError("no")

    services = NodeServices(None, FakeWorkers(), load_with(work), pause=time.pause, clock=time)
    await run_until(services, lambda: runs >= 10)
    assert time.pauses[0] <= 1.0
    assert time.pauses[8] > LONGEST_PAUSE_S / 2
    assert max(time.pauses) <= LONGEST_PAUSE_S
    assert caplog.messages[0].startswith("service renewal failed: RuntimeError: no; it is started again in ")
    assert caplog.messages[1].startswith("service renewal ended; it is started again in ")


async def test_the_pause_is_short_again_after_a_long_run() -> None:
    time, runs = Time(), 0

    async def work(_: Parent) -> None:
        nonlocal runs
        runs += 1
        if runs == 8:
            time.now_s += STEADY_S + 1
        raise RuntimeError("no")

    services = NodeServices(None, FakeWorkers(), load_with(work), pause=time.pause, clock=time)
    await run_until(services, lambda: runs >= 9)
    assert time.pauses[6] > 30
    assert time.pauses[7] <= 1.0


async def test_one_service_that_fails_does_not_affect_others() -> None:
    time, healthy = Time(), asyncio.Event()

    async def work(parent: Parent) -> None:
        if parent.state:
            raise RuntimeError("no")
        parent.report([], {"runs": "yes"})
        healthy.set()
        await asyncio.Event().wait()

    def load(settings: Any, open_parent: Callable[[str], Parent]) -> list[FakeService]:
        broken = open_parent("broken")
        broken.report([], {"runs": "no"})
        return [FakeService(broken, work, "broken"), FakeService(open_parent("healthy"), work, "healthy")]

    services = NodeServices(None, FakeWorkers(), load, pause=time.pause, clock=time)
    await run_until(services, lambda: len(time.pauses) >= 3 and healthy.is_set())
    assert services.read_state()["healthy"] == {"runs": "yes"}


class FakeTransport:
    name = "mtls"
    node_type = dict

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.received = asyncio.Event()

    def apply_nodes(self, nodes: Mapping[str, Any], clients: Mapping[str, Any]) -> None:
        self.events.append("nodes")

    def find_path(self, server: Any, mode: str) -> None:
        return None

    def receive(self, payload: bytes) -> None:
        self.events.append(payload)
        if payload == b"bad":
            raise ValueError("a bad certificate")
        self.received.set()


async def test_a_whole_proxy_hands_over_before_its_configuration_and_shows_the_state(world: World) -> None:
    transport = FakeTransport()

    async def work(parent: Parent) -> None:
        parent.report([MetricFamily(name="maesh_x", type="gauge", help="x", samples=(((), 5),))], {"until": "later"})
        await asyncio.Event().wait()

    def load(settings: Any, open_parent: Callable[[str], Parent]) -> list[FakeService]:
        parent = open_parent("mtls")
        parent.hand("mtls", b"first")
        parents.append(parent)
        return [FakeService(parent, work)]

    parents: list[Parent] = []
    world.tell(plugins=("mtls",))
    world.start(plugins=FakePlugins(maesh_transports=[transport]), load_services=load)
    await world.wait_for("/ready", 200)
    assert transport.events == [b"first", "nodes"]
    transport.received.clear()
    for payload in (b"bad", b"second"):
        parents[0].hand("mtls", payload)
    parents[0].hand("other", b"for nobody")
    await transport.received.wait()
    assert transport.events[2:] == [b"bad", b"second"]
    _, status = await world.get(world.admin, "/status")
    assert json.loads(status)["services"] == {"mtls": {"until": "later"}}
    _, metrics = await world.get(world.admin, "/metrics")
    assert "maesh_x 5" in metrics


async def test_a_proxy_is_not_ready_while_a_service_is_starting(world: World) -> None:
    found: list[StartingService] = []

    async def work(parent: Parent) -> None:
        await asyncio.Event().wait()

    def load(settings: Any, open_parent: Callable[[str], Parent]) -> list[StartingService]:
        found.append(StartingService(open_parent("mtls"), work))
        return found

    world.tell()
    world.start(load_services=load)
    await world.wait_for("/configuration", 200)
    assert (await world.get(world.admin, "/ready"))[0] == 503
    found[0].is_starting = False
    assert (await world.get(world.admin, "/ready"))[0] == 200


async def test_a_proxy_without_services_says_nothing_of_them(world: World) -> None:
    world.tell()
    world.start()
    await world.wait_for("/ready", 200)
    _, status = await world.get(world.admin, "/status")
    assert "services" not in json.loads(status)


def build_services(work: Callable[[Parent], Any] = lambda parent: None, *plugins: str) -> NodeServices:
    return NodeServices(None, FakeWorkers(), load_with(work, *plugins or ("mtls",)))


def test_facts_are_kept_and_announced_when_they_change() -> None:
    services = build_services()
    announced: list[Mapping[str, str]] = []
    services.on_facts = lambda: announced.append(services.read_facts())
    parent = services._open_parent("mtls")
    for ends in ("5", "5", "6"):
        parent.tell_controller({"ends": ends})
    assert announced == [{"ends": "5"}, {"ends": "6"}]
    with pytest.raises(ValueError, match="'Ends'"):
        parent.tell_controller({"Ends": "5"})
    assert services.read_facts() == {"ends": "6"}


class Informed(FakeService):
    """Keeps what the controller shares; refuses some of it."""

    def __init__(self, parent: Parent) -> None:
        super().__init__(parent, lambda parent: None, "mtls")
        self.received: list[bytes] = []

    def receive_shared(self, value: bytes) -> None:
        self.received.append(value)
        if value == b"bad":
            raise RuntimeError("boom")


def test_what_the_controller_shares_is_passed_on_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    informed: list[Informed] = []

    def load(settings: Any, open_parent: Callable[[str], Parent]) -> list[FakeService]:
        informed.append(Informed(open_parent("mtls")))
        return [*informed, FakeService(open_parent("other"), lambda parent: None, "other")]

    services = NodeServices(None, FakeWorkers(), load)
    for values in ({"mtls": b"1"}, {"mtls": b"1", "other": b"2"}, {"mtls": b"bad"}, {}, {"mtls": b"3"}):
        services.share(values)
    assert informed[0].received == [b"1", b"bad", b"3"]
    assert caplog.messages == ["service mtls failed: RuntimeError: boom"]
