"""Answers `/api/explain`: parses the parameters of the question, and explains it with what the controller serves.

Raises ConfigurationError with a text for the person who asks. Reads the same documents as `maesh explain`, so both give
the same answer. It decodes them for each question: 0.1 s with 5,000 services.
"""

from collections.abc import Mapping, Sequence
from http import HTTPMethod
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec

from maesh_core.controller.explaining.client import Pods
from maesh_core.controller.explaining.explanation import ExplainedRequest, Explainer
from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import HttpRouter, StreamRouter
from maesh_core.model.messages import FIXED_FIELDS, Update, parse_update
from maesh_core.plugin_system.hookspecs import MiddlewareBuilder
from maesh_core.values.field_rules import is_token

PARAMETERS = ("client", "service", "method", "path", "port", "header")
"""The parameters; only `header` can be repeated."""
HEADERS_LIMIT = 50


class Documents(Protocol):
    """What a controller serves: the input of an explanation."""

    def render_configuration(self, since: str | None) -> bytes | None: ...  # noqa: D102

    def render_topology(self) -> bytes: ...  # noqa: D102

    def render_objects(self) -> bytes: ...  # noqa: D102

    @property
    def pods(self) -> Pods: ...  # noqa: D102

    @property
    def problems(self) -> Mapping[str, str]: ...  # noqa: D102

    @property
    def middleware_builders(self) -> Sequence[MiddlewareBuilder]: ...  # noqa: D102


def parse_question(query: str) -> ExplainedRequest:
    """Parse the query of a request's target. Raises ConfigurationError."""
    pairs = parse_qsl(query, keep_blank_values=True)
    unknown = sorted({name for name, _ in pairs} - set(PARAMETERS))
    if unknown:
        raise ConfigurationError(f"unknown parameter {unknown[0]!r}; the parameters are {', '.join(PARAMETERS)}")
    given = {name: value.strip() for name, value in reversed(pairs)}
    for name in ("client", "service"):
        if not given.get(name):
            raise ConfigurationError(f"{name} is missing: name a {'pod or an address' if name == 'client' else name}")
    method, path = given.get("method") or "GET", given.get("path") or "/"
    check_request(method, path)
    headers = [value for name, value in pairs if name == "header" and value.strip()]
    if len(headers) > HEADERS_LIMIT:
        raise ConfigurationError(f"there are more than {HEADERS_LIMIT} headers")
    return ExplainedRequest(
        client=given["client"],
        service=given["service"],
        port=_parse_port(given.get("port", "")),
        method=method,
        path=path,
        headers=tuple(map(parse_header, headers)),
    )


def check_request(method: str, path: str) -> None:
    """Reject an invalid method or path: proxies answer it with 400 or 501, regardless of the rules."""
    if not is_token(method.encode()):
        raise ConfigurationError(f"METHOD: {method!r} is not a method such as GET")
    if method not in set(HTTPMethod) and method.upper() in set(HTTPMethod):
        raise ConfigurationError(f"METHOD: {method!r} is not {method.upper()}: methods are case-sensitive")
    if not path.startswith("/") and path != "*":
        raise ConfigurationError(f"PATH: {path!r} does not begin with /")


def parse_header(text: str) -> tuple[str, str]:
    """Parse `NAME: VALUE`."""
    name, colon, value = text.partition(":")
    if not colon or not is_token(name.strip().encode()):
        raise ConfigurationError(f"header: {text!r} is not NAME: VALUE")
    return name.strip(), value.strip()


def _parse_port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 5):
        raise ConfigurationError(f"port: {text!r} is not a number from 1 to 65535")
    return int(text)


def answer_question(asked: ExplainedRequest, documents: Documents) -> bytes:
    """Explain a request, as JSON. Raises ConfigurationError for an unknown service, port or pod."""
    topology: Any = msgspec.json.decode(documents.render_topology())
    objects: Any = msgspec.json.decode(documents.render_objects())
    explainer = Explainer(
        topology,
        decode_configuration(documents.render_configuration(None) or b"{}"),
        {builder.kind: builder for builder in documents.middleware_builders},
        pods=documents.pods,
        objects=objects,
        problems=documents.problems,
    )
    return msgspec.json.encode(explainer.explain(asked))


def decode_configuration(body: bytes) -> Update:
    """Decode the controller's own configuration, with all its protocols."""
    protocols = msgspec.json.decode(body, type=dict[str, msgspec.Raw]).keys() - FIXED_FIELDS
    return parse_update(body, {name: HttpRouter if name == "http" else StreamRouter for name in protocols})
