"""The shipped middlewares over HTTP/2: each stream of a connection is judged for itself, exactly as in HTTP/1.1."""

import json
import re
import socket
import struct
from importlib.metadata import entry_points

import hpack
import pytest

from maesh_testing import build_pod, find_free_port

pytestmark = pytest.mark.integration

HOST = "app.test.maesh"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4
END_STREAM, END_HEADERS = 1, 4
CLIENT, SERVER = "127.0.1.1", "127.0.2.1"


@pytest.fixture(autouse=True)
def installed():
    for name in ("acl", "retry", "ratelimit", "circuitbreaker"):
        if not entry_points(group="maesh.plugins", name=name):
            pytest.skip(f"the plugin {name} is not installed")


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def ask(port, *paths, client="", is_grpc=False):
    """Send requests as streams of one connection, all at once; give each one's fields and body."""
    encoder, decoder = hpack.Encoder(), hpack.Decoder()
    request = PREFACE + frame(SETTINGS, 0, 0)
    for number, path in enumerate(paths):
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", HOST), (":path", path)]
        if is_grpc:
            fields += [("content-type", "application/grpc"), ("te", "trailers")]
        request += frame(HEADERS, END_STREAM | END_HEADERS, 2 * number + 1, encoder.encode(fields))
    responses = {2 * number + 1: ({}, bytearray()) for number in range(len(paths))}
    left = set(responses)
    with socket.create_connection(("127.0.0.1", port), 60, source_address=(client, 0) if client else None) as sock:
        sock.sendall(request)
        with sock.makefile("rb") as stream:
            while left:
                head = stream.read(9)
                assert len(head) == 9, "the connection ended"
                length, kind, flags, number = int.from_bytes(head[:3]), head[3], head[4], int.from_bytes(head[5:])
                payload = stream.read(length)
                assert kind != RST_STREAM
                if kind == HEADERS:
                    responses[number][0].update(decoder.decode(payload))
                elif kind == DATA:
                    responses[number][1].extend(payload)
                if kind in (HEADERS, DATA) and flags & END_STREAM:
                    left.discard(number)
    return [(fields, bytes(body)) for fields, body in responses.values()]


def list_statuses(responses):
    return [int(fields[":status"]) for fields, _ in responses]


def read_limited(mesh):
    sample = r'^maesh_service_answers_total{code="429",reason="too many requests",service="test/app:80"} (\d+)'
    found = re.search(sample, mesh.read_metrics(), re.MULTILINE)
    return int(found[1]) if found else 0


def test_acl_judges_each_stream(start_mesh, start_upstream):
    group = {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "methods", "namespace": "test"},
        "spec": {"matches": [{"name": "get", "pathRegex": "/shop[.]Cart/Get", "methods": ["*"]}]},
    }
    target = {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": "open", "namespace": "test"},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": "server", "namespace": "test"},
            "sources": [{"kind": "ServiceAccount", "name": "caller", "namespace": "test"}],
            "rules": [{"kind": "HTTPRouteGroup", "name": "methods"}],
        },
    }
    upstream = start_upstream("app-1", SERVER)
    objects = [build_pod("client", CLIENT, "caller"), group, target]
    mesh = start_mesh("--acl", servers=[upstream], account="server", objects=objects)
    paths = ("/shop.Cart/Get", "/shop.Cart/Delete", "/shop.Cart/Get")
    responses = ask(mesh.http_port, *paths, client=CLIENT)
    assert list_statuses(responses) == [200, 403, 200]
    assert [body for _, body in responses][::2] == [b"app-1", b"app-1"]
    assert responses[1][0]["x-maesh-reason"].startswith("access denied")
    calls = ask(mesh.http_port, "/shop.Cart/Delete", client=CLIENT, is_grpc=True)
    assert (calls[0][0][":status"], calls[0][0]["grpc-status"]) == ("200", "7")
    assert list_statuses(ask(mesh.http_port, *paths)) == [403, 403, 403]
    assert upstream.count == 2


def test_a_rate_limit_counts_each_stream(start_mesh):
    limit = {"ratelimit-average": "1", "ratelimit-burst": "2", "ratelimit-period": "1h"}
    mesh = start_mesh("--workers", "1", annotations=limit)
    responses = ask(mesh.http_port, *["/"] * 5)
    assert list_statuses(responses) == [200, 200, 429, 429, 429]
    assert responses[2][0]["retry-after"]
    (fields, body) = ask(mesh.http_port, "/", is_grpc=True)[0]
    assert (fields["grpc-status"], body) == ("8", b"")
    assert fields["retry-after"]
    mesh.wait_until(lambda: read_limited(mesh) == 4, "they are counted")


def test_a_retry_repeats_one_stream_of_a_connection_at_another_server(start_mesh, start_upstream):
    class Nobody:
        address, port = "127.0.0.1", find_free_port()

    servers = [start_upstream("app-1"), Nobody()]
    flags = ("--workers", "1", "--no-passive-health")
    mesh = start_mesh(*flags, servers=servers, annotations={"retry-attempts": "2"})
    responses = ask(mesh.http_port, *["/"] * 4)
    assert list_statuses(responses) == [200] * 4
    assert {body for _, body in responses} == {b"app-1"}
    assert 'maesh_service_retries_total{service="test/app:80"} 2' in mesh.wait_until(
        lambda: (text := mesh.read_metrics()) and "retries_total{" in text and text, "they are counted"
    )


def test_a_breaker_counts_each_stream_and_refuses_later_ones(start_mesh, start_upstream):
    class Nobody:
        address, port = "127.0.0.1", find_free_port()

    breaker = {"circuit-breaker-expression": "NetworkErrorRatio() > 0.5"}
    mesh = start_mesh("--workers", "1", "--no-passive-health", servers=[Nobody()], annotations=breaker)
    assert list_statuses(ask(mesh.http_port, "/", "/")) == [502, 502]
    ((fields, _),) = ask(mesh.http_port, "/")
    assert (fields[":status"], fields["x-maesh-reason"]) == ("503", "the circuit breaker is open")
    assert fields["retry-after"]
    ((fields, _),) = ask(mesh.http_port, "/", is_grpc=True)
    assert (fields[":status"], fields["grpc-status"]) == ("200", "14")


def test_headers_and_paths_are_changed_for_each_stream(start_mesh):
    annotations = {
        "request-headers": "set X-Team=payments\nremove X-Gone",
        "response-headers": "set X-Mesh=maesh",
        "rewrite-prefix": "/api",
        "rewrite-host": "a.internal",
    }
    mesh = start_mesh(annotations=annotations)
    (first, body), (second, _) = ask(mesh.http_port, "/api/headers", "/api/../x")
    assert (first[":status"], first["x-mesh"]) == ("200", "maesh")
    sent = json.loads(body)
    assert (sent["host"], sent["x-team"]) == ("a.internal", "payments")
    assert [request.path for request in mesh.upstreams[0].requests] == ["/headers"]
    assert (second[":status"], second["x-maesh-reason"]) == ("403", "the path is ambiguous")


def test_a_redirect_has_its_location_and_a_call_ends_with_a_status(start_mesh):
    mesh = start_mesh(annotations={"redirect-scheme": "https"})
    ((fields, _),) = ask(mesh.http_port, "/a?b=c")
    assert (fields[":status"], fields["location"]) == ("302", f"https://{HOST}/a?b=c")
    ((fields, body),) = ask(mesh.http_port, "/shop.Cart/Get", is_grpc=True)
    assert (fields[":status"], fields["grpc-status"], body) == ("200", "2", b"")


def test_a_fault_fails_calls_with_its_grpc_status_and_no_other_stream(start_mesh):
    mesh = start_mesh("--fault", annotations={"fault-abort": "resource-exhausted"})
    ((fields, _),) = ask(mesh.http_port, "/shop.Cart/Get", is_grpc=True)
    assert (fields["grpc-status"], fields["x-maesh-reason"]) == ("8", "a fault was injected")
    assert list_statuses(ask(mesh.http_port, "/", "/")) == [200, 200]
