"""What passes of a client's head: whose claims, which names, which methods."""

import re
from pathlib import Path

import pytest

from maesh_core.errors import ClientProtocolError
from maesh_core.model.matches import HttpMatch
from maesh_core.model.matching import compile_matches
from maesh_core.proxy.http.messages.head_rules import DEFAULT_RULES, HeadRules, HeadRulesByClient
from maesh_core.proxy.http.messages.request_parsing import parse_request_head
from maesh_core.proxy.http.messages.syntax import FORBIDDEN_TRAILERS, IDEMPOTENT, METHODS, REFUSED_METHODS
from maesh_core.settings import CarryingSettings
from maesh_core.values.field_rules import is_shadowing_name
from maesh_testing import FakeExchange

REGISTRY = dict(
    line.split()
    for line in """
        ACL yes
        BASELINE-CONTROL yes
        BIND yes
        CHECKIN yes
        CHECKOUT yes
        COPY yes
        DELETE yes
        GET yes
        HEAD yes
        LABEL yes
        LINK yes
        LOCK no
        MERGE yes
        MKACTIVITY yes
        MKCALENDAR yes
        MKCOL yes
        MKREDIRECTREF yes
        MKWORKSPACE yes
        MOVE yes
        OPTIONS yes
        ORDERPATCH yes
        PATCH no
        POST no
        PROPFIND yes
        PROPPATCH yes
        PUT yes
        QUERY yes
        REBIND yes
        REPORT yes
        SEARCH yes
        TRACE yes
        UNBIND yes
        UNCHECKOUT yes
        UNLINK yes
        UNLOCK yes
        UPDATE yes
        UPDATEREDIRECTREF yes
        VERSION-CONTROL yes
    """.splitlines()
    if line.strip()
)
"""IANA's HTTP Method Registry, whether idempotent, without CONNECT, PRI and `*`."""

CLAIMS = [
    b"X-Forwarded-For",
    b"x-forwarded-host",
    b"X-FORWARDED-PORT",
    b"X-Forwarded-Proto",
    b"X-Forwarded-Server",
    b"X-Forwarded-Prefix",
    b"X-Forwarded-Client-Cert",
    b"X-Forwarded-my_own",
    b"X-Real-IP",
    b"Forwarded",
    b"fOrWaRdEd",
]
SHADOWS = [
    b"X_Forwarded_For",
    b"x-forwarded_for",
    b"X_FORWARDED-PROTO",
    b"X-Forwarded_Prefix",
    b"X_Real_Ip",
    b"x-real_ip",
    b"Content_Length",
    b"TRANSFER_ENCODING",
]
PASSING = [b"X_Request_Id", b"Content_Type", b"_", b"X_Forwarded", b"X-Forwardedfor", b"Forwarded_For", b"X-Real-Ip2"]


def pass_on(name, rules, *, version=b"1.1", target=b"/"):
    head = parse_request_head(b"GET %b HTTP/%b\r\nHost: a\r\n%b: 1\r\n\r\n" % (target, version, name), rules)
    return head, name.lower() in head.outgoing.lower()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("target", [b"/", b"http://b/"])
@pytest.mark.parametrize("name", CLAIMS)
def test_the_claims_of_a_client_that_is_not_trusted_stop_here_and_no_middleware_sees_them(name, version, target):
    head, is_passed = pass_on(name, HeadRules(keeps_forwarded=False), version=version, target=target)
    assert not is_passed
    assert head.forwarded is None
    assert head.client_headers.get(name) is None
    assert head.client_headers.get_all(name) == []
    assert head.build_headers().get(name) is None


@pytest.mark.parametrize("name", [name for name in CLAIMS if not is_shadowing_name(name.lower())])
def test_the_claims_of_a_client_that_is_trusted_are_kept(name):
    head, is_passed = pass_on(name, DEFAULT_RULES)
    assert is_passed is (head.forwarded is None)
    assert head.client_headers.get(name) == b"1"


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("name", SHADOWS)
def test_a_name_that_shadows_a_claim_or_framing_stops_here_unless_that_is_turned_off(name, version):
    for keeps_forwarded in (True, False):
        rules = HeadRules(keeps_forwarded=keeps_forwarded)
        head, is_passed = pass_on(name, rules, version=version)
        assert not is_passed
        assert head.client_headers.get(name) is None
        assert head.body == 0
    assert pass_on(name, HeadRules(drops_shadowing=False), version=version)[1]


@pytest.mark.parametrize("name", PASSING)
def test_other_names_with_underscores_and_names_that_are_only_similar_pass(name):
    for keeps_forwarded in (True, False):
        assert pass_on(name, HeadRules(keeps_forwarded=keeps_forwarded))[1]


@pytest.mark.parametrize("name", [*CLAIMS, *SHADOWS])
def test_no_trailer_is_a_claim_or_shadows_one(name):
    assert name.lower() in FORBIDDEN_TRAILERS


@pytest.mark.parametrize("name", [b"x_request_id", b"content-md5", b"grpc-status", b"x-real-ip2"])
def test_trailers_without_a_meaning_for_the_mesh_are_allowed(name):
    assert name not in FORBIDDEN_TRAILERS


@pytest.mark.parametrize("rules", [DEFAULT_RULES, HeadRules(carries_unregistered=True)])
def test_every_method_of_the_registry_is_carried_and_known_to_be_idempotent_or_not(rules):
    for name, is_idempotent in REGISTRY.items():
        method = name.encode()
        head = parse_request_head(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method, rules)
        assert head.method == method
        assert (method in IDEMPOTENT) is (is_idempotent == "yes")
    others = METHODS - {name.encode() for name in REGISTRY}
    assert others == {b"M-SEARCH", b"NOTIFY", b"PURGE", b"SOURCE", b"SUBSCRIBE", b"UNSUBSCRIBE"}
    assert not others & IDEMPOTENT


def test_the_page_lists_exactly_the_methods_that_are_carried_and_those_that_never_are():
    page = (Path(__file__).parents[4] / "docs" / "proxy-behaviour.md").read_text()
    rows = page.partition("## Methods\n")[2].partition("\n## ")[0].splitlines()
    first, second, third = (
        {name.encode() for name in re.findall(r"`([^`]+)`", row.split(" | ")[0])} for row in rows if row[:3] == "| `"
    )
    assert first == {name.encode() for name in REGISTRY}
    assert first | second == METHODS
    assert third == REFUSED_METHODS


@pytest.mark.parametrize("method", sorted(METHODS))
def test_rules_that_name_a_method_match_it_and_no_other(method):
    match = HttpMatch(methods=(method.decode(),))
    matches = compile_matches((match,))
    for sent in (method, method + b"X"):
        rules = HeadRules(carries_unregistered=True)
        head = parse_request_head(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % sent, rules)
        assert matches(FakeExchange(head.method, head.target)) is (sent == method)


@pytest.mark.parametrize(
    ("method", "is_carried"),
    [
        (b"BREW", True),
        (b"M!#$%&'*+-.^_`|~9", True),
        (b"X" * 200, True),
        (b"brew", True),
        (b"get", False),
        (b"Post", False),
        (b"purge", False),
        (b"connect", False),
        *((method, False) for method in sorted(REFUSED_METHODS)),
    ],
)
def test_an_unregistered_method_is_carried_where_that_is_set_unless_it_could_be_taken_for_another(method, is_carried):
    line = b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method
    with pytest.raises(ClientProtocolError, match="method not supported") as refusal:
        parse_request_head(line)
    assert refusal.value.status == 501
    rules = HeadRules(carries_unregistered=True)
    if is_carried:
        assert parse_request_head(line, rules).outgoing == line[:-2]
    else:
        with pytest.raises(ClientProtocolError, match="method not supported"):
            parse_request_head(line, rules)


@pytest.mark.parametrize("method", [b"", b"G(T", b"G\xc3\xa9T", b"G,T"])
def test_what_is_no_token_is_no_method_whatever_is_set(method):
    with pytest.raises(ClientProtocolError, match="malformed request line"):
        parse_request_head(b"%b / HTTP/1.1\r\nHost: a\r\n\r\n" % method, HeadRules(carries_unregistered=True))


def test_rules_follow_the_settings_and_the_clients_address():
    by_client = HeadRulesByClient(
        CarryingSettings(forwarded_headers=("10.0.0.0/8",), drop_shadowing_headers=False, unregistered_methods="carry")
    )
    trusted = HeadRules(keeps_forwarded=True, drops_shadowing=False, carries_unregistered=True)
    assert by_client.find("10.0.0.1") is by_client.find("::ffff:10.0.0.1")
    assert repr(by_client.find("10.0.0.1")) == repr(trusted)
    assert by_client.find("11.0.0.1").keeps_forwarded is by_client.find("").keeps_forwarded is False
    assert repr(HeadRulesByClient(CarryingSettings()).find("")) == repr(DEFAULT_RULES)
