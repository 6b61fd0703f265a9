"""A real redis-server for tests: on a free port of loopback, with or without a password, TLS and a persistent state."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

from maesh_testing import find_free_port
from maesh_testing.commands import suspend

SERVER = shutil.which("redis-server") or shutil.which("valkey-server") or ""


class RedisServer:
    """A server that can be killed, started again, and stopped. With a `node` it runs there, for all other nodes."""

    def __init__(self, folder, *options, has_tls=False, node=None):
        self._node, self.address = node, node.address if node else "127.0.0.1"
        self.port = find_free_port()
        self._folder, self._options, self._process = folder, options, None
        self._ports = ["--port", "0", "--tls-port", self.port] if has_tls else ["--port", self.port]

    @property
    def url(self):
        return f"redis://{self.address}:{self.port}/0"

    def start(self):
        """Start it, and wait until it accepts connections."""
        command = [SERVER, *self._ports, "--bind", self.address, "--save", "", "--dir", self._folder]
        if self._node:
            command = [*self._node.wrap(command), "--protected-mode", "no"]
        self._process = subprocess.Popen(
            [*map(str, command), *map(str, self._options)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(1000):
            with contextlib.suppress(OSError), self._connect():
                return self
            assert self._process.poll() is None, "redis-server has ended"
            time.sleep(0.02)
        raise AssertionError("redis-server does not accept connections")

    def _connect(self):
        if self._node:
            return self._node.connect(self.address, self.port, timeout_s=1)
        return socket.create_connection((self.address, self.port), 1)

    def freeze(self):
        """Let connections stay open, and nothing be answered."""
        suspend(self._process.pid)

    def thaw(self):
        """Let it answer again."""
        os.kill(self._process.pid, signal.SIGCONT)

    def kill(self):
        """End it at once, with its state."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def run_redis(folder, *options, has_tls=False, node=None):
    """Run a server while the block runs."""
    server = RedisServer(folder, *options, has_tls=has_tls, node=node)
    try:
        yield server.start()
    finally:
        server.kill()
