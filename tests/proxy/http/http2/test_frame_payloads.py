"""Payloads of frames without a message: each is parsed, or refused with a code of RFC 9113."""

import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from maesh_core.proxy.http.http2.errors import Http2ConnectionError
from maesh_core.proxy.http.http2.frame_payloads import (
    check_ping,
    check_priority,
    cut_padding,
    parse_goaway,
    parse_rst_stream,
    parse_settings,
    parse_window_update,
)
from maesh_core.proxy.http.http2.frames import FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR


@given(st.binary(max_size=30), st.binary(max_size=5), st.binary(max_size=5), st.integers(0, 3), st.sampled_from([0, 1]))
def test_any_payload_is_parsed_or_refused_and_nothing_beside_it_is_read(payload, before, after, stream_id, flags):
    def parse(data, start, end):
        for parse in (
            lambda: cut_padding(data, start, end)[1] - end,
            lambda: check_priority(stream_id, data, start, end),
            lambda: parse_rst_stream(data, start, end),
            lambda: parse_window_update(data, start, end),
            lambda: parse_settings(flags, stream_id, data, start, end),
            lambda: check_ping(stream_id, data[start:end]),
            lambda: parse_goaway(stream_id, data, start, end),
        ):
            try:
                yield parse()
            except Http2ConnectionError as error:
                yield error.code, str(error)

    alone = list(parse(payload, 0, len(payload)))
    codes = {each[0] for each in alone if isinstance(each, tuple) and isinstance(each[1], str)}
    assert codes <= {FRAME_SIZE_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR}
    assert list(parse(before + payload + after, len(before), len(before) + len(payload))) == alone


@given(st.integers(0, 255), st.integers(0, 300))
def test_padding_is_cut_or_is_longer_than_the_frame(padding, size):
    payload = bytes([padding]) + bytes(size)
    with contextlib.suppress(Http2ConnectionError):
        assert cut_padding(payload, 0, len(payload)) == (1, 1 + size - padding)
        assert padding <= size


@pytest.mark.parametrize("stream_id", [1, 3])
def test_a_stream_cannot_depend_on_itself(stream_id):
    check_priority(stream_id, (stream_id + 2).to_bytes(4, "big") + b"\x10", 0, 5)
    with pytest.raises(Http2ConnectionError, match="depends on itself"):
        check_priority(stream_id, (1 << 31 | stream_id).to_bytes(4, "big") + b"\x10", 0, 5)
