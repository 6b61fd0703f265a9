"""The API of a controller for `maesh explain`, which asks one question after the other and waits for each answer.

Takes what finds the controllers; fetches paths from the first one that answers. Raises MaeshError. An event loop runs
only during a question.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Self

from maesh_core.controller.api_clients.controllers import ControllerApi
from maesh_core.errors import MaeshError

OpenApis = Callable[[], AbstractAsyncContextManager[Sequence[ControllerApi]]]
"""Finds the controllers; raises MaeshError."""


class BlockingApi:
    """The controllers of one mesh: `with`."""

    def __init__(self, open_apis: OpenApis) -> None:
        self._open_apis = open_apis
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._apis: Sequence[ControllerApi] = ()

    def __repr__(self) -> str:
        return f"<BlockingApi of {len(self._apis)} controllers>"

    def __enter__(self) -> Self:
        try:
            self._apis = self._runner.run(self._enter())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._runner.run(self._stack.aclose())
        finally:
            self._runner.close()

    def fetch(self, path: str) -> bytes:
        """Fetch a path, from the same controller each time unless it is lost. Raises MaeshError."""
        return self._runner.run(self._fetch(path))

    async def _enter(self) -> Sequence[ControllerApi]:
        return await self._stack.enter_async_context(self._open_apis())

    async def _fetch(self, path: str) -> bytes:
        failure: MaeshError | None = None
        for api in self._apis:
            try:
                body = await api.fetch(path)
            except MaeshError as error:
                failure = failure or error
                if getattr(error, "status", 0):
                    break  # the controller has answered
            else:
                self._apis = [api, *(other for other in self._apis if other is not api)]
                return body
        raise failure or MaeshError("there is no controller")
