"""The fields that tell an upstream who called."""

import pytest

from maesh_core.proxy.http.messages.forwarding import ForwardedFields


def read(rendered):
    return dict(line.split(b": ", 1) for line in rendered.split(b"\r\n")[:-2])


@pytest.mark.parametrize(
    ("authority", "sent", "port"),
    [
        (b"a", None, b"80"),
        (b"a:81", None, b"81"),
        (b"[::1]:82", None, b"82"),
        (b"[::1]", None, b"80"),
        (b"a:", None, b"80"),
        (b"a", {b"x-forwarded-proto": b"HTTPS"}, b"443"),
        (b"a:81", {b"x-forwarded-proto": b"https"}, b"81"),
        (b"a:81", {b"x-forwarded-port": b"9"}, b"9"),
    ],
)
def test_the_port_is_the_clients_word_or_the_hosts_or_the_schemes(authority, sent, port):
    assert read(ForwardedFields("1.1.1.1", b"node").render(authority, sent))[b"X-Forwarded-Port"] == port


def test_fields_follow_the_host_and_never_those_of_a_request_before():
    fields = ForwardedFields("fd00::1", b"node")
    plain = fields.render(b"a", None)
    assert fields.render(b"a", None) is plain
    sent = read(fields.render(b"a", {b"x-forwarded-for": b"x", b"x-real-ip": b"y", b"x-forwarded-server": b"z"}))
    assert sent[b"X-Forwarded-For"] == b"x, fd00::1"
    assert sent[b"X-Real-Ip"] == b"y"
    assert sent[b"X-Forwarded-Server"] == b"node"
    assert fields.render(b"a", None) == plain
    assert read(fields.render(b"b", None))[b"X-Forwarded-Host"] == b"b"


def test_an_empty_chain_is_as_none():
    rendered = ForwardedFields("1.1.1.1", b"node").render(b"a", {b"x-forwarded-for": b""})
    assert read(rendered)[b"X-Forwarded-For"] == b"1.1.1.1"


def test_connections_of_one_client_share_what_is_rendered():
    first, second, other = (ForwardedFields(address, b"node") for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2"))
    assert first.render(b"a", None) is second.render(b"a", None)
    assert read(other.render(b"a", None))[b"X-Real-Ip"] == b"10.0.0.2"
    assert read(second.render(b"b", None))[b"X-Forwarded-Host"] == b"b"
