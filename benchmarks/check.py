"""How long `maesh check` takes: services with workloads, access rules and routes, one file a service.

Every tenth service has a mistake, so that findings are classified and their lines looked for. Prints the median wall
time and CPU time of whole commands, and the number of findings: of the command as it is, and in turns with all YAML
read by libyaml; otherwise the reader of plain block style reads most of it. Modules have byte code, as pip installs
them: a first run, which is not counted, writes it into a temporary folder.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from scale import render_file

NAMESPACES = 50
MISTAKES = (
    {"maesh.containo.us/retry-atempts": "3"},
    {"maesh.containo.us/retry-attempts": "three"},
    {"maesh.containo.us/81.scheme": "h2c"},
)


def build_documents(number: int) -> list[dict[str, Any]]:
    """Build a service with a workload, an access rule and, for each second one, a route."""
    name, namespace = f"service-{number}", f"team-{number % NAMESPACES}"
    annotations = MISTAKES[number // 10 % len(MISTAKES)] if number % 10 == 0 else {}
    metadata = {"name": name, "namespace": namespace, "annotations": annotations}
    ports = [{"name": "web", "port": 80, "targetPort": 8080}]
    documents = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": name}, "ports": ports},
        },
        _build_deployment(name, namespace),
        _build_target(name, namespace, number),
    ]
    documents += [_build_group(namespace)] if number < NAMESPACES else []
    return [*documents, _build_route(name, namespace)] if number % 2 else documents


def _build_deployment(name: str, namespace: str) -> dict[str, Any]:
    containers = [{"name": "web", "image": f"example/{name}", "ports": [{"containerPort": 8080}]}]
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"serviceAccountName": name, "containers": containers},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}}, "template": template},
    }


def _build_target(name: str, namespace: str, number: int) -> dict[str, Any]:
    client = max(number - NAMESPACES, number % NAMESPACES)
    return {
        "apiVersion": "access.smi-spec.io/v1alpha3",
        "kind": "TrafficTarget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "destination": {"kind": "ServiceAccount", "name": name, "namespace": namespace},
            "sources": [{"kind": "ServiceAccount", "name": f"service-{client}", "namespace": namespace}],
            "rules": [{"kind": "HTTPRouteGroup", "name": "all"}],
        },
    }


def _build_group(namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "specs.smi-spec.io/v1alpha4",
        "kind": "HTTPRouteGroup",
        "metadata": {"name": "all", "namespace": namespace},
        "spec": {"matches": [{"name": "read", "pathRegex": "/.*", "methods": ["GET", "POST"]}]},
    }


def _build_route(name: str, namespace: str) -> dict[str, Any]:
    rules = [
        {
            "matches": [{"path": {"type": "PathPrefix", "value": f"/{word}"}, "method": method}],
            "backendRefs": [{"name": name, "port": 80}],
        }
        for word in ("orders", "carts", "items")
        for method in ("GET", "POST")
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": name, "port": 80}], "rules": rules},
    }


COMMAND = "from maesh_core.cli import main; main()"
ONLY_LIBYAML = """\
from maesh_core.controller.discovery.documents import yaml_documents
yaml_documents.read_block_document = lambda _: None
"""
READERS = {"as it is": "", "only libyaml": ONLY_LIBYAML}


def measure(folder: Path, byte_code: str, reader: str) -> tuple[float, float, int]:
    """Run the command once; return its wall time, its CPU time, and the number of findings."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPYCACHEPREFIX"] = byte_code
    command = [sys.executable, "-c", READERS[reader] + COMMAND, "check", "--acl", "--json", str(folder)]
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    output = subprocess.run(command, check=False, stdout=subprocess.PIPE, env=environment).stdout
    taken, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return taken, cpu, len(json.loads(output)["findings"])


def main() -> None:
    """Write the manifests, and check them several times."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--services", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--kind", choices=("yaml", "json"), default="yaml")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory() as byte_code:
        folder = Path(name)
        for number in range(options.services):
            (folder / f"{number:05}.{options.kind}").write_text(render_file(build_documents(number), options.kind))
        time.sleep(0.1)  # files that have just been written are waited for
        measure(folder, byte_code, next(iter(READERS)))
        rounds = [{name: measure(folder, byte_code, name) for name in READERS} for _ in range(options.runs)]
    for name in READERS:
        wall, cpu = (statistics.median(each[name][index] for each in rounds) for index in (0, 1))
        findings = rounds[0][name][2]
        print(
            f"{options.services} services, {options.kind}, {name}: {wall:.2f} s, {cpu:.2f} s CPU, {findings} findings"
        )


if __name__ == "__main__":
    main()
