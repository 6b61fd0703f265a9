"""The proxy's half: delays requests, and answers requests with an error that no server has caused.

Each share is drawn at random for each request, and delays and errors are drawn independently. A request that is delayed
and then failed needs a task; any other needs none.
"""

import asyncio
import random
from collections.abc import Awaitable
from typing import Final

from maesh_core.plugin import Exchange, Middleware, Response
from maesh_fault.settings import Faults

REASON: Final = "a fault was injected"
GRPC_HTTP_STATUS: Final = 503
"""What the answer to a gRPC call counts as in metrics and logs."""


class Fault(Middleware):
    """The faults of one service."""

    def __init__(self, settings: Faults) -> None:
        self._settings = settings
        self._delay_s: float = settings.delay_s
        self._delay_share: float = settings.delay_share
        self._abort_share: float = settings.abort_share
        self._is_grpc_only = settings.grpc_status > 0
        self._answer: Response | None = None
        if settings.grpc_status:
            self._answer = Response(status=GRPC_HTTP_STATUS, reason=REASON, grpc_status=settings.grpc_status)
        elif settings.status:
            self._answer = Response(status=settings.status, reason=REASON)

    def __repr__(self) -> str:
        return f"<Fault {self._settings!r}>"

    def on_request(self, exchange: Exchange) -> Response | float | Awaitable[Response] | None:
        """Draw the faults of a request."""
        answer = self._answer
        if answer is not None and (
            (self._is_grpc_only and not exchange.is_grpc) or random.random() >= self._abort_share  # noqa: S311
        ):
            answer = None
        if not self._delay_s or random.random() >= self._delay_share:  # noqa: S311
            return answer
        return self._delay_s if answer is None else answer_late(answer, self._delay_s)


async def answer_late(answer: Response, delay_s: float) -> Response:
    """Answer after a delay."""
    await asyncio.sleep(delay_s)
    return answer


class FaultFactory:
    """Builds the middleware of each service with faults."""

    kind = "fault"
    settings_type = Faults

    def build_middleware(self, settings: Faults, service: str) -> Fault:
        """Build the middleware of one service."""
        return Fault(settings)
