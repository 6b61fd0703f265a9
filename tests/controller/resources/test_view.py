from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import IndexRead, ObjectRead
from maesh_core.model.events import Applied
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import Namespace, ObjectMeta, Pod


def test_reads_of_what_is_absent_are_recorded_too() -> None:
    view = Snapshot(CORE_KINDS).view()
    assert view.get(Namespace, ObjectKey("", "apps")) is None
    assert view.find(Pod, "label", "apps/app=x") == ()
    assert view.reads == {ObjectRead(Namespace, ObjectKey("", "apps")), IndexRead(Pod, "label", "apps/app=x")}


def test_a_view_starts_with_nothing_recorded() -> None:
    snapshot = Snapshot(CORE_KINDS)
    snapshot.view().get(Namespace, ObjectKey("", "apps"))
    assert snapshot.view().reads == set()


def test_what_is_found_is_the_object_itself() -> None:
    snapshot = Snapshot(CORE_KINDS)
    namespace = Namespace(metadata=ObjectMeta(name="apps"))
    snapshot.apply([Applied(namespace)], source="s")
    assert snapshot.view().get(Namespace, namespace.key) is namespace


def test_a_plain_pair_is_recorded_as_the_key_it_equals() -> None:
    view = Snapshot(CORE_KINDS).view()
    view.get(Pod, ("apps", "p"))  # type: ignore[arg-type]
    assert {type(read[1]) for read in view.reads} == {ObjectKey}
