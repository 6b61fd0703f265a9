"""What the names of pods cost: sizes, memory and times in the controller and in a proxy, by the number of pods.

`python benchmarks/pod_names.py [PODS]` prints a row for each, with the fastest of several runs, in CPU time.
docs/access-log.md shows those of 10,000 pods; at most 19,000 are below the limit. The engine has no services, so that
what it takes is for the names alone.
"""

import gc
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

from maesh_core.controller.building import build_engine
from maesh_core.controller.rebuilds.engine import Engine
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.model.events import Applied, Replaced
from maesh_core.model.messages import parse_update
from maesh_core.model.resources import ObjectMeta, Pod, PodSpec, PodStatus
from maesh_core.plugin_system.hookspecs import POD_NAMES
from maesh_core.proxy.node.encoded_configuration import EncodedConfiguration
from maesh_core.proxy.routing.current_pod_names import CurrentPodNames
from maesh_core.settings import ControllerSettings

RUNS = 7
SOURCE = "manifests"


class ListedSource:
    """Stands for a source whose events this script gives itself."""

    name = SOURCE

    def watch_events(self, kinds: Any) -> Any:
        """Never called: the script applies the events."""


class AskingPlugins:
    """Stands for one plugin that asks for the names, or for none."""

    names: tuple[str, ...] = ("access-log",)

    def __init__(self, *, asks: bool) -> None:
        self._asks = asks

    def collect(self, hook_name: str) -> list[Any]:
        """Return what the plugin provides."""
        return [POD_NAMES] if self._asks and hook_name == "maesh_optional_sections" else []

    def describe(self, provided: object) -> str:
        """Name the plugin."""
        return "access-log"


def build_pod(number: int, *, name: str = "checkout") -> Pod:
    """Build a pod whose namespace and name have 40 characters."""
    return Pod(
        metadata=ObjectMeta(name=f"{name}-service-6d5f8c7b9d-{number:05}", namespace=f"team-{number % 100:03}"),
        spec=PodSpec(node_name=f"node-{number % 300}"),
        status=PodStatus(pod_ip=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", phase="Running"),
    )


def start_engine(pods: int, *, asks: bool) -> tuple[Engine, float]:
    """Build an engine with these pods; return it, and the CPU time of the first build."""
    plugins: Any = AskingPlugins(asks=asks)
    engine = build_engine(
        ControllerSettings(port_mapping="/dev/null"),
        plugins,
        kinds=CORE_KINDS,
        sources=[ListedSource()],
        is_cluster=True,
    )
    listed = [build_pod(number) for number in range(pods)]
    events = [Replaced(kind.type, listed if kind.type is Pod else []) for kind in CORE_KINDS]
    gc.collect()
    gc.disable()  # as the controller does
    began = time.process_time()
    engine.apply(events, source=SOURCE)
    took = time.process_time() - began
    gc.enable()
    return engine, took


def measure_ms(work: Callable[[], object]) -> float:
    """Return the CPU time of the fastest run."""
    times = []
    for _ in range(RUNS):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times) * 1000


def measure_memory_mb(build: Callable[[], object]) -> float:
    """Return the memory that what is built needs."""
    gc.collect()
    tracemalloc.start()
    kept = build()
    gc.collect()
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return used / 1e6


def add_pod(engine: Engine, number: int) -> bytes:
    """Add a pod, and return the change as a proxy pulls it."""
    before = engine.revision
    engine.apply([Applied(build_pod(number))], source=SOURCE)
    engine.publish_pod_names()
    return engine.render_configuration(before) or b""


def follow(body: bytes) -> CurrentPodNames:
    """Read a configuration as a worker does that has no names yet."""
    names = CurrentPodNames()
    read(body, names)
    return names


def read(body: bytes, names: CurrentPodNames) -> None:
    """Read a configuration or a change as a worker does."""
    update = parse_update(body, {}, reads_pods=True)
    names.check(update)
    names.apply(update)


def measure(pods: int) -> list[tuple[str, str]]:
    """Measure everything; return the rows."""
    engines = {asks: [start_engine(pods, asks=asks) for _ in range(RUNS)] for asks in (False, True)}
    bare, named = (min(seconds for _, seconds in engines[asks]) for asks in (False, True))
    engine = engines[True][0][0]
    del engines
    memory = [measure_memory_mb(lambda asks=asks: start_engine(pods, asks=asks)) for asks in (False, True)]  # type: ignore[misc]
    body = engine.render_configuration(None) or b""
    before = engine.revision
    change = add_pod(engine, pods)
    numbers = iter(range(pods + 1, pods + 1 + RUNS))
    adding = measure_ms(lambda: add_pod(engine, next(numbers)))
    whole = EncodedConfiguration().merge(body, None)
    names = follow(body)
    return [
        ("controller: memory", f"{memory[1] - memory[0]:.1f} MB"),
        ("controller: first build", f"{(named - bare) * 1000:.0f} ms"),
        ("controller: a new pod", f"{adding * 1000:.0f} us"),
        ("controller: full configuration", f"{len(body) / 1000:.0f} kB"),
        ("controller: change of one name", f"{len(change)} bytes"),
        ("parent: memory", f"{measure_memory_mb(lambda: EncodedConfiguration().merge(bytes(body), None)):.1f} MB"),
        ("parent: full configuration", f"{measure_ms(lambda: EncodedConfiguration().merge(body, None)):.1f} ms"),
        ("parent: change", f"{measure_ms(lambda: whole.merge(change, before)) * 1000:.0f} us"),
        ("worker: memory", f"{measure_memory_mb(lambda: follow(body)):.1f} MB"),
        ("worker: first configuration", f"{measure_ms(lambda: follow(body)):.1f} ms"),
        ("worker: further full configuration", f"{measure_ms(lambda: read(body, names)):.1f} ms"),
        ("worker: change", f"{measure_ms(lambda: read(change, names)) * 1000:.0f} us"),
    ]


if __name__ == "__main__":
    for title, value in measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000):
        print(f"{title:36} {value}")
