"""The limits of tunnels between nodes, and the settings that both ends announce.

Only constants. docs/tunnel.md describes what happens at each limit.
"""

from typing import Final

# --- what both ends announce (SETTINGS)

STREAM_WINDOW_BYTES: Final = 262144
"""Bytes of a stream that a peer may send before they are credited: what is buffered of one stream in one direction."""
FRAME_LIMIT_BYTES: Final = 65536
"""Largest payload that is accepted, and the largest that is sent if the peer accepts it."""
STREAM_LIMIT: Final = 4096
"""Streams of one connection."""
HEADER_LIST_BYTES: Final = 8192
"""Largest list of header fields, with the overhead that HPACK counts, and largest block of them."""
CONNECTION_WINDOW_BYTES: Final = 1 << 30
"""Window of a whole connection. The windows of its streams bound what is buffered; a smaller one would let one stream
that is not read stop the others."""
CONNECTION_CREDIT_BYTES: Final = 1 << 20
"""Bytes after which the window of a connection is credited."""
STREAM_CREDIT_BYTES: Final = STREAM_WINDOW_BYTES // 2
"""Bytes after which the window of a stream is credited, so that the peer seldom waits."""
LAST_STREAM_ID: Final = (1 << 31) - 1

# --- output

BATCH_BYTES: Final = 196608
"""Bytes that are encrypted and sent at once. Data never adds up to more than this and one frame, so it cannot reach
OUTPUT_LIMIT_BYTES, at which two ends that only send data would wait for each other."""
OUTPUT_LIMIT_BYTES: Final = 262144
"""Unsent bytes of a connection above which it is not read."""
ROUND_BYTES: Final = 65536
"""Bytes that each waiting stream sends before the next one, if several wait: one frame. Smaller frames cost more."""
DIRECT_WRITES: Final = 3
"""Writes under way up to which data is sent at once, and not at the end of the turn of the loop: with few requests,
the further turn costs more than a record of its own."""
WRITE_HIGH_BYTES: Final = 65536
WRITE_LOW_BYTES: Final = 16384
"""Unsent bytes of a stream above which its source is paused, and below which it is resumed."""

# --- input

READ_BYTES: Final = 262144
"""Encrypted bytes that are read from a socket at once, into a buffer that all tunnels share."""
SMALL_READ_BYTES: Final = 16384
"""Bytes that are read at once where reads are small: they need no copy out of a shared buffer."""
LARGE_READS: Final = 64
"""Reads after a large one that still use a shared buffer."""
TURN_FRAMES: Final = 256
"""Frames of one connection, such as opens, that are processed before other connections have their turn."""
BARREN_BYTES: Final = 65536
"""Encrypted bytes that may arrive without any data in them, such as updates of keys and empty records."""
PUMP_BYTES: Final = 1 << 20
"""Waiting bytes of one connection that are sent before other connections have their turn."""
POD_READS: Final = 4
"""Reads of one pod's connection before other connections have their turn."""

# --- budgets

RESET_LIMIT: Final = STREAM_LIMIT
RESET_REFILL_PER_S: Final = 400.0
"""Streams that a peer may reset before they have carried data both ways. A sender may cancel all its streams at once
when a server does not respond, so the budget has the size of a connection."""
CONTROL_REFILL_PER_S: Final = 100.0
TOKENS_PER_DATA: Final = 4
BYTES_PER_TOKEN: Final = 256
TOKENS_PER_STREAM: Final = 8
"""The budget of frames that carry no data is refilled as that of HTTP/2 clients (http2/connection_output.py)."""

# --- connections

CONNECTIONS_PER_PEER: Final = 4
"""Connections from one worker to one node that accept new streams."""
TUNNELS_PER_NODE: Final = 256
"""Connections that one node may have open to this worker."""
WAITING_PER_PEER: Final = CONNECTIONS_PER_PEER * STREAM_LIMIT
"""Opens that wait for a connection to one node."""
CLOSING_PODS_LIMIT: Final = 256
"""Streams that have ended and whose last bytes wait for their pods; further ones are reset."""
SHARE_OF_CONNECTIONS: Final = 4
"""One node may use at most this part of `--connection-limit`: a quarter."""

REVIEWS_IN_A_TURN: Final = 64
"""Open streams that are judged again, after a change of the configuration, before other connections have their turn."""

# --- time, in seconds

HANDSHAKE_LIMIT_S: Final = 5.0
"""Time for the TCP connection, TLS and the receiver's SETTINGS."""
HANDSHAKES_PER_ADDRESS: Final = 64
HANDSHAKES_LIMIT: Final = 512
"""Unfinished handshakes of one source address, and of all."""
HANDSHAKE_SHARE: Final = 0.2
"""Share of the loop's time for handshakes."""
HANDSHAKE_CREDIT_S: Final = 0.01
"""Upper limit of the unused time for handshakes that is carried over: about five handshakes."""
SILENCE_LIMIT_S: Final = 15.0
"""Silence of a peer, while streams are open, after which it is pinged."""
PONG_LIMIT_S: Final = 10.0
"""Further silence after which the connection counts as dead."""
IDLE_LIMIT_S: Final = 600.0
"""Time after which a connection without streams is closed."""
REST_LIMIT_S: Final = 60.0
"""Time for the rest of a frame or header block that has arrived in part."""
ACK_LIMIT_S: Final = 30.0
"""Time for the acknowledgement of our settings (RFC 9113 section 6.5.3)."""
BALANCE_INTERVAL_S: Final = 10.0
"""Time between two checks whether this worker has more incoming tunnels than another one of its node."""
REVIEW_GRACE_S: Final = 30.0
"""Time in which the requests of a stream may end whose server has left, or whose service has changed its encryption."""
FORMER_LIMIT_S: Final = 300.0
"""Time in which streams of older connections may end when an authority is not trusted any more."""
CLOSE_LIMIT_S: Final = 5.0
"""Time for the peer to read the last bytes of a connection that ends."""
