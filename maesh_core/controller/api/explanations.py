"""Answers `/api/explain`: one question at a time, in a thread, so that pulls are answered meanwhile.

Takes requests and the engine; returns responses. The questions that wait are limited, in total and for each client.
Modules that explain are imported with the first question, to save memory.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING

from maesh_core.controller.api.server import build_json, build_text
from maesh_core.errors import ConfigurationError
from maesh_core.plain_http.client_shares import ClientShares
from maesh_core.plain_http.messages import Request, Response

if TYPE_CHECKING:
    from maesh_core.controller.explaining.excerpt import Mesh

QUESTIONS_LIMIT = 16
"""Limit of questions that wait or are answered. An answer takes some milliseconds."""
CLIENT_LIMIT = 4
"""Limit for one client address. Several people have one address if they come through the API server."""


class Explanations:
    """Answers questions in the order in which they arrive. Close it when done."""

    __slots__ = ("_executor", "_mesh", "_shares", "_turn")

    def __init__(self, mesh: "Mesh") -> None:
        self._mesh = mesh
        self._shares = ClientShares(limit=QUESTIONS_LIMIT, client_limit=CLIENT_LIMIT)
        self._turn = asyncio.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<Explanations {self._shares.total} in progress>"

    async def answer(self, request: Request) -> Response:
        """Answer with the verdict about one request, as `maesh explain --json` does."""
        if not self._shares.acquire(request.remote):
            text = "too many questions are waiting\n"
            return build_text(HTTPStatus.SERVICE_UNAVAILABLE, text, {"Retry-After": "1"})
        try:
            return await self._answer(request)
        finally:
            self._shares.release(request.remote)

    def close(self) -> None:
        """End the thread after the question that it answers."""
        if self._executor is not None:
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _answer(self, request: Request) -> Response:
        from maesh_core.controller.explaining import excerpt, query

        try:
            asked = query.parse_question(request.target.partition(b"?")[2].decode("ascii", "replace"))
        except ConfigurationError as error:
            return build_text(HTTPStatus.BAD_REQUEST, f"{error}\n")
        if self._executor is None:
            self._executor = ThreadPoolExecutor(1, "explain")
        try:
            async with self._turn:
                collected = excerpt.collect_excerpt(asked, self._mesh)
                loop = asyncio.get_running_loop()
                return build_json(await loop.run_in_executor(self._executor, excerpt.answer_question, asked, collected))
        except ConfigurationError as error:
            return build_text(HTTPStatus.NOT_FOUND, f"{error}\n")
