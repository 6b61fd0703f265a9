"""The server's own life: start, stop, being down; the tests of what it answers are in its neighbours."""

import json
import threading
import urllib.error
import urllib.request

import pytest

from maesh_testing.api_server import ApiServer, Fault, FaultKind
from maesh_testing.commands import wait_until

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"a": "1"}}


def get(server, path):
    request = urllib.request.Request(server.url + path, headers={"Authorization": f"Bearer {server.token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_it_leaves_no_thread_behind():
    before = threading.active_count()
    with ApiServer() as server:
        assert get(server, "/version")["major"] == "1"
    assert threading.active_count() == before


def test_a_server_that_hangs_can_be_stopped():
    def call():
        with pytest.raises(OSError):
            get(server, "/version")

    with ApiServer() as server:
        server.add_fault(FaultKind.HANG)
        caller = threading.Thread(target=call)
        caller.start()
        wait_until(lambda: server.calls, "the call has arrived")
    caller.join(60)
    assert not caller.is_alive()


def test_a_server_that_is_down_refuses_connections_and_comes_back_with_its_objects(api_server):
    api_server.apply(CONFIG_MAP)
    api_server.stop_listening()
    with pytest.raises(urllib.error.URLError, match="refused"):
        get(api_server, "/version")
    api_server.resume()
    assert get(api_server, "/api/v1/namespaces/default/configmaps/settings")["data"] == {"a": "1"}


def test_a_fault_befalls_the_calls_that_it_names_as_often_as_it_says():
    fault = Fault(kind=FaultKind.STATUS, verb="get", resource="pods*", name="a-?", count=2)
    assert (fault.hits, fault.count) == (0, 2)
    with ApiServer() as server:
        for path in ("/api/v1/nodes", "/api/v1/namespaces"):
            kind = server.add_fault(FaultKind.STATUS, verb="list", resource=path.rpartition("/")[2], status=503)
            with pytest.raises(urllib.error.HTTPError, match="503"):
                get(server, path)
            assert get(server, path)["items"] is not None
            assert kind.hits == 1
