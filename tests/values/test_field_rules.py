"""Names and values of header fields in, whether a middleware may set them out."""

import pytest

from maesh_core.values.field_rules import UNTOUCHABLE, find_header_problem, is_shadowing_name


@pytest.mark.parametrize("name", ["X-Team", "x_team", "Cookie", "Forwarded", "X-Forwarded-Prefix", "X-Maesh-Clients"])
def test_an_ordinary_field_can_be_set(name):
    assert find_header_problem(name, "a b; c=\xe9") is None


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "caf\xe9", "\ud800"])
def test_what_is_not_a_token_is_no_name(name):
    assert find_header_problem(name) == "is not the name of a header"


@pytest.mark.parametrize("name", sorted(UNTOUCHABLE))
def test_fields_of_the_mesh_cannot_be_set_in_any_case_nor_by_names_that_shadow_them(name):
    text = name.decode()
    assert find_header_problem(text) == find_header_problem(text.title()) == "is a header that the mesh itself sets"
    if "-" in text:
        problem = find_header_problem(text.replace("-", "_", 1))
        assert problem == "is for some servers a header that the mesh itself sets"


@pytest.mark.parametrize("name", ["X_Forwarded_Prefix", "x-forwarded_tls"])
def test_any_forwarded_field_with_underscores_is_refused(name):
    assert is_shadowing_name(name.lower().encode())
    assert find_header_problem(name) == "is for some servers a header that the mesh itself sets"


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\x00", "\x7f", "\ud800"])
def test_a_value_must_fit_into_one_line(value):
    assert find_header_problem("x-team", value) == "does not fit into a header"
