"""Makes the attributes of requests and attempts by OpenTelemetry's semantic conventions for HTTP and RPC (gRPC).

Each function keeps what it has made of the last arguments, because most requests of a service differ in few of them.
Names that begin with `maesh.` are the mesh's. Runs in the thread that exports.
"""

from functools import lru_cache
from typing import Final

from maesh_core.plugin import GRPC_SERVER_ERRORS, GRPC_STATUS_NAMES, join_port
from maesh_otel.attributes import SPAN_NAME, Attributes, AttributeValues, encode_bytes

TEXT_LIMIT: Final = 1024
"""Longest text of an attribute, in characters."""
SHARED: Final = 1024
"""Results of each function that are kept: about a megabyte if all are as long as they may be."""
SHARED_TEXT: Final = 256
"""Longer texts, in bytes or characters, are not kept: few of them repeat."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})
_VERSIONS: Final = {"HTTP/2": "2", "HTTP/1.0": "1.0"}
_FIRST_SERVER_ERROR: Final = 500
_FIRST_CLIENT_ERROR: Final = 400


class MethodAttributes(Attributes):
    """Those of a method or a gRPC call, and the name that it gives to spans, also as the encoded field of a span."""

    def __init__(self, values: AttributeValues, name: str) -> None:
        super().__init__(values)
        self.name = name
        self.encoded_name = encode_bytes(SPAN_NAME, name.encode())


class PathAttributes(Attributes):
    """Those of a path, and the path as text."""

    def __init__(self, values: AttributeValues, path: str) -> None:
        super().__init__(values)
        self.path = path


class OutcomeAttributes(Attributes):
    """Those of statuses and failures; `error` is why the span has failed, or empty."""

    def __init__(self, values: AttributeValues, error: str) -> None:
        super().__init__(values)
        self.error = error


def describe_method(method: bytes) -> MethodAttributes:
    """Describe the method; one that is not registered becomes `_OTHER`."""
    return _build_method(method) if len(method) > SHARED_TEXT else _share_method(method)


def _build_method(method: bytes) -> MethodAttributes:
    text = method.decode("latin-1")
    if text in _METHODS:
        return MethodAttributes({"http.request.method": text}, text)
    original = text[:TEXT_LIMIT]
    return MethodAttributes({"http.request.method": "_OTHER", "http.request.method_original": original}, "HTTP")


def describe_path(path: bytes) -> PathAttributes:
    """Describe the path of a target, and its scheme."""
    return _build_path(path) if len(path) > SHARED_TEXT else _share_path(path)


def _build_path(path: bytes) -> PathAttributes:
    text = show_text(path)
    return PathAttributes({"url.path": text, "url.scheme": "http"}, text)


def describe_call(path: str) -> MethodAttributes:
    """Describe the gRPC call that a path names."""
    return _build_call(path) if len(path) > SHARED_TEXT else _share_call(path)


def _build_call(path: str) -> MethodAttributes:
    service, _, method = path.removeprefix("/").rpartition("/")
    values: AttributeValues = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    return MethodAttributes(values, f"{service}/{method}")


def describe_authority(authority: bytes) -> Attributes:
    """Describe the host and port that the client asked for."""
    return _build_authority(authority) if len(authority) > SHARED_TEXT else _share_authority(authority)


def _build_authority(authority: bytes) -> Attributes:
    host, port = split_authority(show_text(authority))
    return Attributes({"server.address": host, "server.port": port})


def describe_client(address: str, pod: str) -> Attributes:
    """Describe the client; `pod` is the namespace and name of its pod, or empty."""
    return _share_client(address, pod)


def _build_client(address: str, pod: str) -> Attributes:
    values: AttributeValues = {"client.address": address}
    if pod:
        namespace, _, name = pod.partition("/")
        values["maesh.client.k8s.namespace.name"] = namespace
        values["maesh.client.k8s.pod.name"] = name
    return Attributes(values)


def describe_service(protocol: str, service: str, destination: str) -> Attributes:
    """Describe where the request was routed, and by which version of HTTP it came."""
    return _share_service(protocol, service, destination)


def _build_service(protocol: str, service: str, destination: str) -> Attributes:
    version = _VERSIONS.get(protocol, "1.1")
    return Attributes({"network.protocol.version": version, "maesh.service": service, "maesh.destination": destination})


def describe_user_agent(text: bytes) -> Attributes:
    """Describe the client's program."""
    return _build_user_agent(text) if len(text) > SHARED_TEXT else _share_user_agent(text)


def _build_user_agent(text: bytes) -> Attributes:
    return Attributes({"user_agent.original": show_text(text)})


def describe_server(address: str, port: int, path: PathAttributes, destination: str) -> list[Attributes]:
    """Describe the server of an attempt."""
    if len(path.path) > SHARED_TEXT:
        return [_build_url(address, port, path.path), _share_server(address, port, destination)]
    return [_share_url(address, port, path.path), _share_server(address, port, destination)]


def _build_url(address: str, port: int, path: str) -> Attributes:
    return Attributes({"url.full": f"http://{join_port(address, port)}{path}"})


def _build_server(address: str, port: int, destination: str) -> Attributes:
    return Attributes({"server.address": address, "server.port": port, "maesh.destination": destination})


def describe_server_outcome(status: int, grpc_status: int | None, failure: str) -> OutcomeAttributes:
    """Describe how a request has ended; a status that is an error prevails over `failure`, which may be empty."""
    return _share_server_outcome(status, grpc_status, failure)


def _build_server_outcome(status: int, grpc_status: int | None, failure: str) -> OutcomeAttributes:
    values, error = _build_statuses(status, grpc_status, first_error=_FIRST_SERVER_ERROR)
    return _finish_outcome(values, error or failure)


def describe_attempt_outcome(status: int, grpc_status: int | None, failure: str) -> OutcomeAttributes:
    """Describe how an attempt has ended; `failure`, which may be empty, prevails over a status that is an error."""
    return _share_attempt_outcome(status, grpc_status, failure)


def _build_attempt_outcome(status: int, grpc_status: int | None, failure: str) -> OutcomeAttributes:
    values, error = _build_statuses(status, grpc_status, first_error=_FIRST_CLIENT_ERROR)
    return _finish_outcome(values, failure or error)


def _build_statuses(status: int, grpc_status: int | None, *, first_error: int) -> tuple[AttributeValues, str]:
    """Return the attributes of statuses, and the name of the error if one of them is an error of this kind of span."""
    values: AttributeValues = {}
    error = ""
    if status:
        values["http.response.status_code"] = status
        error = str(status) if status >= first_error else ""
    if grpc_status is not None:
        values["rpc.grpc.status_code"] = grpc_status
        if grpc_status and (first_error == _FIRST_CLIENT_ERROR or grpc_status in GRPC_SERVER_ERRORS):
            error = GRPC_STATUS_NAMES[grpc_status]
    return values, error


def _finish_outcome(values: AttributeValues, error: str) -> OutcomeAttributes:
    if error:
        values["error.type"] = error
    return OutcomeAttributes(values, error)


def describe_reason(name: str, reason: str) -> Attributes:
    """Describe why the mesh has answered, or would have, in the attribute with this name."""
    return Attributes({name: reason[:TEXT_LIMIT]})


def split_authority(text: str) -> tuple[str, int]:
    """Split a Host field into the host, without brackets, and the port; 80 without one."""
    host, colon, port = text.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()):
        host, port = text, "80"
    return host.removeprefix("[").removesuffix("]"), int(port[:5])


def show_text(text: bytes) -> str:
    """Return untrusted bytes as text of limited length."""
    return text[:TEXT_LIMIT].decode("utf-8", "backslashreplace")


_share_method: Final = lru_cache(maxsize=SHARED)(_build_method)
_share_path: Final = lru_cache(maxsize=SHARED)(_build_path)
_share_call: Final = lru_cache(maxsize=SHARED)(_build_call)
_share_authority: Final = lru_cache(maxsize=SHARED)(_build_authority)
_share_client: Final = lru_cache(maxsize=SHARED)(_build_client)
_share_service: Final = lru_cache(maxsize=SHARED)(_build_service)
_share_user_agent: Final = lru_cache(maxsize=SHARED)(_build_user_agent)
_share_url: Final = lru_cache(maxsize=SHARED)(_build_url)
_share_server: Final = lru_cache(maxsize=SHARED)(_build_server)
_share_server_outcome: Final = lru_cache(maxsize=SHARED)(_build_server_outcome)
_share_attempt_outcome: Final = lru_cache(maxsize=SHARED)(_build_attempt_outcome)
