"""RFC 9113 sections 3.4, 4 and 6, and RFC 7541: the preface, frames and header blocks of clients.

Each table has what a client sends behind a correct start, and the error with which the mesh ends the connection.
"""

import struct

import pytest

from .framing import (
    ACK,
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ELSEWHERE,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    GET,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    NO_ERROR,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    FramePeer,
    expect_answer,
    expect_goaway,
    frame,
    goaway,
    has_ended,
    open_http2,
    render_block,
    rst_stream,
    settings,
    window_update,
)

LARGE = b"\0" * 16385


def errors(*rows):
    """Parametrize a test with rows (description, code, function that renders frames)."""
    return pytest.mark.parametrize(
        ("code", "render"), [row[1:] for row in rows], ids=[row[0].replace(" ", "-") for row in rows]
    )


def ignored(*rows):
    """Parametrize a test with rows (description, function that renders frames)."""
    return pytest.mark.parametrize("render", [row[1] for row in rows], ids=[row[0].replace(" ", "-") for row in rows])


def setting(name, value):
    return frame(SETTINGS, 0, 0, struct.pack(">HI", name, value))


def check_error(world, code, render):
    """Send frames behind a correct start; the connection ends with the error."""
    client = open_http2(world)
    client.take()
    client.send(*render(client))
    expect_goaway(client, code)


def check_ignored(world, render):
    """Send frames behind a correct start; the connection goes on."""
    client = open_http2(world)
    client.take()
    client.send(*render(client))
    assert [message[0] for message in client.take() if message[0] in ("reset", "goaway")] == []
    expect_answer(client, 11)


# --- section 3.4: the preface


@pytest.mark.parametrize("cut", range(1, len(PREFACE) + 15))
async def test_the_preface_and_settings_may_come_in_pieces(world, cut):
    client = FramePeer(world.open_client())
    start = PREFACE + settings(INITIAL_WINDOW_SIZE=10)
    client.send(start[:cut])
    client.send(start[cut:])
    first, *_, last = client.take()
    assert (first[0], last) == ("settings", ("settings ack",))
    client.send(settings(INITIAL_WINDOW_SIZE=65535))
    expect_answer(client, 1)


@pytest.mark.parametrize("size", range(24))
async def test_a_connection_that_does_not_start_with_the_preface_is_not_http2(world, size):
    client = FramePeer(world.open_client())
    client.send(PREFACE[:size] + b"\0" + PREFACE[size + 1 :])
    await world.settle()
    received = client.peer.take()
    assert not received or received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 505 ", b"\0\0\x12\4\0\0\0\0\0"))
    assert has_ended(client)


@pytest.mark.parametrize(
    "first",
    [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, ACK),
        window_update(0, 1),
        frame(99),
        FramePeer(None).headers(1, GET),
    ],
    ids=["PING", "SETTINGS-ACK", "WINDOW_UPDATE", "unknown", "HEADERS"],
)
async def test_the_first_frame_is_settings(world, first):
    client = FramePeer(world.open_client())
    client.send(PREFACE, first)
    expect_goaway(client, PROTOCOL_ERROR)


async def test_a_second_preface_is_not_expected(world):
    check_error(world, FRAME_SIZE_ERROR, lambda client: (PREFACE,))
