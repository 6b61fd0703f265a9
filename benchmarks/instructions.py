"""How many instructions the engine needs for a request, by callgrind: other load of the machine does not change them.

Runs the engine without sockets (engine.py) in valgrind, with heads alike and with heads that differ. Each part that is
measured begins and ends with a call of `getppid`, before which callgrind writes and resets its counters. Takes options;
prints a table.
"""

import argparse
import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from access import HEADER, LITERAL, THREE, build_acl
from engine import SERVICE, Engine, build_request
from maesh_access_log import AccessLogSettings
from maesh_access_log.observer import AccessLog
from maesh_access_log.output import Output
from maesh_access_log.writer import BatchWriter
from maesh_otel.encoding import encode_record
from maesh_otel.proxy import TracingFactory
from maesh_otel.settings import ServiceTracing
from maesh_otel.trace import RequestRecord
from policies import build_policies, build_policy_request
from processes import run_to_end

from maesh_core import engine
from maesh_core.model.matches import HttpMatch
from maesh_core.plugin import Exchange, MetricFamily, Middleware

REQUESTS, WARM_UP = 256, 128
"""Multiples of the number of records that the access log renders together."""
INSIDE = "--inside"
_find_total = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE).search


class Watching(Middleware):
    """A middleware in plain Python that does nothing."""

    def on_request(self, exchange: Exchange) -> None:
        """See a request."""


class Unsent:
    """Where traces go that nobody sends: exporting happens in another thread."""

    def start(self) -> None:
        """Do nothing."""

    def submit(self, record: RequestRecord) -> None:
        """Drop a trace."""

    def collect_metrics(self) -> list[MetricFamily]:
        """Return nothing."""
        return []


class Encoded(Unsent):
    """Where the spans of traces are encoded, but not sent; the plugin does that in the thread that sends them."""

    def submit(self, record: RequestRecord) -> None:
        """Encode the spans of a trace."""
        encode_record(record)


class Row(NamedTuple):
    """A row of the table: an engine, and its requests, alike and different."""

    name: str
    engine: Engine
    loads: Sequence[Sequence[bytes]]


def build_observed(folder: Path) -> dict[str, Engine]:
    """Build engines whose traffic is observed: by an access log in a folder, and by traces of none and all."""
    log = Engine()
    writer = BatchWriter(Output(str(folder / "access.log")))
    log.handler.environment.observers.add(AccessLog(AccessLogSettings(format="json"), writer))
    shares = {"traces of none": (0.0, Unsent()), "traces of all": (1.0, Unsent())}
    shares["traces of all, and their spans"] = (1.0, Encoded())
    traced = {
        name: Engine([TracingFactory(sink, share).build_middleware(ServiceTracing(), SERVICE)])
        for name, (share, sink) in shares.items()
    }
    return {"JSON access log": log, **traced}


def build_rows(folder: Path) -> list[Row]:
    """Build the rows. The requests of policies are larger, so there is a bare route for them, too."""
    engines = {
        "bare": Engine(),
        "a middleware with on_request": Engine([Watching()]),
        "acl": Engine([build_acl(())]),
        "split": Engine(splits=[()]),
        "split, method and literal path": Engine(splits=[[LITERAL]]),
        "split, literal header": Engine(splits=[[HEADER]]),
        "rule": Engine(rules=[HttpMatch()]),
        "rule, path prefix": Engine(rules=[HttpMatch(path_prefix="/items")]),
        "rule, path prefix, header and query parameter": Engine(rules=[THREE, HttpMatch()]),
        **build_observed(folder),
    }
    policies = {"bare, for policies": Engine()} | {row: Engine([each]) for row, each in build_policies().items()}
    small, large = (
        ([build()] * REQUESTS, [build(number) for number in range(REQUESTS)])
        for build in (build_request, build_policy_request)
    )
    return [Row(name, each, small) for name, each in engines.items()] + [
        Row(name, each, large) for name, each in policies.items()
    ]


async def carry_all(names: Sequence[str], folder: Path) -> None:
    """Carry the requests of all rows, or of the named ones; called inside valgrind."""
    for row in build_rows(folder):
        for requests in row.loads if not names or row.name in names else ():
            carry = row.engine.connect()
            for request in requests[:WARM_UP]:
                carry(request)
            gc.collect()
            os.getppid()
            for request in requests:
                carry(request)
            os.getppid()
            print(row.name, flush=True)


def count_instructions(folder: Path, names: Sequence[str]) -> list[tuple[str, float]]:
    """Run this program in valgrind; returns the instructions of a request, for both loads of each row."""
    command = ["valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder}/out"]
    command += [sys.executable, __file__, INSIDE, *names]
    environment = os.environ | {"PYTHONHASHSEED": "0", "PYTHONMALLOC": "pymalloc"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return [
        (name, read_total(folder / f"out.{2 * number + 2}") / REQUESTS)
        for number, name in enumerate(done.stdout.splitlines())
    ]


def read_total(path: Path) -> int:
    """Read how many instructions one of callgrind's files has counted."""
    total = _find_total(path.read_text())
    assert total is not None
    return int(total[1])


def main() -> int:
    """Count and print."""
    if sys.argv[1:2] == [INSIDE]:
        with tempfile.TemporaryDirectory() as folder:
            asyncio.run(carry_all(sys.argv[2:], Path(folder)))
        return 0
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rows", nargs="*", help="rows of the table (default: all)")
    options = parser.parse_args()
    if not shutil.which("valgrind"):
        print("Not installed, so there is nothing to measure with: valgrind", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as name:
        found = count_instructions(Path(name), options.rows)
    print(f"Instructions for a request; the engine is {engine.form}.\n")
    print("| route | heads alike | heads that differ |\n| --- | --- | --- |")
    for (row, alike), (_, different) in zip(found[::2], found[1::2], strict=True):
        print(f"| {row} | {alike:,.0f} | {different:,.0f} |")
    return 0


if __name__ == "__main__":
    run_to_end(main)
