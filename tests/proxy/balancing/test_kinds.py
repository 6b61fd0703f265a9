"""Load balancers that plugins give: they choose, the core says among whom, and their failures are their own."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from maesh_core.model.configuration import Service
from maesh_core.proxy.balancing.balancer import LeastRequest, RoundRobin
from maesh_core.proxy.balancing.health import Aside, PassiveHealth
from maesh_core.proxy.balancing.kinds import BalancerKinds, ChosenBalancer


class Settings(msgspec.Struct, frozen=True):
    place: int = 0


class Chooser:
    def __init__(self, settings: Settings, servers: Sequence[Any], former: Any) -> None:
        self.settings, self.servers, self.former = settings, servers, former
        self.asked: list[tuple[object, list[Any]]] = []

    def choose(self, exchange: object, servers: Sequence[Any]) -> Any:
        self.asked.append((exchange, list(servers)))
        return servers[self.settings.place]


class Factory:
    name = "chosen"
    settings_type = Settings

    def build_balancer(self, settings: Settings, servers: Sequence[Any], former: Any) -> Chooser:
        return Chooser(settings, servers, former)


class FailingFactory(Factory):
    def build_balancer(self, settings: Settings, servers: Sequence[Any], former: Any) -> Chooser:
        raise ZeroDivisionError


class Server:
    def __init__(self, name: str) -> None:
        self.name, self.aside, self.under_way = name, None, 0
        self.address, self.port = name, 80

    aside: Aside | None

    def __repr__(self) -> str:
        return self.name


class Timer:
    now = 0.0


def set_aside(*, is_due: bool = False, is_due_alone: bool = False) -> Aside:
    """Set a server aside: its pause is over, or it may be tried where there is no other, or neither."""
    timer = Timer()
    aside = Aside(PassiveHealth(timer, first_pause_s=1.0, pause_limit_s=8.0, random_share=lambda: 0.5))
    timer.now = 0.5 if is_due_alone else 1.0
    if not is_due and not is_due_alone:
        aside.begin_trial()
        timer.now = 1.5
    assert (aside.is_due, aside.is_due_alone) == (is_due, is_due or is_due_alone)
    return aside


def build(*weights: int, place: Any = 0, former: Any = None, factory: Any = None) -> tuple[Any, list[Server]]:
    servers = [Server(f"s{index}") for index in range(len(weights))]
    kinds = BalancerKinds({"chosen": factory or Factory()})
    service = Service(load_balancer="chosen", load_balancer_settings={"place": place})
    return kinds.build(list(zip(servers, weights, strict=True)), service, former=former), servers


@pytest.fixture(autouse=True)
def heard(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.ERROR)
    return caplog


def test_a_plugin_chooses_for_each_exchange_among_servers_with_a_weight() -> None:
    balancer, (first, _, last) = build(1, 0, 5, place=1)
    assert balancer.chooser.servers == [(first, 1), (last, 5)]
    assert balancer.pick((), "exchange") is last
    assert balancer.chooser.asked == [("exchange", [first, last])]


def test_it_is_given_no_server_that_was_tried_or_is_set_aside() -> None:
    balancer, (first, second, third) = build(1, 1, 1)
    first.aside = set_aside()
    assert balancer.pick((second,)) is third


def test_a_server_whose_pause_is_over_is_tried_without_asking_it() -> None:
    balancer, (_, second) = build(1, 1)
    second.aside = aside = set_aside(is_due=True)
    assert balancer.pick() is second
    assert (aside.is_due, balancer.chooser.asked) == (False, [])


def test_without_a_usable_server_there_is_nothing_to_choose() -> None:
    balancer, (only,) = build(1)
    only.aside = set_aside()
    assert balancer.pick() is None
    only.aside = set_aside(is_due_alone=True)
    assert balancer.pick() is only
    assert build(0)[0].pick() is None


@pytest.mark.parametrize("answer", ["", None, Server("other"), ZeroDivisionError()])
def test_a_choice_that_fails_is_logged_once_and_servers_come_in_turn(
    heard: pytest.LogCaptureFixture, answer: object
) -> None:
    def choose(exchange: object, servers: Sequence[Any]) -> object:
        if isinstance(answer, Exception):
            raise answer
        return answer

    balancer, servers = build(1, 1)
    balancer.chooser.choose = choose
    assert [balancer.pick() for _ in range(4)] == servers * 2
    assert [record.message for record in heard.records] == [
        "load balancer chosen failed; servers are picked in rotation when it fails"
    ]


def test_one_that_cannot_be_built_leaves_its_service_to_the_core(heard: pytest.LogCaptureFixture) -> None:
    balancer, servers = build(1, 1, factory=FailingFactory())
    assert isinstance(balancer, RoundRobin)
    assert [balancer.pick() for _ in range(3)] == [*servers, servers[0]]
    assert "load balancer chosen failed; its service uses round-robin instead" in heard.text


@pytest.mark.parametrize(
    "chooser", [None, object(), type("Misspelt", (), {"chose": len})(), type("None_", (), {"choose": None})()]
)
def test_what_cannot_choose_leaves_its_service_to_the_core(heard: pytest.LogCaptureFixture, chooser: object) -> None:
    class Odd(Factory):
        def build_balancer(self, *arguments: Any) -> Any:
            return chooser

    balancer, servers = build(1, 1, factory=Odd())
    assert isinstance(balancer, RoundRobin)
    assert [balancer.pick() for _ in range(3)] == [*servers, servers[0]]
    assert "has no method choose" in heard.text


def test_it_hears_of_what_it_had_built_before_and_of_nothing_else() -> None:
    former, _ = build(1)
    assert former.chooser.former is None
    assert build(1, former=former)[0].chooser.former is former.chooser
    assert build(1, former=RoundRobin([Server("s0")]))[0].chooser.former is None
    other = ChosenBalancer("other", former.chooser, [])
    assert build(1, former=other)[0].chooser.former is None


def test_the_core_takes_over_from_a_plugin() -> None:
    former, _ = build(1)
    kinds = BalancerKinds({"chosen": Factory()})
    server = Server("s0")
    assert isinstance(kinds.build([(server, 1)], Service(), former=former), RoundRobin)
    assert isinstance(kinds.build([(server, 1)], Service(load_balancer="least-request")), LeastRequest)


@pytest.mark.parametrize(
    ("name", "settings", "problem"),
    [
        ("round-robin", {}, None),
        ("chosen", {}, None),
        ("chosen", {"place": 3}, None),
        (
            "chosen",
            {"place": "x"},
            ("load balancer chosen has invalid settings", "Expected `int`, got `str` - at `$.place`"),
        ),
        ("absent", {}, ("load balancer absent is not loaded by this proxy", "")),
    ],
)
def test_a_service_that_cannot_be_balanced_as_it_says_is_told_why(
    name: str, settings: dict[str, object], problem: tuple[str, str] | None
) -> None:
    service = Service(load_balancer=name, load_balancer_settings=settings)
    assert BalancerKinds({"chosen": Factory()}).find_problem(service) == problem
