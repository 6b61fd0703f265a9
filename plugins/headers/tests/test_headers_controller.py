"""Annotations or filters in, header changes or an error out."""

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_headers.controller import CHANGE_LIMIT, REQUEST_FILTER, RESPONSE_FILTER, HeadersBuilder
from maesh_headers.settings import HeaderChange, HeaderChanges

from maesh_core.plugin import ConfigurationError, FilterRequest, ObjectKey, PortNode, ServiceNode

SERVICE = ServiceNode(key=ObjectKey("shop", "cart"), traffic_type="http")
BUILDER = HeadersBuilder()


def send(built):
    """Return what the proxy would get."""
    return built and msgspec.convert(msgspec.json.decode(msgspec.json.encode(built)), HeaderChanges)


def build(request=None, response=None):
    texts = {"request-headers": request, "response-headers": response}
    return send(BUILDER.build_settings({name: text for name, text in texts.items() if text is not None}, SERVICE))


def build_filter(*filters):
    requests = [
        FilterRequest(name=f"{name}HeaderModifier", value=value, matches=(), port=PortNode(number=80))
        for name, value in filters
    ]
    return send(BUILDER.build_filter(requests, SERVICE))


def put(action, name, value=""):
    return HeaderChange(action=action, name=name, value=value)


def test_a_service_without_the_annotations_has_no_changes():
    assert build() is None


def test_each_line_is_a_change_and_order_is_kept():
    found = build("set X-Team=payments\n\n  add Via = 1.1 mesh \r\nremove X-Debug\n")
    assert found.request == (put("set", "X-Team", "payments"), put("add", "Via", "1.1 mesh"), put("remove", "X-Debug"))
    assert found.response == ()


def test_a_value_may_have_equals_signs_semicolons_commas_and_colons():
    policy = "default-src 'self'; img-src *, data:; set X=y"
    assert build(response=f"set Content-Security-Policy={policy}").response[0].value == policy
    assert build("set X-Sum=a=b=").request[0].value == "a=b="


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "has no change"),
        (" \n ", "has no change"),
        ("X-Team=payments", "is not set NAME=VALUE, add NAME=VALUE or remove NAME"),
        ("set X-Team", "is not set NAME=VALUE"),
        ("set X-Team: payments", "is not set NAME=VALUE"),
        ("SET X-Team=payments", "is not set NAME=VALUE"),
        ("remove X-Team=payments", "'X-Team=payments' is not the name of a header"),
        ("remove", "is not set NAME=VALUE"),
        ("set =x", "is not set NAME=VALUE"),
        ("set X-Team=", "'X-Team' has no value"),
        ("set X@Team=x", "'X@Team' is not the name of a header"),
        ("set X-Team=caf\xe9", "the value of 'X-Team' is not printable ASCII"),
        ("set X-Team=a\x00b", "the value of 'X-Team' is not printable ASCII"),
        ("set X-Team=\ud800", "the value of 'X-Team' is not printable ASCII"),
        ("set \ud800=x", "is not the name of a header"),
        ("set Content-Length=0", "'Content-Length' is a header that the mesh itself sets"),
        ("remove Transfer-Encoding", "'Transfer-Encoding' is a header that the mesh itself sets"),
        ("set Connection=close", "is a header that the mesh itself sets"),
        ("set Host=other", "is a header that the mesh itself sets"),
        ("set X-Forwarded-For=10.0.0.1", "is a header that the mesh itself sets"),
        ("set X-Maesh-Client=shop/admin", "is a header that the mesh itself sets"),
        ("set X_Forwarded_For=10.0.0.1", "is for some servers a header that the mesh itself sets"),
        ("set x_maesh-client=shop/admin", "is for some servers a header that the mesh itself sets"),
        ("set Transfer_Encoding=chunked", "is for some servers a header that the mesh itself sets"),
        ("set X-Team=a\nadd x-team=b", "'x-team' has more than one change"),
        ("set X-Team=" + "a" * 4097, "a value more than 4096"),
        ("remove " + "a" * 257, "a name has more than 256 characters"),
        ("\n".join(f"remove X-{number}" for number in range(CHANGE_LIMIT + 1)), "has more than 64 changes"),
    ],
)
@pytest.mark.parametrize("message", ["request", "response"])
def test_a_bad_annotation_is_an_error_that_names_it_and_the_rule(message, text, rule):
    with pytest.raises(ConfigurationError) as caught:
        build(**{message: text})
    assert str(caught.value).startswith(f"annotation {message}-headers: ")
    assert rule in str(caught.value)


def test_filters_of_requests_and_responses_become_one_middleware():
    value = {"set": [{"name": "A", "value": "1"}], "add": [{"name": "B", "value": "2"}], "remove": ["C"]}
    found = build_filter(("Request", value), ("Response", {"remove": ["Server"]}))
    assert found.request == (put("set", "A", "1"), put("add", "B", "2"), put("remove", "C"))
    assert found.response == (put("remove", "Server"),)


def test_filters_of_a_rule_and_its_backend_act_in_their_order():
    found = build_filter(
        ("Request", {"set": [{"name": "A", "value": "1"}]}), ("Request", {"set": [{"name": "A", "value": "2"}]})
    )
    assert found.request == (put("set", "A", "1"), put("set", "A", "2"))


def test_of_names_that_differ_only_in_case_the_first_counts():
    found = build_filter(("Request", {"set": [{"name": "Foo", "value": "1"}, {"name": "foo", "value": "2"}]}))
    assert found.request == (put("set", "Foo", "1"),)
    assert build_filter(("Response", {"remove": ["Foo", "foo"]})).response == (put("remove", "Foo"),)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({}, "it has no change"),
        ({"set": [{"name": "A", "value": "1"}], "remove": ["a"]}, "'a' has more than one change"),
        ({"set": [{"name": "A"}]}, "'A' has no value"),
        ({"set": [{"name": "A", "value": "1\r\nB: 2"}]}, "the value of 'A' is not printable ASCII"),
        ({"add": [{"name": "A\r\nB", "value": "1"}]}, "'A\\r\\nB' is not the name of a header"),
        ({"add": [{"name": "", "value": "1"}]}, "'' is not the name of a header"),
        ({"remove": ["Content-Length"]}, "'Content-Length' is a header that the mesh itself sets"),
        ({"prepend": []}, "prepend: unknown field"),
        ({"set": "A=1"}, "set: "),
    ],
)
def test_a_filter_that_cannot_be_applied_completely_is_an_error(value, text):
    with pytest.raises(ConfigurationError) as caught:
        build_filter(("Response", value))
    assert str(caught.value).startswith(f"ResponseHeaderModifier: {text}")


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-User", "x-FORWARDED-client-cert"])
def test_a_route_of_a_clients_namespace_cannot_claim_what_proxies_remove_from_clients(name):
    value = {"set": [{"name": name, "value": "a"}]}
    port = PortNode(number=80)
    for filter_name, namespace in ((REQUEST_FILTER, ""), (RESPONSE_FILTER, "guests")):
        request = FilterRequest(name=filter_name, value=value, matches=(), port=port, client_namespace=namespace)
        assert BUILDER.build_filter([request], SERVICE)
    request = FilterRequest(name=REQUEST_FILTER, value=value, matches=(), port=port, client_namespace="guests")
    with pytest.raises(ConfigurationError, match="only be changed by a route of the Service's namespace"):
        BUILDER.build_filter([request], SERVICE)


def test_it_explains_each_change_and_refuses_no_request():
    settings = msgspec.to_builtins(build("set X-Team=payments", "remove Server"))
    verdict = BUILDER.explain(settings, None)
    assert (verdict.is_admitted, verdict.reasons) == (True, ("request: set X-Team=payments", "response: remove Server"))


@given(st.text(), st.text())
def test_any_annotation_gives_changes_or_an_error(request, response):
    with contextlib.suppress(ConfigurationError):
        found = build(request, response)
        assert found.request
        assert found.response


_HEADERS = st.lists(st.fixed_dictionaries({"name": st.text(max_size=9), "value": st.text(max_size=9)}), max_size=3)


@given(st.fixed_dictionaries({}, optional={"set": _HEADERS, "add": _HEADERS, "remove": st.lists(st.text(max_size=9))}))
def test_any_filter_gives_changes_or_an_error(value):
    with contextlib.suppress(ConfigurationError):
        assert build_filter(("Request", value)).request
