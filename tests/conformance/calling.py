"""Sends the requests of a case, from the address of a pod, and compares what comes back with what is wanted."""

import http.client
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import msgspec

from .cases import Redirect, Request, Want

TIMEOUT_S = 10.0
GRPC_PATH = "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_GRPC_OK = 0


class Answer(msgspec.Struct, frozen=True):
    """What came back; `echo` is what the backend received, if a backend has answered."""

    status: int
    headers: Mapping[str, str] = {}
    echo: Mapping[str, Any] = {}


def call(request: Request, address: tuple[str, int], source: str) -> Answer:
    """Send a request to an address, from another one."""
    send = _call_grpc if request.protocol == "grpc" else _call_http
    return send(request, address, source)


def _call_http(request: Request, address: tuple[str, int], source: str) -> Answer:
    fields = dict(request.headers)
    host = fields.pop("Host", None) or (request.host if request.port == 80 else f"{request.host}:{request.port}")
    connection = http.client.HTTPConnection(*address, timeout=TIMEOUT_S, source_address=(source, 0))
    with closing(connection):
        connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", host)
        for name, value in fields.items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        body = response.read()
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        headers[name.lower()] = f"{headers[name.lower()]},{value}" if name.lower() in headers else value
    is_echo = response.status == 200 and headers.get("content-type") == "application/json"
    return Answer(response.status, headers, msgspec.json.decode(body) if is_echo else {})


def _call_grpc(request: Request, address: tuple[str, int], source: str) -> Answer:
    """Call the echo service; the status is 200 if the call succeeded (grpc-status 0), as the suite counts it."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", GRPC_PATH),
        (":authority", f"{request.host}:{request.port}"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *request.headers.items(),
    ]
    with socket.create_connection(address, TIMEOUT_S, (source, 0)) as sock:
        connection.initiate_connection()
        connection.send_headers(1, headers)
        connection.send_data(1, bytes(5), end_stream=True)
        sock.sendall(connection.data_to_send())
        fields: dict[str, str] = {}
        body = b""
        for event in _receive(connection, sock):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                fields |= {str(name): str(value) for name, value in event.headers}
            elif isinstance(event, h2.events.DataReceived):
                body += event.data
    is_ok = fields.get("grpc-status") == str(_GRPC_OK)
    status = int(fields.get(":status", 0))
    return Answer(status if is_ok or status != 200 else 500, fields, msgspec.json.decode(body[5:]) if is_ok else {})


def _receive(connection: h2.connection.H2Connection, sock: socket.socket) -> Iterator[h2.events.Event]:
    while data := sock.recv(65536):
        for event in connection.receive_data(data):
            yield event
            if isinstance(event, h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated):
                return
        sock.sendall(connection.data_to_send())


def find_difference(request: Request, send: Callable[[], Answer]) -> str:
    """Send a request, or all of equal ones; return what is not as wanted, or an empty text."""
    if request.want.shares:
        return _compare_shares(request, [send() for _ in range(request.times)])
    return compare(request, send())


def compare(request: Request, answer: Answer) -> str:
    """Return the first difference between an answer and what is wanted."""
    return next(_list_differences(request, request.want, answer), "")


def _list_differences(request: Request, want: Want, answer: Answer) -> Iterator[str]:
    if answer.status not in want.status:
        yield f"status {answer.status}, not {' or '.join(map(str, want.status))} ({dict(answer.headers)})"
        return
    if want.redirect is not None:
        yield from _compare_location(request, want.redirect, answer.headers.get("location", ""))
        return
    pod = str(answer.echo.get("pod", ""))
    if not pod.startswith(want.backend):
        yield f"it was answered by {pod or 'no pod'}, not by {want.backend}"
    if want.namespace and answer.echo.get("namespace") != want.namespace:
        yield f"it was answered in namespace {answer.echo.get('namespace')}, not in {want.namespace}"
    received = {name: ",".join(values) for name, values in answer.echo.get("headers", {}).items()}
    path = request.target if want.request.upstream_error else want.request.path
    for what, wanted in (("path", path), ("host", want.request.host)):
        if wanted and answer.echo.get(what) != wanted:
            yield f"the backend received {what} {answer.echo.get(what)!r}, not {wanted!r}"
    yield from _compare_headers("the request", received, want.request.headers, want.request.absent_headers)
    yield from _compare_headers("the response", answer.headers, want.response.headers, want.response.absent_headers)


def _compare_headers(
    what: str, found: Mapping[str, str], wanted: Mapping[str, str], absent: tuple[str, ...]
) -> Iterator[str]:
    for name, value in wanted.items():
        if found.get(name.lower()) != value:
            yield f"{what} has {name}: {found.get(name.lower())!r}, not {value!r}"
    for name in absent:
        if name.lower() in found:
            yield f"{what} has {name}: {found[name.lower()]!r}"


def _compare_location(request: Request, want: Redirect, location: str) -> Iterator[str]:
    """Compare all parts of `Location`, also those that the case does not write (HTTPRequestRedirectFilter)."""
    found = urlsplit(location)
    scheme = want.scheme or "http"
    if found.scheme != scheme:
        yield f"Location {location!r} does not have the scheme {scheme}"
    if want.host and found.hostname != want.host:
        yield f"Location {location!r} does not have the host {want.host}"
    if not want.host and found.hostname != request.host:
        yield f"Location {location!r} does not have the host of the request"
    path = want.path or urlsplit(request.target).path
    if found.path != path:
        yield f"Location {location!r} does not have the path {path}"
    ports = {int(want.port)} if want.port else {None}
    if found.port not in ports:
        yield f"Location {location!r} does not have the port {want.port or 'of the scheme'}"


def _compare_shares(request: Request, answers: list[Answer]) -> str:
    want = request.want
    for answer in answers:
        if text := compare(request, answer):
            return text
    counts = Counter(str(answer.echo["pod"]).rsplit("-", 2)[0] for answer in answers)
    if want.only_these and counts.keys() - want.shares.keys():
        return f"answers of {sorted(counts.keys() - want.shares.keys())}"
    for app, share in want.shares.items():
        found = counts[app] / len(answers)
        if abs(found - share) > want.tolerance:
            return f"{app} has a share of {found:.3f}, not {share} ± {want.tolerance}"
    return ""
