"""What the user names is a path, a revision or the cluster; a revision without a path has the other one's."""

import pytest

from maesh_core.cli.diff.states import NamedState, parse_states
from maesh_core.errors import SettingsError


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("a", "b", (("a", "", "a"), ("b", "", "b"))),
        ("git:main", "deploy", (("git:main", "main", "deploy"), ("deploy", "", "deploy"))),
        ("git:v1:x", "git:v2", (("git:v1:x", "v1", "x"), ("git:v2", "v2", "x"))),
        ("git:v1", "git:v2", (("git:v1", "v1", "."), ("git:v2", "v2", "."))),
        ("cluster", "deploy", (("cluster", "", ""), ("deploy", "", "deploy"))),
    ],
)
def test_states_are_parsed(old, new, expected):
    assert parse_states(old, new) == tuple(NamedState(*each) for each in expected)


@pytest.mark.parametrize(("old", "new"), [("cluster", "cluster"), ("git:", "x"), ("git::x", "x"), ("", "x")])
def test_what_names_no_state_is_refused(old, new):
    with pytest.raises(SettingsError):
        parse_states(old, new)
