"""Kinds that the API server does not serve, serves later, or serves in another version."""

import pytest

from maesh_core.controller.discovery.kubernetes.watch import (
    ABSENT_S,
    find_path,
)
from maesh_core.errors import KubernetesError
from maesh_core.model.events import Replaced
from maesh_core.model.resources import EndpointSlice
from maesh_core.process.backoff import FIRST_S

from .watch_script import (
    ACCOUNTS,
    ADDED,
    HALF,
    SLICES,
    STAYS,
    After,
    Clock,
    Server,
    bad,
    play,
    refuse,
    render_document,
    render_page,
)

NOTHING = render_document("pods")
SERVES = render_document("serviceaccounts", "serviceaccounts/token")
NOT_FOUND = refuse(404, "NotFound")


async def test_a_kind_that_is_not_served_is_an_empty_list_until_it_appears():
    played = await play(NOTHING, NOT_FOUND, NOTHING, SERVES, render_page("5", "a"), [STAYS], document=False)
    assert played.events == ["=", "~", "=a"]
    assert played.pauses == [ABSENT_S] * 3
    assert played.touch == [None] * 3


async def test_a_kind_that_vanishes_is_an_empty_list_again():
    played = await play(
        render_page("5", "a", bad("b")),
        [After(60, [ADDED])],
        NOT_FOUND,
        NOTHING,
        SERVES,
        render_page("1", "c"),
        [STAYS],
    )
    assert played.events == ["=a", "!b@apps", "~", "~b@apps", "+b", "!", "=", "~", "=c"]
    assert played.problems == {}
    assert played.pauses == [FIRST_S * HALF, ABSENT_S]


async def test_a_bad_object_of_a_kind_that_vanishes_is_no_problem_any_more():
    played = await play(render_page("5", bad("b")), [After(60)], NOT_FOUND, NOTHING)
    assert played.events == ["=", "!b@apps", "~", "!", "=", "~b@apps", "~"]
    assert played.problems == {}


async def test_a_failure_while_a_kind_is_absent_is_withdrawn_when_the_server_answers():
    played = await play(NOTHING, refuse(503), NOTHING, document=False)
    assert played.events == ["=", "~", "!", "~"]
    assert played.watch.broken_since is None


async def test_a_kind_is_followed_in_the_first_version_that_the_server_serves():
    played = await play(
        NOT_FOUND,
        render_document("endpointslices"),
        render_page("5"),
        [STAYS],
        kind=SLICES,
        document=False,
    )
    assert [path for path, _ in played.server.calls] == [
        "/apis/discovery.k8s.io/v1",
        "/apis/discovery.k8s.io/v1beta1",
        *["/apis/discovery.k8s.io/v1beta1/endpointslices"] * 2,
    ]
    assert played.batches[0] == [Replaced(EndpointSlice, [])]


async def test_a_version_that_is_no_longer_served_is_replaced_by_another():
    document = render_document("endpointslices")
    played = await play(
        *(document, render_page("5"), [After(60)], NOT_FOUND),
        *(NOT_FOUND, document, render_page("9"), [STAYS]),
        kind=SLICES,
        document=False,
    )
    assert played.server.calls[-1][0] == "/apis/discovery.k8s.io/v1beta1/endpointslices"


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"resources":7}', b"[" * 100_000])
async def test_an_invalid_discovery_document_is_an_error_and_not_an_absent_kind(body):
    server = Server([body], Clock())
    with pytest.raises(KubernetesError, match="list of its resources is malformed"):
        await find_path(server, ACCOUNTS)


async def test_an_empty_discovery_document_means_that_the_kind_is_absent():
    server = Server([b'{"resources":null}'], Clock())
    assert await find_path(server, ACCOUNTS) is None
