"""A machine between two nodes, which records what passes, repeats it, or cuts it off."""

import contextlib
import socket
import threading


class HostileRelay:
    """Accepts connections for tunnels in a namespace, and connects to a node for each.

    `cut_after` is how many bytes of a receiver pass on a connection before both sides are ended with FIN, and
    `repeat_after` before the last bytes are sent a second time. `recorded` has the sender's bytes of each connection.
    """

    def __init__(self, namespace, target, port):
        self.cut_after = self.repeat_after = 0
        self.recorded = []
        self.is_cut = threading.Event()
        self._namespace, self._target = namespace, (target, port)
        self._sockets, self._threads = [], []
        self._listening = namespace.call(lambda: socket.create_server((namespace.address, port)))
        self._sockets.append(self._listening)
        self._start(self._accept)

    def _start(self, work, *arguments):
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = self._namespace.connect(*self._target)
            except OSError:
                client.close()
                continue
            self._sockets += [client, server]
            self.recorded.append(bytearray())
            self._start(self._pump_requests, client, server, self.recorded[-1])
            self._start(self._pump_responses, server, client)

    def _pump_requests(self, client, server, record):
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                record += data
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _pump_responses(self, server, client):
        passed = 0
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if 0 < self.cut_after <= passed + len(data):
                    client.sendall(data[: self.cut_after - passed])
                    self.is_cut.set()
                    break
                passed += len(data)
                client.sendall(data)
                if 0 < self.repeat_after <= passed:
                    self.repeat_after = 0
                    client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            server.shutdown(socket.SHUT_WR)

    def close(self):
        """End all connections."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        for sock in self._sockets:
            sock.close()
