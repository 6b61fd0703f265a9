"""What bodies hold, so that a sample can be compared, and the server that tells what arrived.

Gives files for the servers to serve, the same bytes each time, and a small HTTP server in threads of this process whose
answer is the digest of the body it was sent and the headers that came with it.
"""

import hashlib
import http.client
import json
import random
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CHECK_PORT_NAME = "CHECK_PORT"
SIZES = {"/4k": 4096, "/1m": 1024 * 1024}
FORWARDED = (*(f"x-forwarded-{name}" for name in ("for", "host", "port", "proto", "server")), "x-real-ip")


class BodyFiles:
    """The files that the servers serve."""

    @staticmethod
    def build(target: str) -> bytes:
        """Build the content of one file: noise, so that nothing lost or moved goes unseen."""
        return random.Random(target).randbytes(SIZES[target])

    @staticmethod
    def write(folder: Path) -> None:
        """Write all files."""
        folder.mkdir()
        for target in SIZES:
            (folder / target[1:]).write_bytes(BodyFiles.build(target))


class CheckHandler(BaseHTTPRequestHandler):
    """Answers with what came in."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        found = {
            "digest": hashlib.sha256(body).hexdigest(),
            "headers": {name.lower(): value for name, value in self.headers.items()},
        }
        answer = json.dumps(found).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


class CheckServer:
    """The server of samples, in threads that end with this process."""

    def __init__(self) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), CheckHandler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Answer from now on."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()


def take_sample(port: int, host: str, *, method: str, target: str, length: int) -> list[str]:
    """Send one request through a proxy and compare what it carried; return what is wrong."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        if method == "POST":
            return _check_upload(connection, host, random.Random(length).randbytes(length))
        connection.request("GET", target, headers={"Host": host})
        response = connection.getresponse()
        body = response.read()
        wanted = BodyFiles.build(target) if target in SIZES else b"a server says hello\n"
        return [] if (response.status, body) == (200, wanted) else [f"{target}: {response.status}, not the body sent"]
    except (OSError, http.client.HTTPException) as error:
        return [f"{target}: {error!r}"]
    finally:
        connection.close()


def _check_upload(connection: http.client.HTTPConnection, host: str, body: bytes) -> list[str]:
    connection.request("POST", "/check", body, headers={"Host": host})
    response = connection.getresponse()
    answer = response.read()
    if response.status != 200 or json.loads(answer)["digest"] != hashlib.sha256(body).hexdigest():
        return [f"a body of {len(body)} bytes sent: {response.status}, not the body that arrived"]
    return []


def check_headers(port: int, host: str, *, is_stamped: bool) -> list[str]:
    """Compare which headers a proxy adds with those that all are to add; return what is missing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/check", b"x", headers={"Host": host})
        response = connection.getresponse()
        found: dict[str, Any] = json.loads(response.read())
    except (OSError, ValueError, http.client.HTTPException) as error:
        return [f"no answer: {error!r}"]
    finally:
        connection.close()
    missing = [name for name in FORWARDED if name not in found["headers"]]
    if is_stamped and found["headers"].get("x-team") != "payments":
        missing.append("x-team to the server")
    if is_stamped and response.headers.get_all("X-Team") != ["payments"]:
        missing.append("x-team to the client")
    return missing
