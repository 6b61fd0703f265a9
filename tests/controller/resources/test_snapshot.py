from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.controller.resources.snapshot import Snapshot
from maesh_core.controller.resources.view import IndexRead, ObjectRead, RecordingView, VersionRead
from maesh_core.errors import PluginError
from maesh_core.model.events import Applied, Deleted, Event, Problem, Replaced
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import CheckedResource, Namespace, ObjectMeta, Pod, PodStatus, Resource, ResourceKind


class Widget(Resource, frozen=True):
    color: str = ""


def _index_widget(widget: Widget) -> list[str]:
    if widget.color == "bad":
        raise ValueError("no such color")
    return [widget.color]


WIDGETS = ResourceKind(
    name="Widget", plural="widgets", api_versions=("example.org/v1",), type=Widget, indexes={"color": _index_widget}
)
LABELLED = {kind.name: kind for kind in CORE_KINDS}["Pod"]
PODS = msgspec.structs.replace(LABELLED, indexes={"label": LABELLED.indexes["label"]})
"""Pods with one index alone, so that what is affected is short to write down."""
KINDS = (*(kind for kind in CORE_KINDS if kind.name != "Pod"), PODS, WIDGETS)


def make_pod(name: str, ip: str = "127.0.0.1", **labels: str) -> Pod:
    return Pod(metadata=ObjectMeta(name=name, namespace="apps", labels=labels), status=PodStatus(pod_ip=ip))


def make_widget(name: str, color: str) -> Widget:
    return Widget(metadata=ObjectMeta(name=name, namespace="apps"), color=color)


def build_asked_snapshot() -> Snapshot:
    """Build one whose indexes have been asked, and so are kept."""
    snapshot = Snapshot(KINDS)
    assert snapshot.find(Pod, "label", "apps/app=web") == ()
    assert snapshot.find(Widget, "color", "red") == ()
    return snapshot


def pod_read(name: str) -> ObjectRead:
    return ObjectRead(Pod, ObjectKey("apps", name))


def label_read(label: str) -> IndexRead:
    return IndexRead(Pod, "label", f"apps/{label}")


def test_a_new_object_affects_its_key_and_its_index_values() -> None:
    snapshot = build_asked_snapshot()
    affected = snapshot.apply([Applied(make_pod("a", app="web"))], source="s")
    assert affected == {pod_read("a"), label_read("app=web")}


def test_an_index_that_nobody_asked_is_not_kept_and_has_everything_once_it_is_asked() -> None:
    snapshot = Snapshot(KINDS)
    affected = snapshot.apply([Applied(make_pod("a", app="web")), Applied(make_widget("w", "bad"))], source="s")
    assert affected == {pod_read("a"), ObjectRead(Widget, ObjectKey("apps", "w"))}
    assert snapshot.problems == {}
    assert snapshot.find(Pod, "label", "apps/app=web") == (make_pod("a", app="web"),)
    assert snapshot.find(Widget, "color", "red") == ()
    assert "no such color" in "".join(snapshot.problems.values())


def test_an_object_reported_again_unchanged_affects_nothing() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Applied(make_pod("a", app="web"))], source="s")
    assert snapshot.apply([Applied(make_pod("a", app="web"))], source="s") == frozenset()


class Checked(CheckedResource, frozen=True):
    color: str = ""


CHECKED = ResourceKind(
    name="Checked",
    plural="checkeds",
    api_versions=("example.org/v1",),
    type=Checked,
    read=lambda metadata, fields: Checked(metadata=metadata, faults=()),
    indexes={"color": lambda found: [found.color]},
)


def test_a_version_of_a_checked_object_without_another_change_repeats_no_build_and_is_the_object_from_then_on() -> None:
    snapshot = Snapshot((CHECKED, WIDGETS))
    key = ObjectKey("apps", "a")

    def make(type_: type[Resource], version: str, color: str = "red") -> Applied:
        fields = {"faults": ()} if type_ is Checked else {}
        metadata = ObjectMeta(name="a", namespace="apps", resource_version=version)
        return Applied(type_(metadata=metadata, color=color, **fields))  # type: ignore[call-arg]

    snapshot.apply([make(Checked, "1"), make(Widget, "1")], source="s")
    assert snapshot.find(Checked, "color", "red")[0].metadata.resource_version == "1"
    assert snapshot.apply([make(Checked, "2")], source="s") == {VersionRead(key, Checked)}
    assert snapshot.find(Checked, "color", "red")[0].metadata.resource_version == "2"
    reads: set[object] = {VersionRead(key, Checked)}
    assert ObjectRead(Checked, key) not in reads
    assert ObjectRead(Checked, key) in snapshot.apply([make(Checked, "3", "blue")], source="s")
    assert snapshot.apply([make(Widget, "2")], source="s") == {ObjectRead(Widget, key)}


def test_an_object_that_moves_affects_where_it_was_and_where_it_is() -> None:
    snapshot = build_asked_snapshot()
    snapshot.apply([Applied(make_pod("a", app="web"))], source="s")
    affected = snapshot.apply([Applied(make_pod("a", app="db"))], source="s")
    assert affected == {pod_read("a"), label_read("app=web"), label_read("app=db")}
    assert snapshot.find(Pod, "label", "apps/app=web") == ()


def test_deleting_affects_where_the_object_was() -> None:
    snapshot = build_asked_snapshot()
    snapshot.apply([Applied(make_pod("a", app="web"))], source="s")
    affected = snapshot.apply([Deleted(Pod, ObjectKey("apps", "a"))], source="s")
    assert affected == {pod_read("a"), label_read("app=web")}
    assert snapshot.get(Pod, ObjectKey("apps", "a")) is None


def test_deleting_what_is_not_there_affects_nothing() -> None:
    assert Snapshot(KINDS).apply([Deleted(Pod, ObjectKey("apps", "a"))], source="s") == frozenset()


def test_found_objects_come_sorted_by_key_and_follow_changes() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Applied(make_pod(name, app="web")) for name in ("c", "a", "b")], source="s")
    assert [pod.metadata.name for pod in snapshot.find(Pod, "label", "apps/app=web")] == ["a", "b", "c"]
    snapshot.apply([Applied(make_pod("b", "127.0.0.9", app="web"))], source="s")
    assert [pod.status.pod_ip for pod in snapshot.find(Pod, "label", "apps/app=web")][1] == "127.0.0.9"


def test_keys_of_a_kind_are_sorted() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Applied(make_pod("b")), Applied(make_pod("a"))], source="s")
    assert snapshot.keys(Pod) == [ObjectKey("apps", "a"), ObjectKey("apps", "b")]


def test_a_list_takes_away_what_is_not_in_it_and_affects_only_what_differs() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Replaced(Pod, [make_pod("a"), make_pod("b"), make_pod("c")])], source="s")
    affected = snapshot.apply([Replaced(Pod, [make_pod("b"), make_pod("c", "127.0.0.2"), make_pod("d")])], source="s")
    assert affected == {pod_read("a"), pod_read("c"), pod_read("d")}
    assert [key.name for key in snapshot.keys(Pod)] == ["b", "c", "d"]


def test_a_list_of_one_source_leaves_the_objects_of_another() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Applied(make_pod("a"))], source="first")
    assert snapshot.apply([Replaced(Pod, [])], source="second") == frozenset()
    assert snapshot.get(Pod, ObjectKey("apps", "a")) is not None


def test_the_object_of_the_first_source_is_used_and_the_problem_names_both() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Applied(make_pod("a", "127.0.0.1"))], source="first")
    assert snapshot.apply([Applied(make_pod("a", "127.0.0.2"))], source="second") == frozenset()
    assert snapshot.get(Pod, ObjectKey("apps", "a")) == make_pod("a", "127.0.0.1")
    (text,) = snapshot.problems.values()
    assert "first" in text
    assert "second" in text
    assert "a@apps" in text


def test_when_the_first_source_withdraws_an_object_that_of_the_other_is_used() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Applied(make_pod("a", "127.0.0.1"))], source="first")
    snapshot.apply([Applied(make_pod("a", "127.0.0.2"))], source="second")
    affected = snapshot.apply([Replaced(Pod, [])], source="first")
    assert affected == {pod_read("a")}
    assert snapshot.get(Pod, ObjectKey("apps", "a")) == make_pod("a", "127.0.0.2")
    assert snapshot.problems == {}


def test_when_the_other_source_withdraws_its_object_only_the_problem_goes() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Applied(make_pod("a", "127.0.0.1"))], source="first")
    snapshot.apply([Applied(make_pod("a", "127.0.0.2"))], source="second")
    assert snapshot.apply([Deleted(Pod, ObjectKey("apps", "a"))], source="second") == frozenset()
    assert snapshot.problems == {}
    assert snapshot.apply([Deleted(Pod, ObjectKey("apps", "a"))], source="first") == {pod_read("a")}


def test_problems_are_kept_by_origin_and_withdrawn() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Problem("a.yaml", "broken"), Problem("b.yaml", "broken too")], source="s")
    snapshot.apply([Problem("a.yaml", "broken differently")], source="s")
    assert snapshot.problems == {"a.yaml": "broken differently", "b.yaml": "broken too"}
    snapshot.apply([Problem("a.yaml", None), Problem("unknown", None)], source="s")
    assert snapshot.problems == {"b.yaml": "broken too"}


def test_an_index_function_that_raises_harms_its_object_alone() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Applied(make_widget(name, color)) for name, color in (("a", "bad"), ("b", "red"))], source="s")
    assert snapshot.find(Widget, "color", "red") == (make_widget("b", "red"),)
    assert snapshot.get(Widget, ObjectKey("apps", "a")) == make_widget("a", "bad")
    assert "no such color" in "".join(snapshot.problems.values())


def test_a_search_finds_what_the_index_would_and_keeps_none() -> None:
    snapshot = Snapshot(KINDS)
    widgets = [make_widget("a", "red"), make_widget("b", "bad"), make_widget("c", "red")]
    snapshot.apply([Applied(widget) for widget in reversed(widgets)], source="s")
    assert list(snapshot.search(Widget, "color", "red")) == [widgets[0], widgets[2]]
    assert snapshot.problems == {}
    assert snapshot.apply([Applied(make_widget("a", "blue"))], source="s") == {
        ObjectRead(Widget, ObjectKey("apps", "a"))
    }
    for read in (snapshot.find, snapshot.search):
        assert list(read(Widget, "color", "red")) == [widgets[2]]
    with pytest.raises(PluginError, match="no index 'size'"):
        snapshot.search(Widget, "size", "red")


def test_an_object_whose_index_function_starts_to_raise_is_no_longer_found_and_recovers() -> None:
    snapshot = build_asked_snapshot()
    snapshot.apply([Applied(make_widget("a", "red"))], source="s")
    affected = snapshot.apply([Applied(make_widget("a", "bad"))], source="s")
    assert IndexRead(Widget, "color", "red") in affected
    assert snapshot.find(Widget, "color", "red") == ()
    snapshot.apply([Applied(make_widget("a", "blue"))], source="s")
    assert snapshot.find(Widget, "color", "blue") == (make_widget("a", "blue"),)
    assert snapshot.problems == {}


def test_a_type_that_nothing_declares_is_a_problem_of_its_source_alone() -> None:
    snapshot = Snapshot([kind for kind in KINDS if kind is not WIDGETS])
    affected = snapshot.apply([Applied(make_widget("a", "red")), Applied(make_pod("a"))], source="odd")
    assert affected == {pod_read("a")}
    assert "odd reports Widget" in "".join(snapshot.problems.values())


def test_reading_what_was_never_declared_is_a_plugins_error() -> None:
    snapshot = Snapshot(CORE_KINDS)
    with pytest.raises(PluginError, match="no index 'color'"):
        snapshot.view().find(Pod, "color", "red")
    with pytest.raises(PluginError, match="Widget"):
        snapshot.view().get(Widget, ObjectKey("apps", "a"))


def test_two_kinds_of_one_type_are_refused() -> None:
    with pytest.raises(PluginError, match="Namespace"):
        Snapshot((*CORE_KINDS, ResourceKind(name="N", plural="n", api_versions=("v1",), type=Namespace)))


# --- laws --------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from("abc")
POD_OBJECTS = st.builds(
    lambda name, ip, labels: make_pod(name, ip, **labels),
    NAMES,
    st.sampled_from(["127.0.0.1", "127.0.0.2"]),
    st.dictionaries(st.sampled_from(["app", "tier"]), st.sampled_from("xy"), max_size=2),
)
WIDGET_OBJECTS = st.builds(make_widget, NAMES, st.sampled_from(["red", "blue", "bad"]))
OBJECTS: st.SearchStrategy[Resource] = st.one_of(POD_OBJECTS, WIDGET_OBJECTS)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    OBJECTS.map(Applied),
    st.builds(lambda type_, name: Deleted(type_, ObjectKey("apps", name)), st.sampled_from([Pod, Widget]), NAMES),
    st.lists(POD_OBJECTS, max_size=3, unique_by=lambda pod: pod.key).map(lambda pods: Replaced(Pod, pods)),
)
TOLD = st.lists(st.tuples(EVENTS, st.sampled_from(["first", "second"])), max_size=12)


def read_everything(view: RecordingView) -> list[tuple[object, object]]:
    """Read each object and each index value that the strategies can make; pair each read with its answer."""
    answers: list[tuple[object, object]] = []
    for name in "abc":
        for type_ in (Pod, Widget):
            key = ObjectKey("apps", name)
            answers.append((ObjectRead(type_, key), view.get(type_, key)))
    colors = ("red", "blue", "bad")
    answers.extend((IndexRead(Widget, "color", color), view.find(Widget, "color", color)) for color in colors)
    for label in ("app", "tier"):
        for text in "xy":
            value = f"apps/{label}={text}"
            answers.append((IndexRead(Pod, "label", value), view.find(Pod, "label", value)))
    return answers


def tell(snapshot: Snapshot, told: Sequence[tuple[Event, str]]) -> frozenset[object]:
    return frozenset().union(*(snapshot.apply([event], source=source) for event, source in told))


@given(before=TOLD, after=TOLD)
def test_a_read_that_is_not_affected_gives_the_same_again(
    before: list[tuple[Event, str]], after: list[tuple[Event, str]]
) -> None:
    snapshot = Snapshot(KINDS)
    tell(snapshot, before)
    answers = read_everything(snapshot.view())
    affected = tell(snapshot, after)
    for (read, old), (_, new) in zip(answers, read_everything(snapshot.view()), strict=True):
        assert read in affected or old == new


@given(before=TOLD, event=EVENTS)
def test_one_event_affects_an_object_only_if_it_changed(before: list[tuple[Event, str]], event: Event) -> None:
    snapshot = Snapshot(KINDS)
    tell(snapshot, before)
    answers = read_everything(snapshot.view())
    affected = snapshot.apply([event], source="first")
    for (read, old), (_, new) in zip(answers, read_everything(snapshot.view()), strict=True):
        if isinstance(read, ObjectRead):
            assert (read in affected) == (old != new)


@given(before=TOLD, pods=st.lists(POD_OBJECTS, max_size=3, unique_by=lambda pod: pod.key))
def test_a_list_equals_deleting_and_applying(before: list[tuple[Event, str]], pods: list[Pod]) -> None:
    replaced, stepwise = Snapshot(KINDS), Snapshot(KINDS)
    for snapshot in (replaced, stepwise):
        tell(snapshot, before)
    in_list = {pod.key for pod in pods}
    gone = [ObjectKey("apps", name) for name in "abc" if ObjectKey("apps", name) not in in_list]
    affected = replaced.apply([Replaced(Pod, pods)], source="first")
    steps: list[Event] = [*(Deleted(Pod, key) for key in gone), *(Applied(pod) for pod in pods)]
    assert affected == stepwise.apply(steps, source="first")
    assert read_everything(replaced.view()) == read_everything(stepwise.view())
    assert replaced.problems == stepwise.problems


@given(told=TOLD)
def test_the_index_always_agrees_with_the_objects(told: list[tuple[Event, str]]) -> None:
    snapshot = Snapshot(KINDS)
    for event, source in told:
        snapshot.apply([event], source=source)
        pods = [pod for key in snapshot.keys(Pod) if (pod := snapshot.get(Pod, key)) is not None]
        for text in "xy":
            expected = tuple(pod for pod in pods if pod.metadata.labels.get("app") == text)
            assert snapshot.find(Pod, "label", f"apps/app={text}") == expected


def test_a_copy_keeps_the_objects_that_it_had() -> None:
    snapshot = Snapshot(KINDS)
    snapshot.apply([Applied(make_pod("a", app="web"))], source="s")
    copied = snapshot.copy(Pod)
    snapshot.apply([Deleted(Pod, ObjectKey("apps", "a")), Applied(make_pod("b", app="web"))], source="s")
    assert copied.keys(Pod) == [ObjectKey("apps", "a")]
    assert [pod.metadata.name for pod in copied.search(Pod, "label", "apps/app=web")] == ["a"]
    assert [pod.metadata.name for pod in snapshot.search(Pod, "label", "apps/app=web")] == ["b"]
    with pytest.raises(PluginError):
        copied.keys(Widget)
