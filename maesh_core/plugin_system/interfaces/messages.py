"""The heads of messages as middlewares see them, and a middleware's own response."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from maesh_core.plugin_system.field_changes import FieldChanges

# --- middleware ------------------------------------------------------------------------------------------------------


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response of the mesh. `reason` is the value of `X-Maesh-Reason`, and the body if `body` is None.

    `headers` are added to it; names and values are checked when it is sent. If it has a `body`, set its Content-Type.
    """

    status: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    grpc_status: int | None = None
    """What a gRPC call gets; None means the status that fits `status`."""


class ReadableHeaders(Protocol):
    """The headers of one message as they were received; names are compared in lower case."""

    def get(self, name: bytes) -> bytes | None:
        """Read the first value, or None."""

    def get_all(self, name: bytes) -> Sequence[bytes]:
        """Read every value, in order."""

    def items(self) -> Sequence[tuple[bytes, bytes]]:
        """List every field with its name as received, and its value; slower than reading one field by name."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the fields that `items` lists."""


class ClientHead(Protocol):
    """The head of a request as the client sent it."""

    @property
    def method(self) -> bytes:
        """As the client sent it."""

    @property
    def target(self) -> bytes:
        """The target in origin-form, as the client sent it."""

    @property
    def host(self) -> bytes:
        """Lower case, without port and final dot."""

    @property
    def client_headers(self) -> ReadableHeaders:
        """The fields."""

    @property
    def has_trace_context(self) -> bool:
        """Whether it has a field of a trace context: `traceparent`, `b3` or `X-B3-...`; fast for most heads."""

    def matches(self, search: Callable[[bytes], object]) -> bool:
        """Return whether a search of the head's bytes finds something, as `Exchange.head_matches` does."""


class Headers(Protocol):
    """The headers of one message as they are forwarded, without framing; names are compared in lower case.

    Setting a name or value that RFC 9110 does not allow raises ValueError.
    """

    def get(self, name: bytes) -> bytes | None:
        """Read the first value, or None."""

    def get_all(self, name: bytes) -> Sequence[bytes]:
        """Read every value, in order."""

    def items(self) -> Sequence[tuple[bytes, bytes]]:
        """List every field with its name as spelt, and its value. The list is a copy, so the headers can be changed."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        """Iterate over the fields that `items` lists."""

    def set(self, name: bytes, value: bytes) -> None:
        """Replace all values of a name by one."""

    def add(self, name: bytes, value: bytes) -> None:
        """Add a field at the end."""

    def remove(self, name: bytes) -> None:
        """Remove every value of a name, if there is any."""

    def apply(self, changes: FieldChanges) -> None:
        """Apply changes one after the other. For changes that were prepared once, this is faster than the methods."""
