"""Which names the setting `allow` matches."""

import pytest
from maesh_egress.allowed_names import AllowedNames, check_pattern


def test_without_a_pattern_no_name_is_allowed() -> None:
    assert "api.example.com" not in AllowedNames(())


@pytest.mark.parametrize(
    ("name", "is_allowed"),
    [
        ("api.example.com", True),
        ("www.api.example.com", False),
        ("a.example.org", True),
        ("a.b.example.org", True),
        ("example.org", False),
        ("aexample.org", False),
        ("example.org.evil.test", False),
    ],
)
def test_a_pattern_is_a_name_or_all_names_below_a_domain(name: str, is_allowed: bool) -> None:
    assert (name in AllowedNames(("api.example.com", "*.example.org"))) is is_allowed


def test_a_star_is_every_name() -> None:
    assert "anything.test" in AllowedNames(("*",))


@pytest.mark.parametrize("pattern", ["", "*.", "a.*.com", "**", "API.example.com", "api.example.com.", "*example.com"])
def test_a_pattern_that_cannot_match_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="allow"):
        check_pattern(pattern)
