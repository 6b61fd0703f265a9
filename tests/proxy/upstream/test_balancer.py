"""Which server comes next."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.upstream.balancer import RoundRobin, SmoothWeightedRoundRobin, build_balancer

WEIGHTS = st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any)


def pair(weights):
    return [(f"s{index}", weight) for index, weight in enumerate(weights)]


def test_servers_of_one_weight_come_in_turn():
    balancer = build_balancer(pair([3, 3, 3]))
    assert isinstance(balancer, RoundRobin)
    assert [balancer.pick() for _ in range(4)] == ["s0", "s1", "s2", "s0"]


@pytest.mark.parametrize("weights", [[], [0], [0, 0]])
def test_there_may_be_no_usable_server(weights):
    assert build_balancer(pair(weights)).pick() is None
    assert build_balancer(pair(weights)).pick(("s0",)) is None


def test_heavy_servers_are_spread_out():
    balancer = build_balancer(pair([5, 1, 1]))
    assert isinstance(balancer, SmoothWeightedRoundRobin)
    assert [balancer.pick() for _ in range(7)] == ["s0", "s0", "s1", "s0", "s2", "s0", "s0"]


@given(WEIGHTS)
def test_every_round_gives_each_server_its_weight(weights):
    balancer = build_balancer(pair(weights))
    for _ in range(3):
        counts = Counter(balancer.pick() for _ in range(sum(weights) if len(set(weights)) > 1 else len(weights)))
        share = 1 if len(set(weights)) > 1 else weights[0]
        assert {name: count * share for name, count in counts.items()} == {
            name: weight for name, weight in pair(weights) if weight
        }


@given(WEIGHTS, st.integers(0, 20))
def test_a_tried_server_comes_again_only_when_all_were_tried(weights, before):
    balancer = build_balancer(pair(weights))
    for _ in range(before):
        balancer.pick()
    usable = {name for name, weight in pair(weights) if weight}
    tried = ()
    for _ in usable:
        picked = balancer.pick(tried)
        assert picked not in tried
        tried += (picked,)
    assert set(tried) == usable
    assert balancer.pick(tried) in usable
