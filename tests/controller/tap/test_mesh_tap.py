"""Taps of the mesh over proxies that tests script: what a viewer gets, and what untrusted proxies cannot do."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from maesh_core.controller.mesh_proxies.finder import NOT_PULLING
from maesh_core.controller.tap import mesh_tap as mesh_tap_module
from maesh_core.controller.tap import proxy_streams
from maesh_core.controller.tap.mesh_tap import (
    CLIENT_TAPS_LIMIT,
    RATE,
    TAPS_LIMIT,
    MeshTaps,
    TooManyTapsError,
    name_destination,
)
from maesh_core.controller.tap.proxy_streams import NOT_ASKED
from maesh_core.model.keys import ObjectKey
from maesh_core.model.resources import ObjectMeta, Pod, PodSpec
from maesh_core.model.tap import TappedRecord
from maesh_core.model.topology import BackendNode, BranchNode, PortNode, ServiceNode
from maesh_core.plain_http.line_stream import LineStream

from .fake_proxies import FakeProxies

BRANCH = BranchNode(
    name="split/canary",
    backends=(BackendNode(service=ObjectKey("shop", "web-v2"), weight=1, port=PortNode(number=80)),),
)


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
    monkeypatch.setattr(proxy_streams, "REFRESH_S", 0)
    return FakeProxies("a")


@pytest.fixture
async def taps(proxies: FakeProxies) -> AsyncIterator[MeshTaps]:
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
    proxies: FakeProxies, taps: MeshTaps
) -> None:
    proxies.change("b")
    stream = taps.open({"service": "shop/web", "path": "/a b", "limit": "9"}, "1.1.1.1")
    await proxies.send("a", render(path="/1"), b"")
    await proxies.send("b", render("10.0.0.2", path="/2"))
    lines = await read(stream, 2)
    assert {(line["path"], line["source"]) for line in lines} == {("/1", "shop/web-0"), ("/2", "")}
    assert sorted(proxies.queries) == [(name, "service=shop%2Fweb&path=%2Fa+b") for name in "ab"]


async def test_a_source_by_name_is_selected_here_and_by_address_in_the_proxies(
    proxies: FakeProxies, taps: MeshTaps
) -> None:
    stream = taps.open({"source": "Pod/web-0@shop"}, "1.1.1.1")
    await proxies.send("a", render("10.0.0.2"), render("10.0.0.1"))
    assert [line["client"] for line in await read(stream, 1)] == ["10.0.0.1"]
    stream.close()
    proxies.queues.clear()
    taps.open({"source": "10.0.0.9"}, "1.1.1.1")
    await proxies.send("a")
    assert [query for _, query in proxies.queries] == ["", "source=10.0.0.9"]


async def test_the_stream_ends_after_the_limit(proxies: FakeProxies, taps: MeshTaps) -> None:
    stream = taps.open({"limit": "2"}, "1.1.1.1")
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
async def test_what_is_no_record_is_ignored(proxies: FakeProxies, taps: MeshTaps, line: bytes) -> None:
    stream = taps.open({}, "1.1.1.1")
    await proxies.send("a", line, render(path="/1"))
    assert [each["path"] for each in await read(stream, 1)] == ["/1"]


async def test_fields_that_are_unknown_or_belong_to_the_controller_are_not_passed_on(
    proxies: FakeProxies, taps: MeshTaps
) -> None:
    stream = taps.open({}, "1.1.1.1")
    await proxies.send("a", render("10.0.0.2", source="shop/other")[:-1] + b', "x": 1}')
    (line,) = await read(stream, 1)
    assert (line["source"], "x" in line) == ("", False)


async def test_dropped_records_are_counted(proxies: FakeProxies, taps: MeshTaps) -> None:
    stream = taps.open({}, "1.1.1.1")
    await proxies.send("a", b'{"dropped":3}', b'{"dropped":4}')
    assert sum(line["dropped"] for line in await read(stream, 1)) == 7


async def test_above_the_rate_records_are_dropped_without_being_decoded(
    proxies: FakeProxies, taps: MeshTaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_tap_module, "WINDOW_S", 1000)
    stream = taps.open({"source": "nobody"}, "1.1.1.1")
    await proxies.send("a", *[render()] * RATE, b"garbage", render())
    while proxies.queues["a"].qsize():  # noqa: ASYNC110 - the queue tells nobody
        await asyncio.sleep(0)
    assert await read(stream, 1) == [{"dropped": 2}]


async def test_a_proxy_with_many_records_does_not_hide_those_of_others(
    proxies: FakeProxies, taps: MeshTaps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mesh_tap_module, "WINDOW_S", 1000)
    proxies.change("b")
    stream = taps.open({"source": "web-0"}, "1.1.1.1")
    await proxies.send("a", *[render("6.6.6.6")] * RATE * 2)
    await proxies.send("b", *[render(path="/b")] * (RATE // 2))
    while proxies.queues["a"].qsize() or proxies.queues["b"].qsize():  # noqa: ASYNC110 - the queues tell nobody
        await asyncio.sleep(0)
    lines = await read(stream, RATE // 2 + 1)
    assert [line["path"] for line in lines[:-1]] == ["/b"] * (RATE // 2)
    assert RATE <= lines[-1]["dropped"] <= RATE * 3 // 2


async def test_what_is_missing_has_a_line(proxies: FakeProxies, taps: MeshTaps) -> None:
    proxies.change("old", ready=False)
    proxies.missing = {"c-2": "the controller cannot be reached"}
    assert await read(taps.open({}, "1.1.1.1"), 2) == [
        {"error": NOT_PULLING, "node": "old"},
        {"error": "the controller cannot be reached", "controller": "c-2"},
    ]


async def test_the_connections_of_all_taps_together_are_limited(proxies: FakeProxies, taps: MeshTaps) -> None:
    proxies.connections_limit = 1
    taps.open({}, "1.1.1.1")
    await proxies.send("a")
    assert await read(taps.open({}, "1.1.1.1"), 1) == [{"error": NOT_ASKED, "node": "a"}]


async def test_too_many_taps_are_refused_until_a_viewer_leaves(taps: MeshTaps) -> None:
    streams = [taps.open({}, f"1.1.1.{number}") for number in range(TAPS_LIMIT)]
    with pytest.raises(TooManyTapsError):
        taps.open({}, "1.1.2.1")
    streams[0].close()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    taps.open({}, "1.1.2.1")


async def test_one_client_leaves_taps_to_others(taps: MeshTaps) -> None:
    for _ in range(CLIENT_TAPS_LIMIT):
        taps.open({}, "1.1.1.1")
    with pytest.raises(TooManyTapsError):
        taps.open({}, "1.1.1.1")
    taps.open({}, "1.1.1.2")


async def test_long_texts_are_cut(proxies: FakeProxies, taps: MeshTaps) -> None:
    stream = taps.open({}, "1.1.1.1")
    long = "x" * 2000
    await proxies.send("a", render(path=long, service=long, server=long, protocol=long, destination=long))
    (line,) = await read(stream, 1)
    assert [len(line[name]) for name in ("path", "service", "server", "protocol", "destination")] == [1024, *[256] * 4]


async def test_finishing_ends_all_streams(taps: MeshTaps) -> None:
    stream = taps.open({}, "1.1.1.1")
    taps.finish()
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()


async def test_a_tap_that_fails_unexpectedly_ends_its_stream_and_is_logged(
    proxies: FakeProxies, taps: MeshTaps, caplog: pytest.LogCaptureFixture
) -> None:
    proxies.follow = None
    stream = taps.open({}, "1.1.1.1")
    with pytest.raises(StopAsyncIteration):
        await stream.__anext__()
    assert "a tap failed" in caplog.text
