import pytest

from maesh_core.controller.api.pages import (
    CONTENT_SECURITY_POLICY,
    answer_page,
    answer_post,
    find_post_page,
    index_pages,
    is_browser_page,
    is_costly_page,
    list_body_limits,
)
from maesh_core.controller.api.security.authentication import Caller
from maesh_core.errors import PluginError
from maesh_core.plain_http.messages import Request
from maesh_core.plugin_system.pages import PageRequest, PageResponse, PostRequest


class Page:
    is_costly = False

    def __init__(self, path, **response):
        self.path = path
        self.response = PageResponse(**response)
        self.requests = []

    async def respond(self, request):
        self.requests.append(request)
        return self.response


def build_describe(owner):
    return lambda page: f"plugin '{owner}' (maesh-{owner} 1.0)"


def describe(page):
    return f"plugin of {page.path}"


@pytest.mark.parametrize("path", ["", "index", "/a b", "/ä", "/a?b", "/%41", "/a\n"])
def test_a_path_that_no_request_can_name_plainly_is_refused(path):
    with pytest.raises(PluginError, match="does not have a plain path"):
        index_pages([Page(path)], describe)


@pytest.mark.parametrize("path", ["/api", "/api/status/nodes", "/metrics"])
def test_a_path_of_the_controller_itself_is_refused(path):
    with pytest.raises(PluginError, match=r"this path belongs to the controller itself$"):
        index_pages([Page(path)], describe)


def test_a_page_may_be_below_the_name_of_its_plugin():
    page = Page("/api/acl/denials")
    assert index_pages([page], build_describe("acl")) == {"/api/acl/denials": page}
    for path, owner in [("/api/acl/denials", "other"), ("/api/acl", "acl"), ("/api/status/x", "status")]:
        with pytest.raises(PluginError, match="belongs to the controller itself"):
            index_pages([Page(path)], build_describe(owner))


def test_only_pages_that_say_so_are_costly():
    page = Page("/a")
    assert not is_costly_page(page)
    assert not is_costly_page(None)
    page.is_costly = True
    assert is_costly_page(page)


def test_a_path_that_is_claimed_twice_is_refused():
    with pytest.raises(PluginError) as caught:
        index_pages([Page("/a"), Page("/apis"), Page("/a")], describe)
    assert str(caught.value) == "page '/a' is claimed by both plugin of /a and plugin of /a"


def test_pages_are_found_by_their_path():
    pages = [Page("/"), Page("/assets/index-1.js")]
    assert index_pages(pages, describe) == {"/": pages[0], "/assets/index-1.js": pages[1]}


async def test_a_page_is_sent_with_headers_that_keep_a_browser_safe_and_may_replace_them():
    page = Page("/", status=404, content_type="text/html", headers={"Cache-Control": "max-age=1"}, body=b"x")
    response = await answer_page(page, PageRequest(query={"a": "b"}))
    fields = dict(response.fields)
    assert (response.status, response.body, page.requests) == (404, b"x", [PageRequest(query={"a": "b"})])
    assert fields[b"Content-Security-Policy"].decode() == CONTENT_SECURITY_POLICY
    assert fields[b"X-Content-Type-Options"] == b"nosniff"
    assert fields[b"Referrer-Policy"] == b"no-referrer"
    assert fields[b"Cache-Control"] == b"max-age=1"
    assert fields[b"Content-Type"] == b"text/html"


class PostingPage(Page):
    body_limit_bytes = 10

    async def respond_to_post(self, request):
        self.requests.append(request)
        return self.response


def test_only_pages_that_answer_post_requests_get_bodies():
    posting = PostingPage("/b")
    assert list_body_limits({"/a": Page("/a"), "/b": posting}) == {b"/b": 10}
    assert find_post_page(posting) is posting
    assert find_post_page(Page("/a")) is find_post_page(None) is None


async def test_a_post_request_is_answered_with_the_same_headers():
    page = PostingPage("/b", body=b"x")
    request = Request(method=b"POST", body=b"y", fields=[(b"a", b"b")], remote="10.0.0.1", is_encrypted=True)
    response = await answer_post(page, request, Caller("person", "ann"))
    expected = PostRequest(body=b"y", fields=[(b"a", b"b")], remote="10.0.0.1", is_encrypted=True, caller="ann")
    assert page.requests == [expected]
    await answer_post(page, request, Caller("node", "n1"))
    assert page.requests[-1].caller == ""
    assert (response.status, response.body) == (200, b"x")
    assert dict(response.fields)[b"X-Content-Type-Options"] == b"nosniff"


def test_documents_below_api_are_for_programs_and_other_pages_for_browsers():
    assert is_browser_page(Page("/"))
    assert is_browser_page(Page("/apix"))
    assert not is_browser_page(Page("/api/acl/denials"))
    assert not is_browser_page(None)
