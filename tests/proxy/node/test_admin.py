"""Requests to the admin pages, and their answers."""

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from maesh_core.proxy.node.admin import AdminPages, ProxyStatus
from maesh_core.proxy.node.taps import TooManyTapsError
from maesh_core.proxy.routing.refusals import RefusedRouter


@dataclass
class Asked:
    """A request."""

    method: bytes
    target: bytes
    fields: tuple[tuple[bytes, bytes], ...] = ()
    remote: str = "10.0.0.9"


async def render_metrics(accept: str) -> tuple[bytes, str]:
    return f"m 1 {accept}\n".encode(), "text/plain"


async def render_traffic() -> bytes:
    return b'{"now": []}'


async def render_report(name: str) -> bytes | None:
    return b'{"workers": []}' if name == "denials" else None


class Stream:
    """A stream of a tap with no line."""

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration

    def close(self) -> None:
        """Nothing is open."""


def open_tap(query: bytes, client: str) -> Stream:
    assert client == "10.0.0.9"
    if query == b"many":
        raise TooManyTapsError
    if query == b"bad":
        raise ValueError("method is not m\xe9thode")
    return Stream()


async def answer(
    target: bytes,
    *,
    method: bytes = b"GET",
    is_ready: bool = True,
    configuration: bytes | None = b"{}",
    fields: tuple[tuple[bytes, bytes], ...] = (),
) -> Any:
    status = ProxyStatus(
        revision="e.1", ready=is_ready, workers=1, engine="pure", refused=[RefusedRouter("http/routers/r", "why")]
    )
    pages = AdminPages(
        is_ready=lambda: is_ready,
        read_status=lambda: status,
        render_metrics=render_metrics,
        render_traffic=render_traffic,
        render_report=render_report,
        render_configuration=lambda: configuration,
        open_tap=open_tap,
    )
    response = pages(Asked(method, target, fields))
    return await response if isinstance(response, Awaitable) else response


@pytest.mark.parametrize(
    ("target", "is_ready", "status"),
    [
        (b"/ping", False, 200),
        (b"/ready", True, 200),
        (b"/ready?verbose", True, 200),
        (b"/ready", False, 503),
        (b"/metrics", False, 200),
        (b"/traffic", False, 200),
        (b"/reports/denials?x", False, 200),
        (b"/reports/other", True, 404),
        (b"/reports/", True, 404),
        (b"/reports/a/b", True, 404),
        (b"/tap", False, 200),
        (b"/tap?path=/", False, 200),
        (b"/tap?bad", False, 400),
        (b"/tap?many", False, 503),
        (b"/status", False, 200),
        (b"/configuration", False, 200),
        (b"/", True, 404),
        (b"/ping/", True, 404),
        (b"/Ping", True, 404),
        (b"*", True, 404),
        (b"", True, 404),
    ],
)
async def test_each_page_has_its_status(target: bytes, is_ready: bool, status: int) -> None:
    assert (await answer(target, is_ready=is_ready)).status == status
    assert (await answer(target, is_ready=is_ready, method=b"HEAD")).status == status


@pytest.mark.parametrize("method", [b"POST", b"DELETE", b"get", b"OPTIONS"])
async def test_other_methods_are_not_allowed(method: bytes) -> None:
    response = await answer(b"/ping", method=method)
    assert response.status == 405
    assert (b"Allow", b"GET, HEAD") in response.fields


@pytest.mark.parametrize("target", [b"/tap?service=a/b", b"/traffic", b"/reports/denials"])
@pytest.mark.parametrize("name", [b"accept-language", b"origin", b"sec-fetch-site"])
async def test_browsers_cannot_follow_traffic(target: bytes, name: bytes) -> None:
    assert (await answer(target, fields=((b"host", b"evil.example"), (name, b"x")))).status == 403
    assert (await answer(target, fields=((b"host", b"10.0.0.1"), (b"user-agent", b"Mozilla/5.0")))).status == 403
    assert (await answer(target, fields=((b"host", b"10.0.0.1"), (b"user-agent", b"maesh")))).status == 200


@pytest.mark.parametrize("target", [b"/tap", b"/traffic", b"/metrics", b"/status", b"/configuration", b"/none"])
async def test_no_page_of_another_site_can_include_an_answer(target: bytes) -> None:
    fields = dict((await answer(target)).fields)
    assert fields[b"X-Content-Type-Options"] == b"nosniff"
    assert fields[b"Cross-Origin-Resource-Policy"] == b"same-origin"


async def test_the_status_page_is_json() -> None:
    response = await answer(b"/status")
    assert msgspec.json.decode(response.body) == {
        "revision": "e.1",
        "ready": True,
        "workers": 1,
        "engine": "pure",
        "refused": [{"router": "http/routers/r", "reason": "why"}],
    }
    assert (b"Content-Type", b"application/json") in response.fields


async def test_the_configuration_page_is_the_document_in_force() -> None:
    response = await answer(b"/configuration", configuration=b'{"revision":"e.1"}')
    assert (response.status, response.body) == (200, b'{"revision":"e.1"}')
    assert (b"Content-Type", b"application/json") in response.fields


async def test_there_is_no_configuration_page_before_the_first() -> None:
    response = await answer(b"/configuration", configuration=None)
    assert (response.status, response.body) == (503, b"no configuration yet\n")


async def test_the_metrics_page_is_what_was_rendered() -> None:
    response = await answer(b"/metrics", fields=((b"accept", b"text/plain"), (b"accept", b"*/*")))
    assert response.body == b"m 1 text/plain, */*\n"
    assert (b"Content-Type", b"text/plain") in response.fields


async def test_the_traffic_page_is_json() -> None:
    response = await answer(b"/traffic")
    assert response.body == b'{"now": []}'
    assert (b"Content-Type", b"application/json") in response.fields


async def test_a_tap_is_a_stream_of_lines_of_json_and_a_bad_parameter_is_named() -> None:
    response = await answer(b"/tap")
    assert isinstance(response.stream, Stream)
    assert (b"Content-Type", b"application/x-ndjson") in response.fields
    assert (await answer(b"/tap?bad")).body == b"method is not m\\xe9thode\n"
