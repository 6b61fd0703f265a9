"""A Prometheus as a process that scrapes programs of this machine, and the queries of Grafana dashboards.

Takes ports by job, and expressions of PromQL; returns the samples that Prometheus finds.
"""

import json
import math
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from maesh_testing.commands import PATIENCE_S, wait_until
from maesh_testing.ports import find_free_port

PROGRAM = shutil.which("prometheus") or ""
"""Empty if Prometheus is not installed."""
RATE_INTERVAL = "30s"
"""What Grafana's variable `$__rate_interval` becomes."""
_NO_DATA = " or vector(0)"
"""With this, a panel shows 0 where no series exists."""


class Query(NamedTuple):
    """The query of a panel; `place` is where it stands: `overview: Requests A`."""

    place: str
    expression: str


def read_queries(folder: Path) -> list[Query]:
    """Read all queries of the dashboards in a folder, without the final `or vector(0)`, which hides missing series."""
    return [
        Query(f"{path.stem}: {panel['title']} {target['refId']}", target["expr"].removesuffix(_NO_DATA))
        for path in sorted(folder.glob("*.json"))
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]


class Prometheus:
    """A running Prometheus."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __repr__(self) -> str:
        return f"<Prometheus {self.port}>"

    def ask(self, expression: str, variables: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """Return the result of a query now. Raises HTTPError for an expression that is not PromQL."""
        for name, value in {"__rate_interval": RATE_INTERVAL, "instance": ".*", **(variables or {})}.items():
            expression = expression.replace(f"${name}", value)
        url = f"http://127.0.0.1:{self.port}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
            return list(json.load(response)["data"]["result"])

    def wait_for_answers(
        self, queries: Sequence[Query], services: Sequence[str] = ("",), act: Callable[[], object] = int
    ) -> None:
        """Call `act` until every query has a number for one of the services, which `$service` names.

        Raises AssertionError, which lists the queries that have none.
        """
        pending = list(queries)

        def is_answered() -> bool:
            act()
            pending[:] = [each for each in pending if not any(self._has_number(each, name) for name in services)]
            return not pending

        try:
            wait_until(is_answered, "answers")
        except AssertionError as error:
            lines = [f"{place}: {expression}" for place, expression in pending]
            raise AssertionError("\n".join(["no answer to:", *lines])) from error

    def _has_number(self, query: Query, service: str) -> bool:
        """Whether one of the results is a number: a quotient of counters that stand still is none."""
        results = self.ask(query.expression, {"service": service})
        return not all(math.isnan(float(each["value"][1])) for each in results)


@contextmanager
def run_prometheus(folder: Path, jobs: Mapping[str, Sequence[int]]) -> Iterator[Prometheus]:
    """Run a Prometheus that scrapes these ports of 127.0.0.1, by job, every second."""
    scraped = [
        {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
        for name, ports in jobs.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    configuration = folder / "prometheus.yml"
    # JSON is YAML.
    configuration.write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": scraped}))
    port = find_free_port()
    options = (f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([PROGRAM, f"--config.file={configuration}", *options], stderr=log)  # noqa: S603
    try:
        wait_until(lambda: _is_ready(port), "a Prometheus that is ready")
        yield Prometheus(port)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=PATIENCE_S):
            return True
    except OSError:
        return False
