"""A large cluster from manifests: 5,000 services with 10 servers each, one file a service, as JSON and as YAML.

Measures the time to the first full configuration, in the controller and in the proxy, then how fast one endpoint's
change travels and how much of the configuration it touches, and the memory of both. Gives
benchmarks/results/scale.json and a Markdown table. The servers do not exist: no request is carried.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from processes import (
    ProcessGroup,
    build_controller_command,
    build_proxy_command,
    choose_cores,
    describe_machine,
    fetch,
    find_free_port,
    measure_cpu_s,
    measure_rss_mb,
    stop,
    wait_until,
)

RESULTS = Path(__file__).resolve().parent / "results"


def build_documents(number: int, servers: int, *, first: int = 0) -> list[dict[str, Any]]:
    """Build one service and its slice; `first` shifts the addresses, which is a change of every endpoint."""
    name, namespace = f"service-{number}", f"team-{number % 50}"
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"selector": {"app": name}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]},
    }
    endpoints = [
        {
            "addresses": [f"127.{100 + (index + first) % 100}.{number // 250}.{number % 250}"],
            "conditions": {"ready": True},
            "targetRef": {"kind": "Pod", "name": f"{name}-{index}", "namespace": namespace},
        }
        for index in range(servers)
    ]
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-slice",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
        "endpoints": endpoints,
    }
    return [service, slice_]


def render_file(documents: list[dict[str, Any]], kind: str) -> str:
    """Render documents as one file: a JSON list, or a stream of YAML documents."""
    if kind == "json":
        return json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    return yaml.dump_all(documents, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), sort_keys=False)


class Cluster:
    """A folder of manifests, and a controller and a proxy that read it."""

    def __init__(self, group: ProcessGroup, folder: Path, kind: str, options: argparse.Namespace) -> None:
        self._group, self._kind, self._options = group, kind, options
        self._folder = folder / kind
        self._folder.mkdir()
        self._fresh = folder / "fresh"
        self._ports = {name: find_free_port() for name in ("api", "admin", "http")}
        for number in range(options.services):
            self._write(number, first=0)

    def _write(self, number: int, *, first: int) -> None:
        """Rename a whole file into place, as editors and synchronising tools do."""
        self._fresh.write_text(render_file(build_documents(number, self._options.servers, first=first), self._kind))
        self._fresh.rename(self._folder / f"service-{number}.{self._kind}")

    def measure(self) -> dict[str, Any]:
        """Start both, follow some changes, read the memory, and end both."""
        proxy_core, load_core = choose_cores()
        ports = self._ports
        start = time.perf_counter()
        controller = self._group.start(
            f"controller-{self._kind}",
            build_controller_command(self._folder, api_port=ports["api"], http_port=ports["http"]),
            core=load_core,
        )
        proxy = self._group.start(
            f"proxy-{self._kind}",
            build_proxy_command(api_port=ports["api"], admin_port=ports["admin"]),
            core=proxy_core,
        )
        wait_until(self._is_api_ready, "the controller", timeout_s=120, pause_s=0.02)
        api_ready_s = time.perf_counter() - start
        wait_until(lambda: self._read_status().get("ready", False), "the proxy", timeout_s=60)
        found = {
            "kind": self._kind,
            "api_ready_s": api_ready_s,
            "proxy_ready_s": time.perf_counter() - start,
            "controller_cpu_s": measure_cpu_s(controller.pid),
            "proxy_cpu_s": measure_cpu_s(proxy.pid),
            "services": len(json.loads(fetch(ports["api"], "/api/services")[1])),
            "configuration_bytes": len(fetch(ports["api"], "/api/configuration/current")[1]),
        }
        found["changes"] = list(self._measure_changes())
        found["controller_rss_mb"] = sum(measure_rss_mb(controller.pid).values())
        found["proxy_rss_mb"] = sum(measure_rss_mb(proxy.pid).values())
        stop(proxy)
        stop(controller)
        return found

    def _is_api_ready(self) -> bool:
        return fetch(self._ports["api"], "/api/status/readiness")[0] == 200

    def _read_status(self) -> dict[str, Any]:
        status, body = fetch(self._ports["admin"], "/status")
        found: dict[str, Any] = json.loads(body) if status == 200 else {}
        return found

    def _measure_changes(self) -> Iterator[dict[str, Any]]:
        """Change one file at a time; gives how long until the proxy routes by it, and what the delta held."""
        for number in range(self._options.changes):
            before = self._read_status()["revision"]
            self._write(number, first=1)
            written = time.perf_counter()
            wait_until(lambda before=before: self._read_status()["revision"] != before, "one change")  # type: ignore[misc]
            travelled_ms = (time.perf_counter() - written) * 1000
            delta = json.loads(fetch(self._ports["api"], f"/api/configuration/current?since={before}")[1])
            parts = [part for section in delta.values() if isinstance(section, dict) for part in section.values()]
            yield {"travelled_ms": travelled_ms, "is_full": delta["full"], "objects": sum(len(part) for part in parts)}


def render_table(results: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Render the results as a Markdown table."""
    lines = [
        f"{options.services:,} services with {options.servers} servers each, one file a service.",
        "",
        "| manifests | controller ready | proxy ready | one change, file to routing table: median, worst "
        "| objects touched | controller RSS | proxy RSS |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for found in results:
        travelled = [change["travelled_ms"] for change in found["changes"]]
        objects = max(change["objects"] for change in found["changes"])
        lines.append(
            f"| {found['kind']} | {found['api_ready_s']:.1f} s | {found['proxy_ready_s']:.1f} s "
            f"| {statistics.median(travelled):.0f} ms, {max(travelled):.0f} ms | {objects} "
            f"| {found['controller_rss_mb']:.0f} MB | {found['proxy_rss_mb']:.0f} MB |"
        )
    return "\n".join(lines)


def main() -> int:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--services", type=int, default=5000)
    parser.add_argument("--servers", type=int, default=10, help="servers of each service (default 10)")
    parser.add_argument("--changes", type=int, default=20, help="changes to follow (default 20)")
    parser.add_argument("--kinds", default="json,yaml", help="comma list of json and yaml")
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory(prefix="maesh-scale-") as name, ProcessGroup(Path(name)) as group:
        for kind in options.kinds.split(","):
            print(f"writing {options.services:,} files of {kind}", flush=True)
            cluster = Cluster(group, Path(name), kind, options)
            try:
                results.append(cluster.measure())
            except TimeoutError as error:
                logs = [group.read_log(f"{part}-{kind}")[-2000:] for part in ("controller", "proxy")]
                print(error, *logs, sep="\n", file=sys.stderr)
                return 1
            print({name: value for name, value in results[-1].items() if name != "changes"}, flush=True)
    table = render_table(results, options)
    print(f"\n{table}")
    RESULTS.mkdir(exist_ok=True)
    document = {"machine": describe_machine(), "options": vars(options), "results": results}
    (RESULTS / "scale.json").write_text(json.dumps(document, indent=2))
    (RESULTS / "scale.md").write_text(table + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; everything that was started has ended", file=sys.stderr)
        sys.exit(130)
