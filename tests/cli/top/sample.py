"""A report as a controller sends it, with one failing service among ten, and a server for it."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import msgspec

from maesh_core.model.traffic import (
    BranchTraffic,
    EdgeTraffic,
    Latency,
    NodeTraffic,
    ServerTraffic,
    ServiceTraffic,
    TrafficReport,
    Window,
)


def build_window(rate=10.0, success=1.0, **changes):
    requests = int(rate * 60)
    failed = round(requests * (1 - success))
    fields = {
        "seconds": 60.0,
        "requests": requests,
        "rate": rate,
        "success": success,
        "codes": {code: count for code, count in (("2xx", requests - failed), ("5xx", failed)) if count},
        "total": Latency(p50=0.0021, p95=0.012, p99=0.034),
        "upstream": Latency(p50=0.0019, p95=0.011, p99=0.031),
        "received_bytes": 12_000,
        "sent_bytes": 3_400_000,
        **changes,
    }
    return Window(**fields)


def build_service(name, namespace="shop", port="80", window=None, **changes):
    window = build_window() if window is None else window
    key = f"{namespace}/{name}:{port}"
    fields = {"key": key, "namespace": namespace, "name": name, "port": port, "traffic_type": "http", **changes}
    return ServiceTraffic(last=window, total=window, **fields)


def build_failing():
    window = build_window(40.0, 0.8, retries=120, limited=3, denied=7, reasons={"no server answered": 480, "denied": 7})
    return build_service(
        "checkout",
        window=window,
        branches=(
            BranchTraffic(destination="shop/checkout-v1:80", weight=0.9, last=build_window(38.0), total=window),
            BranchTraffic(destination="shop/checkout-v2:80", weight=0.1, last=build_window(2.0, 0.0), total=window),
        ),
        servers=(
            ServerTraffic(server="10.0.0.1:80", pod="shop/checkout-1", node="node-1", last=build_window(38.0)),
            ServerTraffic(server="10.0.0.2:80", pod="shop/checkout-2", last=build_window(2.0, 0.0), is_set_aside=True),
        ),
        callers=(
            EdgeTraffic(caller="Deployment/web@shop", account="web@shop", service="shop/checkout:80", last=window),
            EdgeTraffic(caller="other", service="shop/checkout:80", last=build_window(1.0, denied=7)),
        ),
        open_breakers=1,
        errors=("the annotation maesh.io/retry-attempts is not a number: many",),
        notices=("the annotation maesh.io/blue has no effect",),
    )


def build_report(*services, **changes):
    usual = (
        build_failing(),
        *(build_service(f"quiet-{number}", window=build_window(float(number))) for number in range(1, 7)),
        build_service("idle", window=Window(seconds=60.0)),
        build_service("limited", window=build_window(5.0, limited=9)),
        build_service("db", port="5432", traffic_type="tcp", window=Window(seconds=60.0, connections=120)),
    )
    fields = {
        "at": "2026-01-01T00:00:00Z",
        "interval_s": 60.0,
        "nodes": (NodeTraffic(name="node-1", revision="e.1"), NodeTraffic(name="node-2", revision="e.1")),
        "services": services or usual,
        **changes,
    }
    return TrafficReport(**fields)


class TrafficServer:
    """Serves `report` at /api/traffic as a controller does; a `report` of None is answered with 503."""

    def __init__(self, report, port=0):
        self.report = report
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                is_found = self.path.partition("?")[0] == "/api/traffic"
                body = b"not ready\n" if owner.report is None else msgspec.json.encode(owner.report)
                self.send_response(404 if not is_found else 503 if owner.report is None else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
