"""Sends one request and gives what came back."""

import http.client
import json
from collections.abc import Mapping
from typing import Any


class Answer:
    """What came back on a request; status 0 when nothing did. `headers` are looked up in any case."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"<{self.status} {self.body!r}>"


def send_request(
    port: int,
    host: str | None = None,
    path: str = "/",
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: bytes | str | None = None,
    client: str = "",
) -> Answer:
    """Send one request to a port of this machine, on a connection of its own, from the address `client` if given."""
    source = (client, 0) if client else None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=source)
    try:
        connection.request(method, path, body, {**({"Host": host} if host else {}), **(headers or {})})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())  # type: ignore[arg-type]
    except (ConnectionError, http.client.RemoteDisconnected) as error:
        return Answer(0, {}, str(error).encode())
    finally:
        connection.close()
