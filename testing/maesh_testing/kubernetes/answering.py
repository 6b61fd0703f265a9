"""Answers on the wire, whole or as a fault wants them. Takes status and body, writes to the client."""

import asyncio
import gzip
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from maesh_testing.kubernetes.faults import Fault, FaultKind
from maesh_testing.kubernetes.statuses import StatusError

JSON = "application/json"
GZIP_BYTES = 128 * 1024
"""From this size on a server compresses what a client takes compressed."""


class Answer(NamedTuple):
    """What a client is answered."""

    status: int
    body: bytes
    retry_after_s: int | None = None
    content_type: str = JSON


def build_answer(found: Any, status: int = 200) -> Answer:
    """Build an answer of a document."""
    return Answer(status, msgspec.json.encode(found))


def build_refusal(error: StatusError) -> Answer:
    """Build the answer of an error."""
    return Answer(error.code, msgspec.json.encode(error.build()), error.retry_after_s)


def break_connection(request: web.BaseRequest) -> web.StreamResponse:
    """Break the connection; return a response that nobody will see."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


async def deliver(request: web.BaseRequest, answer: Answer, fault: Fault | None) -> web.StreamResponse:
    """Send an answer, or what a fault leaves of it."""
    kind = fault.kind if fault else None
    if kind is FaultKind.CLOSE_AFTER:
        return break_connection(request)
    if fault and kind is FaultKind.GARBAGE:
        return web.Response(body=fault.body, content_type=JSON)
    if kind is FaultKind.CUT_JSON:
        return web.Response(status=answer.status, body=answer.body[: len(answer.body) // 2], content_type=JSON)
    if kind in (FaultKind.WRONG_LENGTH, FaultKind.HANG_MID_ANSWER):
        return await _deliver_part(request, answer, hangs=kind is FaultKind.HANG_MID_ANSWER)
    headers = {"Content-Type": answer.content_type, "Cache-Control": "no-cache, private"}
    if answer.retry_after_s is not None:
        headers["Retry-After"] = str(answer.retry_after_s)
    body = answer.body
    if len(body) > GZIP_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        headers |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        body = await asyncio.to_thread(gzip.compress, body, 1)
    return web.Response(status=answer.status, body=body, headers=headers)


async def _deliver_part(request: web.BaseRequest, answer: Answer, *, hangs: bool) -> web.StreamResponse:
    length = len(answer.body) + (0 if hangs else 100)
    headers = {"Content-Type": answer.content_type, "Content-Length": str(length)}
    response = web.StreamResponse(status=answer.status, headers=headers)
    await response.prepare(request)
    await response.write(answer.body[: len(answer.body) // 2] if hangs else answer.body)
    if hangs:
        await asyncio.Event().wait()
    if request.transport is not None:
        request.transport.close()
    return response
