"""Requests of pages in; answers to preflight requests, and fields of responses, out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_cors.origins import AllowedOrigins
from maesh_cors.proxy import KEPT_ORIGINS, CorsFactory
from maesh_cors.settings import CorsPolicy

from maesh_core.plugin import Middleware
from maesh_core.proxy.http.messages.headers import Headers
from maesh_testing import FakeExchange

ORIGIN = b"https://shop.example"
LISTED = {"origins": ("https://shop.example",)}
ANY = {"origins": ("*",)}


def build(**policy):
    return CorsFactory().build_middleware(CorsPolicy(**policy), "shop/cart")


def ask(policy, *, origin=ORIGIN, method=b"PUT", headers=None, request=b"OPTIONS"):
    sent = {b"Origin": origin, b"Access-Control-Request-Method": method, b"Access-Control-Request-Headers": headers}
    exchange = FakeExchange(request, headers={name: value for name, value in sent.items() if value is not None})
    return build(**policy).on_request(exchange)


def preflight(policy, **options):
    """Return the fields of the answer to a preflight request, by name, without Vary."""
    answer = ask(policy, **options)
    assert (answer.status, answer.body) == (204, None)
    fields = {name.decode(): value.decode() for name, value in answer.headers}
    assert len(fields) == len(answer.headers)
    assert fields.pop("Vary") == "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
    return {name.removeprefix("Access-Control-"): value for name, value in fields.items()}


def change_response(cors, exchange):
    """Change the headers of a response as the proxy does."""
    changes = cors.choose_response_changes(exchange)
    if changes is not None:
        exchange.response_headers.apply(changes)
    assert cors.on_response(exchange) is None


def respond(policy, *, origin=ORIGIN, sent=()):
    """Return the fields of the response that the client gets, where the server has sent some."""
    exchange = FakeExchange(headers={} if origin is None else {b"Origin": origin}, status=200)
    for name, value in sent:
        exchange.response_headers.add(name, value)
    change_response(build(**policy), exchange)
    return exchange.response_headers.items()


def test_a_preflight_request_is_answered_without_a_server():
    policy = {**LISTED, "methods": ("GET", "PUT"), "headers": ("Authorization", "X-A"), "max_age_s": 600}
    assert preflight(policy) == {
        "Allow-Origin": "https://shop.example",
        "Allow-Methods": "GET, PUT",
        "Allow-Headers": "Authorization, X-A",
        "Max-Age": "600",
    }


def test_what_the_policy_does_not_list_is_left_out():
    assert preflight(LISTED) == {"Allow-Origin": "https://shop.example", "Max-Age": "5"}


def test_a_policy_for_all_is_answered_with_stars_and_the_headers_that_the_page_asks_for():
    policy = {**ANY, "methods": ("*",), "headers": ("*",)}
    assert preflight(policy, headers=b"authorization,x-a") == {
        "Allow-Origin": "*",
        "Allow-Methods": "*",
        "Allow-Headers": "authorization, x-a",
        "Max-Age": "5",
    }
    assert preflight(policy)["Allow-Headers"] == "*"


def test_with_credentials_no_field_has_a_star():
    policy = {**ANY, "methods": ("*",), "headers": ("*",), "exposed": ("*",), "has_credentials": True}
    assert preflight(policy, headers=b"x-a, ,x-b;q") == {
        "Allow-Origin": "https://shop.example",
        "Allow-Credentials": "true",
        "Allow-Methods": "PUT",
        "Allow-Headers": "x-a, x-b, q",
        "Max-Age": "5",
    }
    assert "Allow-Headers" not in preflight(policy)


@pytest.mark.parametrize("origin", [b"https://evil.example", b"null", b"https://shop.example.evil.example"])
def test_a_page_of_another_origin_is_refused_before_it_sends_its_request(origin):
    answer = ask(LISTED, origin=origin)
    assert (answer.status, answer.reason, answer.headers) == (403, "pages of this origin are not allowed", ())


@pytest.mark.parametrize("changed", [{"origin": None}, {"method": None}, {"request": b"GET"}])
def test_any_other_request_goes_to_the_server(changed):
    assert ask(LISTED, **changed) is None


def test_a_response_says_that_the_page_may_read_it():
    policy = {**LISTED, "exposed": ("X-A", "X-B"), "has_credentials": True}
    assert respond(policy) == [
        (b"Access-Control-Allow-Origin", ORIGIN),
        (b"Access-Control-Allow-Credentials", b"true"),
        (b"Access-Control-Expose-Headers", b"X-A, X-B"),
        (b"Vary", b"Origin"),
    ]


def test_a_response_that_all_pages_may_read_does_not_vary():
    assert respond({**ANY, "exposed": ("*",)}) == [
        (b"Access-Control-Allow-Origin", b"*"),
        (b"Access-Control-Expose-Headers", b"*"),
    ]
    assert respond(ANY, origin=None) == []


def test_with_credentials_all_fields_are_named():
    policy = {**ANY, "exposed": ("*",), "has_credentials": True}
    fields = dict(respond(policy, sent=[(b"X-A", b"1"), (b"x-a", b"2"), (b"Etag", b"3")]))
    assert fields[b"Access-Control-Expose-Headers"] == (
        b"x-a, Etag, Access-Control-Allow-Origin, Access-Control-Allow-Credentials"
    )


def test_the_policy_replaces_what_the_server_says():
    sent = [(b"access-control-allow-origin", b"*"), (b"Access-Control-Allow-Credentials", b"true"), (b"X-A", b"1")]
    assert respond(LISTED, sent=sent) == [
        (b"X-A", b"1"),
        (b"Access-Control-Allow-Origin", ORIGIN),
        (b"Vary", b"Origin"),
    ]
    assert respond(LISTED, sent=sent, origin=b"https://evil.example") == [(b"X-A", b"1"), (b"Vary", b"Origin")]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ([], [b"Origin"]),
        ([b"Accept"], [b"Accept", b"Origin"]),
        ([b"accept , ORIGIN"], [b"accept , ORIGIN"]),
        ([b"Accept", b"origin"], [b"Accept", b"origin"]),
        ([b"*"], [b"*"]),
    ],
)
@pytest.mark.parametrize("origin", [None, ORIGIN])
def test_caches_learn_once_that_the_response_depends_on_the_origin(written, expected, origin):
    fields = respond(LISTED, origin=origin, sent=[(b"Vary", value) for value in written])
    assert [value for name, value in fields if name == b"Vary"] == expected


# --- what is prepared for an origin

POLICIES = st.builds(
    CorsPolicy,
    origins=st.sampled_from([("*",), ("https://a.example",), ("https://*.example", "http://b.example")]),
    has_credentials=st.booleans(),
    exposed=st.sampled_from([(), ("X-A", "X-B"), ("*",)]),
)
ORIGINS = st.sampled_from([None, b"https://a.example", b"http://b.example", b"https://c.other", b"null"])
FIELDS = st.lists(
    st.sampled_from(
        [
            (b"Access-Control-Allow-Origin", b"*"),
            (b"access-control-expose-headers", b"X-C"),
            (b"Access-Control-Allow-Methods", b"GET"),
            (b"Vary", b"Accept, origin"),
            (b"vary", b"*"),
            (b"X-A", b"1"),
        ]
    ),
    max_size=4,
)


def respond_step_by_step(policy, origin, headers):
    """Do what a policy means for a response, a field at a time."""
    any_origin = "*" in policy.origins
    if origin is not None:
        for name in (b"Allow-Origin", b"Allow-Credentials", b"Expose-Headers"):
            headers.remove(b"Access-Control-" + name)
        if AllowedOrigins(policy.origins).allows(origin):
            is_open = any_origin and not policy.has_credentials
            headers.set(b"Access-Control-Allow-Origin", b"*" if is_open else origin)
            if policy.has_credentials:
                headers.set(b"Access-Control-Allow-Credentials", b"true")
            exposed = ", ".join(policy.exposed).encode()
            if exposed == b"*" and policy.has_credentials:
                exposed = b", ".join({name.lower(): name for name, _ in headers.items()}.values())
            if exposed:
                headers.set(b"Access-Control-Expose-Headers", exposed)
    if not any_origin or policy.has_credentials:
        listed = b",".join(headers.get_all(b"Vary")).lower().replace(b" ", b"").split(b",")
        if b"origin" not in listed and b"*" not in listed:
            headers.add(b"Vary", b"Origin")


@given(POLICIES, st.lists(st.tuples(ORIGINS, FIELDS), max_size=6))
def test_a_policy_does_to_each_response_what_it_does_step_by_step(policy, responses):
    cors = CorsFactory().build_middleware(policy, "shop/cart")
    for origin, fields in responses:
        exchange, other = (
            FakeExchange(headers={} if origin is None else {b"Origin": origin}, status=200) for _ in range(2)
        )
        head = b"HTTP/1.1 200 OK\r\n" + b"".join(b"%b: %b\r\n" % field for field in fields) + b"\r\n"
        exchange.response_headers, other.response_headers = Headers(head), Headers(head)
        change_response(cors, exchange)
        respond_step_by_step(policy, origin, other.response_headers)
        assert exchange.response_headers.items() == other.response_headers.items()


def test_only_a_policy_that_lists_the_fields_of_each_response_looks_at_responses():
    plain, listing = build(**LISTED), build(**ANY, exposed=("*",), has_credentials=True)
    assert type(plain).on_response is Middleware.on_response
    assert type(listing).on_response is not Middleware.on_response


def test_what_is_kept_of_origins_is_bounded():
    cors = build(origins=("https://*.example",))
    for number in range(3 * KEPT_ORIGINS):
        for origin in (b"https://a%d.example" % number, b"https://b%d.other" % number):
            exchange = FakeExchange(headers={b"Origin": origin}, status=200)
            change_response(cors, exchange)
            allowed = exchange.response_headers.get(b"Access-Control-Allow-Origin")
            assert allowed == (origin if origin.endswith(b".example") else None)
    assert len(cors._changes) <= KEPT_ORIGINS
