"""Records in, spans with the names, attributes and statuses of the semantic conventions out."""

import pytest
from maesh_otel.context import W3C_FORMAT, TraceContext
from maesh_otel.shared_attributes import TEXT_LIMIT
from maesh_otel.spans import CLIENT, SERVER, build_spans, show_state
from maesh_otel.trace import AttemptRecord, RequestRecord

from maesh_core.plugin import CLIENT_LEFT, UPSTREAM_LOST

TRACE, PARENT, OWN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331", b"00f067aa0ba902b7"


def build(*attempts, parent=PARENT, state=b"", **changes):
    """Build the spans of a request whose attempts have these statuses, or kinds of failures."""
    record = RequestRecord(TraceContext(TRACE, parent, 1, W3C_FORMAT, state=state), OWN, 1000)
    record.method, record.target, record.authority, record.ended_ns = b"GET", b"/a", b"app.test.maesh", 9000
    record.protocol, record.client_address, record.service = "HTTP/1.1", "10.0.0.9", "test/app:80"
    for number, outcome in enumerate(attempts):
        attempt = AttemptRecord(b"%016x" % (number + 1), 2000 + number * 1000)
        attempt.ended_ns, attempt.server = 2500 + number * 1000, ("10.0.0.1", 8080 + number)
        if isinstance(outcome, str):
            attempt.error = outcome
        else:
            record.status = attempt.status = outcome
        record.attempts.append(attempt)
    for name, value in changes.items():
        setattr(record, name, value)
    if record.attempts and record.grpc_status is not None:
        record.attempts[-1].grpc_status = record.grpc_status
    return build_spans(record)


def test_spans_have_the_identifiers_kinds_and_times_of_the_record():
    server, first, second = build(503, 200)
    assert (server.kind, first.kind, second.kind) == (SERVER, CLIENT, CLIENT)
    assert {span.trace_id for span in (server, first, second)} == {TRACE}
    assert server.parent_id == PARENT
    assert first.parent_id == second.parent_id == server.span_id == OWN
    assert (second.span_id, second.started_ns, second.ended_ns) == (b"%016x" % 2, 3000, 3500)
    assert (server.started_ns, server.ended_ns) == (1000, 9000)


def test_the_first_span_of_a_trace_has_no_parent():
    assert build(200, parent=b"")[0].parent_id == b""


@pytest.mark.parametrize(
    ("status", "server_error", "client_error"),
    [(200, False, False), (302, False, False), (404, False, True), (500, True, True), (503, True, True)],
)
def test_4xx_is_an_error_of_the_client_and_5xx_of_both(status, server_error, client_error):
    server, client = build(status)
    assert (server.is_error, client.is_error) == (server_error, client_error)
    assert server.values.get("error.type") == (str(status) if server_error else None)
    assert client.values.get("error.type") == (str(status) if client_error else None)


@pytest.mark.parametrize(
    ("grpc_status", "server_error", "client_error", "name"),
    [
        (0, False, False, None),
        (5, False, True, "NOT_FOUND"),
        (14, True, True, "UNAVAILABLE"),
        (2, True, True, "UNKNOWN"),
    ],
)
def test_a_grpc_call_has_the_attributes_of_rpc(grpc_status, server_error, client_error, name):
    server, client = build(200, target=b"/shop.v1.Cart/Add", method=b"POST", is_grpc=True, grpc_status=grpc_status)
    for span in (server, client):
        assert span.name == "shop.v1.Cart/Add"
        assert span.values["rpc.system"] == "grpc"
        assert (span.values["rpc.service"], span.values["rpc.method"]) == ("shop.v1.Cart", "Add")
        assert span.values["rpc.grpc.status_code"] == grpc_status
    assert (server.is_error, client.is_error) == (server_error, client_error)
    assert client.values.get("error.type") == name


def test_a_retry_is_an_event_with_its_cause_and_a_count_of_the_client_span():
    server, first, second, third = build("connect-failure", 503, 200)
    assert [(event.name, event.time_ns, event.attributes) for event in server.events] == [
        ("maesh.retry", 3000, {"maesh.retry.cause": "connect-failure", "maesh.retry.count": 1}),
        ("maesh.retry", 4000, {"maesh.retry.cause": "503", "maesh.retry.count": 2}),
    ]
    assert [span.values.get("http.request.resend_count") for span in (first, second, third)] == [None, 1, 2]
    assert first.values["error.type"] == "connect-failure"


@pytest.mark.parametrize(
    ("status", "reason", "event"),
    [
        (429, "too many requests", "maesh.limited"),
        (403, "access denied: no rule allows this client", "maesh.denied"),
        (503, "the circuit breaker is open", "maesh.breaker_open"),
        (503, "the service has no usable server", "maesh.unavailable"),
        (502, "cannot connect to the upstream", "maesh.answer"),
    ],
)
def test_an_answer_of_the_mesh_is_an_event_with_its_reason(status, reason, event):
    (server,) = build(status=status, reason=reason)
    assert [(each.name, each.attributes) for each in server.events] == [(event, {"maesh.reason": reason})]
    assert server.values["maesh.reason"] == reason


def test_a_response_that_breaks_off_is_an_error_and_a_client_that_leaves_is_none():
    lost = build("reset", status=200, reason=UPSTREAM_LOST)[0]
    assert lost.is_error
    assert lost.values["error.type"] == "reset"
    left = build("cancelled", reason=CLIENT_LEFT)
    assert not left[0].is_error
    assert not left[0].events
    assert not lost.events
    assert "http.response.status_code" not in left[0].values
    assert left[1].values["error.type"] == "cancelled"


def test_an_unusual_method_is_not_part_of_the_name():
    server, _ = build(200, method=b"PURGE")
    assert server.name == "HTTP"
    assert server.values["http.request.method"] == "_OTHER"
    assert server.values["http.request.method_original"] == "PURGE"


@pytest.mark.parametrize(("protocol", "version"), [("HTTP/1.0", "1.0"), ("HTTP/1.1", "1.1"), ("HTTP/2", "2")])
def test_the_server_span_has_the_version_of_the_protocol(protocol, version):
    assert build(200, protocol=protocol)[0].values["network.protocol.version"] == version


def test_the_query_is_left_out_and_ipv6_servers_are_in_brackets():
    record = build(200, target=b"/a?key=secret", authority=b"[::1]:5000")
    assert record[0].values["url.path"] == "/a"
    assert (record[0].values["server.address"], record[0].values["server.port"]) == ("::1", 5000)
    assert record[1].values["url.full"] == "http://10.0.0.1:8080/a"
    assert not any("secret" in str(span.values) for span in record)


def test_untrusted_bytes_become_text_of_limited_length():
    server, _ = build(
        200, target=b"/" + b"\xff\x80" * 2000, user_agent=b"\xff" * 2000, authority=b"\xff:x", state=b"\xff"
    )
    assert all(len(str(value)) <= 4 * TEXT_LIMIT for value in server.values.values())


@pytest.mark.parametrize(("text", "shown"), [(b"a=1,b=2", "a=1,b=2"), (b"\xff=1", ""), (b"", "")])
def test_a_state_of_other_characters_than_ascii_is_left_out(text, shown):
    assert show_state(text) == shown


def test_the_pod_of_the_client_is_in_the_servers_span_alone():
    server, client = build(200, client_pod="shop/web-0")
    names = {"maesh.client.k8s.namespace.name": "shop", "maesh.client.k8s.pod.name": "web-0"}
    assert names.items() <= server.values.items()
    assert not names.keys() & client.values.keys()
    assert not names.keys() & build(200)[0].values.keys()


def test_a_request_that_only_audit_mode_lets_pass_has_the_reason():
    server = build(would_deny="no rule allows this client")[0]
    assert server.values["maesh.would_deny"] == "no rule allows this client"
    assert "maesh.would_deny" not in build()[0].values
