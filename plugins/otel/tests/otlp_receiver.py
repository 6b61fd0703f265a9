"""A collector: receives spans by OTLP over HTTP or gRPC, and decodes them with the messages of opentelemetry-proto."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from maesh_testing import wait_until

SERVER, CLIENT = 2, 3
"""The kinds of spans."""
ERROR = 2
"""The code of a status."""


class ReceivedSpan:
    """A span with its attributes as a dict, and those of its resource."""

    def __init__(self, span: Any, resource: dict[str, Any], scope: str) -> None:
        self.name, self.kind = span.name, span.kind
        self.trace_id, self.span_id, self.parent_id = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.trace_state = span.trace_state
        self.started_ns, self.ended_ns = span.start_time_unix_nano, span.end_time_unix_nano
        self.is_error = span.status.code == ERROR
        self.attributes = read_attributes(span.attributes)
        self.events = [(event.name, read_attributes(event.attributes)) for event in span.events]
        self.resource, self.scope = resource, scope

    def __repr__(self) -> str:
        return f"<{'server' if self.kind == SERVER else 'client'} {self.name} {self.attributes} {self.events}>"


def read_attributes(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


class Receiver:
    """Keeps what it receives. While `is_refusing`, it answers with an error."""

    def __init__(self) -> None:
        self.spans: list[ReceivedSpan] = []
        self.headers: list[dict[str, str]] = []
        self.endpoint = ""
        self.is_refusing = False
        self.close: Callable[[], None] = lambda: None

    def receive(self, request: Any, headers: dict[str, str]) -> None:
        self.headers.append(headers)
        for each in request.resource_spans:
            resource = read_attributes(each.resource.attributes)
            for scoped in each.scope_spans:
                self.spans += [ReceivedSpan(span, resource, scoped.scope.name) for span in scoped.spans]

    def wait_for(self, count: int) -> list[ReceivedSpan]:
        """Wait for a number of spans; gives all, those of servers first, then by their start."""
        wait_until(lambda: len(self.spans) >= count, f"{count} spans, not {self.spans}")
        return sorted(self.spans, key=lambda span: (span.kind, span.started_ns))


def start_http_receiver(port: int = 0) -> Receiver:
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_wanted = self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            if is_wanted and not receiver.is_refusing:
                receiver.receive(
                    ExportTraceServiceRequest.FromString(body), {k.lower(): v for k, v in self.headers.items()}
                )
                answer = ExportTraceServiceResponse().SerializeToString()
            else:
                answer = b"no"
            self.send_response(400 if answer == b"no" else 200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - as in the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()

    def close() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    receiver.close = close
    receiver.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    return receiver


def start_grpc_receiver() -> Receiver:
    """Start one that speaks gRPC; the caller has checked that grpcio is installed."""
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
        TraceServiceServicer,
        add_TraceServiceServicer_to_server,
    )

    receiver = Receiver()

    class Servicer(TraceServiceServicer):
        def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - the name of the call
            receiver.receive(request, dict(context.invocation_metadata()))
            return ExportTraceServiceResponse()

    pool = ThreadPoolExecutor(2)
    server = grpc.server(pool)
    add_TraceServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def close() -> None:
        server.stop(None).wait()
        pool.shutdown()

    receiver.close = close
    receiver.endpoint = f"http://127.0.0.1:{port}"
    return receiver
