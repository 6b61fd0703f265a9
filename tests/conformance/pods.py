"""Echo servers in the place of pods: each has an address of the loopback, from which it also sends requests.

They answer HTTP/1.1 and, on the same port, gRPC over HTTP/2 without TLS, with what they received as JSON. All run in
one thread.
"""

import asyncio
import itertools
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Self

import h2.config
import h2.connection
import h2.events
import msgspec

HEAD_LIMIT_BYTES = 65536
PATIENCE_S = 60.0
_PREFACE = b"PRI"


class EchoPod(msgspec.Struct, frozen=True):
    """A pod of a Deployment. It serves all its ports at `address` and `port`."""

    namespace: str
    app: str
    name: str
    labels: Mapping[str, str]
    address: str
    port: int

    def build(self) -> dict[str, Any]:
        """Build its Pod."""
        metadata = {"name": self.name, "namespace": self.namespace, "labels": dict(self.labels)}
        status = {
            "phase": "Running",
            "podIP": self.address,
            "podIPs": [{"ip": self.address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        spec = {"serviceAccountName": "default", "containers": [{"name": "echo", "image": "echo"}]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


class EchoPods:
    """The pods of a set of Deployments. `with EchoPods(deployments) as pods:` starts and stops them."""

    def __init__(self, deployments: list[dict[str, Any]]) -> None:
        self._deployments = deployments
        self._addresses = _list_addresses()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="echo pods", daemon=True)
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()
        self.pods: list[EchoPod] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self.pods = [self._run(self._start(each)) for each in self._deployments]
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def close_connections(self) -> None:
        """Close all connections, so that none outlives a test."""
        self._run(self._close_connections())

    def find(self, namespace: str, app: str) -> EchoPod:
        """Find the pod of a Deployment."""
        return next(pod for pod in self.pods if (pod.namespace, pod.app) == (namespace, app))

    def build_slices(self, service: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Build the EndpointSlice of a Service, as a cluster does from its selector."""
        metadata, spec = service["metadata"], service["spec"]
        selected = [
            pod
            for pod in self.pods
            if pod.namespace == metadata["namespace"] and spec["selector"].items() <= pod.labels.items()
        ]
        return [
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": f"{metadata['name']}-{pod.name}",
                    "namespace": pod.namespace,
                    "labels": {"kubernetes.io/service-name": metadata["name"]},
                },
                "addressType": "IPv4",
                "ports": [{"name": port["name"], "port": pod.port, "protocol": "TCP"} for port in spec["ports"]],
                "endpoints": [
                    {
                        "addresses": [pod.address],
                        "conditions": {"ready": True},
                        "targetRef": {"kind": "Pod", "name": pod.name, "namespace": pod.namespace},
                    }
                ],
            }
            for pod in selected
        ]

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    async def _start(self, deployment: Mapping[str, Any]) -> EchoPod:
        metadata = deployment["metadata"]
        app, namespace, address = metadata["name"], metadata["namespace"], next(self._addresses)
        name = f"{app}-6d4cf56db6-x2v5k"

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._writers.add(writer)
            try:
                await _serve(reader, writer, {"pod": name, "namespace": namespace})
            finally:
                self._writers.discard(writer)

        server = await asyncio.start_server(serve, address, 0, limit=HEAD_LIMIT_BYTES)
        self._servers.append(server)
        return EchoPod(
            namespace=namespace,
            app=app,
            name=name,
            labels=deployment["spec"]["template"]["metadata"]["labels"],
            address=address,
            port=server.sockets[0].getsockname()[1],
        )

    async def _close_connections(self) -> None:
        writers = tuple(self._writers)
        for writer in writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in writers), return_exceptions=True)

    async def _stop(self) -> None:
        for server in self._servers:
            server.close()
        await self._close_connections()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _list_addresses() -> Iterator[str]:
    """List addresses that other processes do not use."""
    high, low = divmod(os.getpid() % 40_000, 200)
    return (f"127.{40 + high}.{low}.{number}" for number in itertools.count(1))


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, identity: Mapping[str, str]) -> None:
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        first = await reader.readexactly(len(_PREFACE))
        if first == _PREFACE:
            await _serve_grpc(first, reader, writer, identity)
        else:
            await _serve_http(first, reader, writer, identity)
    writer.close()


async def _serve_http(
    first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, identity: Mapping[str, str]
) -> None:
    while True:
        head = first + await reader.readuntil(b"\r\n\r\n")
        first = b""
        line, *lines = head.decode("latin-1").split("\r\n")[:-2]
        method, target, _ = line.split(" ")
        headers: dict[str, list[str]] = {}
        for each in lines:
            name, _, value = each.partition(":")
            headers.setdefault(name.lower(), []).append(value.strip())
        await reader.readexactly(int(headers.get("content-length", ["0"])[0]))
        host = headers.pop("host", [""])[0]
        body = msgspec.json.encode({**identity, "method": method, "path": target, "host": host, "headers": headers})
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()


async def _serve_grpc(
    first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, identity: Mapping[str, str]
) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    connection.initiate_connection()
    requests: dict[int, list[tuple[str, str]]] = {}
    data = first
    while data:
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                requests[event.stream_id] = [(str(name), str(value)) for name, value in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                body = _build_echo(requests.pop(event.stream_id), identity)
                headers = [(":status", "200"), ("content-type", "application/grpc")]
                connection.send_headers(event.stream_id, headers)
                connection.send_data(event.stream_id, b"\0" + len(body).to_bytes(4, "big") + body)
                connection.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(HEAD_LIMIT_BYTES)


def _build_echo(fields: list[tuple[str, str]], identity: Mapping[str, str]) -> bytes:
    headers: dict[str, list[str]] = {}
    for name, value in fields:
        headers.setdefault(name, []).append(value)
    method, path, host = (headers.pop(name, [""])[0] for name in (":method", ":path", ":authority"))
    return msgspec.json.encode({**identity, "method": method, "path": path, "host": host, "headers": headers})
