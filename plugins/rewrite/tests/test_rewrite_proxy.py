"""Requests in, another host and target for the server out."""

import pytest
from maesh_rewrite.proxy import RewriteFactory
from maesh_rewrite.settings import Rewrite

from maesh_core.plugin import PathChange, Response
from maesh_testing import FakeExchange

PREFIX = PathChange(prefix="/old", replacement="/new")


def rewrite(target=b"/old/a?b=c", method=b"GET", **settings):
    """Return the answer, and what is sent instead of the client's target and host."""
    exchange = FakeExchange(method, target)
    answer = RewriteFactory().build_middleware(Rewrite(**settings), "shop/cart").on_request(exchange)
    return answer, exchange.new_target, exchange.new_host


def test_a_host_replaces_that_of_the_client():
    assert rewrite(host="a.internal") == (None, b"", b"a.internal")


def test_a_path_replaces_that_of_the_client_or_its_prefix_and_the_query_stays():
    assert rewrite(path=PathChange(full="/x")) == (None, b"/x?b=c", b"")
    assert rewrite(path=PREFIX) == (None, b"/new/a?b=c", b"")
    assert rewrite(path=PREFIX, host="a.internal") == (None, b"/new/a?b=c", b"a.internal")


@pytest.mark.parametrize("target", [b"/other", b"/older/a", b"/"])
def test_a_path_without_the_prefix_is_sent_as_it_is(target):
    assert rewrite(target, path=PREFIX, host="a.internal") == (None, b"", b"a.internal")


@pytest.mark.parametrize("target", [b"/old/../admin", b"/old/%2e%2e/admin", b"/old//a", b"/old\\a", b"/../old"])
def test_a_path_that_could_leave_the_new_prefix_is_refused(target):
    answer, new_target, _ = rewrite(target, path=PREFIX)
    assert (answer.status, answer.reason, new_target) == (403, "the path is ambiguous", b"")
    assert rewrite(target, path=PathChange(full="/x"))[:2] == (None, b"/x")


def test_a_request_about_the_server_itself_is_not_changed():
    assert rewrite(b"*", b"OPTIONS", path=PathChange(full="/x")) == (None, b"", b"")
    assert rewrite(b"*", b"OPTIONS", path=PathChange(replacement="/x")) == (None, b"", b"")


def test_a_target_that_becomes_too_long_is_refused():
    class ShortExchange(FakeExchange):
        """An exchange that sends no other target."""

        @property
        def new_target(self):
            return b""

        @new_target.setter
        def new_target(self, target):
            if target:
                raise ValueError

    exchange = ShortExchange(target=b"/old")
    answer = RewriteFactory().build_middleware(Rewrite(path=PREFIX), "shop/cart").on_request(exchange)
    assert isinstance(answer, Response)
    assert (answer.status, answer.reason) == (414, "the rewritten target is too long")
