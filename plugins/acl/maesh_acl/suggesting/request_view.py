"""An observed request, as the conditions of rules check requests. It has no headers. Values only."""

from maesh_acl.suggesting.observation import Observation


class RequestView:
    """Implements `Request` of the matches."""

    __slots__ = ("client_headers", "method", "target")

    def __init__(self, observation: Observation) -> None:
        self.method = observation.method.encode("utf-8", "replace")
        self.target = observation.path.encode("utf-8", "replace")
        self.client_headers = _NO_HEADERS

    def __repr__(self) -> str:
        return f"<RequestView {self.method!r} {self.target!r}>"


class _NoHeaders:
    def get_all(self, name: bytes) -> list[bytes]:
        """Return nothing: observations have no headers."""
        return []


_NO_HEADERS = _NoHeaders()
