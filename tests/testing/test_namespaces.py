"""Networks of namespaces: who reaches whom, and that nothing is left behind."""

import subprocess
import sys

import pytest

from maesh_testing import Upstream
from maesh_testing.commands import Command, build_environment
from maesh_testing.namespaces import NAMES, REQUIRE_VARIABLE, find_obstacle, open_network, require_namespaces

pytestmark = pytest.mark.slow


@pytest.fixture
def network(namespaces):
    with open_network() as network:
        yield network


def serve(pod, text):
    return pod.call(lambda: Upstream(text, 8000, pod.address))


def test_pods_reach_each_other_over_their_nodes_and_the_bridge_sees_it(network):
    a, b = network.add_node("a"), network.add_node("b")
    client, near, far = network.add_pod(a), network.add_pod(a), network.add_pod(b)
    near_server, far_server = serve(near, "near"), serve(far, "far")
    with network.capture() as capture:
        assert client.get(near.address, 8000, "/one").text == "near"
        assert client.get(far.address, 8000, "/two").text == "far"
    assert capture.find(b"GET /one") == []
    (flow,) = capture.find(b"GET /two")
    assert (flow.source, flow.target, flow.target_port) == (client.address, far.address, 8000)
    near_server.close()
    far_server.close()


def test_a_pod_that_moves_keeps_its_address(network):
    a, b = network.add_node("a"), network.add_node("b")
    client, pod = network.add_pod(a), network.add_pod(a)
    server = serve(pod, "here")
    network.place(pod, b)
    late = network.add_node("c")
    with network.capture() as capture:
        assert client.get(pod.address, 8000).text == "here"
        assert late.get(pod.address, 8000).text == "here"
    assert {flow.source for flow in capture.find(b"GET /")} == {client.address, late.address}
    server.close()


def test_isolated_nodes_reach_all_others_but_not_each_other_until_the_network_is_healed(network):
    a, b, c = (network.add_node(name) for name in "abc")
    servers = [node.call(lambda node=node: Upstream(node.node_name, 8000, node.address)) for node in (a, b, c)]
    network.isolate(a, b)
    for source, target in ((a, c), (c, a), (b, c), (c, b)):
        assert source.get(target.address, 8000).text == target.node_name
    for source, target in ((a, b), (b, a)):
        with pytest.raises(TimeoutError):
            source.connect(target.address, 8000, timeout_s=0.2)
    network.heal()
    assert (a.get(b.address, 8000).text, b.get(a.address, 8000).text) == ("b", "a")
    for server in servers:
        server.close()


def test_packets_are_lost_between_nodes_and_not_within_one(network):
    a, b = network.add_node("a"), network.add_node("b")
    client, near, far = network.add_pod(a), network.add_pod(a), network.add_pod(b)
    servers = [serve(near, "near"), serve(far, "far")]
    for server in servers:
        server.body = b"0123456789" * 100_000
        server.headers["Connection"] = "close"  # the server does not wait for the client's end, which may be lost
    try:
        network.lose(0.05)
    except OSError as error:
        pytest.skip(f"this kernel cannot lose packets: {error}")
    with network.capture() as capture:
        assert client.get(far.address, 8000).text == client.get(near.address, 8000).text
    assert capture.count_repeated() > 5
    for server in servers:
        server.close()


def test_a_program_runs_in_the_namespace_with_the_process_id_that_is_known(network, tmp_path):
    node = network.add_node("a")
    program = "import os, socket; print(os.getpid(), [name for _, name in socket.if_nameindex()])"
    command = Command(node.wrap((sys.executable, "-c", program)), tmp_path / "command", build_environment(tmp_path))
    assert command.wait() == 0, command.stderr
    assert command.stdout == f"{command.process.pid} ['lo', 'eth0']\n"


def test_no_namespace_is_left_even_of_a_process_that_was_killed(network):
    program = "from maesh_testing.namespaces import Namespace; print(Namespace('x').name, flush=True)"
    command = [sys.executable, "-c", f"{program}; import os; os.abort()"]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (NAMES / killed.stdout.strip()).exists()
    own = set(NAMES.glob(f"{network.switch.name}*"))
    with open_network() as other:
        names = {path.name for path in NAMES.iterdir()}
        assert other.switch.name in names
        assert killed.stdout.strip() not in names
    assert set(NAMES.glob(f"{network.switch.name}*")) == own
    assert not (NAMES / other.switch.name).exists()


def test_without_the_program_the_reason_is_named(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_obstacle() == "the program `ip` (iproute2) is not installed"


def test_other_users_cannot_make_namespaces(monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert find_obstacle() == "only root can make network namespaces"


@pytest.mark.parametrize(("value", "outcome"), [("", pytest.skip), ("1", pytest.fail)])
def test_a_test_without_namespaces_is_skipped_or_fails_if_they_are_required(monkeypatch, value, outcome):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv(REQUIRE_VARIABLE, value)
    with pytest.raises(outcome.Exception, match="only root can make network namespaces"):
        require_namespaces()
