"""The status codes of gRPC: their names, and those that are errors of the server. Proxies count the numbers."""

from typing import Final

GRPC_STATUS_NAMES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The names by number, as gRPC assigns them."""
GRPC_SERVER_ERRORS: Final = frozenset({2, 4, 12, 13, 14, 15})
"""The statuses that OpenTelemetry's semantic conventions count as errors of a server."""
