"""The demo server: a gRPC service in two versions, which name themselves in each response.

Listens on the addresses that greeter.yaml gives the two pods. Needs grpcio, which `make up EXAMPLE=grpc` installs.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from messages import decode, encode

if not hasattr(grpc, "server"):  # without grpcio, this is the folder of the example, which run.py has on its path
    raise ModuleNotFoundError("grpcio is not installed")

VERSIONS = {"127.0.7.1": "v1", "127.0.7.2": "v2"}
ADDRESSES = tuple((address, 8806) for address in VERSIONS)
SERVICE = "greeter.Greeter"


class Greeter:
    """The methods of greeter.proto, in one version."""

    def __init__(self, version: str) -> None:
        self.version = version

    def hello(self, name: str, context: Any) -> str:
        """Greet; fail if there is nobody to greet, to show an error."""
        if not name:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "whom shall I greet?")
        return f"{self.version}: hello, {name}"

    def count(self, text: str, context: Any) -> Iterator[str]:
        """Respond once for each word."""
        for number, word in enumerate(text.split(), 1):
            yield f"{self.version}: {number} {word}"

    def chat(self, texts: Iterator[str], context: Any) -> Iterator[str]:
        """Respond to each request when it arrives."""
        for text in texts:
            yield f"{self.version}: you said {text}"

    def build_handler(self) -> Any:
        """Build the handler of all methods."""

        def build(kind: Callable[..., Any], method: Callable[..., Any]) -> Any:
            return kind(method, request_deserializer=decode, response_serializer=encode)

        methods = {
            "Hello": build(grpc.unary_unary_rpc_method_handler, self.hello),
            "Count": build(grpc.unary_stream_rpc_method_handler, self.count),
            "Chat": build(grpc.stream_stream_rpc_method_handler, self.chat),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)


class GreeterServer:
    """A server of one version."""

    def __init__(self, address: str, port: int) -> None:
        self._server = grpc.server(ThreadPoolExecutor(8), options=(("grpc.so_reuseport", 0),))
        self._server.add_generic_rpc_handlers((Greeter(VERSIONS[address]).build_handler(),))
        try:
            self._server.add_insecure_port(f"{address}:{port}")
        except RuntimeError as error:
            raise OSError(str(error)) from error
        self._server.start()

    def shutdown(self) -> None:
        """Refuse new calls, and end those in progress within a second."""
        self._server.stop(1.0).wait()

    def server_close(self) -> None:
        """Do nothing: shutdown() has closed the sockets."""


def start_servers() -> list[GreeterServer]:
    """Serve every address. Raises OSError if one is taken."""
    return [GreeterServer(*address) for address in ADDRESSES]
