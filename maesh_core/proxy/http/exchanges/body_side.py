"""The client as an attempt sees it, when middlewares use the body of its request or response.

Passes the content of a response to its flow (response_flow.py), and lets the flow of a request (request_flow.py)
continue when the server reads again. Everything else goes to the client. Decides nothing.
"""

from typing import final

from maesh_core.proxy.http.exchanges.client_stream import ClientStream
from maesh_core.proxy.http.exchanges.request_flow import RequestFlow
from maesh_core.proxy.http.exchanges.response_flow import ResponseFlow
from maesh_core.proxy.http.upstreams.upstream_stream import ClientSide


@final
class BodySide(ClientSide):
    """Implements `ClientSide` between an upstream connection and a client."""

    __slots__ = ("_client", "_request", "response")

    def __init__(self, client: ClientStream, request: RequestFlow | None) -> None:
        self._client = client
        self._request = request
        self.response: ResponseFlow | None = None

    @property
    def is_unchunked(self) -> bool:
        """Whether chunked bodies must arrive as content: always, if middlewares use the response."""
        return self.response is not None or self._client.is_unchunked

    def write(self, data: bytes) -> None:
        """Pass on bytes of the response's body."""
        if self.response is not None:
            self.response.receive(data)
        else:
            self._client.write(data)

    def write_content(self, data: bytes) -> None:
        """Pass on bytes of a streamed response's body."""
        if self.response is not None:
            self.response.receive(data)
        else:
            self._client.write_content(data)

    def end_content(self, trailers: bytes) -> None:
        """Keep the trailers for the end of the flow, which the attempt reports next, or pass them on."""
        if self.response is not None:
            self.response.trailers = trailers
        else:
            self._client.end_content(trailers)

    def on_progress(self) -> None:
        """Restart the wait."""
        self._client.on_progress()

    def pause_reading(self) -> None:
        """Pause reading the request."""
        self._client.pause_reading()

    def resume_reading(self) -> None:
        """Let what waits of the request follow, then read on."""
        if self._request is not None:
            self._request.pump()
        self._client.resume_reading()
