"""Limits of the head of a request and of a response, in whole and in part."""

import pytest

from maesh_core.errors import ClientProtocolError, UpstreamProtocolError
from maesh_core.proxy.http.messages.head_limits import (
    check_partial_head,
    check_partial_response_head,
    check_whole_head,
    check_whole_response_head,
)
from maesh_core.settings import CarryingSettings

SETTINGS = CarryingSettings(target_limit=256, head_limit=1024, field_limit=64)
LINE = b"GET /%b HTTP/1.1\r\n"
LONGEST = LINE % (b"x" * (256 - len(LINE) + 4))


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"x" * 258, 414),
        (LONGEST.replace(b"/", b"/x"), 414),
        (LONGEST + b"x" * 1024, 431),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/1.1\rx", 400),
    ],
)
def test_what_no_further_byte_can_mend_is_refused(head, status):
    with pytest.raises(ClientProtocolError) as refusal:
        check_partial_head(bytearray(head), 0, SETTINGS)
    assert refusal.value.status == status


@pytest.mark.parametrize("head", [b"x" * 257, LONGEST, b"GET / HTTP/1.1\r", LONGEST + b"x" * (1024 - len(LONGEST))])
def test_a_part_that_may_become_a_head_is_waited_for(head):
    check_partial_head(bytearray(head), 0, SETTINGS)
    check_partial_head(bytearray(head), len(head) - 1, SETTINGS)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (LONGEST.replace(b"/", b"/x") + b"\r\n", 414),
        (LONGEST + b"x" * 1024 + b"\r\n\r\n", 431),
        (LONGEST + b"a:\r\n" * 65 + b"\r\n", 431),
        (LONGEST + b"a:\r\n" * 64 + b"\r\n", None),
    ],
)
def test_a_whole_head_is_held_to_its_limits(head, status):
    if status is None:
        check_whole_head(head, SETTINGS)
        return
    with pytest.raises(ClientProtocolError) as refusal:
        check_whole_head(head, SETTINGS)
    assert refusal.value.status == status


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (OK + b"x" * 1024, "response head is too large"),
        (b"HTTP/1.1 200 OK\n", "not ended by CRLF"),
        (b"\0\0\x06\x04\0\0\0\0\0", "speaks HTTP/2"),
    ],
)
def test_a_response_that_no_further_byte_can_mend_is_refused(head, reason):
    with pytest.raises(UpstreamProtocolError, match=reason):
        check_partial_response_head(head, SETTINGS)


@pytest.mark.parametrize("head", [b"H", OK, OK + b"x" * (1024 - len(OK))])
def test_a_part_that_may_become_the_head_of_a_response_is_waited_for(head):
    check_partial_response_head(head, SETTINGS)


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (OK + b"x" * 1024 + b"\r\n\r\n", "response head is too large"),
        (OK + b"a:\r\n" * 65 + b"\r\n", "too many header fields"),
        (OK + b"a:\r\n" * 64 + b"\r\n", None),
    ],
)
def test_a_whole_head_of_a_response_is_held_to_its_limits(head, reason):
    if reason is None:
        check_whole_response_head(head, SETTINGS)
        return
    with pytest.raises(UpstreamProtocolError, match=reason):
        check_whole_response_head(head, SETTINGS)
