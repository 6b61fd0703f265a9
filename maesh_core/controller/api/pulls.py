"""The answers to pulls: requests for the configuration, or for what has changed in it, which may wait for a revision.

Takes requests; answers with what a `Published` renders, each rendering once for all proxies, and records in the node
registry who pulled. While the controller is not ready, or may be outdated, pulls get 503.
"""

import re
from http import HTTPStatus

import msgspec

from maesh_core.controller.api.long_poll import Waiters
from maesh_core.controller.api.nodes import NAME_LIMIT, NodeRegistry, is_valid_name
from maesh_core.controller.api.queries import WAIT_LIMIT_S, parse_port, parse_wait, read_query
from maesh_core.controller.api.served import Published, ReportedStatus
from maesh_core.controller.api.server import build_text, to_response
from maesh_core.model.facts import pick_facts
from maesh_core.plain_http.messages import Request, Response, read_field

HELD_PULLS_LIMIT = 10_000
"""Limit of held pulls, two for each of the largest cluster's 5,000 nodes; above it, pulls get 503."""
RENDERED_LIMIT = 16
"""Limit of cached renderings of one revision: pulls that are woken together had one of the last few revisions."""

NOT_READY = "the first configuration is not built yet\n"
NOT_CURRENT = "no contact with the cluster: the configuration may be outdated\n"

_TAG_PATTERN = re.compile(r'(?:W/)?("[^"]*")')


class _Selected(msgspec.Struct, frozen=True):
    """A representation and its entity tag; `body` is None if there is nothing new."""

    tag: str
    body: bytes | None


class Pulls:
    """Answers pulls. `wake` after each revision; after `close`, no pull waits any more."""

    __slots__ = ("_nodes", "_published", "_rendered", "_rendered_revision", "_status", "_waiters")

    def __init__(
        self, published: Published, nodes: NodeRegistry, status: ReportedStatus, held_limit: int = HELD_PULLS_LIMIT
    ) -> None:
        self._published = published
        self._nodes = nodes
        self._status = status
        self._waiters = Waiters(held_limit)
        self._rendered: dict[str | None, bytes | None] = {}
        self._rendered_revision = ""

    def __repr__(self) -> str:
        return f"<Pulls {self._published.revision} {self._waiters!r}>"

    @property
    def held(self) -> int:
        """How many pulls wait for a revision."""
        return len(self._waiters)

    def wake(self) -> None:
        """Answer the waiting pulls, because there is a new revision."""
        self._waiters.wake()

    def close(self) -> None:
        """Answer the waiting pulls, and hold no more."""
        self._waiters.close()

    async def answer(self, request: Request) -> Response:
        """Answer a pull.

        The full configuration has the entity tag `"REVISION"`, a delta `"REVISION;since=REVISION"`. 304 means that
        nothing is new: there is no revision after `since`, or If-None-Match has the tag. A pull can wait for either.
        """
        query = read_query(request)
        node, since = query.get("node"), query.get("since")
        wait_s = parse_wait(query.get("wait", "0"))
        if wait_s is None:
            return build_text(HTTPStatus.BAD_REQUEST, f"wait is a number of seconds from 0 to {WAIT_LIMIT_S:g}\n")
        if node is not None and not is_valid_name(node):
            return build_text(HTTPStatus.BAD_REQUEST, f"node is a name of 1 to {NAME_LIMIT} printable characters\n")
        admin = query.get("admin")
        admin_port = None if admin is None else parse_port(admin)
        has_tls = query.get("admin-tls") == "1"
        if admin is not None and admin_port is None:
            return build_text(HTTPStatus.BAD_REQUEST, "admin is a port, a number from 1 to 65535\n")
        facts = pick_facts(query)
        if not (self._published.is_ready and self._status.is_current):
            if node is not None:
                self._nodes.note_refused_pull(
                    node, request.remote, since, admin_port=admin_port, has_tls=has_tls, facts=facts
                )
            return _refuse_pull(NOT_CURRENT if self._published.is_ready else NOT_READY)
        known_tags = read_field(request.fields, b"if-none-match")
        if node is None:
            return await self._pull(since, wait_s, known_tags)
        with self._nodes.hold_pull(node, request.remote, since, admin_port=admin_port, has_tls=has_tls, facts=facts):
            return await self._pull(since, wait_s, known_tags)

    async def _pull(self, since: str | None, wait_s: float, known_tags: str) -> Response:
        selected = self._select(since)
        if _is_known(selected, known_tags) and wait_s > 0 and not self._waiters.is_closed:
            if self._waiters.is_full:
                return _refuse_pull("too many pulls are waiting\n")
            await self._waiters.wait(wait_s)
            selected = self._select(since)
        # Always revalidate: a cached answer is outdated as soon as there is a new revision.
        headers = {"ETag": selected.tag, "Cache-Control": "no-cache"}
        if _is_known(selected, known_tags):
            return to_response(HTTPStatus.NOT_MODIFIED, headers=headers)
        return to_response(HTTPStatus.OK, body=selected.body or b"", content_type="application/json", headers=headers)

    def _select(self, since: str | None) -> _Selected:
        """Choose the representation for a client with revision `since`; each is rendered once for all clients."""
        revision = self._published.revision
        base = since if since is not None and _is_ours(since, revision) else None
        if revision != self._rendered_revision:
            self._rendered.clear()
            self._rendered_revision = revision
        if base not in self._rendered:
            while len(self._rendered) >= RENDERED_LIMIT:
                del self._rendered[next(iter(self._rendered))]
            self._rendered[base] = self._published.render_configuration(base)
        body = self._rendered[base]
        return _Selected(f'"{revision};since={base}"' if base and base != revision else f'"{revision}"', body)


def _refuse_pull(text: str) -> Response:
    """Refuse a pull for now, and close the connection, so that the next pull can reach another replica."""
    return build_text(HTTPStatus.SERVICE_UNAVAILABLE, text, {"Retry-After": "1"}, is_last=True)


def _is_ours(since: str, revision: str) -> bool:
    """Whether this controller can have issued `since`: `<epoch>.<n>`, with n at most the current number."""
    epoch, _, number = revision.rpartition(".")
    since_epoch, _, since_number = since.rpartition(".")
    is_number = since_number.isascii() and since_number.isdecimal() and len(since_number) <= len(number)
    return is_number and since_epoch == epoch and int(since_number) <= int(number)


def _is_known(selected: _Selected, known_tags: str) -> bool:
    """Whether the client has this: nothing is new, or If-None-Match names it (RFC 9110 section 13.1.2, weakly)."""
    if selected.body is None or known_tags.strip() == "*":
        return True
    return selected.tag in _TAG_PATTERN.findall(known_tags)
