"""Taps of the mesh over proxies that tests script: what a viewer gets, and what untrusted proxies cannot do."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from maesh_core.controller.tap import mesh_tap as mesh_tap_module
from maesh_core.controller.tap.mesh_tap import (
    NOT_ASKED,
    NOT_PULLING,
    RATE,
    TAPS_LIMIT,
    MeshTaps,
    TooManyTapsError,
    name_destination,
)
from maesh_core.errors import NodeUnreachableError
from maesh_core.model.keys import ObjectKey
from maesh_core.model.messages import NodeReport
from maesh_core.model.resources import ObjectMeta, Pod, PodSpec
from maesh_core.model.tap import TappedRecord
from maesh_core.model.topology import BackendNode, BranchNode, PortNode, ServiceNode
from maesh_core.plain_http.line_stream import LineStream

BRANCH = BranchNode(
    name="split/canary",
    backends=(BackendNode(service=ObjectKey("shop", "web-v2"), weight=1, port=PortNode(number=80)),),
)


class FakeProxies:
    """The registry, the client and the proxies: each proxy has a queue of lines, or of an error that ends its tap."""

    def __init__(self, *names: str) -> None:
        self.connections_limit = 10
        self.ready = dict.fromkeys(names, True)
        self.queues: dict[str, asyncio.Queue[bytes | NodeUnreachableError]] = {}
        self.queries: list[tuple[str, str]] = []
        self.is_closed = False

    def list_reports(self) -> Sequence[NodeReport]:
        return [
            NodeReport(name=name, ip="10.1.0.1", ready=is_ready, revision="e.1", last_seen="now")
            for name, is_ready in self.ready.items()
        ]

    def find_admin(self, name: str) -> str | None:
        return name if name in self.ready else None

    async def follow(self, address: str, query: str) -> AsyncIterator[bytes]:
        self.queries.append((address, query))
        queue = self.queues[address] = asyncio.Queue()
        while True:
            item = await queue.get()
            if isinstance(item, NodeUnreachableError):
                raise item
            yield item

    async def close(self) -> None:
        self.is_closed = True

    async def send(self, name: str, *items: bytes | NodeUnreachableError) -> None:
        while name not in self.queues:  # noqa: ASYNC110 - a proxy that is asked tells nobody
            await asyncio.sleep(0)
        for item in items:
            self.queues[name].put_nowait(item)


class Cluster:
    """A mesh with one pod, which has the address 10.0.0.1, and the service shop/web, which is split."""

    def __init__(self) -> None:
        self.pod = Pod(metadata=ObjectMeta(namespace="shop", name="web-0"), spec=PodSpec(service_account_name="web"))

    @property
    def objects(self) -> "Cluster":
        return self

    def find_service_node(self, key: ObjectKey) -> ServiceNode | None:
        if key != ObjectKey("shop", "web"):
            return None
        return ServiceNode(
            key=key,
            traffic_type="http",
            ports=(
                PortNode(number=80, branches=(BRANCH,)),
                PortNode(number=81),
            ),
        )

    def get(self, type_: type[Pod], key: ObjectKey) -> Pod | None:
        raise NotImplementedError

    def find(self, type_: type[Pod], index: str, value: Any) -> Sequence[Pod]:
        return [self.pod] if value == "10.0.0.1" else []


@pytest.mark.parametrize(
    ("service", "destination", "expected"),
    [
        ("shop/web:80", "shop/web:80", "shop/web:80"),
        ("shop/web:80", "shop/web:80/split/canary/web-v2", "shop/web-v2:80"),
        ("shop/web:80", "shop/web-v2:80", "shop/web-v2:80"),
        ("shop/web:80", "shop/web:80/split/gone/web-v3", "shop/web:80/split/gone/web-v3"),
        ("shop/web:81", "shop/web:80/split/canary/web-v2", "shop/web:80/split/canary/web-v2"),
        ("shop/gone:80", "shop/x:80", "shop/x:80"),
        ("", "", ""),
        (":/", "x", "x"),
    ],
)
def test_a_destination_is_named_by_its_service_port(service: str, destination: str, expected: str) -> None:
    record = TappedRecord(
        kind="http", started_at=1.0, duration_s=0.1, client="", service=service, destination=destination
    )
    assert name_destination(Cluster(), record) == expected


@pytest.fixture
def proxies(monkeypatch: pytest.MonkeyPatch) -> FakeProxies:
    monkeypatch.setattr(mesh_tap_module, "REFRESH_S", 0)
    return FakeProxies("a")


@pytest.fixture
async def taps(proxies: FakeProxies) -> AsyncIterator[MeshTaps[str]]:
    taps = MeshTaps(proxies, proxies, Cluster())
    yield taps
    await taps.close()
    assert proxies.is_closed
    assert asyncio.all_tasks() == {asyncio.current_task()}


def render(client: str = "10.0.0.1", **fields: Any) -> bytes:
    return msgspec.json.encode(TappedRecord(kind="http", started_at=1.0, duration_s=0.1, client=client, **fields))


async def read(stream: LineStream, count: int) -> list[Any]:
    """Read so many lines."""
    lines: list[Any] = []
    while len(lines) < count:
        lines += [json.loads(line) for line in (await stream.__anext__()).splitlines() if line]
    assert len(lines) == count
    return lines


async def test_the_records_of_all_proxies_are_merged_and_sources_are_named(
    proxies: FakeProxies, taps: MeshTaps[str]
) -> None:
    proxies.ready["b"] = True
    stream = taps.open({"service": "shop/web", "path": "/a b", "limit": "9"})
    await proxies.send("a", render(path="/1"), b"")
    await proxies.send("b", render("10.0.0.2", path="/2"))
    lines = await read(stream, 2)
    assert {(line["path"], line["source"]) for line in lines} == {("/1", "shop/web-0"), ("/2", "")}
    assert sorted(proxies.queries) == [(name, "service=shop%2Fweb&path=%2Fa+b") for name in "ab"]


async def test_a_source_by_name_is_selected_here_and_by_address_in_the_proxies(
    proxies: FakeProxies, taps: MeshTaps[str]
) -> None:
    stream = taps.open({"source": "Pod/web-0@shop"})
    await proxies.send("a", render("10.0.0.2"), render("10.0.0.1"))
    assert [line["client"] for line in await read(stream, 1)] == ["10.0.0.1"]
    stream.close()
    proxies.queues.clear()
    taps.open({"source": "10.0.0.9"})
    await proxies.send("a")
    assert [query for _, query in proxies.queries] == ["", "source=10.0.0.9"]


async def test_the_stream_ends_after_the_limit(proxies: FakeProxies, taps: MeshTaps[str]) -> None:
    stream = taps.open({"limit": "2"})
    await proxies.send("a", render(path="/1"), render(path="/2"), render(path="/3"))
    assert [line["path"] for line in await read(stream, 2)] == ["/1", "/2"]
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b"[]",
        b"garbage",
        b'{"kind": "http"}',
        b'{"kind": "\xff"}',
        b"[" * 10_000,
        b'{"dropped": "many"}',
        b'{"dropped": -1}',
        b'{"dropped": 0}',
        b'{"dropped": 1, "more": 1}',
        render()[:-1] + b', "status": "ok"}',
        render()[:-1] + b', "durationS": 1e999}',
    ],
)
async def test_what_is_no_record_is_ignored(proxies: FakeProxies, taps: MeshTaps[str], line: bytes) -> None:
    stream = taps.open({})
    await proxies.send("a", line, render(path="/1"))
    assert [each["path"] for each in await read(stream, 1)] == ["/1"]


async def test_fields_that_are_unknown_or_belong_to_the_controller_are_not_passed_on(
    proxies: FakeProxies, taps: MeshTaps[str]
) -> None:
    stream = taps.open({})
    await proxies.send("a", render("10.0.0.2", source="shop/other")[:-1] + b', "x": 1}')
    (line,) = await read(stream, 1)
    assert (line["source"], "x" in line) == ("", False)


async def test_dropped_records_are_counted(proxies: FakeProxies, taps: MeshTaps[str]) -> None:
    stream = taps.open({})
    await proxies.send("a", b'{"dropped":3}', b'{"dropped":4}')
    assert sum(line["dropped"] for line in await read(stream, 1)) == 7


async def test_above_the_rate_records_are_dropped_without_being_decoded(
    proxies: FakeProxies, taps: MeshTaps[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_tap_module, "WINDOW_S", 1000)
    stream = taps.open({"source": "nobody"})
    await proxies.send("a", *[render()] * RATE, b"garbage", render())
    while proxies.queues["a"].qsize():  # noqa: ASYNC110 - the queue tells nobody
        await asyncio.sleep(0)
    assert await read(stream, 1) == [{"dropped": 2}]


async def test_a_proxy_that_cannot_be_reached_is_named_once_and_asked_again(
    proxies: FakeProxies, taps: MeshTaps[str]
) -> None:
    proxies.ready["old"] = False
    stream = taps.open({})
    await proxies.send("a", NodeUnreachableError("the proxy cannot be reached"))
    lines = await read(stream, 2)
    assert {line["node"]: line["error"] for line in lines} == {"a": "the proxy cannot be reached", "old": NOT_PULLING}
    while len(proxies.queries) < 2:  # noqa: ASYNC110 - the list tells nobody
        await asyncio.sleep(0)
    await proxies.send("a", NodeUnreachableError("the proxy cannot be reached"))
    while len(proxies.queries) < 3:  # noqa: ASYNC110 - the list tells nobody
        await asyncio.sleep(0)
    await proxies.send("a", render(path="/1"), NodeUnreachableError("the proxy cannot be reached"))
    assert [line.get("path", "") for line in await read(stream, 2)] == ["/1", ""]


async def test_proxies_above_the_limit_of_connections_are_named(proxies: FakeProxies, taps: MeshTaps[str]) -> None:
    proxies.connections_limit = 1
    proxies.ready["b"] = True
    assert await read(taps.open({}), 1) == [{"error": NOT_ASKED, "node": "b"}]


async def test_a_new_proxy_is_asked(proxies: FakeProxies, taps: MeshTaps[str]) -> None:
    stream = taps.open({})
    await proxies.send("a")
    proxies.ready["b"] = True
    await proxies.send("b", render(path="/b"))
    assert [line["path"] for line in await read(stream, 1)] == ["/b"]


async def test_too_many_taps_are_refused_until_a_viewer_leaves(taps: MeshTaps[str]) -> None:
    streams = [taps.open({}) for _ in range(TAPS_LIMIT)]
    with pytest.raises(TooManyTapsError):
        taps.open({})
    streams[0].close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    taps.open({})


async def test_finishing_ends_all_streams(taps: MeshTaps[str]) -> None:
    stream = taps.open({})
    taps.finish()
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_a_tap_that_fails_unexpectedly_ends_its_stream_and_is_logged(
    proxies: FakeProxies, taps: MeshTaps[str], caplog: pytest.LogCaptureFixture
) -> None:
    proxies.follow = None
    stream = taps.open({})
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
    assert "a tap failed" in caplog.text
