"""Tracing for Maesh: spans of requests and of their attempts, sent by OpenTelemetry.

Both processes import this module before they load a half, so it only declares the plugin.
"""

from typing import Annotated, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from maesh_core.plugin import Plugin, PositiveDuration, find_header_problem

__all__ = ["PLUGIN", "OtelSettings"]

_PROTOCOLS = Literal["", "http/protobuf", "grpc"]


class OtelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings `--set otel.KEY=VALUE`, which the proxy uses; the controller uses `client_pods`.

    Where a setting is empty or None, a variable of OpenTelemetry applies (environment.py), and then the default.
    """

    endpoint: str = ""
    """URL of the collector; default: http://127.0.0.1:4318, or port 4317 for gRPC."""

    protocol: _PROTOCOLS = ""
    """How spans are sent: `http/protobuf` or `grpc`; default: `http/protobuf`."""

    sample: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Share of the requests without a trace for which the mesh starts one, from 0 to 1; default: 0.01."""

    mark_unsampled: bool = False
    """Whether a request that the mesh did not choose gets a `traceparent` that says so, which costs about 3 us."""

    service_name: str = ""
    """The resource's `service.name`; default: `maesh`."""

    headers: tuple[str, ...] = ()
    """Headers of every export, as `name=value`, such as a key of the collector's. Use a variable for secrets."""

    queue: Annotated[int, Meta(ge=1, le=100_000)] = 2048
    """Most traces that wait in a worker to be sent; further ones are dropped, and counted."""

    delay: PositiveDuration = 1.0
    """Longest time, in seconds, that a trace waits for others, so that they are sent together."""

    client_pods: bool = False
    """Whether spans name the pods of clients; the controller then sends the names of all pods."""

    def __post_init__(self) -> None:
        """Check the endpoint and the headers."""
        if self.endpoint and (problem := find_endpoint_problem(self.endpoint)):
            raise ValueError(f"endpoint: {self.endpoint!r} {problem}")
        for position, text in enumerate(self.headers, start=1):
            name, equals, value = text.partition("=")
            if not equals:  # the texts may be secrets
                raise ValueError(f"headers: number {position} is not NAME=VALUE")
            if problem := find_header_problem(name, value):
                raise ValueError(f"headers: number {position}, {name!r}, {problem}")


def find_endpoint_problem(text: str) -> str | None:
    """Explain why a collector cannot have this URL; None if it can."""
    try:
        url = urlsplit(text)
        is_valid = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        is_valid = False
    return None if is_valid else "is not a URL such as http://127.0.0.1:4318"


PLUGIN = Plugin(
    hook_api_version=1,
    settings=OtelSettings,
    controller="maesh_otel.controller:ControllerHalf",
    proxy="maesh_otel.hooks:ProxyHalf",
)
