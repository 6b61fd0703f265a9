"""The names of shadow services, and whose each is."""

import string

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.keys import ObjectKey, is_label
from maesh_core.model.resources import Service
from maesh_core.model.shadow_names import (
    LABELS,
    NAME_ANNOTATION,
    NAME_LIMIT,
    NAMESPACE_ANNOTATION,
    build_long_name,
    build_name,
    find_original,
    is_hashed,
)

MESH = "maesh"
KEY = ObjectKey("shop", "web")
NAME = "maesh-web-6d61657368-shop"
FIXED = len("maesh--6d61657368-shop")


def describe(name, *, labels=LABELS, namespace=MESH, **annotations):
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels), "annotations": annotations}
    return msgspec.convert({"metadata": metadata, "spec": {}}, Service)


def annotate(key):
    return {NAME_ANNOTATION: key.name, NAMESPACE_ANNOTATION: key.namespace}


def test_a_name_is_that_of_maesh():
    assert build_name(MESH, KEY) == NAME


@pytest.mark.parametrize(("length", "hashed"), [(NAME_LIMIT, False), (NAME_LIMIT + 1, True)])
def test_a_name_that_is_too_long_is_cut_and_distinguished_by_a_hash(length, hashed):
    key = ObjectKey("shop", "x" * (length - FIXED))
    assert len(build_long_name(MESH, key)) == length
    assert is_hashed(MESH, key) is hashed
    assert (build_name(MESH, key) == build_long_name(MESH, key)) is not hashed
    assert len(build_name(MESH, key)) == NAME_LIMIT


def test_what_is_cut_at_a_dash_has_none_before_the_hash():
    key = ObjectKey("n" * 30, "x" * 46 + "-" + "y" * 10)
    assert "--" not in build_name(MESH, key)
    assert is_label(build_name(MESH, key))


def test_a_hash_never_changes():
    expected = f"maesh-service-6d61657368-{'n' * 27}-3c9961f9bd"
    assert build_name(MESH, ObjectKey("n" * 40, "service")) == expected


LABELS_OF_DNS = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=63).filter(is_label)
KEYS = st.builds(ObjectKey, LABELS_OF_DNS, LABELS_OF_DNS)


@given(st.lists(KEYS, unique=True, min_size=2, max_size=20))
def test_names_are_labels_and_no_two_services_share_one(keys):
    names = [build_name(MESH, key) for key in keys]
    assert all(map(is_label, names))
    assert len(set(names)) == len(keys) or len({build_long_name(MESH, key) for key in keys}) < len(keys)


@given(KEYS)
def test_whose_a_shadow_service_is_can_be_read_from_it(key):
    assert find_original(describe(build_name(MESH, key), **annotate(key)), MESH) == key


# Whose it is


def test_an_earlier_version_wrote_no_annotations_and_its_name_is_taken_apart():
    assert find_original(describe(NAME), MESH) == KEY
    assert find_original(describe("maesh-a-b-6d61657368-c-d"), MESH) == ObjectKey("c-d", "a-b")


@pytest.mark.parametrize(
    "name",
    [
        "maesh-a-6d61657368-b-6d61657368-c",  # two services have this name
        "maesh-a-6d61657368-6d61657368-b",
        "maesh--6d61657368-c",
        "maesh-a-6d61657368-",
        "maesh-a",
        "mesh-a-6d61657368-b",
        "a-6d61657368-b",
    ],
)
def test_a_name_that_says_nothing_or_two_things_is_nobodys(name):
    assert find_original(describe(name), MESH) is None


def test_annotations_tell_two_of_one_name_apart():
    name = "maesh-a-6d61657368-b-6d61657368-c"
    for key in (ObjectKey("b-6d61657368-c", "a"), ObjectKey("c", "a-6d61657368-b")):
        assert find_original(describe(name, **annotate(key)), MESH) == key


def test_annotations_that_do_not_fit_the_name_are_not_believed():
    assert find_original(describe(NAME, **annotate(ObjectKey("shop", "other"))), MESH) is None


@pytest.mark.parametrize("labels", [{}, {"app": "maesh"}, {"app": "maesh", "type": "other"}])
def test_what_is_not_labelled_as_ours_is_foreign(labels):
    assert find_original(describe(NAME, labels=labels, **annotate(KEY)), MESH) is None


def test_what_lies_in_another_namespace_is_foreign():
    assert find_original(describe(NAME, namespace="shop", **annotate(KEY)), MESH) is None


def test_further_labels_do_no_harm():
    assert find_original(describe(NAME, labels={**LABELS, "team": "x"}), MESH) == KEY
