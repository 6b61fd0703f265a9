"""The pages that plugins add to the controller's API: which path belongs to which page, and how a page is answered.

Takes the results of `maesh_api_pages`. Raises PluginError for a path that cannot be used or is claimed twice. Adds the
headers that keep a browser from loading or sending anything elsewhere.
"""

import re
from collections.abc import Callable, Mapping, Sequence

from maesh_core.controller.api.server import to_response
from maesh_core.errors import PluginError
from maesh_core.plain_http.messages import Response
from maesh_core.plugin_system.pages import ApiPage, PageRequest

CORE_PREFIXES = ("/api", "/metrics")
"""Paths that begin with one of these, as a whole segment, belong to the core."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_PATH = re.compile(r"(/[A-Za-z0-9._~-]*)+")


def index_pages(pages: Sequence[ApiPage], describe: Callable[[object], str]) -> dict[str, ApiPage]:
    """Index pages by their path. Raises PluginError."""
    found: dict[str, ApiPage] = {}
    for page in pages:
        path = page.path
        if _PATH.fullmatch(path) is None:
            raise PluginError(f"page {path!r} of {describe(page)} does not have a plain path that begins with /")
        if any(path == prefix or path.startswith(f"{prefix}/") for prefix in CORE_PREFIXES):
            raise PluginError(f"page {path!r} of {describe(page)}: this path belongs to the controller itself")
        if path in found:
            raise PluginError(f"page {path!r} is claimed by both {describe(found[path])} and {describe(page)}")
        found[path] = page
    return found


async def answer_page(page: ApiPage, request: PageRequest) -> Response:
    """Answer a request with a page."""
    given = await page.respond(request)
    headers = {**PAGE_HEADERS, **given.headers}
    return to_response(given.status, body=given.body, content_type=given.content_type, headers=headers)
