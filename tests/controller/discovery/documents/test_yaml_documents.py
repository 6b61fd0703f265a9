from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.discovery.documents import yaml_documents
from maesh_core.controller.discovery.documents.values import MAX_DEPTH, Document
from maesh_core.controller.discovery.documents.yaml_documents import parse_yaml_documents
from maesh_core.errors import ManifestError


def parse(text):
    return list(parse_yaml_documents(text, "f.yaml"))


def load(text):
    (document,) = parse(text)
    assert isinstance(document, Document), document
    return cast("Any", document.body)._value


def fail(text):
    found = parse(text)
    assert isinstance(found[-1], ManifestError), found
    return found[-1]


def test_quoted_scalars_are_text():
    assert load("a: '1'\nb: \"true\"\nc: ''\n") == {"a": "1", "b": "true", "c": ""}


def test_core_tags_are_understood():
    assert load("a: !!str 1\nb: !!int '2'\nc: !!map {}\nd: !!seq []\n") == {
        "a": "1",
        "b": 2,
        "c": {},
        "d": [],
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system [id]",
        "!!python/name:os.system a",
        "a: !mine 1",
        "!mine {a: 1}",
        "a: !!timestamp 2020-01-01",
        "a: !!binary aGk=",
        "!!set {a}",
    ],
)
def test_any_other_tag_is_refused(text):
    assert "tag" in fail(text).text


def test_labels_and_annotations_keep_the_text_that_was_written():
    text = "metadata:\n  labels: {a: yes, b: 0x10, c: ~}\n  annotations:\n    d: 1.50\n    e: true\n    f: '2'\n"
    assert load(text)["metadata"] == {
        "labels": {"a": "yes", "b": "0x10", "c": None},
        "annotations": {"d": "1.50", "e": "true", "f": "2"},
    }


def test_labels_elsewhere_are_plain_values():
    assert load("selector: {labels: {a: 1}}\nlabels: {b: 2}") == {"selector": {"labels": {"a": 1}}, "labels": {"b": 2}}


def test_keys_are_the_text_that_was_written():
    assert load("1: a\ntrue: b\n") == {"1": "a", "true": "b"}


def test_null_entries_of_mappings_are_kept_for_the_kind_to_judge():
    assert load("a: ~\nb:\nc: {d: null, e: 1}\n") == {"a": None, "b": None, "c": {"d": None, "e": 1}}


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2\n", "{a: 1, b: 2, a: 3}", "a: ~\na: 1\n", "x: [{b: 1, b: 1}]", "1: a\n'1': b\n"]
)
def test_a_key_that_appears_twice_is_refused(text):
    assert "twice" in fail(text).text


@pytest.mark.parametrize("text", ["? [a]\n: 1", "? {a: 1}\n: 1", "a: &x [1]\n*x : 2"])
def test_a_key_that_is_no_text_is_refused(text):
    assert "key" in fail(text).text


def test_aliases_are_followed():
    assert load("a: &x {b: [1, 2]}\nc: *x\nd: &y text\ne: *y\n") == {
        "a": {"b": [1, 2]},
        "c": {"b": [1, 2]},
        "d": "text",
        "e": "text",
    }


def test_merge_keys_add_what_is_not_there():
    assert load("a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 9\n")["c"] == {"x": 9, "y": 2, "z": 4}


def test_a_null_beside_a_merge_takes_the_merged_value_away():
    assert load("a: &a {x: 1, y: 2}\nc: {<<: *a, x: ~}\n")["c"] == {"x": None, "y": 2}


def test_a_quoted_merge_key_is_an_ordinary_key():
    assert load("'<<': 1") == {"<<": 1}


def test_merging_something_else_is_refused():
    assert "<<" in fail("c: {<<: text}").text


@pytest.mark.parametrize("text", ["a: *x", "a: &x [*x]", "a: *x\nb: &x 1"])
def test_an_alias_of_nothing_or_of_itself_is_refused(text):
    assert "alias" in fail(text).text


def test_aliases_do_not_reach_across_documents():
    assert "alias" in fail("a: &x 1\n---\nb: *x\n").text


def _make_bomb(levels):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, levels)]
    return "\n".join(lines)


def test_an_alias_bomb_is_refused():
    assert "more than" in fail(_make_bomb(12)).text


def test_a_bomb_of_merge_keys_is_refused():
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 12)]
    assert "more than" in fail("\n".join(lines)).text


def test_the_limit_on_values_holds_for_the_whole_file(monkeypatch):
    monkeypatch.setattr(yaml_documents, "MAX_NODES", 9)
    found = parse("[1, 2, 3]\n---\n[1, 2, 3]\n---\n[1]\n")
    assert [isinstance(item, ManifestError) for item in found] == [False, True]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "{a: ["])
def test_very_deep_nesting_is_refused(opening):
    assert "deeper" in fail(opening * 10_000).text


def test_nesting_through_a_chain_of_aliases_counts_as_depth():
    chain = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, MAX_DEPTH * 2))
    assert "deeper" in fail(chain).text


def test_nesting_up_to_the_limit_is_fine():
    assert load("[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_documents_are_numbered_and_know_the_line_they_start_at():
    documents = parse("# a comment\n\na: 1\n---\n\nb: 2\n--- # why\nc: 3\n")
    assert [(item.number, item.line) for item in documents] == [(1, 3), (2, 6), (3, 8)]


@pytest.mark.parametrize("text", ["", "\n", "---\n", "---\n---\n", "# only\n---\n# comments\n", "~\n"])
def test_empty_documents_are_skipped(text):
    assert parse(text) == []


def test_empty_documents_are_not_counted():
    assert [item.number for item in parse("---\n---\na: 1\n---\n# none\n---\nb: 1\n")] == [1, 2]


def test_a_directive_before_the_first_document_is_understood():
    assert load("%YAML 1.1\n---\na: 1\n") == {"a": 1}


def test_a_document_may_begin_on_the_separators_line():
    assert load("--- {a: 1}") == {"a": 1}


def test_a_broken_document_does_not_hurt_the_others():
    first, broken, last = parse("a: 1\n---\nb: [1\nc: 2\n---\nd: 3\n")
    assert first.body._value == {"a": 1}
    assert str(broken).startswith("f.yaml document 2 line ")
    assert (last.number, last.line, last.body._value) == (3, 6, {"d": 3})


def test_a_syntax_error_names_the_line_it_is_in():
    assert fail("a: 1\n---\nb: 1\nc: 'x\n").origin == "f.yaml document 2 line 5"
    assert fail("a: 1\nb: 1\na: 2\n").origin == "f.yaml document 1 line 3"


def test_a_line_that_only_begins_with_dashes_separates_nothing():
    assert load("---a: 1") == {"---a": 1}


def test_windows_line_ends_are_fine():
    assert [item.body._value for item in parse("a: 1\r\n---\r\nb: 2\r\n")] == [{"a": 1}, {"b": 2}]


def test_control_characters_are_refused_with_their_line():
    error = fail("a: 1\nb: \x01\n")
    assert error.origin == "f.yaml document 1 line 2"


@given(st.text(alphabet=st.sampled_from("ab:-[]{},&*!|>'\"%@#?<~ \n\t1."), max_size=60))
def test_any_text_gives_documents_or_errors(text):
    for item in parse(text):
        assert isinstance(item, Document | ManifestError)
