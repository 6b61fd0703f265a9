"""Header fields as middlewares read and change them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.plugin import FieldChanges
from maesh_core.proxy.http.messages import headers as headers_module
from maesh_core.proxy.http.messages.head import Head
from maesh_core.proxy.http.messages.headers import (
    CACHED_FIELD_LIMIT_BYTES,
    KEPT_FIELDS_BYTES,
    Headers,
    render_field,
    split_fields,
)

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX:1\r\nx: \t2 \r\nXY: 3\r\nEmpty:\r\n\r\n"


def test_fields_keep_their_order_and_form():
    lines = [b"X:1\r\n", b"x: \t2 \r\n", b"XY: 3\r\n", b"Empty:\r\n"]
    assert split_fields(HEAD, without={b"host"}) == lines
    assert Headers(HEAD, {b"host"}).lines == lines


def test_names_are_compared_without_case_and_whole():
    headers = Headers(HEAD)
    assert headers.get(b"X") == b"1"
    assert headers.get_all(b"x") == [b"1", b"2"]
    assert headers.get(b"empty") == b""
    assert headers.get(b"E") is None
    assert headers.get_all(b"none") == []
    assert headers.get(b"host") == b"a"
    assert Headers(HEAD, {b"host"}).get(b"host") is None


def test_set_replaces_all_add_appends_and_remove_takes_all():
    headers = Headers(HEAD, {b"host", b"empty"})
    headers.set(b"x", b"9")
    assert headers.lines == [b"XY: 3\r\n", b"x: 9\r\n"]
    headers.add(b"X", b"8")
    assert headers.get_all(b"x") == [b"9", b"8"]
    headers.remove(b"X")
    headers.remove(b"none")
    assert headers.lines == [b"XY: 3\r\n"]


def test_a_head_that_is_only_added_to_is_not_split():
    headers = Headers(HEAD)
    headers.set(b"New", b"1")
    headers.set(b"new", b"2")
    headers.add(b"Other", b"3")
    headers.remove(b"absent")
    assert headers.get_all(b"NEW") == [b"2"]
    assert (headers.is_split, headers.added) == (False, b"new: 2\r\nOther: 3\r\n")
    headers.remove(b"xy")
    assert headers.is_split
    assert headers.lines[-3:] == [b"Empty:\r\n", b"new: 2\r\n", b"Other: 3\r\n"]


def test_fields_can_be_listed_whether_or_not_the_head_is_split():
    headers = Headers(HEAD, {b"host"})
    headers.add(b"New", b"4")
    expected = [(b"X", b"1"), (b"x", b"2"), (b"XY", b"3"), (b"Empty", b""), (b"New", b"4")]
    assert headers.items() == list(headers) == expected
    assert not headers.is_split
    for name, _ in headers:
        headers.remove(name)
    assert headers.items() == []


def test_what_may_not_be_set_changes_nothing():
    headers = Headers(b"GET / HTTP/1.1\r\nX: 1\r\n\r\n")
    for name, value in [(b"X", b"a\r\nb"), (b"X", b"\0"), (b"X\r\n", b"a"), (b"", b"a"), (b"connection", b"close")]:
        with pytest.raises(ValueError):
            headers.set(name, value)
    assert headers.lines == [b"X: 1\r\n"]


NAMES = st.sampled_from([b"A", b"a", b"B", b"Hop", b"AB"])
STEPS = st.lists(st.tuples(st.sampled_from(["set", "add", "remove"]), NAMES, st.sampled_from([b"1", b"2"])), max_size=6)


@given(st.lists(st.sampled_from([b"A: x\r\n", b"b:y\r\n", b"Hop: z\r\n"])), STEPS)
def test_a_head_that_is_not_split_yet_says_what_a_split_one_says(lines, steps):
    head = b"GET / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"
    whole, split = Headers(head, {b"hop"}), Headers(head, {b"hop"})
    assert split.lines == split_fields(head, without={b"hop"})
    for verb, name, value in steps:
        for headers in (whole, split):
            getattr(headers, verb)(name, *([] if verb == "remove" else [value]))
        assert whole.get_all(name) == split.get_all(name)
    if not whole.is_split:
        assert whole.added == b"".join(split.lines[len(split_fields(head, without={b"hop"})) :])
    assert whole.lines == split.lines


@given(st.binary(max_size=8), st.binary(max_size=8))
def test_whatever_is_rendered_is_one_line(name, value):
    try:
        line = render_field(name, value)
    except ValueError:
        return
    assert line.count(b"\r") == line.count(b"\n") == 1
    assert line.endswith(b"\r\n")
    assert Headers(b"GET\r\n" + line + b"\r\n").get(name) == value.strip()


def test_a_field_that_is_set_again_is_rendered_once_unless_it_is_large():
    kept = headers_module._render_cached
    kept.cache_clear()
    small, large = b"a" * (CACHED_FIELD_LIMIT_BYTES - 1), b"a" * CACHED_FIELD_LIMIT_BYTES
    for value in (small, large, small, large):
        headers = Headers(HEAD)
        headers.set(b"n", value)
        assert headers.added == b"n: %b\r\n" % value
    assert (kept.cache_info().hits, kept.cache_info().currsize) == (1, 1)


def test_a_field_that_may_not_be_set_is_refused_each_time():
    for _ in range(2):
        with pytest.raises(ValueError, match="can only be set by the mesh"):
            Headers(HEAD).set(b"Host", b"b")


CHANGES = st.lists(
    st.tuples(st.sampled_from(["set", "add", "remove", "list"]), NAMES, st.sampled_from([b"1", b"2", b"*"])), max_size=6
)


def apply_by_methods(headers, changes):
    """Do what changes mean, with the methods for single fields."""
    for action, name, value in changes:
        if action == "remove":
            headers.remove(name)
        elif action == "list":
            listed = b",".join(headers.get_all(name)).replace(b" ", b"").lower().split(b",")
            if value.lower() not in listed and b"*" not in listed:
                headers.add(name, value)
        else:
            getattr(headers, action)(name, value)


@given(
    st.lists(st.sampled_from([b"A: x\r\n", b"b:y, 1\r\n", b"Hop: z\r\n", b"ab: 2\r\n"])), st.lists(CHANGES, max_size=3)
)
def test_prepared_changes_do_what_the_methods_do(lines, applied):
    head = b"GET / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"
    prepared = [FieldChanges(changes) for changes in applied]
    for _ in range(2):  # the first use prepares them
        at_once, by_methods = Headers(head, {b"hop"}), Headers(head, {b"hop"})
        for changes in prepared:
            at_once.apply(changes)
            apply_by_methods(by_methods, changes.changes)
        assert at_once.lines == by_methods.lines


@given(
    st.lists(st.sampled_from([b"A: x\r\n", b"b:y, 1\r\n", b"Hop: z\r\n", b"ab: 2\r\n"])),
    st.lists(CHANGES, min_size=1, max_size=3),
    st.lists(st.lists(st.one_of(st.integers(0, 2), CHANGES), max_size=4), min_size=2, max_size=4),
)
def test_a_head_that_is_repeated_gets_the_same_changes_as_one_that_is_not(lines, known, messages):
    """Each message makes prepared changes, by their number, and changes of its own between them."""
    head = b"GET / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"
    parsed, prepared = Head(head), [FieldChanges(changes) for changes in known]
    for message in messages:
        repeated, alone = Headers(head, {b"hop"}, parsed), Headers(head, {b"hop"})
        for step in message:
            if isinstance(step, int):
                repeated.apply(prepared[step % len(prepared)])
                apply_by_methods(alone, known[step % len(known)])
            else:
                apply_by_methods(repeated, step)
                apply_by_methods(alone, step)
            assert repeated.items() == alone.items()
        if not repeated.is_split:
            assert repeated.added == alone.added
            assert repeated.render(parsed, b"OUT\r\n") == b"OUT\r\n" + alone.added + b"\r\n"
            assert repeated.render(Head(head), b"other\r\n") == b"other\r\n" + alone.added + b"\r\n"
        assert (repeated.text, repeated.lines) == (alone.text, alone.lines)


def test_what_is_kept_of_a_head_is_not_changed_by_those_who_use_it():
    parsed, changes = Head(HEAD), FieldChanges([("set", b"x", b"9"), ("add", b"new", b"1")])
    for _ in range(3):
        headers = Headers(HEAD, (), parsed)
        headers.apply(changes)
        assert headers.get_all(b"x") == [b"9"]
        headers.add(b"x", b"8")
        headers.lines.clear()
    other = Headers(HEAD, (), parsed)
    other.apply(changes)
    assert other.text.endswith(b"Empty:\r\nx: 9\r\nnew: 1\r\n")


def test_changes_of_fields_that_a_head_does_not_have_do_not_split_it():
    changes = FieldChanges([("remove", b"access-control-a", b""), ("set", b"access-control-b", b"1")])
    headers = Headers(HEAD)
    headers.apply(changes)
    assert (headers.is_split, headers.added) == (False, b"access-control-b: 1\r\n")
    headers.add(b"c", b"2")
    other = Headers(HEAD)
    other.apply(changes)
    assert other.added == b"access-control-b: 1\r\n"


def test_changes_that_may_not_be_made_are_refused_each_time():
    for change in [("set", b"Host", b"b"), ("add", b"a", b"\r\n"), ("drop", b"a", b"")]:
        changes, parsed = FieldChanges([change]), Head(HEAD)
        for _ in range(2):
            with pytest.raises(ValueError):
                Headers(HEAD, (), parsed).apply(changes)


def test_large_fields_are_not_kept_with_a_head():
    small, large = (FieldChanges([("add", b"Y", b"y" * size)]) for size in (8, KEPT_FIELDS_BYTES))
    head = Head(HEAD)
    for _ in range(2):
        headers = Headers(HEAD, (), head)
        headers.apply(small)
        headers.apply(large)
        headers.apply(small)
        assert (
            headers.added == b"Y: %b\r\n" % (b"y" * 8) + b"Y: %b\r\n" % (b"y" * KEPT_FIELDS_BYTES) + b"Y: yyyyyyyy\r\n"
        )
        assert headers.render(head, b"head ") == b"head " + headers.added + b"\r\n"
    kept = head.applied
    assert kept is not None
    assert (kept.changes, kept.next) == (small, None)
