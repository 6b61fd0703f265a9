"""The proxy's half: changes the headers of requests before they are sent, and those of responses of servers.

The names and values become bytes once, when the middleware is built. The proxy refuses names that only the mesh sets,
and bytes that would end a field, so that no value can add a field or split a message.
"""

from maesh_core.plugin import ClientHead, FieldChanges, Middleware
from maesh_headers.settings import HeaderChange, HeaderChanges


def prepare(changes: tuple[HeaderChange, ...]) -> FieldChanges:
    """Prepare the changes of one kind of messages."""
    return FieldChanges((each.action, each.name.encode(), each.value.encode()) for each in changes)


class RequestChange(Middleware):
    """Changes of requests only. A message that does not change costs nothing."""

    def __init__(self, settings: HeaderChanges) -> None:
        self._request = prepare(settings.request)

    def __repr__(self) -> str:
        return f"<RequestChange {self._request!r}>"

    def choose_request_changes(self, head: ClientHead) -> FieldChanges:
        """Return the changes of every request."""
        return self._request


class ResponseChange(Middleware):
    """Changes of responses only."""

    def __init__(self, settings: HeaderChanges) -> None:
        self._response = prepare(settings.response)

    def __repr__(self) -> str:
        return f"<ResponseChange {self._response!r}>"

    def choose_response_changes(self, head: ClientHead) -> FieldChanges:
        """Return the changes of every response."""
        return self._response


class RequestAndResponseChange(RequestChange):
    """Changes of both."""

    def __init__(self, settings: HeaderChanges) -> None:
        super().__init__(settings)
        self._response = prepare(settings.response)

    def __repr__(self) -> str:
        return f"<RequestAndResponseChange {self._request!r} {self._response!r}>"

    def choose_response_changes(self, head: ClientHead) -> FieldChanges:
        """Return the changes of every response."""
        return self._response


class HeadersFactory:
    """Builds the middleware of each service or rule with changes."""

    kind = "headers"
    settings_type = HeaderChanges

    def build_middleware(self, settings: HeaderChanges, service: str) -> Middleware:
        """Build the middleware of one service or rule."""
        if settings.request and settings.response:
            return RequestAndResponseChange(settings)
        return RequestChange(settings) if settings.request else ResponseChange(settings)
