"""The interfaces of pages that plugins add to the controller's API.

Values only. `controller/api/pages.py` calls the pages, and adds the headers that keep a browser safe.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import msgspec

from maesh_core.model.metrics import MetricFamily

# --- pages -----------------------------------------------------------------------------------------------------------


class PageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A GET or HEAD request for a page. Names in `fields`, its header fields, are in lower case."""

    query: Mapping[str, str] = {}
    fields: Sequence[tuple[bytes, bytes]] = ()


class PostRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A POST request for a page. Names in `fields`, its header fields, are in lower case.

    `remote` is the address of the connection's other end. `is_encrypted`: the connection uses TLS. `caller` is the name
    of the person or tool that has proven it; empty for anyone else.
    """

    body: bytes
    fields: Sequence[tuple[bytes, bytes]] = ()
    remote: str = ""
    is_encrypted: bool = False
    caller: str = ""


class PageResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The response of a page. `headers` replace those that the API sets, by their exact names."""

    status: int = 200
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = {}
    body: bytes = b""


class ApiPage(Protocol):
    """A page of the controller's API.

    It answers GET and HEAD requests for `path`, which begins with `/` and is compared with the decoded path of a
    request. The path must be unique. Paths below `/api` belong to the core, except for those below `/api/PLUGIN/`.
    """

    path: str

    async def respond(self, request: PageRequest) -> PageResponse:
        """Answer a request, in the controller's event loop; must not block. If it raises, the response is 500."""


class CountingPage(ApiPage, Protocol):
    """A page that has metrics."""

    def collect_metrics(self) -> Sequence[MetricFamily]:
        """Return the metrics; called at each scrape of the controller."""


class PostPage(ApiPage, Protocol):
    """A page that also answers POST requests. A larger body is answered with 413, and not read to its end."""

    body_limit_bytes: int

    async def respond_to_post(self, request: PostRequest) -> PageResponse:
        """Answer a POST request, as `respond` does. It is cancelled if the client leaves."""


class OpenPage(ApiPage, Protocol):
    """A page that checks itself who sends a request, so that a protected API lets every request through to it."""

    is_open: bool


class CostlyPage(ApiPage, Protocol):
    """A page with data for programs that starts costly work: no other web site may make a browser ask for it."""

    is_costly: bool
