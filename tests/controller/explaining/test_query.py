from urllib.parse import urlencode

import pytest

from maesh_core.controller.explaining.explanation import ExplainedRequest
from maesh_core.controller.explaining.query import parse_question
from maesh_core.errors import ConfigurationError


def test_a_question_has_defaults_and_repeats_only_headers():
    query = urlencode([("client", " a.b "), ("service", "web.shop"), ("header", "A: 1"), ("header", "b:2")])
    assert parse_question(query) == ExplainedRequest(client="a.b", service="web.shop", headers=(("A", "1"), ("b", "2")))
    query = "client=a&service=b&method=POST&path=/x%3Fy&port=81&header="
    assert parse_question(query) == ExplainedRequest(client="a", service="b", method="POST", path="/x?y", port=81)


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "client is missing: name a pod or an address"),
        ("client=a", "service is missing: name a service"),
        ("client=a&service=b&verb=c", "unknown parameter 'verb'; the parameters are client, service, method"),
        ("client=a&service=b&method=a b", "METHOD: 'a b' is not a method such as GET"),
        ("client=a&service=b&method=get", "METHOD: 'get' is not GET: methods are case-sensitive"),
        ("client=a&service=b&path=x", "PATH: 'x' does not begin with /"),
        ("client=a&service=b&port=53/x", "port: '53/x' is not a number from 1 to 65535"),
        ("client=a&service=b&port=%C2%B2", "port: '²' is not a number"),
        ("client=a&service=b&header=x", "header: 'x' is not NAME: VALUE"),
        ("client=a&service=b&header=x y: z", "header: 'x y: z' is not NAME: VALUE"),
        ("client=" + "a" * 601 + "&service=b", "client has more than 600 characters"),
        ("client=a&service=" + "b" * 601, "service has more than 600 characters"),
        ("client=a&service=b" + "&header=a:b" * 51, "there are more than 50 headers"),
    ],
)
def test_an_invalid_question_is_refused_with_the_reason(query, text):
    with pytest.raises(ConfigurationError) as caught:
        parse_question(query)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("text", ["53/udp", "53/TCP", "dns-tcp"])
def test_a_port_can_have_a_protocol_or_be_a_name(text):
    assert parse_question(f"client=a&service=b&port={text}").port == text
