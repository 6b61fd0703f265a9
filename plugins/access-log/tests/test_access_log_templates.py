"""Templates are checked when the process starts."""

import pytest
from maesh_access_log.templates import (
    FIELD_LIMIT,
    FIELDS,
    HEADER_LIMIT,
    LITERAL_LIMIT,
    check_format,
    check_headers,
    parse_template,
)


@pytest.mark.parametrize(
    ("text", "literals", "names"),
    [
        ("%{RequestPath}", ("", ""), ("RequestPath",)),
        ("a %{Kind}%{Reason} b", ("a ", "", " b"), ("Kind", "Reason")),
        ("100%% %{Kind}%%", ("100% ", "%"), ("Kind",)),
        ('{"p": "%{request_User-Agent}"}', ('{"p": "', '"}'), ("request_User-Agent",)),
    ],
)
def test_a_template_is_split_at_its_fields(text, literals, names):
    assert parse_template(text) == (literals, names)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not common, json or a template"),
        ("jsno", "'jsno' is not common, json or a template"),
        ("%{RequestPaht}", "there is no field 'RequestPaht'; did you mean RequestPath?"),
        ("%{request_}", "there is no field"),
        ("%{request_a b}", "there is no field"),
        ("%{}", "there is no field ''"),
        ("%{Kind} 5%", "write %% for a percent sign"),
        ("%{Kind} %{Reason", "write %% for a percent sign"),
        ("%{Kind}\n", "line ends"),
        ("%{Kind}\x1b", "control characters"),
        ("%{Kind}" * (FIELD_LIMIT + 1), "at most 40 fields"),
        ("%{Kind}" + "ü" * (LITERAL_LIMIT // 2 + 1), "1024 bytes of other text"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(text, problem):
    with pytest.raises(ValueError, match=r"^format: ") as caught:
        check_format(text)
    assert problem in str(caught.value)


def test_the_named_formats_are_no_templates():
    check_format("common")
    check_format("json")


@pytest.mark.parametrize("names", [["a b"], [""], ["a:"], ["x"] * (HEADER_LIMIT + 1), ["x" * 600]])
def test_headers_that_cannot_be_added_are_refused(names):
    with pytest.raises(ValueError, match=r"^headers: "):
        check_headers(names)


def test_a_field_shows_its_meaning():
    assert repr(FIELDS["Kind"]).startswith("<Field `http`")
