"""What the controller's half serves: the built files, their headers and their size."""

import gzip
import re
from html.parser import HTMLParser

import pytest
from maesh_dashboard.controller import FOLDER, ControllerHalf, accepts_gzip, list_pages

from maesh_core.controller.api.pages import index_pages
from maesh_core.plugin import PageRequest

SIZE_LIMIT = 300_000
GZIP = PageRequest(fields=[(b"accept-encoding", b"br, gzip")])


class References(HTMLParser):
    """What a document loads, and the inline code that a strict Content-Security-Policy forbids."""

    def __init__(self):
        super().__init__()
        self.loaded, self.inline = [], []
        self.is_script = False

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.loaded += [given[name] for name in ("src", "href") if name in given]
        self.inline += [name for name in given if name.startswith("on") or name == "style"]
        self.is_script = tag in ("script", "style")

    def handle_data(self, data):
        if self.is_script and data.strip():
            self.inline.append(data)

    def handle_endtag(self, tag):
        self.is_script = False


@pytest.fixture
def pages():
    return index_pages(ControllerHalf().maesh_api_pages(), str)


async def test_the_document_loads_only_files_that_are_served(pages):
    response = await pages["/"].respond(PageRequest())
    references = References()
    references.feed(response.body.decode())
    assert response.content_type == "text/html; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"
    assert {f"/{each.removeprefix('./')}" for each in references.loaded} <= pages.keys()
    assert len(references.loaded) == 3
    assert references.inline == []


async def test_files_with_a_hash_in_their_name_are_kept_forever(pages):
    hashed = [path for path in pages if path.startswith("/assets/")]
    assert len(hashed) == 2
    for path in hashed:
        assert re.fullmatch(r"/assets/index-[\w-]{8}\.(css|js)", path)
        response = await pages[path].respond(PageRequest())
        assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"


async def test_all_that_a_browser_loads_is_small(pages):
    responses = [await page.respond(GZIP) for page in pages.values()]
    assert all(each.headers["Content-Encoding"] == "gzip" for each in responses)
    assert sum(len(each.body) for each in responses) < SIZE_LIMIT


async def test_a_file_is_the_same_with_and_without_compression(pages):
    for page in pages.values():
        plain, packed = await page.respond(PageRequest()), await page.respond(GZIP)
        assert gzip.decompress(packed.body) == plain.body
        assert "Content-Encoding" not in plain.headers
        assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"


def test_the_licences_of_what_is_in_the_files_are_shipped_but_not_served(pages):
    text = (FOLDER / "licenses.md").read_text()
    for name in ("preact", "uplot", "@dagrejs/dagre"):
        assert f"## {name} " in text
    assert "/licenses.md" not in pages


def test_missing_files_stop_the_start(tmp_path):
    with pytest.raises(FileNotFoundError, match="`make dashboard` builds it"):
        list_pages(tmp_path)


@pytest.mark.parametrize(
    ("value", "is_accepted"),
    [
        (None, False),
        (b"", False),
        (b"gzip", True),
        (b"GZIP", True),
        (b"br;q=1.0, gzip;q=0.8", True),
        (b"gzip;q=0", False),
        (b"gzip; q=0.000", False),
        (b"gzip;q=0.001", True),
        (b"gzipped", False),
    ],
)
def test_gzip_is_sent_only_to_those_who_accept_it(value, is_accepted):
    assert accepts_gzip([] if value is None else [(b"accept-encoding", value)]) == is_accepted


def test_pages_show_their_path(pages):
    assert repr(pages["/"]) == "<FilePage />"
