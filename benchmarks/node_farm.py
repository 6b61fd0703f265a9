"""Many nodes in one process, each with an address, a certificate and a listener: `node_farm.py FOLDER PORT`.

Takes lines of `ADDRESS FILE` on standard input, where FILE has a node's key and certificate, and FOLDER/ca.pem the
authority; prints a line when all listen. The nodes use the proxy's own engine, and deliver everything.
"""

import asyncio
import socket
import ssl
import sys
from pathlib import Path

from maesh_core.plugin_system.transports import Delivery, DeliveryVerdict
from maesh_testing import FakeNode

SENDER = "node-0"


class AllowingRules:
    """Rules that allow every node and every delivery."""

    def find_identity(self, certificate: object, address: str) -> str:
        return SENDER

    async def judge(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        return None

    def judge_again(self, node: str, delivery: Delivery) -> DeliveryVerdict:
        return None


def build_context(role: int, folder: Path, file: str) -> ssl.SSLContext:
    """Build the context of one node and role."""
    context = ssl.SSLContext(role)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["h2"])
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(file)
    return context


async def main(folder: Path, port: int) -> None:
    """Listen until standard input ends."""
    kept = []
    for line in sys.stdin:
        address, file = line.split()
        tunnels = FakeNode().build_tunnels(AllowingRules())
        tunnels.use(*(build_context(role, folder, file) for role in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER)))
        sock = socket.create_server((address, port))
        sock.settimeout(0)
        kept.append((tunnels, await tunnels.open_listener(sock, port)))
    print(f"{len(kept)} nodes listen", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
