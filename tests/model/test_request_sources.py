"""Texts of sources in, checked sources or errors out; paths in, the values of templates out."""

import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.model.request_sources import (
    SOURCES_LIMIT,
    TEMPLATE_LIMIT,
    compile_template,
    describe_sources,
    find_template_problem,
    parse_sources,
)


class Claims:
    """A kind of sources of a plugin, all of whose arguments have the same problem."""

    def __init__(self, problem):
        self._problem = problem

    def find_argument_problem(self, argument):
        return self._problem


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("ip", ("ip",)),
        ("account", ("account",)),
        ("host", ("host",)),
        ("header:X-User", ("header:x-user",)),
        ("ip, path:/login", ("ip", "path:/login")),
        ("path:/Users/{id}/**", ("path:/Users/{id}/**",)),
        ("claim:sub", ("claim:sub",)),
    ],
)
def test_sources_are_separated_by_commas(text, sources):
    assert parse_sources(text, {"claim": Claims(None)}) == sources


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is not one of ip, account, host, header:NAME, path:TEMPLATE, claim:…"),
        ("cookie", "is not one of ip"),
        ("ip:", "is not one of ip"),
        ("ip,", "is not one of ip"),
        ("header:", "is not one of ip"),
        ("header:a b", "is not one of ip"),
        ("claim", "is not one of ip"),
        ("claim:sub", "has an invalid source: no claims today"),
        ("path:", "has an invalid path template: it does not start with /"),
        ("ip,host,ip", "has a source twice"),
        (",".join(f"header:x{number}" for number in range(SOURCES_LIMIT + 1)), "has more than 4 sources"),
    ],
)
def test_an_invalid_text_is_an_error_that_names_the_rule(text, rule):
    with pytest.raises(ValueError, match=re.escape(rule)):
        parse_sources(text, {"claim": Claims("no claims today")})


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("/", None),
        ("/a/", None),
        ("/a/{id}/*/b.c~d/%20/**", None),
        ("a", "it does not start with /"),
        ("/a//b", "segment '' is not a text, {NAME} or *"),
        ("/a/**/b", "** is not its last segment"),
        ("/{1}", "segment '{1}' is not a text, {NAME} or *"),
        ("/a{id}", "segment 'a{id}' is not a text, {NAME} or *"),
        ("/a?b", "segment 'a?b' is not a text, {NAME} or *"),
        ("/../a", "segment '..' changes the path"),
        ("/" + "a" * TEMPLATE_LIMIT, "it has more than 512 characters"),
    ],
)
def test_a_template_consists_of_segments(template, problem):
    assert find_template_problem(template) == problem


@pytest.mark.parametrize(
    ("template", "path", "value"),
    [
        ("/", b"/", b""),
        ("/", b"/a", None),
        ("/login", b"/login", b""),
        ("/login/", b"/login", b""),
        ("/login", b"/login/", b""),
        ("/login", b"/login;a=b", b""),
        ("/login", b"/Login", None),
        ("/login", b"/login/now", None),
        ("/users/{id}", b"/users/17", b"17"),
        ("/users/{id}", b"/users/17;a=b", b"17"),
        ("/users/{id}", b"/users/", None),
        ("/users/{id}", b"/users/17/x", None),
        ("/{a}/*/{b}", b"/1/x/2", b"1/2"),
        ("/a/**", b"/a", b""),
        ("/a/**", b"/a/b/c", b""),
        ("/a/**", b"/ab", None),
        ("/a%20b", b"/a b", b""),
        ("/a.b", b"/axb", None),
    ],
)
def test_a_path_has_the_values_of_the_names_or_does_not_match(template, path, value):
    assert compile_template(template)(path) == value


@given(st.lists(st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), min_size=1, max_size=5))
def test_a_template_of_texts_matches_its_own_path_and_no_longer_one(segments):
    path = "".join(f"/{quote(segment, safe='')}" for segment in segments)
    template = path
    if find_template_problem(template) is None:
        decoded = "".join(f"/{segment}" for segment in segments).encode()
        if b"/" not in decoded.replace(b"/", b"", len(segments)):
            assert compile_template(template)(decoded) == b""
            assert compile_template(template)(decoded + b"/x") is None


def test_accounts_need_the_setting_that_sends_them_to_proxies():
    assert parse_sources("ip,account") == ("ip", "account")
    with pytest.raises(ValueError, match=r"needs the accounts of clients: --set x\.accounts=true"):
        parse_sources("ip,account", accounts_setting="x.accounts")
    assert parse_sources("ip", accounts_setting="x.accounts") == ("ip",)


def test_a_source_of_a_plugin_that_is_off_names_its_flag():
    with pytest.raises(ValueError, match="has a source of plugin jwt, which is off; --jwt switches it on"):
        parse_sources("ip,claim:sub")


@given(st.text(max_size=40))
def test_any_text_is_a_template_or_has_a_problem(text):
    if find_template_problem(text) is None:
        compile_template(text)(b"/")


def test_sources_are_described_for_people():
    sources = ("ip", "account", "host", "header:x-user", "path:/login", "path:/users/{id}", "claim:sub")
    assert describe_sources(sources) == (
        "address and service account and host and value of header x-user and request path /login"
        " and value in the path /users/{id} and claim sub"
    )
