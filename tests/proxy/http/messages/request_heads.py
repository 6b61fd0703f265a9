"""Heads of requests for tests: valid ones, and such with a few bytes changed."""

from hypothesis import strategies as st

START = b"GET / HTTP/1.1\r\nHost: a\r\n"
VALID = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /x?y HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\nAccept: */*\r\n\r\n",
    b"PUT http://b/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: x, close\r\nX: y\r\n\r\n",
    b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nUpgrade: x\r\nConnection: upgrade\r\nTE: x\r\n\r\n",
]
FRAMING = [
    b"chunked",
    b"Content-Length: 1\r\n",
    b"Host: c\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: host\r\n",
]
ODD = [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b",", b"HTTP/1.1", b"\x80", b"/", b"#", b"x", b"1"]
BITS = st.sampled_from([*FRAMING, *ODD]) | st.binary(min_size=1, max_size=2)


@st.composite
def mutated_heads(draw):
    head = draw(st.sampled_from(VALID))[:-4]
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(head)))
        head = head[:start] + draw(BITS) + head[start + draw(st.integers(0, 3)) :]
    return end_head(head)


def end_head(bytes_):
    """Make bytes a head: it ends with the first empty line."""
    return (bytes_ + b"\r\n\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
