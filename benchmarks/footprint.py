"""What a proxy costs a node: memory after 1,000 requests, and the time from start to the first request served.

Takes nothing; gives benchmarks/results/footprint.json and a line of text. The controller is ready before the proxy
starts, so the time holds starting Python, pulling the configuration and opening the entrypoint.
"""

import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from http_vs_peers import ADDRESSES, HOST, build_manifests
from processes import (
    ProcessGroup,
    build_controller_command,
    build_proxy_command,
    describe_machine,
    fetch,
    find_free_port,
    measure_rss_mb,
    stop,
    wait_until,
)

RESULTS = Path(__file__).resolve().parent / "results"
STARTS, REQUESTS = 5, 1000


class HelloHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "6")
        self.end_headers()
        self.wfile.write(b"hello\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
        pass


def start_servers(port: int) -> None:
    """Serve the benchmark's addresses in threads that end with this process."""
    for address in ADDRESSES:
        server = ThreadingHTTPServer((address, port), HelloHandler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()


def send_requests(port: int, count: int) -> None:
    """Send requests one after another over one connection; anything but 200 is an error."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for _ in range(count):
        connection.request("GET", "/", headers={"Host": HOST})
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"status {response.status}")
    connection.close()


def measure_start(group: ProcessGroup, api_port: int, http_port: int) -> dict[str, object]:
    """Start a proxy, time its first answer, send the requests and read its memory."""
    admin_port = find_free_port()
    start = time.perf_counter()
    process = group.start("proxy", build_proxy_command(api_port=api_port, admin_port=admin_port))
    wait_until(lambda: fetch(admin_port, "/ping")[0] == 200, "the proxy's life")
    alive_s = time.perf_counter() - start
    wait_until(lambda: fetch(http_port, host=HOST)[0] == 200, "the first request")
    served_s = time.perf_counter() - start
    send_requests(http_port, REQUESTS)
    rss_mb = measure_rss_mb(process.pid)
    stop(process)
    return {"alive_s": alive_s, "served_s": served_s, "rss_mb": rss_mb}


def main() -> int:
    """Measure a few starts, print and write the results."""
    upstream_port, api_port, http_port = find_free_port(), find_free_port(), find_free_port()
    start_servers(upstream_port)
    with tempfile.TemporaryDirectory(prefix="maesh-footprint-") as name, ProcessGroup(Path(name)) as group:
        manifests = Path(name) / "bench.json"
        manifests.write_text(json.dumps(build_manifests(upstream_port)))
        command = build_controller_command(manifests, api_port=api_port, http_port=http_port)
        group.start("controller", command)
        wait_until(lambda: fetch(api_port, "/api/status/readiness")[0] == 200, "the controller")
        starts = [measure_start(group, api_port, http_port) for _ in range(STARTS)]
    for start in starts:
        print(start)
    served = statistics.median(float(str(start["served_s"])) for start in starts)
    print(f"first request served {served:.2f} s after the start (median of {STARTS})")
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": describe_machine(), "requests": REQUESTS, "starts": starts}
    (RESULTS / "footprint.json").write_text(json.dumps(document, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
