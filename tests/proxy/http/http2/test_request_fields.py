"""Requests of HTTP/2: what is read from their header lists, what is refused, and what is sent to servers."""

import contextlib

import pytest
from hypothesis import assume, event, example, given
from hypothesis import strategies as st

from maesh_core.errors import ClientProtocolError, MalformedMessageError
from maesh_core.proxy.http.http2.request_fields import build_request_fields, read_request
from maesh_core.proxy.http.messages.forwarding import ForwardedFields
from maesh_core.proxy.http.messages.head_rules import DEFAULT_RULES, HeadRules
from maesh_core.proxy.http.messages.headers import split_field
from maesh_core.proxy.http.messages.request_head import STREAMED
from maesh_core.proxy.http.messages.request_parsing import parse_request_head

METHOD, SCHEME, AUTHORITY, PATH = (b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/")
START = (METHOD, SCHEME, AUTHORITY, PATH)
FORBIDDEN = {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}


def read(*fields, start=START, has_body=False, rules=DEFAULT_RULES):
    return read_request((*start, *fields), rules, has_body=has_body)


def replace(*changed):
    """Return the pseudo-fields of START with other values; None removes one."""
    values = {**dict(START), **dict(changed)}
    return tuple((name, value) for name, value in values.items() if value is not None)


def test_a_request_is_read_as_if_it_had_come_in_http_1():
    head = read(
        (b"accept", b"*/*"), (b"x-empty", b""), start=replace((b":authority", b"A.Maesh:80"), (b":path", b"/x?y"))
    )
    text = b"GET /x?y HTTP/1.1\r\nHost: A.Maesh:80\r\naccept: */*\r\nx-empty: \r\n\r\n"
    assert head == parse_request_head(text)
    assert (head.host, head.body, head.declared_length) == (b"a.maesh", 0, -1)


MALFORMED = {
    "pseudo-field after a field": ((*START[:3], (b"x", b"y"), PATH), ()),
    "unknown pseudo-field": (START, ((b":protocol", b"websocket"),)),
    "pseudo-field of a response": (START, ((b":status", b"200"),)),
    "repeated pseudo-field": (START, (PATH,)),
    "no pseudo-fields": ((), ()),
    "no :method": (replace((b":method", None)), ()),
    "no :scheme": (replace((b":scheme", None)), ()),
    "no :path": (replace((b":path", None)), ()),
    "no :authority and no host": (replace((b":authority", None)), ()),
    "empty :method": (replace((b":method", b"")), ()),
    ":method is no token": (replace((b":method", b"GET /x")), ()),
    "empty :path": (replace((b":path", b"")), ()),
    "asterisk-form for GET": (replace((b":path", b"*")), ()),
    "absolute-form": (replace((b":path", b"http://a/")), ()),
    "relative :path": (replace((b":path", b"a")), ()),
    ":path with a space": (replace((b":path", b"/ ")), ()),
    ":path with a fragment": (replace((b":path", b"/#")), ()),
    ":path with a control character": (replace((b":path", b"/\x01")), ()),
    ":path with CRLF": (replace((b":path", b"/ HTTP/1.1\r\nX: y")), ()),
    ":path with a byte above 127": (replace((b":path", b"/\x80")), ()),
    "scheme of another protocol": (replace((b":scheme", b"ftp")), ()),
    "empty :authority": (replace((b":authority", b"")), ()),
    ":authority with userinfo": (replace((b":authority", b"u@a")), ()),
    ":authority with a path": (replace((b":authority", b"a/b")), ()),
    ":authority with CRLF": (replace((b":authority", b"a\r\nX: y")), ()),
    "host differs": (START, ((b"host", b"b"),)),
    "host differs in its port": (START, ((b"host", b"a:80"),)),
    "host is repeated": (START, ((b"host", b"a"), (b"host", b"a"))),
    "host is repeated without :authority": (replace((b":authority", None)), ((b"host", b"a"), (b"host", b"b"))),
    "empty host beside :authority": (START, ((b"host", b""),)),
    "malformed host without :authority": (replace((b":authority", None)), ((b"host", b"u@a"),)),
    "name in upper case": (START, ((b"X", b"y"),)),
    "empty name": (START, ((b"", b"y"),)),
    "name with a space": (START, ((b"x ", b"y"),)),
    "name with a colon": (START, ((b"x:", b"y"),)),
    "name with CRLF": (START, ((b"x\r\ny", b"z"),)),
    "value with NUL": (START, ((b"x", b"a\0b"),)),
    "value with CR": (START, ((b"x", b"a\rb"),)),
    "value with LF": (START, ((b"x", b"a\nb"),)),
    "value with DEL": (START, ((b"x", b"a\x7fb"),)),
    "value with a space before it": (START, ((b"x", b" a"),)),
    "value with a tab after it": (START, ((b"x", b"a\t"),)),
    "te other than trailers": (START, ((b"te", b"trailers, gzip"),)),
    "empty te": (START, ((b"te", b""),)),
    "content-length is repeated": (START, ((b"content-length", b"0"), (b"content-length", b"0"))),
    "content-length is a list": (START, ((b"content-length", b"0, 0"),)),
    "content-length is no number": (START, ((b"content-length", b"+0"),)),
    "empty content-length": (START, ((b"content-length", b""),)),
    "content-length is too long": (START, ((b"content-length", b"9" * 19),)),
    **{f"{name.decode()}": (START, ((name, b"close"),)) for name in sorted(FORBIDDEN)},
}


@pytest.mark.parametrize(("start", "fields"), MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("has_body", [False, True])
def test_malformed_requests_are_refused(start, fields, has_body):
    with pytest.raises(MalformedMessageError):
        read(*fields, start=start, has_body=has_body)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (((b":method", b"CONNECT"), (b":authority", b"a:80")), 501),
        (replace((b":method", b"CONNECT")), 501),
        (replace((b":method", b"BREW")), 501),
        (replace((b":method", b"get")), 501),
        (replace((b":method", b"PRI"), (b":path", b"*")), 501),
        ((*START, (b"expect", b"x")), 417),
    ],
)
def test_what_http_1_refuses_with_another_status_has_the_same_status(fields, status):
    with pytest.raises(ClientProtocolError) as caught:
        read_request(fields, DEFAULT_RULES, has_body=True)
    assert caught.value.status == status


def test_unregistered_methods_are_carried_by_the_same_rule_as_in_http_1():
    assert read(start=replace((b":method", b"BREW")), rules=HeadRules(carries_unregistered=True)).method == b"BREW"


def test_a_body_without_a_length_is_streamed_and_chunked_for_a_server_of_http_1():
    head = read(has_body=True)
    assert (head.body, head.declared_length, head.framing) == (STREAMED, -1, b"Transfer-Encoding: chunked\r\n")
    assert head.outgoing == b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("length", [0, 7, 10**18 - 1])
def test_a_body_with_a_length_is_streamed_and_keeps_its_length(length):
    head = read((b"content-length", b"%d" % length), (b"x", b"y"), has_body=True)
    assert (head.body, head.declared_length) == (STREAMED, length)
    assert head.framing == b"Content-Length: %d\r\n" % length
    assert head.outgoing == b"GET / HTTP/1.1\r\nHost: a\r\ncontent-length: %d\r\nx: y\r\n" % length


def test_a_request_that_ends_with_its_head_has_no_body():
    assert (read().body, read().framing) == (0, b"")
    head = read((b"content-length", b"0"))
    assert (head.body, head.declared_length, head.framing) == (0, 0, b"Content-Length: 0\r\n")
    with pytest.raises(MalformedMessageError, match="Content-Length without a body"):
        read((b"content-length", b"1"))


def test_a_client_waits_for_a_100_only_before_a_body():
    expect = (b"expect", b"100-Continue")
    assert read(expect, has_body=True).is_expecting
    assert read(expect, (b"content-length", b"1"), has_body=True).is_expecting
    assert not read(expect).is_expecting
    assert not read(has_body=True).is_expecting
    assert read(expect, has_body=True).framing == b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"


def test_a_client_that_takes_trailers_is_known_and_te_stays_here():
    assert not read().takes_trailers
    head = read((b"te", b"Trailers"))
    assert head.takes_trailers
    assert head.outgoing == b"GET / HTTP/1.1\r\nHost: a\r\n"


def test_cookies_are_joined_at_the_first_one():
    head = read((b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b""), (b"cookie", b"b=2; c=3"))
    assert head.outgoing == b"GET / HTTP/1.1\r\nHost: a\r\ncookie: a=1; b=2; c=3\r\nx: y\r\n"
    assert read((b"cookie", b"")).outgoing.endswith(b"\r\ncookie: \r\n")


@pytest.mark.parametrize(
    ("start", "fields"),
    [
        (START, ()),
        (START, ((b"host", b"A"),)),
        (replace((b":authority", None)), ((b"x", b"y"), (b"host", b"a"))),
        (replace((b":scheme", b"HTTPS")), ()),
    ],
)
def test_the_host_is_that_of_the_authority_or_of_host(start, fields):
    head = read(*fields, start=start)
    assert (head.host, head.authority) == (b"a", b"a")
    assert head.outgoing.count(b"ost:") == 1


def test_options_may_ask_for_the_whole_server():
    head = read(start=replace((b":method", b"OPTIONS"), (b":path", b"*")))
    assert (head.target, head.outgoing) == (b"*", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n")
    assert build_request_fields(head.outgoing, scheme=b"http", takes_trailers=False)[3] == (b":path", b"*")


def test_forwarded_and_shadowing_fields_follow_the_rules_of_http_1():
    fields = ((b"x-forwarded-for", b"1"), (b"x-real_ip", b"2"), (b"forwarded", b"3"), (b"x-forwarded-for", b"4"))
    assert read(*fields).forwarded == {b"x-forwarded-for": b"1, 4"}
    assert b"real" not in read(*fields).outgoing
    head = read(*fields, rules=HeadRules(keeps_forwarded=False))
    assert (head.forwarded, head.outgoing) == (None, b"GET / HTTP/1.1\r\nHost: a\r\n")


def test_a_request_is_built_with_its_pseudo_fields_first():
    text = (
        b"POST /x?y HTTP/1.1\r\nAccept: a\r\nHost: A:80\r\nCookie: a=1; b=2\r\nConnection: close\r\nTE: x\r\n"
        b"Upgrade: x\r\nKeep-Alive: 1\r\nProxy-Connection: x\r\nTransfer-Encoding: chunked\r\nX-Space:\t a \t\r\n"
        b"Expect: 100-continue\r\nContent-Length: 3\r\n"
    )
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"A:80"),
        (b":path", b"/x?y"),
        (b"accept", b"a"),
        (b"cookie", b"a=1; b=2"),
        (b"x-space", b"a"),
        (b"expect", b"100-continue"),
        (b"content-length", b"3"),
    )
    assert build_request_fields(text, scheme=b"https", takes_trailers=False) == fields
    assert build_request_fields(text + b"\r\n", scheme=b"https", takes_trailers=True) == (*fields, (b"te", b"trailers"))


def test_a_request_without_host_is_built_without_authority():
    fields = build_request_fields(b"GET / HTTP/1.1\r\nHost: \r\n\r\n", scheme=b"http", takes_trailers=False)
    assert fields == (METHOD, SCHEME, PATH)


def test_changed_headers_and_forwarded_fields_are_built_too():
    head = read((b"x", b"1"), (b"te", b"trailers"), has_body=True)
    headers, forwarded = head.build_headers(), ForwardedFields("10.0.0.1", b"m").render(b"a", None)
    headers.set(b"X", b"2")
    fields = build_request_fields(head.render_changed(headers, forwarded), scheme=b"http", takes_trailers=True)
    assert fields[:5] == (*START, (b"x", b"2"))
    assert (b"x-forwarded-for", b"10.0.0.1") in fields
    assert read_request(fields, DEFAULT_RULES, has_body=True).build_headers().get(b"x") == b"2"


# --- laws

VALUES = st.text(
    st.sampled_from([chr(each) for each in range(256) if each == 9 or (each >= 0x20 and each != 0x7F)]), max_size=9
).map(lambda text: text.encode("latin-1"))
LINES = st.sampled_from(
    [
        b"Host: b",
        b"Accept: */*",
        b"X:",
        b"Cookie: a=1",
        b"cookie:  b=2 ",
        b"Cookie:",
        b"Connection: close, x",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Keep-Alive: 5",
        b"Proxy-Connection: close",
        b"Proxy-Authorization: x",
        b"TE: trailers, gzip",
        b"Content-Length: 3",
        b"Content-Length: 0",
        b"Transfer-Encoding: chunked",
        b"Expect: 100-continue",
        b"X-Forwarded-For: 1",
        b"X_Forwarded_For: 2",
    ]
) | st.builds(lambda value: b"X-Value:" + value, VALUES)
REQUEST_LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST /x?y=%20 HTTP/1.1",
        b"PUT http://B:80/x HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET / HTTP/1.0",
        b"BREW / HTTP/1.1",
    ]
)


def list_forwardable(head):
    """List the fields to forward, with lower-case names, and with cookies joined as HTTP/2 does."""
    fields = [(name.lower(), value) for name, value in map(split_field, head.build_headers().lines)]
    cookies = b"; ".join(value for name, value in fields if name == b"cookie" and value)
    has_cookie = any(name == b"cookie" for name, _ in fields)
    return [field for field in fields if field[0] != b"cookie"], cookies if has_cookie else None


def check_list(fields):
    """Check what holds for every header list that is sent."""
    for name, value in fields:
        assert name == name.lower()
        assert name not in FORBIDDEN
        assert name != b"te" or value == b"trailers"
        assert value == value.strip()
    names = [name for name, _ in fields]
    assert [name.startswith(b":") for name in names] == sorted((name.startswith(b":") for name in names), reverse=True)


@given(REQUEST_LINES, st.lists(LINES, max_size=6), st.booleans(), st.sampled_from([b"Host: A.b:80\r\n", b""]))
@example(b"GET / HTTP/1.1", [b"TE: trailers", b"Cookie: a", b"X-Value: \xa0"], True, b"Host: a\r\n")
def test_what_http_1_accepts_is_the_same_after_http_2(line, lines, is_trusted, host):
    rules = HeadRules(keeps_forwarded=is_trusted)
    try:
        head = parse_request_head(b"".join((line, b"\r\n", host, *(each + b"\r\n" for each in lines), b"\r\n")), rules)
    except ClientProtocolError:
        return
    assume(head.authority)  # a request of HTTP/2 always has one
    event("accepted")
    text = head.outgoing + b"\r\n"
    fields = build_request_fields(text, scheme=b"http", takes_trailers=head.takes_trailers)
    check_list(fields)
    read = read_request(fields, rules, has_body=head.body != 0)
    assert [read.method, read.target, read.authority, read.host, read.takes_trailers, read.is_expecting] == [
        head.method,
        head.target,
        head.authority,
        head.host,
        head.takes_trailers,
        head.is_expecting,
    ]
    assert list_forwardable(read) == list_forwardable(head)
    assert read.body == (STREAMED if head.body else 0)
    assert read.declared_length == max(head.body, -1) or not head.body


NAMES = st.sampled_from(
    [
        *(b":method", b":scheme", b":authority", b":path", b":status", b"host", b"content-length", b"cookie", b"te"),
        *(b"expect", b"connection", b"transfer-encoding", b"x", b"X", b"x y", b"x:", b"x\r\ny", b"x_y", b"x_real_ip"),
    ]
) | st.binary(max_size=3)
LOOSE_VALUES = st.sampled_from(
    [
        *(b"GET", b"OPTIONS", b"http", b"a", b"/", b"*", b"0", b"3", b"trailers", b"100-continue", b"chunked", b" a"),
        *(b"a\r\nHost: b", b"a\r\n\r\nGET / HTTP/1.1", b"a\nb", b"a\rb", b"\0", b"u@a", b"a:80", b"\x80"),
    ]
) | st.binary(max_size=4)
GOOD = st.sampled_from(
    [
        *((b"cookie", b"a"), (b"cookie", b""), (b"host", b"A"), (b"te", b"trailers"), (b"expect", b"100-continue")),
        *((b"content-length", b"3"), (b"content-length", b"0"), (b"x_real_ip", b"1"), (b"x-forwarded-for", b"1")),
    ]
) | st.builds(lambda value: (b"x", value.strip(b" \t")), VALUES)
LOOSE = st.lists(st.tuples(NAMES, LOOSE_VALUES), max_size=2)
LISTS = st.builds(lambda good, loose: (*good, *loose), st.lists(GOOD, max_size=4), st.just([]) | LOOSE)
STARTS = st.sampled_from(
    [
        *(START, replace((b":authority", None)), replace((b":method", b"OPTIONS"), (b":path", b"*"))),
        *(replace((b":path", b"/x?y=%20")), replace((b":authority", b"[::1]:80")), START[:3], ()),
    ]
) | st.tuples(st.sampled_from(START), LOOSE_VALUES).map(lambda found: replace((found[0][0], found[1])))


@given(STARTS, LISTS, st.booleans())
@example(START, ((b"cookie", b"a"), (b"cookie", b"b"), (b"te", b"trailers"), (b"expect", b"100-continue")), True)
def test_arbitrary_lists_are_refused_or_become_one_head_of_http_1(start, fields, has_body):
    with contextlib.suppress(ClientProtocolError, MalformedMessageError):
        head = read_request((*start, *fields), DEFAULT_RULES, has_body=has_body)
        event("accepted")
        check_accepted(head, (*start, *fields), has_body=has_body)


def check_accepted(head, fields, *, has_body):
    names = [name for name, _ in fields]
    cookies = max(0, names.count(b"cookie") - 1)
    wanted = 1 + sum(not name.startswith(b":") and name != b"host" for name in names) - cookies
    is_chunked = has_body and b"content-length" not in names
    assert head.head.count(b"\r\n") == head.head.count(b"\n") == head.head.count(b"\r") == wanted + is_chunked + 2
    assert head.head.find(b"\r\n\r\n") == len(head.head) - 4
    sent = parse_request_head(head.outgoing + b"\r\n")
    values = dict(fields)
    assert (sent.method, sent.target, sent.host) == (head.method, head.target, head.host)
    assert (sent.method, sent.target) == (values[b":method"], values[b":path"])
    assert sent.authority == values.get(b":authority", values.get(b"host"))
    assert bool(sent.body) == (has_body and head.declared_length != 0)
    check_list(build_request_fields(head.outgoing, scheme=b"http", takes_trailers=head.takes_trailers))
