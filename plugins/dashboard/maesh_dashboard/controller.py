"""The controller's half: serves the built files of `dashboard/` as pages, the document at `/` and the rest beside it.

Reads a file whenever it is asked for, because browsers keep it: names of assets contain a hash of their content. Raises
FileNotFoundError at start if the files are missing. The API adds the headers that keep a browser safe.
"""

import asyncio
import gzip
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from maesh_core.plugin import ApiPage, PageRequest, PageResponse, hookimpl

FOLDER = Path(__file__).with_name("built")
INDEX = "index.html"
ASSETS = "assets"
CONTENT_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
FOREVER = "public, max-age=31536000, immutable"
"""For files whose name contains a hash: another content has another name."""
REVALIDATED = "no-cache"
"""For the document, which names the files of the current version."""

_REFUSED = re.compile(rb"gzip;q=0(\.0*)?")


class ControllerHalf:
    """The hooks of a controller."""

    @hookimpl
    def maesh_api_pages(self) -> Sequence[ApiPage]:
        """Return a page for each built file."""
        return list_pages(FOLDER)


class FilePage:
    """One file. It is sent compressed to clients that accept gzip."""

    __slots__ = ("_compressed", "_content_type", "_file", "_headers", "path")

    def __init__(self, path: str, file: Path) -> None:
        self.path = path
        self._file = file
        self._compressed: tuple[bytes, bytes] | None = None
        """The content, and its compressed form, once it was asked for."""
        self._content_type = CONTENT_TYPES[file.suffix]
        is_hashed = file.parent.name == ASSETS
        self._headers = {"Cache-Control": FOREVER if is_hashed else REVALIDATED, "Vary": "Accept-Encoding"}

    def __repr__(self) -> str:
        return f"<FilePage {self.path}>"

    async def respond(self, request: PageRequest) -> PageResponse:
        """Answer with the file."""
        body, headers = self._file.read_bytes(), self._headers
        if accepts_gzip(request.fields):
            if self._compressed is None or self._compressed[0] != body:
                self._compressed = body, await asyncio.to_thread(gzip.compress, body, 6, mtime=0)
            body, headers = self._compressed[1], {**headers, "Content-Encoding": "gzip"}
        return PageResponse(content_type=self._content_type, headers=headers, body=body)


def list_pages(folder: Path) -> list[FilePage]:
    """List the pages of a folder of built files."""
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder / INDEX} is missing; `make dashboard` builds it")
    files = sorted(path for path in folder.rglob("*") if path.suffix in CONTENT_TYPES)
    return [
        FilePage("/" if path == folder / INDEX else f"/{path.relative_to(folder).as_posix()}", path) for path in files
    ]


def accepts_gzip(fields: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether the client accepts gzip: Accept-Encoding names it, without the weight 0 (RFC 9110 section 12.5.3)."""
    codings = b",".join(value for name, value in fields if name == b"accept-encoding").lower().replace(b" ", b"")
    return any(_REFUSED.fullmatch(each) is None for each in codings.split(b",") if each.partition(b";")[0] == b"gzip")
