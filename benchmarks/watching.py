"""Watches a proxy while it is measured: as Prometheus and a page do each second, or with a tap.

    watching.py scrape PORT    reads /metrics and /traffic of the admin port each second: a controller asks for the
                               latter while the page is open
    watching.py tap PORT       has a tap open, and reads it
    watching.py tap-left PORT  opens a tap, reads its first records, and leaves

Ends with the benchmark that starts it.
"""

import http.client
import sys
import time

INTERVAL_S = 1.0
READ_BYTES = 65536
PAGES: tuple[tuple[str, dict[str, str]], ...] = (
    ("/metrics", {"Accept": "application/openmetrics-text;version=1.0.0", "Accept-Encoding": "gzip"}),
    ("/traffic", {}),
)


def main(kind: str, port: int) -> None:
    """Wait until the proxy answers, and watch it."""
    while not is_ready(port):
        time.sleep(0.1)
    if kind == "scrape":
        scrape(port)
    else:
        tap(port, is_left=kind == "tap-left")


def is_ready(port: int) -> bool:
    """Return whether the admin port answers."""
    try:
        return open_page(port, "/ready", {}).status == 200
    except OSError:
        return False


def open_page(port: int, path: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Ask for a page on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path, headers=headers)
    return connection.getresponse()


def scrape(port: int) -> None:
    """Read the pages each second, whatever time that takes."""
    due = time.monotonic()
    while True:
        for path, headers in PAGES:
            with open_page(port, path, headers) as response:
                if response.status != 200:
                    raise SystemExit(f"{path}: {response.status}")
                response.read()
        due = max(due + INTERVAL_S, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def tap(port: int, *, is_left: bool) -> None:
    """Read the records of a tap, to its end or only the first ones."""
    with open_page(port, "/tap", {}) as response:
        if response.status != 200:
            raise SystemExit(f"/tap: {response.status}")
        while response.read1(READ_BYTES) and not is_left:
            pass


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
