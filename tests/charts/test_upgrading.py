"""The procedures of charts/README.md for encryption: no request fails while it is enabled, made strict and disabled."""

import contextlib

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]

WITHOUT = {"mtls": {"enabled": False}}
OPEN = {"adminOpen": ["/metrics", "/configuration"]}


@pytest.fixture
def cluster(small_cluster, api_server, render, permissions, start_maesh, tmp_path):
    with contextlib.closing(small_cluster(api_server, render, permissions, start_maesh, tmp_path)) as found:
        yield found


def test_an_upgrade_without_encryption_fails_no_request(cluster, start_upstream):
    blue, green = start_upstream("blue", "127.0.41.201"), start_upstream("green", "127.0.41.202")
    cluster.serve(blue)
    cluster.upgrade(WITHOUT)
    cluster.start_load()
    cluster.upgrade({**WITHOUT, "logLevel": "info"})
    cluster.serve(green)
    cluster.load.wait_until_seen("green")
    assert cluster.load.failures == []


def test_encryption_is_enabled_made_strict_and_disabled_under_load_without_a_failed_request(cluster, start_upstream):
    blue, green = start_upstream("blue", "127.0.41.201"), start_upstream("green", "127.0.41.202")
    turn = iter([green, blue] * 20)

    def follow_a_change():
        """Replace the only pod of the service. Proxies that cannot pull would not learn of it, and fail requests."""
        upstream = next(turn)
        cluster.serve(upstream)
        cluster.load.wait_until_seen(upstream.name)
        cluster.load.wait_for_more()

    def upgrade(**values):
        cluster.upgrade({"mtls": {"port": cluster.tunnel_port, **OPEN, **values}}, between=follow_a_change)
        follow_a_change()

    cluster.serve(blue)
    cluster.upgrade(WITHOUT)
    cluster.start_load()
    follow_a_change()

    # Enabling: the old proxies still pull in clear.
    upgrade(enabled=True, apiClear=True)
    cluster.wait_for_mode("permissive")
    cluster.wait_for_encrypted()
    assert {each.ask("/api/services")[0] for each in cluster.controllers} == {200}
    upgrade(enabled=True)

    cluster.wait_for_encrypted()
    assert {each.ask("/api/services")[0] for each in cluster.controllers} == {426}
    assert {each.ask("/metrics")[0] for each in cluster.controllers} == {200}
    assert {each.ask("/status")[0] for each in cluster.proxies} == {426}

    # Strict, first for a namespace, then for all.
    clear = cluster.read_connections("clear")
    cluster.set_mode_of_namespace("strict")
    follow_a_change()
    upgrade(enabled=True, mode="strict")
    assert cluster.read_connections("clear") == clear
    upgrade(enabled=True, mode="permissive")
    cluster.set_mode_of_namespace(None)

    # Disabling: the proxies first.
    upgrade(enabled=True, apiClear=True, proxies=False)
    assert cluster.read_connections("encrypted") == 0
    upgrade(enabled=False)
    assert cluster.load.failures == []
    assert cluster.list_refused_calls() == []
