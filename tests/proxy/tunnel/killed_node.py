"""A node in a process of its own, which a test kills: `killed_node.py ROLE FOLDER PORT POD_PORT`."""

import asyncio
import socket
import ssl
import sys
from pathlib import Path

from maesh_core.plugin_system.transports import Delivery, Peer
from maesh_testing import FakeNode


class Rules:
    """Rules that allow everything."""

    def find_identity(self, certificate, address):
        return "other"

    async def judge(self, node, delivery):
        return None

    def judge_again(self, node, delivery):
        return None


class Holder:
    """A protocol that sends half a message, and waits."""

    def connection_made(self, transport):
        transport.write(b"half a message")

    def open_failed(self, failure):
        raise SystemExit(str(failure))

    def data_received(self, data):
        pass

    def eof_received(self):
        return None

    def connection_lost(self, error):
        pass

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass


def build_context(folder, node, *, is_server):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "ca.pem")
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(folder / f"{node}.pem")
    return context


async def main(role, folder, port, pod_port):
    tunnels = FakeNode().build_tunnels(Rules())
    own = "a" if role == "sender" else "b"
    tunnels.use(*(build_context(Path(folder), own, is_server=each) for each in (False, True)))
    if role == "sender":
        peer = Peer("b", ("127.0.0.1",), int(port), "spiffe://cluster.local/maesh/node/b")
        for _ in range(5):
            tunnels.open(peer, Delivery("127.0.0.1", int(pod_port), "ns/web:80"), Holder())
    else:
        sock = socket.create_server(("127.0.0.1", int(port)))
        sock.setblocking(False)
        listener = await tunnels.open_listener(sock, 15008)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        assert listener
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
