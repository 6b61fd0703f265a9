"""Nodes that are killed: no stream looks as if it had ended in good order."""

import asyncio
import sys
from pathlib import Path

import pytest

from maesh_testing import find_free_port

from .conftest import Recorder, build_delivery, wait_until
from .node_certificates import build_identity

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("killed_node.py")


@pytest.fixture
async def start(authority, tmp_path):
    """Start a node in a process of its own."""
    started = []
    (tmp_path / "ca.pem").write_text(authority.pem)
    for node in ("a", "b"):
        authority.write(tmp_path / f"{node}.pem", [build_identity(node)])

    async def start_one(role, port, pod_port=0):
        process = await asyncio.create_subprocess_exec(
            sys.executable, PROGRAM, role, tmp_path, str(port), str(pod_port), stdout=asyncio.subprocess.PIPE
        )
        started.append(process)
        return process

    yield start_one
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_a_killed_sender_resets_every_pod(start, receiver, pod):
    process = await start("sender", receiver.port, pod.port)
    accepted = [await pod.accept() for _ in range(5)]
    loop = asyncio.get_running_loop()
    for each in accepted:
        assert await loop.sock_recv(each, 100) == b"half a message"
    process.kill()
    for each in accepted:
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(each, 100)
    await wait_until(receiver.tunnels.is_drained)
    assert receiver.count("tunnel_streams", role="incoming") == 0


async def test_a_killed_receiver_resets_every_stream(start, sender, receiver, pod):
    port = find_free_port()
    process = await start("receiver", port)
    await process.stdout.readline()
    protocols = [Recorder() for _ in range(5)]
    for protocol in protocols:
        sender.tunnels.open(receiver.peer._replace(port=port), build_delivery(pod.port), protocol)
    accepted = [await pod.accept() for _ in protocols]
    for protocol in protocols:
        await wait_until(protocol.seen.is_set)
    for each in accepted:
        await asyncio.get_running_loop().sock_sendall(each, b"half a message")
    for protocol in protocols:
        await wait_until(lambda protocol=protocol: protocol.data == b"half a message")
    process.kill()
    for protocol in protocols:
        await wait_until(lambda protocol=protocol: protocol.lost)
        assert isinstance(protocol.lost[0], ConnectionError)
        assert not protocol.has_ended
    assert sender.count("tunnels", role="outgoing") == 0
