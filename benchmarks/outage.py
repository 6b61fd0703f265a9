"""An API server that is away for a minute, under load and while objects change: what clients notice, and what follows.

A service's servers change while it is away, services come and go, and its history is compacted, so that every watch
must list all objects again. Returns the requests that failed, how long after its return everything was in force, and
benchmarks/results/outage.json; the status is 1 if a request failed. Everything it starts ends with it.
"""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from cluster_objects import build_service, build_shadow, build_slice, name_service
from processes import ProcessGroup, describe_machine, fetch, find_free_port, run_to_end, stop, wait_until
from proxies import build_controller_command, build_proxy_command

from maesh_testing.api_server import ApiServer
from maesh_testing.upstream import Upstream

RESULTS = Path(__file__).resolve().parent / "results"
SERVICES = 200
CLIENTS = 4
PORT = 8080
Object = dict[str, Any]


class Clients:
    """Send one request after another to service 0, and keep what fails."""

    def __init__(self, port: int) -> None:
        self.count = 0
        self.failures: list[str] = []
        self.seen: dict[str, float] = {}
        self._port = port
        self._is_over = False
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()

    def _send(self) -> None:
        name, namespace = name_service(0)
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        while not self._is_over:
            try:
                connection.request("GET", "/", headers={"Host": f"{name}.{namespace}.maesh"})
                response = connection.getresponse()
                body = response.read().decode()
                if response.status == 200:
                    self.seen.setdefault(body, time.perf_counter())
                else:
                    self.failures.append(f"{response.status} {body}")
            except (OSError, HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                connection.close()
            self.count += 1


def complete(kind: str, api_version: str, found: Object) -> Object:
    """Make an object of a list one that stands alone, and leave to the server what it fills in."""
    metadata = {key: found["metadata"][key] for key in ("name", "namespace", "labels")}
    spec = {key: found["spec"][key] for key in ("ports", "selector")} if "spec" in found else None
    rest: Object = {key: found[key] for key in ("addressType", "endpoints", "ports") if key in found}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **rest, **({"spec": spec} if spec else {})}


def build_objects(number: int, *, first: int = 0) -> list[Object]:
    """Build a service and its slice, whose one server `first` chooses."""
    return [
        complete("Service", "v1", build_service(number)),
        complete("EndpointSlice", "discovery.k8s.io/v1", build_slice(number, 1, first=first)),
    ]


def find_shadows(server: ApiServer) -> set[str]:
    """Name the shadow services."""
    return {found["metadata"]["name"] for found in server.list("services", "maesh")}


def name_shadow(number: int) -> str:
    """Name the shadow service of a service."""
    name: str = build_shadow(number, entrypoint=1)["metadata"]["name"]
    return name


def measure(server: ApiServer, group: ProcessGroup, folder: Path, seconds: float) -> Object:
    """Start both halves, take the server away, change what it holds, bring it back, and see what followed."""
    servers = [Upstream(name, PORT, f"127.{100 + place}.0.0") for place, name in enumerate(("old", "new"))]
    namespaces = ["maesh", *sorted({name_service(number)[1] for number in range(SERVICES)})]
    server.apply([{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in namespaces])
    server.apply([each for number in range(SERVICES) for each in build_objects(number)])
    api_port, http_port, admin_port = find_free_port(), find_free_port(), find_free_port()
    command = build_controller_command(
        server.write_kubeconfig(folder / "kubeconfig"), api_port=api_port, http_port=http_port
    )
    controller = group.start("controller", [*command[:-1], "--kubeconfig", command[-1]])
    proxy = group.start("proxy", build_proxy_command(api_port=api_port, admin_port=admin_port))
    wait_until(lambda: fetch(admin_port, "/ready")[0] == 200, "the proxy")
    wait_until(lambda: len(find_shadows(server)) == SERVICES, "the shadow services")
    clients = Clients(http_port)
    wait_until(lambda: "old" in clients.seen, "a request")
    server.stop_listening()
    gone_at = time.perf_counter()
    server.apply(build_objects(0, first=1)[1])
    server.delete("services", name_service(1)[0], name_service(1)[1])
    server.apply(build_objects(SERVICES))
    server.compact()
    time.sleep(seconds)
    requests_away = clients.count
    server.resume()
    back_at = time.perf_counter()
    wait_until(lambda: "new" in clients.seen, "the server of before to be replaced", timeout_s=60)
    wanted = {name_shadow(number) for number in (0, *range(2, SERVICES + 1))}
    settled_s = wait_until(lambda: find_shadows(server) == wanted, "the shadow services", timeout_s=60)
    clients.stop()
    stop(proxy)
    stop(controller)
    for each in servers:
        each.close()
    return {
        "away_s": back_at - gone_at,
        "requests": clients.count,
        "requests_away": requests_away,
        "failures": clients.failures[:20],
        "failed": len(clients.failures),
        "routed_after_s": clients.seen["new"] - back_at,
        "settled_after_s": max(clients.seen["new"] - back_at, settled_s),
    }


def main() -> int:
    """Measure once; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="how long it is away (default 60)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="maesh-outage-"))
    try:
        with ApiServer() as server, ProcessGroup(folder) as group:
            found = measure(server, group, folder, options.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "outage.json").write_text(json.dumps({"machine": describe_machine(), **found}, indent=2) + "\n")
    print(
        f"away for {found['away_s']:.0f} s: {found['requests_away']:,} requests meanwhile, {found['failed']} of"
        f" {found['requests']:,} failed; routed anew {found['routed_after_s']:.1f} s after its return"
    )
    for failure in found["failures"]:
        print(f"  {failure}", file=sys.stderr)
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    run_to_end(main)
