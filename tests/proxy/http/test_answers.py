"""Answers of the mesh as bytes."""

import pytest

from maesh_core.errors import UpstreamTimeoutError
from maesh_core.plugin_system.interfaces import Response
from maesh_core.proxy.http.answers import build_answer, render_answer


def render(response, *, is_head_request=False):
    return render_answer(response, connection=b"Connection: close\r\n", is_head_request=is_head_request)


def test_an_error_becomes_a_short_text_that_is_the_reason_too():
    assert render(build_answer(UpstreamTimeoutError("too slow"))) == (
        b"HTTP/1.1 504 Gateway Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n"
        b"X-Maesh-Reason: too slow\r\nConnection: close\r\n\r\ntoo slow\n"
    )


def test_a_body_of_a_middleware_comes_with_its_own_type():
    response = Response(status=200, reason="", headers=((b"Content-Type", b"a/b"),), body=b"{}")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: a/b\r\nConnection: close\r\n\r\n"
    assert render(response) == answer + b"{}"
    assert render(response, is_head_request=True) == answer


@pytest.mark.parametrize("status", [204, 304])
def test_a_status_without_a_body_has_none(status):
    answer = render(Response(status=status, reason="", body=b"x"))
    assert answer.endswith(b"\r\nConnection: close\r\n\r\n")
    assert b"Content-" not in answer


@pytest.mark.parametrize("status", [0, 100, 199, 600, 1000, -200])
def test_no_other_status_is_sent(status):
    with pytest.raises(ValueError):
        render(Response(status=status, reason="x"))


def test_a_status_without_a_phrase_is_sent_without():
    assert render(Response(status=299, reason="x")).startswith(b"HTTP/1.1 299 \r\n")
