"""How a connection to a server is opened, by mode and node, and how long a failed node is set aside."""

import logging

import pytest

from maesh_core.errors import ServerNotTriedError
from maesh_core.model.transport import ClientEntry
from maesh_core.plugin_system.transports import OpenFailure, RemoteServer
from maesh_core.proxy.transport.paths import Paths, is_about_path, is_about_server

from .fake_transport import FakeTransport

SERVER = RemoteServer("10.0.0.1", 80, "there")


class Clock:
    now = 100.0


def build(*, has_transport=True, node="here", **nodes):
    clock = Clock()
    transport = FakeTransport(**{"there": ("10.9.9.9", 1), **nodes}) if has_transport else None
    return Paths(node, clock, transport, guard_kinds=("acl",), random_share=lambda: 0.5), clock


def read(paths, server=SERVER, mode="permissive"):
    try:
        choice = paths.choose(server, mode)
    except ServerNotTriedError as error:
        return str(error).removeprefix("encryption is required: ") if error.status == 503 else error.status
    assert (choice.path is not None) == (choice.kind == "encrypted")
    return f"{choice.kind}: {choice.reason}"


@pytest.mark.parametrize(
    ("node", "permissive", "strict"),
    [
        ("here", "local: ", "local: "),
        ("there", "encrypted: ", "encrypted: "),
        ("", "clear: unknown node", "the server is on no known node"),
        ("other", "clear: not offered", "the server's node other has no tunnel"),
        ("linked", "clear: not offered", "clear: not offered"),
    ],
)
def test_the_node_and_the_mode_decide(node, permissive, strict):
    paths, _ = build(linked=None)
    server = RemoteServer("10.0.0.1", 80, node)
    assert (read(paths, server), read(paths, server, "strict")) == (permissive, strict)


def test_without_a_transport_only_local_servers_of_strict_services_are_reached():
    paths, _ = build(has_transport=False)
    assert (read(paths), read(paths, mode="strict")) == ("clear: no transport", "this proxy has no transport")
    assert read(paths, RemoteServer("10.0.0.1", 80, "here"), "strict") == "local: "
    assert (paths.collect_metrics(), paths.remote_guard_kinds, paths.node_type) == ((), frozenset(), None)


def test_a_proxy_that_does_not_know_its_node_has_no_local_servers():
    paths, _ = build(node="")
    assert read(paths, RemoteServer("10.0.0.1", 80, ""), "strict") == "the server is on no known node"


def test_an_unknown_mode_is_strict():
    paths, _ = build()
    assert read(paths, RemoteServer("10.0.0.1", 80, ""), "other") == "the server is on no known node"


def test_a_node_that_fails_is_set_aside_for_a_second_that_doubles_up_to_30_seconds(caplog):
    caplog.set_level(logging.WARNING)
    paths, clock = build()
    pauses = []
    for _ in range(8):
        assert read(paths) == "encrypted: "
        paths.note_failure(SERVER, "refused")
        started_at = clock.now
        while not paths.may_try("there"):
            assert read(paths) == "clear: unreachable"
            assert read(paths, mode="strict") == "no tunnel to node there (refused)"
            clock.now += 0.5
        pauses.append(clock.now - started_at)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert [record.getMessage() for record in caplog.records if "no tunnel" in record.getMessage()] == [
        "no tunnel to node there: refused"
    ]


def test_one_connection_tries_a_node_again_and_a_success_ends_the_pause():
    paths, clock = build()
    paths.note_failure(SERVER, "refused")
    clock.now += 1
    assert [read(paths), read(paths)] == ["encrypted: ", "clear: unreachable"]
    paths.note_success(SERVER)
    assert [read(paths), read(paths)] == ["encrypted: ", "encrypted: "]


def test_failures_at_the_same_time_do_not_lengthen_the_pause():
    paths, clock = build()
    for _ in range(5):
        paths.note_failure(SERVER, "refused")
    clock.now += 1
    assert paths.may_try("there")


def test_other_nodes_are_not_affected():
    paths, _ = build(other=("10.9.9.8", 1))
    paths.note_failure(SERVER, "refused")
    assert read(paths, RemoteServer("10.0.0.2", 80, "other")) == "encrypted: "


def test_nodes_are_passed_on_and_reported_to_listeners():
    paths, _ = build()
    calls = []
    paths.add_listener(lambda: calls.append(paths.offers_path(SERVER, "permissive")))
    paths.note_failure(SERVER, "refused")
    paths.apply_nodes({}, {})
    paths.apply_nodes({"there": ("10.9.9.9", 1)}, {})
    assert read(paths) == "encrypted: "  # a node that returns is not set aside any more
    paths.receive(b"x")
    assert (calls, paths.transport.payload) == ([False, True, True], b"x")


def test_a_server_that_is_refused_does_not_keep_connections_in_clear():
    paths, _ = build()
    assert paths.offers_path(RemoteServer("10.0.0.1", 80, "other"), "strict")
    assert not paths.offers_path(RemoteServer("10.0.0.1", 80, "here"), "strict")


def test_a_transport_that_raises_opens_nothing_for_strict_services(caplog):
    paths, _ = build()
    paths.transport.find_path = lambda server, mode: 1 / 0
    assert (read(paths), read(paths, mode="strict")) == ("clear: unreachable", "the transport failed")
    assert paths.offers_path(SERVER, "permissive")
    assert "a transport failed to find a path" in caplog.text


def test_connections_and_bytes_are_counted_by_service_port():
    paths, _ = build()
    for key in ("n/a:80", "n/a:80/branch", "n/a:80/branch/part"):
        paths.count_connection(key, paths.choose(SERVER, "strict"))
        paths.count_bytes(key, paths.choose(SERVER, "strict"), 10)
    connections, requests, octets = paths.collect_metrics()
    assert connections.samples == [(("n/a:80", "encrypted", ""), 3.0)]
    assert requests.samples == []
    assert octets.samples == [(("n/a:80", "encrypted", ""), 30.0)]


@pytest.mark.parametrize(
    ("status", "is_servers_fault", "server", "path"),
    [
        (0, False, False, True),
        (503, False, False, True),
        (500, False, False, True),
        (403, False, False, False),
        (404, False, False, False),
        (502, True, True, False),
        (504, True, True, False),
        (504, False, True, False),
        (0, True, True, False),
    ],
)
def test_a_failure_is_about_the_server_or_the_path_or_neither(status, is_servers_fault, server, path):
    failure = OpenFailure("x", status, is_servers_fault)
    assert (is_about_server(failure), is_about_path(failure)) == (server, path)


@pytest.mark.parametrize(("node", "is_named"), [("here", True), ("there", False), ("", False), (None, False)])
def test_only_a_known_pod_of_this_node_is_named_to_others(node, is_named):
    paths, _ = build()
    paths.clients = {} if node is None else {"10.0.0.9": ClientEntry(node, "web@n")}
    for address in ("10.0.0.9", "::ffff:10.0.0.9"):
        assert paths.name_client(address) == (address if is_named else "")


def test_a_transport_with_an_engine_of_its_own_is_told_to_judge_open_connections_again(caplog):
    paths, _ = build()
    paths.review()  # this transport has no such method
    calls = []
    paths.transport.review = lambda: calls.append("review")
    paths.review()
    assert calls == ["review"]
    paths.transport.review = lambda: 1 / 0
    paths.review()
    assert "failed to judge open connections" in caplog.text
    build(has_transport=False)[0].review()
