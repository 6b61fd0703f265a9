"""Objects are changed so that they can be put back exactly."""

import copy

import pytest

from maesh_core.controller.dns import edits
from maesh_core.errors import ClusterDnsError


def build(data=None, **metadata):
    return {"metadata": {"name": "coredns", "namespace": "kube-system", **metadata}} | ({"data": data} if data else {})


def put(config_map):
    return edits.add_texts(config_map, {"key": lambda text: f"{text}+"})


def take(config_map, **options):
    return edits.remove_texts(config_map, {"key": lambda text: text.removesuffix("+")}, **options)


@pytest.mark.parametrize(
    "before",
    [
        build(),
        build({"key": "text"}),
        build({"key": ""}),
        build({"key": "{}", "other": "1"}, annotations={"a": "b"}),
        build({"other": "1"}, labels={"a": "b"}, resourceVersion="1"),
    ],
)
def test_a_config_map_is_restored_exactly(before):
    given = copy.deepcopy(before)
    after = put(before)
    assert after["data"]["key"].endswith("+")
    assert before == given
    assert take(after) == before
    assert take(before) == before


@pytest.mark.parametrize("text", ["", "\n", "  \n "])
def test_a_key_without_content_comes_back_byte_for_byte(text):
    def fill(text):
        return text if "{a}" in text else f"{{a}}{text}"

    before = build({"key": text, "other": "1"})
    after = edits.add_texts(before, {"key": fill})
    assert after["metadata"]["annotations"] == {edits.BLANK: "key"}
    assert edits.add_texts(after, {"key": fill}) == after
    empty = {"key": lambda text: text.replace("{a}", "{}")}
    assert edits.remove_texts(after, empty, old_keys=("key",)) == before
    after["data"]["key"] = "{a} more"
    assert edits.remove_texts(after, empty)["data"]["key"] == "{} more"


def test_a_second_put_keeps_the_list_of_what_was_added():
    assert take(put(put(build({"a": "b"})))) == build({"a": "b", "key": "+"})
    assert put(build())["metadata"]["annotations"] == {edits.ADDED: "key"}


def test_a_whole_config_map_goes_unless_others_wrote_into_it():
    made = put(edits.build_map("kube-dns", "kube-system"))
    assert take(made) is None
    made["data"]["other"] = "x"
    assert take(made)["data"] == {"other": "x"}


def test_keys_that_older_versions_made_go_with_their_text():
    assert take(build({"key": "+"}), old_keys=("key",)) == build()
    assert take(build({"key": "+"})) == build({"key": ""})
    assert take(build({"key": ""}), old_keys=("key",)) == build({"key": ""})


@pytest.mark.parametrize("change", [put, take])
def test_the_label_of_1_2_goes(change):
    assert "labels" not in change(build({"key": "x"}, labels={"maesh-patched": "true"}))["metadata"]
    labels = {"maesh-patched": "true", "a": "b"}
    assert change(build({"key": "x"}, labels=labels))["metadata"]["labels"] == {"a": "b"}


def test_what_is_wrong_with_a_text_names_its_place():
    def refuse(_):
        raise ClusterDnsError("no")

    with pytest.raises(ClusterDnsError, match=r"^ConfigMap kube-system/coredns, key: no$"):
        edits.add_texts(build(), {"key": refuse})


def build_deployment(annotations=None):
    metadata = {"metadata": {"annotations": annotations}} if annotations else {}
    return {"metadata": {"name": "coredns"}, "spec": {"template": {"spec": {}} | metadata}}


@pytest.mark.parametrize(
    ("current", "is_forced", "value"),
    [
        (None, False, "abc"),
        (None, True, "abc"),
        ("other", False, "abc"),
        ("abc", False, "abc"),
        ("abc", True, "abc-2"),
        ("abc-2", True, "abc-3"),
        ("abc-2", False, "abc-2"),
        ("abc-x", True, "abc-2"),
    ],
)
def test_pods_are_restarted_when_something_else_was_written_or_it_was_written_again(current, is_forced, value):
    deployment = build_deployment({edits.RESTART: current} if current else None)
    assert edits.choose_restart(deployment, "abc", is_forced=is_forced) == value


def test_restarts_leave_no_trace():
    before = build_deployment({"a": "b"})
    after = edits.set_restart(before, "abc")
    assert after["spec"]["template"]["metadata"]["annotations"] == {"a": "b", edits.RESTART: "abc"}
    assert edits.drop_restart(after, restarted_at="now") == before
    old = build_deployment({"traefik-mesh-hash": "x", "maesh-hash": "y"})
    assert edits.drop_restart(old, restarted_at=None)["spec"]["template"]["metadata"] == {}


def test_without_a_trace_of_ours_the_time_restarts_pods():
    bare = build_deployment()
    assert edits.drop_restart(bare, restarted_at=None) == bare
    after = edits.drop_restart(bare, restarted_at="now")
    assert after["spec"]["template"]["metadata"]["annotations"] == {edits.RESTARTED_AT: "now"}


def test_hashes_tell_texts_and_their_names_apart():
    assert edits.hash_texts({"a": "b", "c": "d"}) == edits.hash_texts({"c": "d", "a": "b"})
    assert (
        len({edits.hash_texts(texts) for texts in ({}, {"a": "b"}, {"a": "c"}, {"b": "a"}, {"a": "b", "c": ""})}) == 5
    )
