"""Requests with and without values in, servers and values out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_session import proxy
from maesh_session.proxy import SessionFactory
from maesh_session.settings import ServiceSession

from maesh_core.plugin import BackendChoice
from maesh_testing import FakeExchange

BACKENDS = tuple(
    BackendChoice(part=part, server=(f"10.0.1.{number}", 80)) for part in ("a", "b") for number in (1, 2, 3)
)


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose only item is the time."""
    now = [1_000_000.0]
    monkeypatch.setattr(proxy, "time", lambda: now[0])
    return now


def build(**settings):
    if not settings.keys() & {"cookie", "header"}:
        settings["cookie"] = "shop"
    return SessionFactory().build_middleware(ServiceSession(key="ab" * 32, **settings), "shop/cart")


def answer(session, backend, headers=None, *, status=200):
    """Let a server answer; return the response's headers as a list."""
    exchange = FakeExchange(server=backend.server, part=backend.part, status=status, headers=headers)
    assert session.on_response(exchange) is None
    return list(exchange.response_headers)


def read_cookie(fields):
    ((name, value),) = fields
    assert name == b"Set-Cookie"
    pair, *attributes = value.split(b"; ")
    return pair, attributes


def choose(session, headers, backends=BACKENDS):
    return session.choose_backend(FakeExchange(headers=headers), backends)


@pytest.mark.parametrize("settings", [{}, {"lifetime_s": 60.0}, {"idle_s": 60.0}])
def test_a_cookie_leads_to_the_server_that_has_set_it_and_is_not_set_again(clock, settings):
    session = build(**settings)
    for backend in BACKENDS:
        pair, attributes = read_cookie(answer(session, backend))
        assert pair.startswith(b"shop=")
        assert attributes == [b"Path=/", b"HttpOnly"]
        for text in (pair, b"a=b; " + pair + b"; c=d", pair.replace(b"=", b'="') + b'"'):
            assert choose(session, {b"Cookie": text}) == backend
            assert answer(session, backend, {b"Cookie": text}) == []


def test_a_header_leads_to_the_server_that_has_set_it():
    session = build(header="X-Session")
    ((name, value),) = answer(session, BACKENDS[1])
    assert name == b"X-Session"
    assert choose(session, {b"x-session": value}) == BACKENDS[1]
    assert answer(session, BACKENDS[1], {b"x-session": value}) == []


def test_both_can_be_used():
    session = build(header="X-Session", cookie="shop")
    (_, value), (_, cookie) = answer(session, BACKENDS[1])
    assert choose(session, {b"X-Session": value}) == BACKENDS[1]
    assert choose(session, {b"Cookie": cookie.partition(b";")[0]}) == BACKENDS[1]


def test_other_proxies_choose_the_same_server():
    pair, _ = read_cookie(answer(build(), BACKENDS[4]))
    assert choose(build(), {b"Cookie": pair}) == BACKENDS[4]


@pytest.mark.parametrize(
    "headers",
    [{}, {b"Cookie": b"other=1"}, {b"Cookie": b"shop="}, {b"Cookie": b"shop=abc"}, {b"Cookie": b"xshop=" + b"a" * 24}],
)
def test_a_request_without_a_valid_value_has_no_preference_and_gets_one(headers):
    session = build()
    assert choose(session, headers) is None
    assert answer(session, BACKENDS[0], headers)


def test_of_several_cookies_with_the_name_the_first_valid_one_decides():
    session = build()
    one, _ = read_cookie(answer(session, BACKENDS[0]))
    other, _ = read_cookie(answer(session, BACKENDS[1]))
    assert choose(session, {b"Cookie": b"; ".join((b"shop=x", other, one))}) == BACKENDS[1]
    many = b"; ".join([b"shop=x"] * 100 + [one])
    assert choose(session, {b"Cookie": many}) is None


def test_a_session_whose_server_is_gone_goes_elsewhere_and_gets_a_new_value():
    session = build()
    pair, _ = read_cookie(answer(session, BACKENDS[0]))
    assert choose(session, {b"Cookie": pair}, BACKENDS[1:]) is None
    other, _ = read_cookie(answer(session, BACKENDS[1], {b"Cookie": pair}))
    assert choose(session, {b"Cookie": other}, BACKENDS[1:]) == BACKENDS[1]


def test_a_failed_response_begins_no_session():
    assert answer(build(), BACKENDS[0], status=500) == []
    assert answer(build(), BACKENDS[0], status=404) != []


def test_an_answer_without_a_server_begins_no_session():
    exchange = FakeExchange(status=200)
    build().on_response(exchange)
    assert list(exchange.response_headers) == []


def test_a_permanent_cookie_says_how_long_it_is_left(clock):
    session = build(lifetime_s=60.0, idle_s=20.0, is_permanent=True, path="/a")
    pair, attributes = read_cookie(answer(session, BACKENDS[0]))
    assert attributes == [b"Path=/a", b"Max-Age=60", b"HttpOnly"]
    clock[0] += 15
    assert read_cookie(answer(session, BACKENDS[0], {b"Cookie": pair}))[1][1] == b"Max-Age=45"


def test_a_session_ends_with_its_lifetime_however_it_is_used(clock):
    session = build(lifetime_s=60.0, idle_s=30.0)
    pair, _ = read_cookie(answer(session, BACKENDS[0]))
    for _ in range(3):
        clock[0] += 19
        assert choose(session, {b"Cookie": pair}) == BACKENDS[0]
        pair, _ = read_cookie(answer(session, BACKENDS[0], {b"Cookie": pair}))
    clock[0] += 3
    assert choose(session, {b"Cookie": pair}) is None


def test_a_session_that_is_idle_for_too_long_ends(clock):
    session = build(idle_s=30.0)
    pair, _ = read_cookie(answer(session, BACKENDS[0]))
    clock[0] += 2
    assert answer(session, BACKENDS[0], {b"Cookie": pair}) == []
    clock[0] += 28
    assert choose(session, {b"Cookie": pair}) is None


def test_a_value_from_a_proxy_whose_clock_is_ahead_is_valid(clock):
    session = build(lifetime_s=60.0)
    clock[0] += 10
    pair, _ = read_cookie(answer(session, BACKENDS[0]))
    clock[0] -= 10
    assert choose(session, {b"Cookie": pair}) == BACKENDS[0]


def test_servers_are_found_for_as_many_routes_as_there_are():
    session = build()
    pair, _ = read_cookie(answer(session, BACKENDS[0]))
    for _ in range(100):
        assert choose(session, {b"Cookie": pair}, [*BACKENDS]) == BACKENDS[0]
    assert len(session._indexes) <= proxy.ROUTES


@given(st.lists(st.text(alphabet='shop=;, \t"abcAB12_-', max_size=80), max_size=4))
def test_whatever_cookies_a_client_sends_it_has_no_session_or_one_that_was_begun(texts):
    session = build(idle_s=30.0)
    pair, _ = read_cookie(answer(session, BACKENDS[0]))
    assert choose(session, {b"Cookie": ";".join(texts).strip().encode()}) is None
    assert choose(session, {b"Cookie": b"; ".join((b"a=b", pair))}) == BACKENDS[0]


# --- what is kept of fields


@given(st.data())
def test_what_was_read_before_is_read_in_the_same_way_again(data):
    """Each request also goes to a session that has read nothing yet."""
    settings = data.draw(st.sampled_from([{}, {"lifetime_s": 60.0}, {"idle_s": 60.0, "lifetime_s": 100.0}]))
    now = [1_000_000.0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxy, "time", lambda: now[0])
        kept, pairs = build(**settings), [b"shop=", b"shop=" + b"A" * 24, b"other=1"]
        for backend in data.draw(st.lists(st.sampled_from(BACKENDS), max_size=8)):
            now[0] += data.draw(st.sampled_from([0.0, 30.0, 70.0]))
            cookie = b"; ".join(data.draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=4)))
            fresh = build(**settings)
            assert choose(kept, {b"Cookie": cookie}) == choose(fresh, {b"Cookie": cookie})
            fields = answer(kept, backend, {b"Cookie": cookie})
            assert fields == answer(fresh, backend, {b"Cookie": cookie})
            pairs += [read_cookie(fields)[0]] if fields else []


@given(
    st.lists(st.sampled_from(BACKENDS), max_size=3),
    st.sampled_from(BACKENDS),
    st.booleans(),
    st.sampled_from([200, 404]),
)
def test_a_kept_choice_means_that_the_response_of_its_server_begins_no_session(begun, other, is_header, status):
    session = build(header="X-Shop") if is_header else build()
    assert session.keeps_choice is True
    values = [answer(session, backend)[0][1].split(b";")[0] for backend in begun]
    headers = {b"X-Shop": values[0]} if is_header and values else {b"Cookie": b"; ".join(values)}
    choice = choose(session, headers)
    assert choice == (begun[0] if begun else None)
    if choice is not None:
        assert answer(session, choice, headers, status=status) == []
    if other not in begun:
        assert len(answer(session, other, headers, status=status)) == 1


@pytest.mark.parametrize("settings", [{"lifetime_s": 60.0}, {"idle_s": 60.0}])
def test_a_session_with_times_is_looked_at_each_time(settings):
    assert build(**settings).keeps_choice is False


def test_services_with_other_keys_do_not_share_what_was_read(clock):
    factory = SessionFactory()
    one, other = (
        factory.build_middleware(ServiceSession(key=key * 32, cookie="shop", lifetime_s=60.0), "shop/cart")
        for key in ("ab", "cd")
    )
    pair, _ = read_cookie(answer(one, BACKENDS[0]))
    assert choose(one, {b"Cookie": pair}) == BACKENDS[0]
    assert choose(other, {b"Cookie": pair}) is None
