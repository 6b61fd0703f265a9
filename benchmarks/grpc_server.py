"""A gRPC server for tests and the soak: `grpc_server.py ADDRESS PORT NAME`, until SIGTERM. Needs grpcio.

Messages are bytes without an encoding. Each method's docstring says what it does with them. SIGTERM ends it gracefully:
it announces its end (GOAWAY), finishes calls within two seconds, and cancels the others.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import grpc
import grpc.aio

SERVICE = "bench.Echo"
GRACE_S = 2.0
DETAILS = b"\x08\x09\x12\x04lost"


class Echo:
    """The methods of one server.

    `waiting` counts calls that sleep and streams without end, `cancelled` those of them that their clients cancelled.
    """

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.cancelled = 0
        self.waiting = 0

    async def unary(self, request: bytes, context: Any) -> bytes:
        """Echo. `name`, `fail`, `metadata`, `cancelled`, `waiting`, `sleep SECONDS` and `size BYTES` are commands."""
        word, _, argument = request[:50].partition(b" ")
        if word == b"name":
            return self.name
        if word == b"fail":
            trailers = (("grpc-status-details-bin", DETAILS), ("x-retry", "no"))
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "läuft nicht: 100 %\nat all", trailers)
        if word == b"metadata":
            sent = {key: value for key, value in context.invocation_metadata() if key.startswith("x-")}
            await context.send_initial_metadata((("x-server", self.name.decode()), ("x-head-bin", b"\0\xff")))
            context.set_trailing_metadata((("x-trailer", "end"), ("x-trailer-bin", b"\0\1")))
            return repr(sorted(sent.items())).encode()
        if word == b"cancelled":
            return b"%d" % self.cancelled
        if word == b"waiting":
            return b"%d" % self.waiting
        if word == b"sleep":
            with self._count_wait():
                await asyncio.sleep(float(argument))
        if word == b"size":
            return b"x" * int(argument)
        return request

    async def expand(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        """Send as many messages as the request says; negative: one each 10 ms, without end."""
        count, number = int(request), 0
        with self._count_wait() if count < 0 else contextlib.nullcontext():
            while number != count:
                yield b"%d" % number
                number += 1
                if count < 0:
                    await asyncio.sleep(0.01)

    async def collect(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        """Return the number of requests and of their bytes."""
        sizes = [len(request) async for request in requests]
        return b"%d %d" % (len(sizes), sum(sizes))

    async def converse(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        """Echo each request when it arrives, and say `bye` when the client has closed its half."""
        async for request in requests:
            yield request
        yield b"bye"

    @contextlib.contextmanager
    def _count_wait(self) -> Iterator[None]:
        """Count a call that waits, also if it is cancelled; a generator is closed if it is not running then."""
        self.waiting += 1
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled += 1
            raise
        finally:
            self.waiting -= 1

    def build_handler(self) -> Any:
        """Build the handler of all methods."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
                "Expand": grpc.unary_stream_rpc_method_handler(self.expand),
                "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
                "Converse": grpc.stream_stream_rpc_method_handler(self.converse),
            },
        )


async def serve(address: str, port: int, name: str) -> None:
    """Serve until SIGTERM."""
    options = (("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", -1))
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((Echo(name).build_handler(),))
    server.add_insecure_port(f"{address}:{port}")
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await server.start()
    print("ready", flush=True)
    await stopped.wait()
    await server.stop(GRACE_S)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
