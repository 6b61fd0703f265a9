"""The header lists of opens and answers."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maesh_core.plugin_system.transports import Delivery, Refusal
from maesh_core.proxy.http.http2.errors import StreamError
from maesh_core.proxy.tunnel.open_fields import OPENED, parse_answer, parse_open, render_open, render_refusal

ADDRESSES = st.one_of(st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str))
VALID = ((b":method", b"CONNECT"), (b":authority", b"10.1.0.1:80"), (b"maesh-protocol", b"tcp"))


@given(
    address=ADDRESSES,
    port=st.integers(1, 65535),
    service=st.from_regex(r"[a-z]{1,20}/[a-z]{1,20}:[0-9]{1,5}", fullmatch=True),
    client=st.one_of(st.just(""), ADDRESSES),
    protocol=st.sampled_from(["http", "tcp"]),
)
def test_what_is_rendered_is_parsed(address, port, service, client, protocol):
    delivery = Delivery(address=address, port=port, service=service, client=client, protocol=protocol)
    assert parse_open(render_open(delivery)) == delivery


@given(st.lists(st.tuples(st.sampled_from([name for name, _ in VALID] + [b"x"]), st.binary(max_size=30))))
def test_any_fields_are_parsed_or_refused(fields):
    with contextlib.suppress(StreamError):
        assert parse_open(tuple(fields)).protocol in {"http", "tcp"}


def change(**values):
    names = {"method": b":method", "authority": b":authority", "protocol": b"maesh-protocol"}
    changed = {names[name]: value for name, value in values.items()}
    return tuple((name, changed.get(name, value)) for name, value in VALID)


@pytest.mark.parametrize(
    "fields",
    [
        (),
        change(method=b"GET"),
        change(protocol=b"udp"),
        change(authority=b""),
        change(authority=b"10.1.0.1"),
        change(authority=b"10.1.0.1:"),
        change(authority=b"10.1.0.1:0"),
        change(authority=b"10.1.0.1:65536"),
        change(authority=b"10.1.0.1:+80"),
        change(authority=b"10.1.0.1:8 0"),
        change(authority=b"web.ns:80"),
        change(authority=b"::1:80"),
        change(authority=b"[10.1.0.1]:80"),
        change(authority=b"10.1.0.1\x00:80"),
        change(authority="10.1.0.\u0661:80".encode()),
        (*VALID, VALID[1]),
        (*VALID, (b":path", b"/")),
        (*VALID, (b":scheme", b"http")),
        (*VALID, (b"maesh-client", b"somebody")),
        (*VALID, (b"maesh-service", b"ns/web\n:80")),
    ],
)
def test_an_open_that_is_not_valid_is_a_stream_error(fields):
    with pytest.raises(StreamError):
        parse_open(fields)


def test_unknown_fields_are_ignored():
    assert parse_open((*VALID, (b"later", b"addition"))) == parse_open(VALID)


def test_an_answer_of_200_is_no_refusal():
    assert parse_answer(OPENED) is None


def test_a_refusal_keeps_its_status_and_reason():
    refusal = Refusal(404, "no such pod")
    assert parse_answer(render_refusal(refusal)) == refusal


def test_a_reason_is_cut_and_cleaned():
    answer = parse_answer(render_refusal(Refusal(503, "line\nbreak \u20ac" + "x" * 1000)))
    assert answer is not None
    assert answer.reason.startswith("line break ?xxx")
    assert len(answer.reason) == 200


@pytest.mark.parametrize("status", [b"", b"20", b"2000", b"abc", b"-10"])
def test_an_answer_without_a_status_is_a_stream_error(status):
    with pytest.raises(StreamError):
        parse_answer(((b":status", status),))
