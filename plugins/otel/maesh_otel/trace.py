"""What is recorded of one request that is sampled: plain values, from which spans.py makes spans in another thread."""

from maesh_otel.context import TraceContext


class AttemptRecord:
    """One attempt. `ended_ns` is 0 until it has ended; `error` is why it had no complete response."""

    def __init__(self, span_id: bytes, started_ns: int) -> None:
        self.span_id = span_id
        self.started_ns = started_ns
        self.ended_ns = 0
        self.server: tuple[str, int] | None = None
        self.server_path = ""
        self.status = 0
        self.grpc_status: int | None = None
        self.error = ""

    def __repr__(self) -> str:
        return f"<AttemptRecord at {self.server} status={self.status} {self.error!r}>"


class RequestRecord:
    """One request, its attempts, and why the mesh answered it or ended it. Times are Unix times in nanoseconds."""

    def __init__(self, context: TraceContext, span_id: bytes, started_ns: int) -> None:
        self.context = context
        self.span_id = span_id
        self.started_ns = started_ns
        self.ended_ns = 0
        self.attempts: list[AttemptRecord] = []
        self.method = b""
        self.target = b""
        self.authority = b""
        self.user_agent = b""
        self.client_address = ""
        self.client_pod = ""
        self.protocol = ""
        self.service = ""
        self.destination = ""
        self.is_grpc = False
        self.status = 0
        self.grpc_status: int | None = None
        self.reason = ""
        self.would_deny = ""

    def __repr__(self) -> str:
        return f"<RequestRecord {self.context.trace_id!r} {self.method!r} status={self.status} {self.reason!r}>"
