"""Requests in, what identifies their clients out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.proxy.routing.request_sources import AMBIGUOUS, RequestSources
from maesh_testing import FakeExchange


class Planets:
    """A source of a plugin."""

    name = "planet"

    def build_reader(self, argument):
        return lambda exchange: argument


SOURCES = RequestSources(lambda address: {"10.0.0.1": "web@shop"}.get(address, ""))
SOURCES.plugin_sources = {"planet": Planets()}


def read(*sources, **options):
    return SOURCES.build_reader(sources)(FakeExchange(**options))


def test_the_address_alone_needs_no_function():
    assert SOURCES.build_reader(["ip"]) is None


def test_a_source_reads_one_value():
    request = {"host": b"a.b", "client_address": "10.0.0.1", "target": b"/users/7?x=1", "headers": {b"X-User": b"u"}}
    found = [read(each, **request) for each in ("host", "account", "header:x-user", "path:/users/{id}", "planet:mars")]
    assert found == [b"a.b", "web@shop", b"u", b"7", "mars"]


def test_what_is_missing_has_a_value_of_its_own():
    assert read("header:x-user") == b""
    assert read("account", client_address="10.0.0.2") == "10.0.0.2"


def test_other_paths_are_left_alone():
    assert read("path:/login", target=b"/") is None
    assert read("ip", "path:/login", target=b"/") is None


@pytest.mark.parametrize("target", [b"//login", b"/a/../login", b"/%2e/login", b"/a%2flogin", b"/login%00"])
def test_a_path_that_a_server_could_read_in_another_way_counts_for_every_template(target):
    assert read("path:/other", target=target) == AMBIGUOUS


@pytest.mark.parametrize("target", [b"/login", b"/login/", b"/%6cogin", b"/login?next=/", b"/login;jsessionid=1"])
def test_no_spelling_of_a_path_evades_its_template(target):
    assert read("path:/login", target=target) == b""


@pytest.mark.parametrize("sources", [(), ("cookie",), ("header:",), ("claim:sub",)])
def test_an_unknown_source_is_an_error(sources):
    with pytest.raises(ValueError, match="source"):
        SOURCES.build_reader(sources)


@given(st.tuples(st.binary(), st.binary()), st.tuples(st.binary(), st.binary()))
def test_no_two_combinations_of_values_look_the_same(first, second):
    sources = RequestSources(str)
    values = {"a": b"", "b": b""}

    class Fixed:
        name = "fixed"

        def build_reader(self, argument):
            return lambda exchange: values[argument]

    sources.plugin_sources = {"fixed": Fixed()}
    reader = sources.build_reader(["fixed:a", "fixed:b"])
    found = []
    for a, b in (first, second):
        values.update(a=a, b=b)
        found.append(reader(FakeExchange()))
    assert (found[0] == found[1]) == (first == second)
