"""What a middleware can do with a body."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias

import msgspec

from maesh_core.plugin_system.interfaces.messages import Response

# --- middleware ------------------------------------------------------------------------------------------------------


class BodyTransform(Protocol):
    """Changes the content of a body while it passes."""

    def feed(self, data: bytes) -> bytes | Awaitable[bytes]:
        """Return what is passed on for at most 64 KiB of content, without framing; possibly nothing.

        An awaitable is awaited, and the sender is not read meanwhile.
        """

    def end(self, trailers: bytes) -> bytes:
        """Return what follows the last byte; the trailers are forwarded unchanged."""

    def close(self) -> None:
        """Called once if the body ends early: it was aborted, or the client has left."""


class BodyTap(Protocol):
    """Observes the content of a body, which is forwarded unchanged. One that raises is left out from then on."""

    def observe(self, data: bytes) -> None:
        """Observe at most 64 KiB of content, without framing."""

    def end(self, *, is_complete: bool) -> None:
        """Called once after the last byte, or when the body has ended early."""


class WholeBody(msgspec.Struct, frozen=True, kw_only=True):
    """Collects the whole body before it is forwarded; `decide` returns the body to send, or an answer."""

    limit_bytes: int
    """At most 16 MiB."""
    decide: Callable[[bytes], "bytes | Response | Awaitable[bytes | Response]"]
    is_passed_if_larger: bool = False
    """Whether a larger body is forwarded unchanged; otherwise the answer is 413 for a request, 502 for a response."""


BodyUse: TypeAlias = BodyTransform | BodyTap | WholeBody
"""What a middleware does with a body."""
