"""Plans are shown as diffs that people can read."""

from maesh_core.controller.dns.objects import CONFIG_MAPS
from maesh_core.controller.dns.plan import Plan, build_change, join_plans
from maesh_core.model.keys import ObjectKey

BEFORE = {
    "kind": "ConfigMap",
    "metadata": {"name": "coredns", "namespace": "kube-system", "managedFields": [{"a": 1}]},
    "data": {"Corefile": "a\nb\n"},
}


def test_a_change_of_a_text_is_shown_by_lines():
    changes = build_change(CONFIG_MAPS, BEFORE, lambda found: {**found, "data": {"Corefile": "a\nb\nc"}}, "changed")
    assert [(change.key, change.title) for change in changes] == [
        (ObjectKey("kube-system", "coredns"), "ConfigMap kube-system/coredns")
    ]
    assert Plan(changes=tuple(changes)).render_diff() == (
        "--- ConfigMap kube-system/coredns\n"
        "+++ ConfigMap kube-system/coredns\n"
        "@@ -1,6 +1,7 @@\n"
        "-data.Corefile: |\n"
        "+data.Corefile: |-\n"
        "   a\n"
        "   b\n"
        "+  c\n"
        " kind: ConfigMap\n"
        " metadata.name: coredns\n"
        " metadata.namespace: kube-system\n"
    )


def test_new_and_deleted_objects_have_no_other_side():
    gone = build_change(CONFIG_MAPS, BEFORE, lambda _: None, "deleted")
    made = build_change(CONFIG_MAPS, None, lambda _: {"a": ["b"]}, "made", key=ObjectKey("a", "b"))
    diff = Plan(changes=(*gone, *made)).render_diff()
    assert "+++ /dev/null\n" in diff
    assert diff.endswith("--- /dev/null\n+++ ConfigMap a/b\n@@ -0,0 +1 @@\n+a[0]: b\n")


def test_plans_are_joined_in_their_order():
    gone = build_change(CONFIG_MAPS, BEFORE, lambda _: None, "deleted")
    joined = join_plans([Plan(changes=tuple(gone), warnings=("a",)), Plan(), Plan(warnings=("b",))])
    assert joined == Plan(changes=tuple(gone), warnings=("a", "b"))
    assert join_plans([]) == Plan()


def test_an_edit_that_changes_nothing_is_no_change():
    assert build_change(CONFIG_MAPS, BEFORE, dict, "same") == []
    assert Plan().render_diff() == ""
