"""The interface of pages that plugins add to the controller's API.

Values only. `controller/api/pages.py` calls the pages, and adds the headers that keep a browser safe.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

# --- pages -----------------------------------------------------------------------------------------------------------


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A GET or HEAD request for a page. Names in `fields`, its header fields, are in lower case."""

    query: Mapping[str, str] = {}
    fields: Sequence[tuple[bytes, bytes]] = ()


class PageResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The response of a page. `headers` replace those that the API sets, by their exact names."""

    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = {}
    body: bytes = b""


class ApiPage(Protocol):
    """A page of the controller's API.

    It answers GET and HEAD requests for `path`, which begins with `/` and is compared with the decoded path of a
    request. The path must be unique. Paths below `/api` belong to the core.
    """

    path: str

    async def respond(self, request: PageRequest) -> PageResponse:
        """Answer a request, in the controller's event loop; must not block. If it raises, the response is 500."""
