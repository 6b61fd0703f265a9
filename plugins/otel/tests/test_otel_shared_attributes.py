"""Values of requests in; attributes out, the same whether they are made or kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maesh_otel.shared_attributes import (
    SHARED_TEXT,
    TEXT_LIMIT,
    describe_attempt_outcome,
    describe_authority,
    describe_call,
    describe_method,
    describe_path,
    describe_server,
    describe_server_outcome,
    describe_user_agent,
    split_authority,
)

TEXTS = st.binary(max_size=2 * SHARED_TEXT) | st.sampled_from([b"/a", b"app:80", b"GET"])


@given(texts=st.lists(TEXTS, max_size=20))
def test_untrusted_texts_are_shown_whatever_was_described_before(texts):
    for text in texts:
        shown = text[:TEXT_LIMIT].decode("utf-8", "backslashreplace")
        assert describe_user_agent(text).values == {"user_agent.original": shown}
        path = describe_path(text)
        assert path.path == shown
        assert path.values == {"url.path": shown, "url.scheme": "http"}
        host, port = split_authority(shown)
        assert describe_authority(text).values == {"server.address": host, "server.port": port}
        url, _ = describe_server("::1", 80, path, "test/app:80")
        assert url.values == {"url.full": f"http://[::1]:80{shown}"}


@pytest.mark.parametrize("describe", [describe_method, describe_path, describe_authority, describe_user_agent])
def test_long_texts_are_not_kept(describe):
    short, long = b"/" * SHARED_TEXT, b"/" * (SHARED_TEXT + 1)
    assert describe(short) is describe(bytes(bytearray(short)))
    assert describe(long) is not describe(long)


def test_long_paths_are_not_kept_with_a_call_or_a_server():
    long = describe_path(b"/" * (SHARED_TEXT + 1))
    assert describe_call(long.path) is not describe_call(long.path)
    first, second = (describe_server("10.0.0.1", 80, long, "test/app:80") for _ in range(2))
    assert first[0] is not second[0]
    assert first[1] is second[1]


@pytest.mark.parametrize(
    ("status", "grpc_status", "failure", "of_request", "of_attempt"),
    [
        (200, None, "", "", ""),
        (404, None, "", "", "404"),
        (503, None, "reset", "503", "reset"),
        (200, 5, "", "", "NOT_FOUND"),
        (200, 14, "", "UNAVAILABLE", "UNAVAILABLE"),
        (200, 0, "reset", "reset", "reset"),
        (0, None, "timeout", "timeout", "timeout"),
    ],
)
def test_a_status_prevails_for_a_request_and_a_failure_for_an_attempt(
    status, grpc_status, failure, of_request, of_attempt
):
    for describe, error in ((describe_server_outcome, of_request), (describe_attempt_outcome, of_attempt)):
        found = describe(status, grpc_status, failure)
        assert found.error == found.values.get("error.type", "") == error
        assert found.values.get("http.response.status_code", 0) == status
        assert found.values.get("rpc.grpc.status_code") == grpc_status


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("app", ("app", 80)),
        ("app:8080", ("app", 8080)),
        ("[::1]", ("::1", 80)),
        ("[::1]:1", ("::1", 1)),
        ("app:", ("app:", 80)),
        ("", ("", 80)),
        ("a:999999999", ("a", 99999)),
    ],
)
def test_an_authority_is_split(text, found):
    assert split_authority(text) == found
