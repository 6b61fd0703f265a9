import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.discovery.documents.parsing import LoadedResource, Manifest
from maesh_core.controller.discovery.manifests.merging import MergedManifests
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.errors import ManifestError
from maesh_core.model.events import Applied, Deleted, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Namespace, ObjectMeta

NAMESPACES = next(kind for kind in CORE_KINDS if kind.type is Namespace)


def make(name, uid=""):
    return Namespace(metadata=ObjectMeta(name=name, uid=uid))


def load(path, *resources, errors=()):
    loaded = (LoadedResource(item, NAMESPACES, f"{path} document {n + 1}") for n, item in enumerate(resources))
    return Manifest(tuple(loaded), tuple(ManifestError(f"{path} {text}", text) for text in errors))


@pytest.fixture
def merged():
    return MergedManifests()


def test_new_content_is_applied(merged):
    merged.set_manifest("a", load("a", make("x"), make("y")))
    assert merged.collect_events() == [Applied(make("x")), Applied(make("y"))]
    assert merged.collect_events() == []


def test_only_what_differs_is_reported(merged):
    merged.set_manifest("a", load("a", make("x"), make("y"), make("z")))
    merged.collect_events()
    merged.set_manifest("a", load("a", make("x"), make("y", "2")))
    assert merged.collect_events() == [Applied(make("y", "2")), Deleted(Namespace, ObjectKey("", "z"))]


def test_an_object_that_moves_between_files_is_not_deleted_in_between(merged):
    merged.set_manifest("a", load("a", make("x")))
    merged.collect_events()
    merged.set_manifest("a", load("a"))
    merged.set_manifest("b", load("b", make("x")))
    assert merged.collect_events() == []


def test_of_a_duplicate_the_first_path_stays_whatever_came_first(merged):
    merged.set_manifest("b", load("b", make("x", "from b")))
    assert merged.collect_events() == [Applied(make("x", "from b"))]
    merged.set_manifest("a", load("a", make("x", "from a")))
    applied, problem = merged.collect_events()
    assert applied == Applied(make("x", "from a"))
    assert problem.origin == "b document 1"
    assert "a document 1" in problem.text
    assert "b document 1" in problem.text


def test_when_the_first_of_a_duplicate_goes_the_second_takes_its_place(merged):
    merged.set_manifest("a", load("a", make("x", "from a")))
    merged.set_manifest("b", load("b", make("x", "from b")))
    merged.collect_events()
    merged.remove("a")
    assert merged.collect_events() == [Applied(make("x", "from b")), Problem("b document 1", None)]


def test_within_a_file_the_first_document_stays(merged):
    merged.set_manifest("a", load("a", make("x", "1"), make("x", "2")))
    applied, problem = merged.collect_events()
    assert applied == Applied(make("x", "1"))
    assert problem.origin == "a document 2"


def test_a_file_that_turns_bad_keeps_what_it_held(merged):
    merged.set_manifest("a", load("a", make("x"), make("y")))
    merged.collect_events()
    merged.set_manifest("a", load("a", make("x", "new"), errors=["broken"]))
    assert merged.collect_events() == [Problem("a broken", "broken")]
    merged.set_manifest("a", load("a", make("x", "new")))
    assert merged.collect_events() == [
        Applied(make("x", "new")),
        Deleted(Namespace, ObjectKey("", "y")),
        Problem("a broken", None),
    ]


def test_a_file_that_was_bad_from_the_start_gives_its_good_documents(merged):
    merged.set_manifest("a", load("a", make("x"), errors=["broken"]))
    assert merged.collect_events() == [Applied(make("x")), Problem("a broken", "broken")]


def test_a_file_that_stays_bad_follows_its_good_documents_and_loses_none(merged):
    merged.set_manifest("a", load("a", make("x"), make("y"), errors=["broken"]))
    merged.collect_events()
    merged.set_manifest("a", load("a", make("x", "new"), errors=["broken"]))
    assert merged.collect_events() == [Applied(make("x", "new"))]


def test_a_removed_file_takes_its_objects_and_problems_along(merged):
    merged.set_manifest("a", load("a", make("x"), errors=["broken"]))
    merged.collect_events()
    merged.remove("a")
    assert merged.collect_events() == [Deleted(Namespace, ObjectKey("", "x")), Problem("a broken", None)]


def test_problems_of_one_origin_are_reported_together(merged):
    errors = (ManifestError("a", "first"), ManifestError("a", "second"))
    merged.set_manifest("a", Manifest(errors=errors))
    assert merged.collect_events() == [Problem("a", "first; second")]


def test_the_lists_hold_every_kind_and_are_sorted(merged):
    merged.set_manifest("a", load("a", make("y"), make("x"), errors=["broken"]))
    events = merged.collect_lists(CORE_KINDS)
    assert [event.type for event in events if isinstance(event, Replaced)] == [kind.type for kind in CORE_KINDS]
    assert Replaced(Namespace, [make("x"), make("y")]) in events
    assert events[-1] == Problem("a broken", "broken")
    assert merged.collect_events() == []


CONTENTS = st.lists(st.builds(make, st.sampled_from("xyz"), st.sampled_from("12")), max_size=3)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.none() | CONTENTS, st.booleans()), max_size=12))
def test_following_the_events_gives_what_a_fresh_start_would(steps):
    merged, followed, files = MergedManifests(), Snapshot(CORE_KINDS), {}
    for path, resources, is_asked in steps:
        if resources is None:
            merged.remove(path)
            files.pop(path, None)
        else:
            merged.set_manifest(path, load(path, *resources))
            files[path] = resources
        if is_asked:
            followed.apply(merged.collect_events(), source="s")
    followed.apply(merged.collect_events(), source="s")
    fresh, started = MergedManifests(), Snapshot(CORE_KINDS)
    for path, resources in files.items():
        fresh.set_manifest(path, load(path, *resources))
    started.apply(fresh.collect_lists(CORE_KINDS), source="s")
    assert followed.keys(Namespace) == started.keys(Namespace)
    for key in started.keys(Namespace):
        assert followed.get(Namespace, key) == started.get(Namespace, key)
    assert followed.problems == started.problems
