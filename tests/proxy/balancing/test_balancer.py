"""Which server comes next."""

from collections import Counter
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.balancing.balancer import (
    KINDS,
    LeastRequest,
    RoundRobin,
    SmoothWeightedRoundRobin,
    build_balancer,
)
from maesh_core.proxy.balancing.health import PassiveHealth

WEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)
FIRST_PAUSE_S = 1.0


class Server:
    def __init__(self, name, under_way=0):
        self.name, self.under_way, self.aside = name, under_way, None

    def __repr__(self):
        return self.name

    def describe(self):
        return self.name


class Servers:
    """Servers s0, s1 and so on, their weights, and a clock that stands still."""

    def __init__(self, weights):
        self.clock = SimpleNamespace(now=1000.0)
        self.health = PassiveHealth(
            self.clock, first_pause_s=FIRST_PAUSE_S, pause_limit_s=30.0, random_share=lambda: 0.5
        )
        self.each = [Server(f"s{index}") for index in range(len(weights))]
        self.weights = weights

    @property
    def pairs(self):
        return list(zip(self.each, self.weights, strict=True))

    def fail(self, *indices):
        for index in indices:
            self.health.on_failure(self.each[index])


def pair(weights):
    return Servers(weights).pairs


def pick_names(balancer, count):
    return " ".join(balancer.pick().name for _ in range(count))


def test_servers_of_one_weight_come_in_turn():
    balancer = build_balancer(pair([3, 3, 3]))
    assert isinstance(balancer, RoundRobin)
    assert pick_names(balancer, 4) == "s0 s1 s2 s0"


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("weights", [[], [0], [0, 0]])
def test_there_may_be_no_usable_server(kind, weights):
    assert build_balancer(pair(weights), kind).pick() is None
    assert build_balancer(pair(weights), kind).pick((Server("other"),)) is None


def test_heavy_servers_are_spread_out():
    balancer = build_balancer(pair([5, 1, 1]))
    assert isinstance(balancer, SmoothWeightedRoundRobin)
    assert pick_names(balancer, 7) == "s0 s0 s1 s0 s2 s0 s0"


@given(WEIGHTS)
def test_every_round_gives_each_server_its_weight(weights):
    balancer = build_balancer(pair(weights))
    for _ in range(3):
        counts = Counter(balancer.pick().name for _ in range(sum(weights) if len(set(weights)) > 1 else len(weights)))
        share = 1 if len(set(weights)) > 1 else weights[0]
        assert {name: count * share for name, count in counts.items()} == {
            server.name: weight for server, weight in pair(weights) if weight
        }


@given(WEIGHTS, st.integers(0, 20), st.sampled_from(sorted(KINDS)))
def test_a_tried_server_comes_again_only_when_all_were_tried(weights, before, kind):
    pairs = pair(weights)
    balancer = build_balancer(pairs, kind)
    for _ in range(before):
        balancer.pick()
    usable = {server for server, weight in pairs if weight}
    tried: tuple[Any, ...] = ()
    for _ in usable:
        picked = balancer.pick(tried)
        assert picked not in tried
        tried += (picked,)
    assert set(tried) == usable
    assert balancer.pick(tried) in usable


# --- least-request


def test_of_two_servers_the_one_with_fewer_requests_under_way_is_picked():
    servers = Servers([1, 1])
    servers.each[0].under_way = 1
    balancer = build_balancer(servers.pairs, "least-request")
    assert isinstance(balancer, LeastRequest)
    assert pick_names(balancer, 20) == " ".join(["s1"] * 20)


def test_requests_under_way_count_by_weight():
    servers = Servers([4, 1])
    servers.each[0].under_way, servers.each[1].under_way = 3, 1
    assert pick_names(build_balancer(servers.pairs, "least-request"), 20) == " ".join(["s0"] * 20)


def test_the_busiest_of_many_is_never_picked_and_all_others_are():
    servers = Servers([1] * 5)
    servers.each[3].under_way = 9
    balancer = LeastRequest(servers.pairs, random_share=Random(1).random)
    assert {balancer.pick().name for _ in range(200)} == {"s0", "s1", "s2", "s4"}


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.randoms(use_true_random=False))
def test_two_different_servers_are_drawn(weights, source):
    balancer = LeastRequest(pair(weights), random_share=source.random)
    for _ in range(20):
        first, second = balancer._draw_two()
        assert first != second
        assert {first, second} <= set(range(len(weights)))


def test_idle_servers_are_drawn_by_their_weight():
    balancer = LeastRequest(pair([8, 1, 1]), random_share=Random(1).random)
    counts = Counter(balancer.pick().name for _ in range(2000))
    assert counts["s0"] > 1500
    assert min(counts["s1"], counts["s2"]) > 100


# --- a change of the servers


@given(st.integers(1, 6), st.integers(0, 20), st.sets(st.integers(0, 5)), st.integers(0, 3))
def test_a_rotation_goes_on_with_the_next_server_that_is_still_there(size, before, gone, added):
    pairs = pair([1] * size)
    former = build_balancer(pairs)
    for _ in range(before):
        former.pick()
    kept = [entry for index, entry in enumerate(pairs) if index not in gone]
    balancer = build_balancer([*kept, *pair([1] * added)], former=former)
    coming = [former.pick() for _ in pairs]
    wanted = next((server for server in coming if server in dict(kept)), None)
    if wanted is not None:
        assert balancer.pick() is wanted


def test_servers_that_come_and_go_do_not_take_each_others_turns():
    pairs = pair([1] * 4)
    balancer, counts = build_balancer(pairs[:3]), Counter()
    for step in range(120):
        counts[balancer.pick().name] += 1
        balancer = build_balancer(pairs[: 3 + step % 2], former=balancer)
    assert max(counts.values()) <= 41
    assert min(counts[f"s{index}"] for index in range(3)) >= 29


def test_a_rotation_goes_on_where_every_server_is_another():
    former = build_balancer(pair([1, 1, 1]))
    former.pick()
    assert build_balancer(pair([1, 1]), former=former).pick().name == "s1"
    assert build_balancer([], former=former).pick() is None
    assert build_balancer(pair([1]), former=build_balancer([])).pick().name == "s0"


def test_weighted_servers_keep_what_they_are_owed():
    pairs = pair([5, 1, 1])
    balancer, names = build_balancer(pairs), []
    for _ in range(7):
        names.append(balancer.pick().name)
        balancer = build_balancer(pairs, former=balancer)
    assert " ".join(names) == "s0 s0 s1 s0 s2 s0 s0"


@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=1, max_size=30))
def test_no_change_of_weights_leaves_a_server_far_from_its_share(steps):
    servers, balancer = Servers([1, 2, 3, 4]), None
    for weights in steps:
        balancer = build_balancer(list(zip(servers.each, weights, strict=True)), former=balancer)
        balancer.pick()
    servers.weights = [1, 2, 3, 4]
    balancer = build_balancer(servers.pairs, former=balancer)
    counts = Counter(balancer.pick().name for _ in range(100))
    assert all(abs(counts[f"s{index}"] - weight * 10) <= 12 for index, weight in enumerate(servers.weights))


# --- servers that are set aside

LAYOUTS = {"round-robin": [1, 1, 1], "weighted": [2, 1, 2], "least-request": [1, 1, 1]}


@pytest.fixture(params=LAYOUTS)
def built(request):
    servers = Servers(LAYOUTS[request.param])
    kind = request.param if request.param in KINDS else "round-robin"
    return servers, build_balancer(servers.pairs, kind)


def test_a_server_that_is_set_aside_is_passed_over(built):
    servers, balancer = built
    servers.fail(1)
    assert {balancer.pick().name for _ in range(30)} == {"s0", "s2"}


def test_when_its_pause_is_over_one_request_tries_it(built):
    servers, balancer = built
    servers.fail(1)
    servers.clock.now += FIRST_PAUSE_S
    assert [balancer.pick().name for _ in range(50)].count("s1") == 1


def test_a_server_that_was_tried_in_vain_gets_no_trial_by_the_same_request(built):
    servers, balancer = built
    servers.fail(1)
    servers.clock.now += FIRST_PAUSE_S
    tried = (servers.each[1],)
    assert servers.each[1] not in [balancer.pick(tried) for _ in range(20)]
    assert servers.each[1] in [balancer.pick() for _ in range(20)]


def test_a_tried_server_in_full_use_comes_before_one_that_is_set_aside(built):
    servers, balancer = built
    servers.fail(0, 1)
    assert {balancer.pick((servers.each[2],)).name for _ in range(10)} == {"s2"}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_the_only_server_is_not_lost_to_one_failure(kind):
    servers = Servers([1])
    balancer = build_balancer(servers.pairs, kind)
    servers.fail(0)
    assert balancer.pick() is servers.each[0]
    servers.health.on_success(servers.each[0])
    servers.clock.now += FIRST_PAUSE_S
    assert [balancer.pick() for _ in range(3)] == servers.each * 3


def test_where_all_servers_stay_away_there_is_none_but_a_trial_in_each_first_pause(built):
    servers, balancer = built
    servers.fail(0, 1, 2)
    for _ in range(8):  # until the pauses are long
        servers.clock.now += 40
        while (server := balancer.pick()) is not None:
            servers.health.on_failure(server)
    assert balancer.pick() is None
    for _ in range(3):
        servers.clock.now += FIRST_PAUSE_S
        tried = [balancer.pick() for _ in range(4)]
        assert tried[3] is None
        assert set(tried[:3]) == set(servers.each)
        for server in tried[:3]:
            servers.health.on_failure(server)
