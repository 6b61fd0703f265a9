"""Parses the parameters of a question to `/api/explain`, and the request that `maesh explain` is asked about.

Raises ConfigurationError with a text for the person who asks. Every text has a limit: names are compared with those of
all services and pods.
"""

from http import HTTPMethod
from urllib.parse import parse_qsl

from maesh_core.controller.explaining.explanation import ExplainedRequest
from maesh_core.errors import ConfigurationError
from maesh_core.model.keys import is_label
from maesh_core.values.field_rules import is_token

PARAMETERS = ("client", "service", "method", "path", "port", "header")
"""The parameters; only `header` can be repeated."""
HEADERS_LIMIT = 50
NAME_LIMIT = 600
"""Limit of characters of a client and of a service: name and namespace have at most 253 each."""


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
        if len(given[name]) > NAME_LIMIT:
            raise ConfigurationError(f"{name} has more than {NAME_LIMIT} characters")
    method, path = given.get("method") or "GET", given.get("path") or "/"
    check_request(method, path)
    headers = [value for name, value in pairs if name == "header" and value.strip()]
    if len(headers) > HEADERS_LIMIT:
        raise ConfigurationError(f"there are more than {HEADERS_LIMIT} headers")
    return ExplainedRequest(
        client=given["client"],
        service=given["service"],
        port=parse_port(given.get("port", "")),
        method=method,
        path=path,
        headers=tuple(map(parse_header, headers)),
    )


def check_request(method: str, path: str) -> None:
    """Reject an invalid method or path: proxies answer it with 400 or 501, regardless of the rules.

    Raises ConfigurationError.
    """
    if not is_token(method.encode()):
        raise ConfigurationError(f"METHOD: {method!r} is not a method such as GET")
    if method not in set(HTTPMethod) and method.upper() in set(HTTPMethod):
        raise ConfigurationError(f"METHOD: {method!r} is not {method.upper()}: methods are case-sensitive")
    if not path.startswith("/") and path != "*":
        raise ConfigurationError(f"PATH: {path!r} does not begin with /")


def parse_header(text: str) -> tuple[str, str]:
    """Parse `NAME: VALUE`. Raises ConfigurationError."""
    name, colon, value = text.partition(":")
    if not colon or not is_token(name.strip().encode()):
        raise ConfigurationError(f"header: {text!r} is not NAME: VALUE")
    return name.strip(), value.strip()


def parse_port(text: str) -> int | str | None:
    """Parse a port: a number, a number with a protocol, or a name; None for no text. Raises ConfigurationError."""
    text = text.strip()
    if not text:
        return None
    number, slash, protocol = text.partition("/")
    is_number = number.isascii() and number.isdecimal() and len(number) <= 5
    if is_number and (not slash or protocol.lower() in ("tcp", "udp")):
        return text if slash else int(number)
    if is_label(text) and not number.isdecimal():
        return text
    raise ConfigurationError(f"port: {text[:80]!r} is not a number from 1 to 65535, one with /tcp or /udp, or a name")
