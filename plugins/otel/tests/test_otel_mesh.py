"""Real meshes that send spans to a collector made from opentelemetry-proto."""

import contextlib
import re
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from maesh_testing import build_pod, build_service, find_free_port, send_request, wait_until

from .otlp_receiver import CLIENT, SERVER

pytestmark = pytest.mark.integration

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
NOT_SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-00"}


def count_spans(mesh, name):
    (count,) = re.findall(rf"^maesh_otel_{name}_spans_total (\d+)", mesh.read_metrics(), re.MULTILINE)
    return int(count)


def test_a_request_is_a_server_span_and_its_attempt_a_client_span_of_one_trace(start_traced, receiver):
    before_ns = time.time_ns()
    mesh = start_traced(env={"MAESH_NODE": "node-1"})
    answer = mesh.get("/cart/7?token=secret", headers={"User-Agent": "shop/1"})
    server, client = receiver.wait_for(2)
    assert (server.kind, client.kind) == (SERVER, CLIENT)
    assert (server.name, client.name, server.scope) == ("GET", "GET", "maesh")
    assert client.parent_id == server.span_id
    assert server.parent_id == ""
    assert client.trace_id == server.trace_id
    assert before_ns < server.started_ns <= client.started_ns <= client.ended_ns <= server.ended_ns < time.time_ns()
    (request,) = mesh.upstreams[0].requests
    assert request.headers["traceparent"] == f"00-{server.trace_id}-{client.span_id}-01"
    upstream = mesh.upstreams[0]
    assert answer.status == 200
    assert server.attributes == {
        "http.request.method": "GET",
        "url.path": "/cart/7",
        "url.scheme": "http",
        "server.address": "app.test.maesh",
        "server.port": 80,
        "client.address": "127.0.0.1",
        "network.protocol.version": "1.1",
        "user_agent.original": "shop/1",
        "http.response.status_code": 200,
        "maesh.service": "test/app:80",
        "maesh.destination": "test/app:80",
    }
    assert client.attributes == {
        "http.request.method": "GET",
        "url.full": f"http://127.0.0.1:{upstream.port}/cart/7",
        "server.address": "127.0.0.1",
        "server.port": upstream.port,
        "http.response.status_code": 200,
        "maesh.destination": "test/app:80",
    }
    assert not server.is_error
    assert not client.is_error
    assert {"service.name", "host.name", "maesh.version", "telemetry.sdk.name"} <= server.resource.keys()
    assert (server.resource["service.name"], server.resource["maesh.node"]) == ("maesh", "node-1")
    assert "k8s.node.name" not in server.resource
    mesh.wait_until(lambda: count_spans(mesh, "exported") == 2, "the metric")
    assert count_spans(mesh, "dropped") == 0


def test_the_span_of_a_request_names_the_pod_of_its_client_if_that_is_set(start_traced, receiver):
    pod = build_pod("job-0", "127.0.0.9", "default", namespace="batch")
    mesh = start_traced("--set", "otel.client-pods=true", objects=[pod])
    mesh.get("/", client="127.0.0.9")
    server, client = receiver.wait_for(2)
    names = {"maesh.client.k8s.namespace.name": "batch", "maesh.client.k8s.pod.name": "job-0"}
    assert names.items() <= server.attributes.items()
    assert not names.keys() & client.attributes.keys()


def test_the_metric_of_durations_has_the_trace_as_an_exemplar(start_traced, receiver):
    mesh = start_traced("--set", "otel.sample=0")
    for headers in (SAMPLED, NOT_SAMPLED):
        mesh.get("/", headers=headers)
    receiver.wait_for(2)
    accepted = {"Accept": "application/openmetrics-text; version=1.0.0"}
    page = send_request(mesh.admin_port, path="/metrics", headers=accepted).text
    families = {family.name: family for family in text_string_to_metric_families(page)}
    samples = families["maesh_service_request_duration_seconds"].samples
    (sample,) = [sample for sample in samples if sample.exemplar]
    assert sample.exemplar.labels == {"trace_id": TRACE}
    assert 0 < sample.exemplar.value <= float(sample.labels["le"])
    assert TRACE not in mesh.read_metrics()


@pytest.mark.parametrize(
    "headers",
    [
        SAMPLED | {"tracestate": "a=1,b=2", "baggage": "user=7"},
        {"b3": f"{TRACE}-{PARENT}-1-05e3ac9a4f6e3b90"},
        {"X-B3-TraceId": TRACE, "X-B3-SpanId": PARENT, "X-B3-Sampled": "1"},
        {"X-B3-TraceId": TRACE, "X-B3-SpanId": PARENT, "X-B3-Flags": "1"},
    ],
)
def test_a_trace_goes_on_in_the_format_in_which_it_came(start_traced, receiver, headers):
    mesh = start_traced("--set", "otel.sample=0")
    mesh.get(headers=headers)
    server, client = receiver.wait_for(2)
    assert (server.trace_id, server.parent_id, client.trace_id) == (TRACE, PARENT, TRACE)
    (request,) = mesh.upstreams[0].requests
    sent = {name: text for name, text in request.headers.items() if re.match("trace|b3|x-b3|baggage", name)}
    ids = f"{TRACE}-{client.span_id}"
    if "traceparent" in headers:
        assert sent == {"traceparent": f"00-{ids}-01", "tracestate": "a=1,b=2", "baggage": "user=7"}
        assert server.trace_state == "a=1,b=2"
    elif "b3" in headers:
        assert sent == {"b3": f"{ids}-1-{server.span_id}"}
    else:
        decision = {name.lower(): "1" for name in ("X-B3-Sampled", "X-B3-Flags") if name in headers}
        expected = {"x-b3-traceid": TRACE, "x-b3-spanid": client.span_id, "x-b3-parentspanid": server.span_id}
        assert sent == expected | decision


def test_a_request_that_is_not_sampled_is_forwarded_as_it_came(start_traced, receiver):
    mesh = start_traced()
    for headers in (NOT_SAMPLED, {"b3": "0"}, {"X-B3-Sampled": "0"}):
        mesh.get(headers=headers)
        for name, text in headers.items():
            assert mesh.upstreams[0].requests[-1].headers[name.lower()] == text
    mesh.get(headers=SAMPLED)
    assert len(receiver.wait_for(2)) == 2


def test_annotations_switch_tracing_off_and_set_the_share(start_traced, receiver):
    mesh = start_traced("--set", "otel.sample=0", annotations={"tracing": "false"})
    mesh.get(headers=SAMPLED)
    assert mesh.upstreams[0].requests[-1].headers["traceparent"] == SAMPLED["traceparent"]
    mesh.set_annotations({"trace-sample": "1"})

    def is_sampled():
        mesh.get()
        return "traceparent" in mesh.upstreams[0].requests[-1].headers

    mesh.wait_until(is_sampled, "the annotation to apply")
    assert receiver.wait_for(2)[0].trace_id != TRACE


def test_every_attempt_has_a_span_and_every_retry_an_event(start_traced, receiver, start_upstream):
    down, up = start_upstream("down"), start_upstream("up")
    down.close()
    annotations = {"retry-attempts": "3", "retry-on": "connect-failure, 503"}
    mesh = start_traced("--no-passive-health", annotations=annotations, servers=[down, up])
    assert [mesh.get().status for _ in range(2)] == [200, 200]
    spans = receiver.wait_for(5)
    servers, clients = spans[:2], spans[2:]
    retried = next(span for span in servers if span.events)
    assert retried.events == [("maesh.retry", {"maesh.retry.cause": "connect-failure", "maesh.retry.count": 1})]
    failed, repeated = [span for span in clients if span.parent_id == retried.span_id]
    assert failed.attributes["error.type"] == "connect-failure"
    assert failed.is_error
    assert "http.response.status_code" not in failed.attributes
    assert failed.attributes["server.port"] == down.port
    assert repeated.attributes["http.request.resend_count"] == 1
    assert not repeated.is_error
    assert up.requests[-1].headers["traceparent"].split("-")[2] in {span.span_id for span in clients}
    up.status = 503
    assert mesh.get().status in (502, 503)
    last = [span for span in receiver.wait_for(5 + 4)[:3] if span not in servers]
    assert [span.is_error for span in last] == [True]


def test_what_the_mesh_answers_itself_is_an_event_of_a_span_without_attempt(start_traced, receiver):
    mesh = start_traced(annotations={"ratelimit-average": "1", "ratelimit-period": "1h"})
    assert [mesh.get().status for _ in range(2)] == [200, 429]
    limited = receiver.wait_for(3)[1]
    assert limited.attributes["http.response.status_code"] == 429
    assert limited.attributes["maesh.reason"] == "too many requests"
    assert limited.events == [("maesh.limited", {"maesh.reason": "too many requests"})]
    assert not limited.is_error
    assert len(receiver.spans) == 3


def test_denied_requests_are_recorded_too(start_traced, receiver):
    mesh = start_traced("--acl", account="shop")
    assert mesh.get().status == 403
    (denied,) = receiver.wait_for(1)
    assert denied.events[0][0] == "maesh.denied"
    assert denied.attributes["maesh.reason"].startswith("access denied")


def test_an_open_breaker_is_an_event(start_traced, receiver):
    annotations = {"circuit-breaker-expression": "ResponseCodeRatio(500, 600, 0, 600) > 0.1"}
    mesh = start_traced("--set", "circuitbreaker.check-period=1ms", annotations=annotations)
    mesh.upstreams[0].status = 500
    mesh.wait_until(lambda: mesh.get().status == 503, "the breaker to open")
    receiver.wait_for(3)
    mesh.wait_until(lambda: any(span.events for span in receiver.spans), "the event")
    (opened,) = [span for span in receiver.spans if span.events]
    assert opened.events == [("maesh.breaker_open", {"maesh.reason": "the circuit breaker is open"})]
    assert opened.is_error
    assert opened.attributes["error.type"] == "503"


def test_spans_are_sent_by_grpc_with_headers(start_mesh, start_receiver):
    receiver = start_receiver("grpc")
    flags = ("--set", "otel.protocol=grpc", "--set", f"otel.endpoint={receiver.endpoint}", "--set", "otel.sample=1")
    mesh = start_mesh("--otel", *flags, "--set", "otel.headers=x-key=7", "--set", "otel.delay=50ms")
    mesh.get()
    assert [span.kind for span in receiver.wait_for(2)] == [SERVER, CLIENT]
    assert receiver.headers[0]["x-key"] == "7"


def test_the_standard_variables_apply(start_mesh, receiver):
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=8",
        "OTEL_SERVICE_NAME": "edge",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,host.name=mine",
        "OTEL_TRACES_SAMPLER": "parentbased_always_on",
    }
    mesh = start_mesh("--otel", env=variables)
    mesh.get()
    server, _ = receiver.wait_for(2)
    found = {key: server.resource[key] for key in ("service.name", "deployment.environment.name", "host.name")}
    assert found == {"service.name": "edge", "deployment.environment.name": "test", "host.name": "mine"}
    assert receiver.headers[0]["x-key"] == "8"


def test_a_collector_that_cannot_be_reached_costs_spans_and_two_lines(start_mesh, start_receiver):
    port = find_free_port()
    endpoint = f"http://127.0.0.1:{port}"
    flags = ("--set", f"otel.endpoint={endpoint}", "--set", "otel.sample=1", "--set", "otel.delay=20ms")
    env = {"OTEL_EXPORTER_OTLP_TIMEOUT": "0.1"}
    mesh = start_mesh("--otel", "--workers", "1", "--log-level", "warn", *flags, "--set", "otel.queue=3", env=env)
    assert {mesh.get().status for _ in range(50)} == {200}

    def read_lines():
        return [line for line in mesh.command.stderr.splitlines() if "spans c" in line]

    mesh.wait_until(lambda: count_spans(mesh, "dropped") >= 100 - 2 * 3 and read_lines(), "dropped spans")
    receiver = start_receiver(port=port)
    wait_until(lambda: mesh.get() and receiver.spans, "spans")
    mesh.wait_until(lambda: len(read_lines()) > 1, "the second line")
    bad, good = read_lines()
    assert f"spans cannot be sent to {endpoint}/v1/traces and are dropped: " in bad
    assert good.endswith(f"spans can be sent to {endpoint}/v1/traces again")
    assert "opentelemetry" not in mesh.command.stderr


def test_what_waits_is_sent_when_the_mesh_ends(start_mesh, receiver):
    flags = ("--set", f"otel.endpoint={receiver.endpoint}", "--set", "otel.sample=1", "--set", "otel.delay=1h")
    mesh = start_mesh("--otel", "--workers", "2", *flags)
    for _ in range(10):
        mesh.get()
    assert receiver.spans == []
    assert not mesh.command.end()
    assert len(receiver.spans) == 20


def test_a_hanging_collector_does_not_delay_the_end(start_mesh):
    with socket.create_server(("127.0.0.1", 0)) as sock:
        flags = ("--set", f"otel.endpoint=http://127.0.0.1:{sock.getsockname()[1]}", "--set", "otel.sample=1")
        mesh = start_mesh("--otel", "--workers", "1", *flags, "--set", "otel.delay=20ms")
        assert mesh.get().status == 200
        connection, _ = sock.accept()
        assert mesh.get().status == 200
        assert not mesh.command.end()
        connection.close()
    assert "replacing worker" not in mesh.command.stderr
    assert "did not end" not in mesh.command.stderr


def test_tcp_services_work_beside_it_untraced(start_mesh, receiver, start_upstream):
    upstream = start_upstream("tcp")
    objects = build_service("raw", [("127.0.0.1", upstream.port)], annotations={"traffic-type": "tcp"})
    mesh = start_mesh("--otel", "--set", f"otel.endpoint={receiver.endpoint}", objects=objects)
    assert mesh.describe_service("raw")["errors"] == []
    assert mesh.describe_service("raw")["notices"] == []


def test_a_grpc_call_has_the_attributes_of_rpc(start_traced, receiver):
    grpc = pytest.importorskip("grpc")

    def add(request, context):
        if request == b"bad":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such item")
        return request

    method = grpc.unary_unary_rpc_method_handler(add)
    with ThreadPoolExecutor(2) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Cart", {"Add": method}),))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        mesh = start_traced(
            objects=build_service("cart", [("127.0.0.1", port)], annotations={"scheme": "h2c"}),
        )
        options = [("grpc.default_authority", "cart.test.maesh")]
        with grpc.insecure_channel(f"127.0.0.1:{mesh.http_port}", options=options) as channel:
            call = channel.unary_unary("/shop.Cart/Add")
            assert call(b"1", timeout=60) == b"1"
            with pytest.raises(grpc.RpcError, match="no such item"):
                call(b"bad", timeout=60)
        spans = receiver.wait_for(4)
        server.stop(None).wait()
    assert {span.name for span in spans} == {"shop.Cart/Add"}
    assert [span.attributes["rpc.grpc.status_code"] for span in spans] == [0, 5, 0, 5]
    assert [span.is_error for span in spans] == [False, False, False, True]
    assert [span.attributes.get("network.protocol.version") for span in spans] == ["2", "2", None, None]
    assert spans[3].attributes["error.type"] == "NOT_FOUND"


def test_a_tunnel_is_one_span_that_ends_with_it(start_traced, receiver):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        mesh = start_traced(objects=build_service("chat", [("127.0.0.1", port)]))
        with socket.create_connection(("127.0.0.1", mesh.http_port)) as client:
            fields = b"Host: chat.test.maesh\r\nConnection: upgrade\r\nUpgrade: chat\r\n"
            client.sendall(b"GET / HTTP/1.1\r\n%b\r\n" % fields)
            upstream, _ = listening.accept()
            with upstream:
                assert b"\r\ntraceparent: 00-" in upstream.recv(65536)
                upstream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n")
                assert client.recv(65536).startswith(b"HTTP/1.1 101 ")
                assert receiver.spans == []
        server, attempt = receiver.wait_for(2)
    assert server.attributes["http.response.status_code"] == attempt.attributes["http.response.status_code"] == 101
    assert not server.is_error


def test_a_client_that_leaves_and_a_response_that_breaks_off_are_recorded(start_traced, receiver):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        mesh = start_traced("--no-passive-health", objects=build_service("cut", [("127.0.0.1", port)]))
        request = b"GET / HTTP/1.1\r\nHost: cut.test.maesh\r\n\r\n"
        with socket.create_connection(("127.0.0.1", mesh.http_port)) as client:
            client.sendall(request)
            upstream, _ = listening.accept()
            upstream.recv(65536)
        left, attempt = receiver.wait_for(2)
        upstream.close()
        assert left.attributes["maesh.reason"] == "the client left"
        assert not left.is_error
        assert attempt.attributes["error.type"] == "cancelled"
        with socket.create_connection(("127.0.0.1", mesh.http_port)) as client:
            client.sendall(request)
            upstream, _ = listening.accept()
            upstream.recv(65536)
            upstream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
            upstream.close()
            with contextlib.suppress(ConnectionResetError):
                while client.recv(65536):
                    pass
        lost = receiver.wait_for(4)[1]
        assert lost.attributes["error.type"] == "reset"
        assert lost.attributes["http.response.status_code"] == 200
