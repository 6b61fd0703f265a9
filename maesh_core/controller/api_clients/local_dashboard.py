"""Shows the dashboard of a controller to a browser on this machine, which can send neither a token nor a certificate.

Takes the path of a request, and how controllers are opened; answers with what a controller answers. The first part of
each path is a key that only the user of the command knows, because other users of the machine and web sites can reach
the port, too. Only GET and HEAD are answered.
"""

import asyncio
import hmac
import posixpath
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from http import HTTPStatus
from typing import Final, Self, TypeVar
from urllib.parse import parse_qsl

from maesh_core.controller.api.pages import PAGE_HEADERS
from maesh_core.controller.api.security.browser_guard import cut_port
from maesh_core.controller.api.server import build_text, to_response, to_stream
from maesh_core.controller.api_clients.controllers import ControllerApi
from maesh_core.controller.api_clients.direct_api import LineBatches
from maesh_core.errors import ApiRefusedError, KubernetesError, MaeshError
from maesh_core.plain_http.messages import Request, Response, read_field

TAP_PATH: Final = "/api/tap"
SILENCE_LIMIT_S: Final = 15.0
"""A controller that sends nothing for so long is lost: it sends an empty line every 3 s."""
PAUSE_S: Final = 1.0
"""Controllers that do not answer are looked up again at most once in this time."""
CONTENT_TYPES: Final[Mapping[str, str]] = {
    "": "text/html; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_HOSTS = frozenset({"127.0.0.1", "localhost"})

_T = TypeVar("_T")

OpenApis = Callable[[], AbstractAsyncContextManager[Sequence[ControllerApi]]]
"""Finds the controllers; raises MaeshError."""


class LocalDashboard:
    """Answers the requests of a browser: `async with`. `key` is the first part of every path."""

    def __init__(self, open_apis: OpenApis, key: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._open_apis = open_apis
        self._prefix = f"/{key}/"
        self._clock = clock
        self._current = _Opened()
        self._opened_at = 0.0
        self._opening = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<LocalDashboard of {len(self._current.apis)} controllers>"

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._current.close()

    async def answer(self, request: Request) -> Response:
        """Answer a request."""
        if cut_port(read_field(request.fields, b"host")).lower() not in _HOSTS:
            return build_text(HTTPStatus.MISDIRECTED_REQUEST, "open the address that maesh dashboard has printed\n")
        target = request.target.decode("ascii", "replace")
        if not hmac.compare_digest(target[: len(self._prefix)].encode(), self._prefix.encode()):
            return build_text(HTTPStatus.FORBIDDEN, "open the address that maesh dashboard has printed\n")
        if request.method not in (b"GET", b"HEAD"):
            return build_text(
                HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are supported\n", {"Allow": "GET, HEAD"}
            )
        path, _, query = target[len(self._prefix) - 1 :].partition("?")
        try:
            if path == TAP_PATH:
                return await self._follow(dict(parse_qsl(query, keep_blank_values=True)))
            body = await self.fetch(f"{path}?{query}" if query else path)
        except MaeshError as error:
            return build_text(find_status(error) or HTTPStatus.BAD_GATEWAY, f"{error}\n")
        content_type = CONTENT_TYPES.get(posixpath.splitext(path)[1], "application/octet-stream")
        is_api = path.startswith("/api/")
        headers = {**PAGE_HEADERS, "Cache-Control": "no-store"}
        return to_response(200, body=body, content_type="application/json" if is_api else content_type, headers=headers)

    async def fetch(self, path: str) -> bytes:
        """Fetch a path of the first controller that answers, also after they were replaced. Raises MaeshError."""
        return await self._ask(lambda opened, api: api.fetch(path))

    async def _follow(self, query: Mapping[str, str]) -> Response:
        async def start(opened: _Opened, api: ControllerApi) -> _Lines:
            batches = api.follow(TAP_PATH, query, silence_limit_s=SILENCE_LIMIT_S)
            try:
                await anext(batches)  # it is empty, and means that the controller has accepted
            except StopAsyncIteration:
                raise MaeshError(f"{api.name} has ended the tap") from None
            opened.users += 1
            return _Lines(batches, lambda: self._keep(self._end(batches, opened)))

        return to_stream(await self._ask(start), content_type="application/x-ndjson")

    async def _end(self, batches: LineBatches, opened: "_Opened") -> None:
        try:
            await batches.aclose()
        finally:
            await opened.release()

    async def _ask(self, send: Callable[["_Opened", ControllerApi], Awaitable[_T]]) -> _T:
        """Ask the controllers; if none of them answers at all, ask those that there are now."""
        opened = self._current
        try:
            return await opened.ask(send)
        except MaeshError as error:
            if find_status(error):
                raise
            failure = error
        async with self._opening:
            if self._current is opened:
                if self._clock() - self._opened_at < PAUSE_S:
                    raise failure
                await self._open()
            opened = self._current
        return await opened.ask(send)

    async def _open(self) -> None:
        """Look the controllers up. What still uses the former ones goes on."""
        self._opened_at = self._clock()
        fresh = _Opened()
        fresh.apis = await fresh.stack.enter_async_context(self._open_apis())
        former, self._current = self._current, fresh
        self._keep(former.release())

    def _keep(self, closing: Awaitable[None]) -> None:
        task = asyncio.ensure_future(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def find_status(error: MaeshError) -> int:
    """Return the status with which a controller, or the API server, has refused a request; 0 if nobody has answered."""
    status = error.status if isinstance(error, ApiRefusedError | KubernetesError) else 0
    return status if HTTPStatus.BAD_REQUEST <= status < 600 else 0


class _Opened:
    """Controllers that were looked up together. They are closed when the last user has released them."""

    def __init__(self) -> None:
        self.apis: Sequence[ControllerApi] = ()
        self.stack = AsyncExitStack()
        self.users = 1
        """The dashboard as long as these are the current ones, requests that are under way, and taps."""

    def __repr__(self) -> str:
        return f"<_Opened {len(self.apis)} controllers with {self.users} users>"

    async def ask(self, send: Callable[["_Opened", ControllerApi], Awaitable[_T]]) -> _T:
        """Ask one controller after the other until one answers well. Raises MaeshError: a refusal, if there is one."""
        failure: MaeshError | None = None
        self.users += 1
        try:
            for api in self.apis:
                try:
                    return await send(self, api)
                except MaeshError as error:
                    if failure is None or (find_status(error) and not find_status(failure)):
                        failure = error
        finally:
            await self.release()
        raise failure or MaeshError("there is no controller")

    async def release(self) -> None:
        """Have one user less."""
        self.users -= 1
        if not self.users:
            await self.close()

    async def close(self) -> None:
        """Close them at once."""
        await self.stack.aclose()


class _Lines:
    """The lines of a tap, as they come. Implements BodyStream."""

    def __init__(self, batches: LineBatches, leave: Callable[[], None]) -> None:
        self._batches = batches
        self._leave = leave

    def __repr__(self) -> str:
        return "<_Lines>"

    async def __anext__(self) -> bytes:
        """Return the next lines; the end of the controller is that of the stream."""
        try:
            lines = await anext(self._batches)
        except MaeshError as error:
            raise StopAsyncIteration from error
        return b"".join(line + b"\n" for line in lines)

    def close(self) -> None:
        """Leave the controller."""
        self._leave()
