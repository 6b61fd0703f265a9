"""Refused routers, sorted for the status and told to the log."""

import logging

import pytest

from maesh_core.proxy.routing.refusals import RefusedRouter, log_refused, sort_refused


def test_refused_routers_are_sorted_by_path() -> None:
    assert sort_refused({"b": "why", "a": "else"}) == [RefusedRouter("a", "else"), RefusedRouter("b", "why")]


def test_a_reason_is_logged_once_however_many_routers_it_has(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    first = {f"http/routers/{key}": "service gone is not in the configuration" for key in "cab"}
    log_refused({}, first)
    log_refused(first, {**first, "http/routers/d": "service gone is not in the configuration"})
    assert [record.getMessage() for record in caplog.records] == [
        "refused http/routers/a (3 routers): service gone is not in the configuration"
    ]


def test_a_reason_that_is_gone_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    log_refused({"a": "x", "b": "x", "c": "y"}, {"c": "y"})
    assert caplog.messages == ["no router is refused any more because: x"]
