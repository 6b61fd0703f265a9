"""What the controller keeps of the reports of workers, and the limits of its memory."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_acl.denials import keeping as module
from maesh_acl.denials.keeping import KEPT_S, KeptDenials, NamedDenial
from maesh_acl.denials.report import DenialKey

NOW = 1_800_000_000.0


def build_denial(path="/", *, last=NOW, count=1):
    key = DenialKey(
        mode="audit",
        service="shop/app:80",
        destinations=("app@shop",),
        client="",
        traffic_type="http",
        reason="client",
        path=path,
    )
    return NamedDenial("10.0.0.1", "10.0.0.1", key, count, last - 1, last)


ENTRY = module._measure(build_denial())


def list_paths(kept, answered=()):
    return sorted(each.key.path for _, denials in kept.list_missing(answered) for each in denials)


def test_the_last_report_of_a_worker_replaces_the_one_before():
    kept = KeptDenials()
    kept.replace("a", 1.0, [build_denial("/old")])
    kept.replace("a", 1.0, [build_denial("/new"), build_denial("/old", count=2)])
    assert list_paths(kept) == ["/new", "/old"]
    assert kept.size_bytes == 2 * ENTRY + 2 * len("new")


def test_only_workers_that_have_not_answered_are_listed_with_their_start():
    kept = KeptDenials()
    for proxy, since in (("a", 1.0), ("a", 2.0), ("b", 1.0)):
        kept.replace(proxy, since, [build_denial(f"/{proxy}{since:g}")])
    found = kept.list_missing({("a", 2.0)})
    assert [(since, denials[0].key.path) for since, denials in found] == [(1.0, "/a1"), (1.0, "/b1")]


def test_a_worker_without_denials_needs_no_memory():
    kept = KeptDenials()
    kept.replace("a", 1.0, [])
    assert (kept.size_bytes, kept.list_missing(())) == (0, [])


def test_denials_are_kept_for_a_month_after_the_last_one():
    kept = KeptDenials()
    kept.replace("a", 1.0, [build_denial("/old", last=NOW), build_denial("/older", last=NOW - 100)])
    kept.replace("b", 1.0, [build_denial("/new", last=NOW + 1)])
    kept.expire(NOW + KEPT_S)
    assert list_paths(kept) == ["/new", "/old", "/older"]
    kept.expire(NOW + KEPT_S + 1)
    assert list_paths(kept) == ["/new"]
    kept.expire(NOW + KEPT_S + 2)
    assert kept.size_bytes == 0


def test_of_a_worker_that_reports_too_much_the_latest_denials_are_kept(monkeypatch):
    monkeypatch.setattr(module, "RECORD_LIMIT_BYTES", 3 * ENTRY)
    kept = KeptDenials()
    kept.replace("a", 1.0, [build_denial(str(number), last=NOW + number % 5) for number in range(5)])
    assert list_paths(kept) == ["2", "3", "4"]


def test_the_proxy_that_uses_the_most_memory_loses_what_was_reported_longest_ago(monkeypatch):
    monkeypatch.setattr(module, "KEPT_LIMIT_BYTES", 4 * ENTRY)
    kept = KeptDenials()
    kept.replace("small", 1.0, [build_denial("s")])
    for since in range(9):
        kept.replace("large", float(since), [build_denial(str(since))])
    assert list_paths(kept) == ["6", "7", "8", "s"]
    kept.replace("large", 6.0, [build_denial("6")])
    kept.replace("large", 9.0, [build_denial("9")])
    assert list_paths(kept) == ["6", "8", "9", "s"]


@pytest.mark.parametrize("text", ["", "x" * 1000, "\N{SNOWMAN}" * 1000])
def test_long_texts_count_with_what_they_take_in_memory(text):
    assert module._measure(build_denial(text)) - ENTRY == sys.getsizeof(text) - sys.getsizeof("/")


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.integers(0, 6)), max_size=30))
def test_the_memory_never_exceeds_the_limit_and_is_counted_right(reports):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT_LIMIT_BYTES", 10 * ENTRY)
        patch.setattr(module, "RECORD_LIMIT_BYTES", 5 * ENTRY)
        kept = KeptDenials()
        for proxy, since, number in reports:
            kept.replace(proxy, float(since), [build_denial(str(index)) for index in range(number)])
            left = [each for _, denials in kept.list_missing(()) for each in denials]
            assert kept.size_bytes == sum(map(module._measure, left)) <= 10 * ENTRY
