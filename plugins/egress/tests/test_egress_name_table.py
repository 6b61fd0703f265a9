"""When names are looked up, and what remains of an answer while DNS fails; time and answers are the test's."""

from hypothesis import given
from hypothesis import strategies as st
from maesh_egress.lookup import IPV4, IPV6, MISSING, NO_ADDRESS, Answer, Failure, Lookup
from maesh_egress.name_table import (
    LONGEST_NEGATIVE_S,
    LONGEST_PAUSE_S,
    NAMES_LIMIT,
    PUBLISHED_LIMIT,
    TOO_MANY,
    NameTable,
    Times,
)

from maesh_core.plugin import NameAddresses

NAME = "api.example.com"
TIMES = Times(shortest_s=5.0, longest_s=3600.0, stale_s=600.0, chance=lambda: 1.0)
AWAY: Lookup = {IPV4: Failure("does not answer"), IPV6: Failure("does not answer")}


def find(*addresses: str, ttl_s: float = 60.0) -> Lookup:
    found = {
        IPV4: tuple(each for each in addresses if ":" not in each),
        IPV6: tuple(each for each in addresses if ":" in each),
    }
    return {family: Answer(each, ttl_s, "" if each else NO_ADDRESS) for family, each in found.items()}


def build(*names: str, now: float = 0.0) -> NameTable:
    table = NameTable(TIMES, is_usable=lambda address: not address.startswith("10."))
    table.set_names(names or (NAME,), now)
    return table


def store(table: NameTable, lookup: Lookup, now: float, name: str = NAME) -> NameAddresses | None:
    """Let the lookup that is due end with this result; return what the name resolves to."""
    assert name in table.take_due(now)
    table.store(name, lookup, now)
    return table.render().get(name)


def test_a_new_name_is_due_at_once_and_once() -> None:
    table = build()
    assert (table.take_due(0.0), table.take_due(0.0), table.find_next_due()) == ([NAME], [], None)
    assert (table.render(), table.is_complete) == ({}, False)


def test_an_answer_is_used_for_its_ttl_and_then_asked_for_again() -> None:
    table = build()
    assert store(table, find("203.0.113.1", ttl_s=60), 0.0) == NameAddresses(("203.0.113.1",))
    assert (table.is_complete, table.find_next_due(), table.take_due(59.9)) == (True, 60.0, [])
    assert store(table, find("203.0.113.2"), 60.0) == NameAddresses(("203.0.113.2",))


def test_the_workers_get_a_limited_number_of_addresses_of_each_family() -> None:
    many = [f"203.0.{high}.{low}" for high in range(2) for low in range(250)] + [
        f"2001:db8::{n}" for n in range(1, 500)
    ]
    found = store(build(), find("10.0.0.1", *many), 0.0)
    assert found is not None
    assert [sum(mark in each for each in found.addresses) for mark in (".", ":")] == [PUBLISHED_LIMIT, PUBLISHED_LIMIT]


def test_the_ttl_is_kept_within_the_limits() -> None:
    table = build()
    store(table, find("203.0.113.1", ttl_s=0), 0.0)
    assert table.find_next_due() == 5.0
    store(table, find("203.0.113.1", ttl_s=1e9), 5.0)
    assert table.find_next_due() == 3605.0


def test_a_negative_answer_removes_the_addresses_and_is_used_for_a_minute_at_most() -> None:
    table = build()
    store(table, find("203.0.113.1"), 0.0)
    gone = dict.fromkeys((IPV4, IPV6), Answer((), 1e6, MISSING))
    assert store(table, gone, 60.0) == NameAddresses(problem=MISSING)
    assert table.find_next_due() == 60.0 + LONGEST_NEGATIVE_S


def test_while_dns_fails_the_last_addresses_are_kept_and_it_is_asked_again_after_growing_pauses() -> None:
    table = build()
    store(table, find("203.0.113.1"), 0.0)
    now, pauses = 60.0, []
    while now < 659.0:
        assert store(table, AWAY, now) == NameAddresses(("203.0.113.1",))
        assert table.count_stale(now) == 1
        due = table.find_next_due()
        assert due is not None
        pauses.append(due - now)
        now = due
    assert pauses[:6] == [1.0, 2.0, 4.0, 8.0, 16.0, LONGEST_PAUSE_S]
    assert set(pauses[6:]) == {LONGEST_PAUSE_S}
    while now < 660.0:
        store(table, AWAY, now)
        now = table.find_next_due() or now
    assert store(table, AWAY, now) == NameAddresses(problem="cannot be resolved: DNS does not answer")
    assert store(table, find("203.0.113.9"), table.find_next_due() or now) == NameAddresses(("203.0.113.9",))
    assert table.count_stale(now) == 0


def test_a_family_that_fails_keeps_its_addresses_beside_those_of_the_other() -> None:
    table = build()
    store(table, find("203.0.113.1", "2001:db8::1"), 0.0)
    half: Lookup = {IPV4: Answer(("203.0.113.2",), 60.0), IPV6: Failure("does not answer")}
    assert store(table, half, 60.0) == NameAddresses(("203.0.113.2", "2001:db8::1"))


def test_addresses_that_may_not_be_used_are_left_out() -> None:
    table = build()
    assert store(table, find("10.0.0.1", "203.0.113.1"), 0.0) == NameAddresses(("203.0.113.1",))
    problem = "resolves to 10.0.0.1, which the setting egress.networks does not allow"
    assert store(table, find("10.0.0.1"), 60.0) == NameAddresses(problem=problem)


def test_addresses_without_a_route_are_left_out_unless_none_has_one() -> None:
    table = NameTable(TIMES, is_usable=lambda _: True, has_route=lambda address: ":" not in address)
    table.set_names((NAME,), 0.0)
    assert store(table, find("203.0.113.1", "2001:db8::1"), 0.0) == NameAddresses(("203.0.113.1",))
    assert store(table, find("2001:db8::1"), 60.0) == NameAddresses(("2001:db8::1",))


def test_names_that_are_not_wanted_any_more_are_forgotten_and_others_keep_their_answers() -> None:
    table = build(NAME, "old.example.com")
    for name in table.take_due(0.0):
        table.store(name, find("203.0.113.1"), 0.0)
    table.set_names((NAME, "new.example.com"), 1.0)
    table.store("old.example.com", find("203.0.113.1"), 1.0)
    assert list(table.render()) == [NAME]
    assert table.take_due(1.0) == ["new.example.com"]


def test_a_refused_name_is_shown_with_the_reason_and_never_looked_up() -> None:
    table = NameTable(TIMES, is_usable=lambda _: True)
    table.set_names((NAME, "evil.test"), 0.0, refused=["evil.test"], reason="is not allowed")
    assert table.take_due(0.0) == [NAME]
    assert dict(table.list_problems()) == {"evil.test": "is not allowed"}


def test_names_above_the_limit_are_not_resolved() -> None:
    names = [f"n{number:05}.example.com" for number in range(NAMES_LIMIT + 2)]
    table = build(*names)
    assert (table.size, len(table.take_due(0.0))) == (NAMES_LIMIT, NAMES_LIMIT)
    assert dict(table.list_problems()) == dict.fromkeys(names[-2:], TOO_MANY)


RESULTS = st.one_of(
    st.builds(Failure, st.just("does not answer")),
    st.builds(
        lambda addresses, ttl_s: Answer(tuple(sorted(addresses)), ttl_s, "" if addresses else NO_ADDRESS),
        st.sets(st.sampled_from(["203.0.113.1", "203.0.113.2", "10.0.0.1"]), max_size=3),
        st.floats(0, 1e6),
    ),
)


@given(st.lists(RESULTS, max_size=30))
def test_the_usable_addresses_are_those_of_the_last_answer_that_is_not_too_old(results: list[Answer | Failure]) -> None:
    table = build()
    now = expires_at = 0.0
    expected: tuple[str, ...] = ()
    for result in results:
        resolved = store(table, {IPV4: result}, now)
        if isinstance(result, Answer):
            expected, expires_at = result.addresses, now + TIMES.find_lifetime(result)
        elif now >= expires_at + TIMES.stale_s:
            expected = ()
        assert resolved is not None
        assert resolved.addresses == tuple(each for each in expected if not each.startswith("10."))
        assert bool(resolved.addresses) != bool(resolved.problem)
        due = table.find_next_due()
        assert due is not None
        assert now < due <= now + TIMES.longest_s
        now = due
