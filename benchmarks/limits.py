"""A rate limit under ten times its load, over two workers: how many requests it lets through.

Every client is the same one to the limit, and its connections are spread over the workers. Takes options; prints what
the servers saw beside average x time + burst, and ends with 1 where they differ by more than 2 %. Everything it starts
ends with it.
"""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from processes import ProcessGroup, describe_machine, fetch, find_free_port, run_to_end, wait_until
from proxies import HOST, Site, build_controller_command, build_manifests, build_proxy_command

REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
CONNECTIONS = 64
TOLERANCE = 0.02


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--average", type=int, default=300, help="requests a second that the limit allows")
    parser.add_argument("--burst", type=int, default=300)
    parser.add_argument("--times", type=int, default=10, help="how many times the average is offered")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def start_mesh(site: Site, options: argparse.Namespace) -> int:
    """Start a controller and a proxy with a limited service; return the proxy's port."""
    folder = site.folder / "manifests"
    folder.mkdir()
    document = build_manifests(site.upstream_port)
    limit = {"ratelimit-average": str(options.average), "ratelimit-burst": str(options.burst)}
    for item in document["items"]:  # type: ignore[attr-defined]
        if item["kind"] == "Service" and f"{item['metadata']['name']}.{item['metadata']['namespace']}.maesh" == HOST:
            item["metadata"]["annotations"] = {f"maesh.containo.us/{name}": text for name, text in limit.items()}
    (folder / "bench.json").write_text(json.dumps(document))
    api_port, admin_port, port = (find_free_port() for _ in range(3))
    site.group.start("controller", build_controller_command(folder, api_port=api_port, http_port=port))
    wait_until(lambda: fetch(api_port, "/api/status/readiness")[0] == 200, "the controller")
    command = build_proxy_command(api_port=api_port, admin_port=admin_port, workers=options.workers)
    site.group.start("proxy", command)
    wait_until(lambda: fetch(admin_port, "/ready")[0] == 200, "the proxy")
    return port


async def ask(port: int, begin: float, interval_s: float, end: float, counts: dict[int, int]) -> None:
    """Send a request in every interval on one connection, whether or not it is late, and count the statuses."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    due = begin
    while due < end:
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        writer.write(REQUEST)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
        await reader.readexactly(length)
        status = int(head.split(b" ", 2)[1])
        counts[status] = counts.get(status, 0) + 1
        due += interval_s
    writer.close()


async def offer(port: int, options: argparse.Namespace) -> tuple[dict[int, int], float]:
    """Offer the load; return how often each status came, and how long it took."""
    counts: dict[int, int] = {}
    interval_s = CONNECTIONS / (options.average * options.times)
    begin = time.monotonic()
    end = begin + options.seconds
    starts = [begin + interval_s * number / CONNECTIONS for number in range(CONNECTIONS)]
    await asyncio.gather(*(ask(port, start, interval_s, end, counts) for start in starts))
    return counts, time.monotonic() - begin


def main() -> int:
    """Offer, count, judge."""
    options = parse_options()
    if not shutil.which("nginx"):
        print("nginx is not installed, and it is the server that is asked.", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="maesh-limits-") as name, ProcessGroup(Path(name)) as group:
        site = Site(group, Path(name))
        site.start_upstream()
        port = start_mesh(site, options)
        counts, duration_s = asyncio.run(offer(port, options))
    allowed = options.average * duration_s + options.burst
    admitted = counts.get(200, 0)
    print(
        f"{sum(counts.values()):,} requests in {duration_s:.2f} s over {options.workers} workers: {counts}\n"
        f"admitted {admitted:,} of {allowed:,.0f} allowed, {admitted / allowed - 1:+.2%}",
        *(f"{key} {value}" for key, value in describe_machine().items()),
        sep="\n",
    )
    return 0 if abs(admitted / allowed - 1) <= TOLERANCE and set(counts) <= {200, 429} else 1


if __name__ == "__main__":
    run_to_end(main)
