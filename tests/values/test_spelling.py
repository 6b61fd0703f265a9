import pytest

from maesh_core.values.spelling import COMPARED_LIMIT, find_similar, suggest

KNOWN = ("retry-attempts", "retry-on", "scheme", "traffic-type", "Service")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("retry-attempt", "retry-attempts"),
        ("retry-attemps", "retry-attempts"),
        ("retries-attempts", "retry-attempts"),
        ("retry_on", "retry-on"),
        ("sheme", "scheme"),
        ("TRAFFIC-TYPE", "traffic-type"),
        ("service", "Service"),
        ("retry", "retry-on"),
        ("traffic", "traffic-type"),
        ("greeting", None),
        ("", None),
        ("x" * 300, None),
    ],
)
def test_the_nearest_name_is_found_where_one_is_near(name, meant):
    assert find_similar(name, KNOWN) == meant
    assert suggest(name, KNOWN) == (f"; did you mean {meant}?" if meant else "")


def test_short_names_are_alike_where_less_is_asked():
    assert find_similar("wbe", ["web", "api"]) is None
    assert find_similar("wbe", ["web", "api"], cutoff=0.6) == "web"
    assert find_similar("Secret", ["Service"]) is None


def test_no_more_names_are_compared_than_the_limit():
    many = [f"service-{number:05}" for number in range(COMPARED_LIMIT * 2)]
    assert find_similar("service-00001", many) == "service-00001"
    assert find_similar("zzzzzzz-xxxxx", many) is None
