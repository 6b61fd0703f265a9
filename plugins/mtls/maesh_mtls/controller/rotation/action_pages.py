"""The pages behind `maesh mtls`: the status of the authority, rotations, and revocations.

Takes requests; reads and changes the store. Changes are accepted from callers that have proven who they are, and from
this machine; all else is refused. A refusal is one line of text.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from maesh_core.plugin import ConfigurationError, ControllerNode, PageRequest, PageResponse, PostRequest
from maesh_mtls.controller.authority.ca import make_authority
from maesh_mtls.controller.authority.state import parse_state, render_state, revoke, undo_revocation
from maesh_mtls.controller.authority.stores import (
    AuthorityStore,
    StoreConflictError,
    Stored,
    StoreError,
    StoreReadOnlyError,
)
from maesh_mtls.controller.modes import normalise_serial
from maesh_mtls.controller.rotation.report import build_report
from maesh_mtls.controller.rotation.service import RotationService, build_view
from maesh_mtls.controller.rotation.steps import Change, NotNowError, abort, proceed, start
from maesh_mtls.identity import is_node_name
from maesh_mtls.loopback import is_loopback
from maesh_mtls.wire import REVOCATIONS_PATH, ROTATION_PATH, STATUS_PATH, RevocationOrder, RotationOrder

BODY_LIMIT_BYTES: Final = 4096
ATTEMPTS: Final = 5
_NO_STORE: Final = {"Cache-Control": "no-store"}
_DENIED: Final = "this needs a token of the API, or a request from the controller's own machine"

_log = logging.getLogger(__name__)
Make = Callable[[Stored, float], Change]


class StatusPage:
    """The status of the authority and of the certificates."""

    path = STATUS_PATH

    def __init__(
        self,
        controller: ControllerNode,
        store: AuthorityStore,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._controller = controller
        self._store = store
        self._now = now

    def __repr__(self) -> str:
        return f"<StatusPage {self._store.place}>"

    async def respond(self, request: PageRequest) -> PageResponse:
        """Answer with the report."""
        try:
            stored = await self._store.load()
            reports, is_complete = await self._controller.list_proxies()
            now, nodes, place = self._now(), self._controller.mesh_nodes, self._store.place
            view = build_view(reports, tuple(nodes), now, is_complete=is_complete)
            report = build_report(stored, view, reports, now, place=place, nodes=nodes)
        except (StoreError, ConfigurationError) as error:
            return _answer(503, str(error))
        body = msgspec.json.encode(report)
        return PageResponse(content_type="application/json", headers=_NO_STORE, body=body)


class ChangingPage:
    """What both pages that change the store have in common."""

    path = ""
    body_limit_bytes = BODY_LIMIT_BYTES

    def __init__(
        self, store: AuthorityStore, service: RotationService, *, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._service = service
        self._now = now

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._store.place}>"

    async def respond(self, request: PageRequest) -> PageResponse:
        """Answer a GET request: there is nothing to read."""
        return PageResponse(status=405, headers={"Allow": "POST"}, body=b"only POST is supported\n")

    async def respond_to_post(self, request: PostRequest) -> PageResponse:
        """Change the store, or refuse the request."""
        if not (request.caller or is_loopback(request.remote)):
            return _answer(403, _DENIED)
        try:
            make = self._parse(request.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
            return _answer(400, f"the body is wrong: {error}")
        try:
            text = await self._change(make)
        except (NotNowError, ValueError) as error:
            return _answer(409, str(error))
        except ConfigurationError as error:
            return _answer(409, f"the authority cannot be used: {error}")
        except StoreReadOnlyError as error:
            return _answer(409, f"this controller may not change the authority: {error}")
        except StoreError as error:
            return _answer(503, str(error))
        _log.warning("%s (asked by %s at %s)", text, request.caller or "nobody known", request.remote)
        self._service.wake()
        return _answer(200, text)

    def _parse(self, body: bytes) -> Make:
        raise NotImplementedError

    async def _change(self, make: Make) -> str:
        for _ in range(ATTEMPTS):
            stored = await self._store.load()
            change = make(stored, self._now())
            try:
                await self._store.write(change.files, render_state(change.state), version=stored.version)
            except StoreConflictError:
                continue
            return change.text
        raise StoreConflictError("the authority is being changed; try again")


class RotationPage(ChangingPage):
    """Starts, aborts and hastens rotations."""

    path = ROTATION_PATH

    def _parse(self, body: bytes) -> Make:
        action = msgspec.json.decode(body, type=RotationOrder).action
        if action == "start":
            return lambda stored, now: start(stored, make_authority(datetime.fromtimestamp(now, UTC)), now)
        return abort if action == "abort" else lambda stored, _: proceed(stored)


class RevocationPage(ChangingPage):
    """Revokes nodes and certificates, and undoes it."""

    path = REVOCATIONS_PATH

    def _parse(self, body: bytes) -> Make:
        order = msgspec.json.decode(body, type=RevocationOrder)
        node, serial = order.node, normalise_serial(order.serial) if order.serial else ""
        if not is_node_name(node):
            raise ValueError("the name cannot be that of a node")
        what = f"certificate {serial} of node {node}" if serial else f"node {node}"

        def make(stored: Stored, now: float) -> Change:
            state = parse_state(stored.rotation)
            if order.undo:
                return Change({}, undo_revocation(state, node, serial), f"{what} is not revoked any more")
            return Change({}, revoke(state, node, serial, now), f"{what} is revoked")

        return make


def _answer(status: int, text: str) -> PageResponse:
    return PageResponse(status=status, headers=_NO_STORE, body=f"{text}\n".encode())
