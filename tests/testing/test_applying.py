"""Merging and ownership by schema; requests are in test_api_server_applying.py."""

from maesh_testing.kubernetes.applying import (
    decode_paths,
    encode_paths,
    find_value,
    list_paths,
    merge_applied,
    remove_paths,
)

SCHEMA = {
    "properties": {
        "conditions": {
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "items": {"properties": {"type": {}, "status": {}}},
        },
        "names": {"x-kubernetes-list-type": "set"},
        "atoms": {"x-kubernetes-list-type": "atomic"},
        "whole": {"x-kubernetes-map-type": "atomic"},
        "labels": {"additionalProperties": {"type": "string"}},
    }
}
KEY = 'k:{"type":"A"}'


def test_items_of_a_map_list_are_merged_by_their_keys():
    current = {"conditions": [{"type": "A", "status": "x", "more": 1}, {"type": "B"}]}
    applied = {"conditions": [{"type": "C"}, {"type": "A", "status": "y"}]}
    assert merge_applied(SCHEMA, current, applied) == {
        "conditions": [{"type": "A", "status": "y", "more": 1}, {"type": "B"}, {"type": "C"}]
    }


def test_sets_are_joined_and_what_is_atomic_is_replaced():
    current = {"names": ["a", "b"], "atoms": [1], "whole": {"x": 1}, "labels": {"x": "1"}}
    applied = {"names": ["b", "c"], "atoms": [2], "whole": {"y": 2}, "labels": {"y": "2"}}
    assert merge_applied(SCHEMA, current, applied) == {
        "names": ["a", "b", "c"],
        "atoms": [2],
        "whole": {"y": 2},
        "labels": {"x": "1", "y": "2"},
    }


def test_paths_are_listed_encoded_decoded_and_removed():
    value = {"conditions": [{"type": "A", "status": "x"}], "names": ["a"], "atoms": [1], "whole": {"x": 1}}
    paths = set(list_paths(SCHEMA, value))
    assert paths == {
        ("f:conditions", KEY),
        ("f:conditions", KEY, "f:type"),
        ("f:conditions", KEY, "f:status"),
        ("f:names", 'v:"a"'),
        ("f:atoms",),
        ("f:whole",),
    }
    assert decode_paths(encode_paths(paths)) == paths
    assert find_value(SCHEMA, value, ("f:conditions", KEY, "f:status")) == "x"
    assert find_value(SCHEMA, value, ("f:conditions", 'k:{"type":"B"}', "f:status")) is None
    assert find_value(SCHEMA, value, ("f:atoms", "f:x", "f:y")) is None
    assert remove_paths(SCHEMA, value, paths) == {"conditions": [], "names": []}
    assert remove_paths(SCHEMA, {"a": 1}, [("f:a", "f:b"), ("f:c", "f:d")]) == {"a": 1}
