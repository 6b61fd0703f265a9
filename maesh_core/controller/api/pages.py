"""The pages that plugins add to the controller's API: which path belongs to which page, and how a page is answered.

Takes the results of `maesh_api_pages`. Raises PluginError for a path that cannot be used or is claimed twice. Adds the
headers that keep a browser from loading or sending anything elsewhere.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from maesh_core.controller.api.security.authentication import Caller
from maesh_core.controller.api.server import to_response
from maesh_core.errors import PluginError
from maesh_core.plain_http.messages import Request, Response
from maesh_core.plugin_system.pages import ApiPage, PageRequest, PageResponse, PostPage, PostRequest

CORE_PREFIXES = ("/api", "/metrics")
"""Paths that begin with one of these, as a whole segment, belong to the core, except for `/api/PLUGIN/...`."""
CORE_NAMES = frozenset(
    {"conditions", "configuration", "topology", "services", "pods", "objects", "traffic", "explain", "tap", "status"}
)
"""Names after `/api/` that belong to the core, even if a plugin has one of them."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
PAGE_HEADERS: Mapping[str, str] = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
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
        if _is_core_path(path, describe(page)):
            raise PluginError(f"page {path!r} of {describe(page)}: this path belongs to the controller itself")
        if path in found:
            raise PluginError(f"page {path!r} is claimed by both {describe(found[path])} and {describe(page)}")
        found[path] = page
    return found


def _is_core_path(path: str, owner: str) -> bool:
    """Whether a path belongs to the core, and not to the plugin that `owner` describes (`InstalledPlugin.label`)."""
    api, _, rest = path.removeprefix("/").partition("/")
    name, slash, _ = rest.partition("/")
    if api == "api" and slash and name not in CORE_NAMES and owner.startswith(f"plugin {name!r} ("):
        return False
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in CORE_PREFIXES)


async def answer_page(page: ApiPage, request: PageRequest) -> Response:
    """Answer a request with a page."""
    return _build_response(await page.respond(request))


def find_post_page(page: ApiPage | None) -> PostPage | None:
    """Return the page if it answers POST requests."""
    return cast("PostPage", page) if page is not None and hasattr(page, "respond_to_post") else None


def is_open_page(page: ApiPage | None) -> bool:
    """Whether a page checks itself who sends a request."""
    return getattr(page, "is_open", False) is True


def is_browser_page(page: ApiPage | None) -> bool:
    """Whether a page is for browsers; a document below `/api` is for programs, as those of the core."""
    return page is not None and not page.path.startswith(f"{CORE_PREFIXES[0]}/")


def is_costly_page(page: ApiPage | None) -> bool:
    """Whether a browser may not ask for a page on behalf of another site, because it starts costly work."""
    return getattr(page, "is_costly", False) is True


def list_body_limits(pages: Mapping[str, ApiPage]) -> dict[bytes, int]:
    """Return the limit of bodies of each page that answers POST requests, by path."""
    found = {path: find_post_page(page) for path, page in pages.items()}
    return {path.encode("ascii"): page.body_limit_bytes for path, page in found.items() if page is not None}


async def answer_post(page: PostPage, request: Request, caller: Caller) -> Response:
    """Answer a POST request with a page. Its body was read only if the path is written plainly."""
    post = PostRequest(
        body=request.body,
        fields=request.fields,
        remote=request.remote,
        is_encrypted=request.is_encrypted,
        caller=caller.name if caller.kind == "person" else "",
    )
    return _build_response(await page.respond_to_post(post))


def _build_response(given: PageResponse) -> Response:
    headers = {**PAGE_HEADERS, **given.headers}
    return to_response(given.status, body=given.body, content_type=given.content_type, headers=headers)
