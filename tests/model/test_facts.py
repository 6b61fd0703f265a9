import pytest

from maesh_core.model.facts import FACTS_LIMIT, TEXT_LIMIT, is_fact, pick_facts


def test_the_facts_of_a_query_are_those_with_the_prefix():
    assert pick_facts({"node": "a", "transport.ends": "5", "transport.serial": "0A"}) == {"ends": "5", "serial": "0A"}


@pytest.mark.parametrize(
    ("name", "text"),
    [("", "x"), ("Ends", "x"), ("a.b", "x"), ("a" * 33, "x"), ("a", ""), ("a", "\n"), ("a", "é"), ("a", "x" * 97)],
)
def test_invalid_facts_are_left_out(name, text):
    assert not is_fact(name, text)
    assert pick_facts({f"transport.{name}": text, "transport.b": "1"}) == {"b": "1"}


def test_the_longest_fact_is_valid():
    assert is_fact("a" * 32, "x" * TEXT_LIMIT)


def test_of_too_many_facts_the_first_by_name_are_used():
    assert list(pick_facts({f"transport.f{number:02}": "x" for number in range(20)})) == [
        f"f{number:02}" for number in range(FACTS_LIMIT)
    ]
