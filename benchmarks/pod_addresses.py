"""What the names or the namespaces of pods cost: sizes, memory and times in the controller and in a proxy.

`python benchmarks/pod_addresses.py [names|namespaces [PODS]]` prints a row for each, with the fastest of several runs,
in CPU time. docs/access-log.md and docs/ports.md show those of 10,000 pods; at most 19,000 are below the limit. The
engine has one Service in each of 100 namespaces, without servers; what it takes without the section is subtracted.
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
from maesh_core.model.resources import ObjectMeta, Pod, PodSpec, PodStatus, Service, ServicePort, ServiceSpec
from maesh_core.plugin_system.hookspecs import CLIENT_NAMESPACES, POD_NAMES, OptionalSection
from maesh_core.proxy.node.encoded_configuration import EncodedConfiguration
from maesh_core.proxy.routing.checks import check_update
from maesh_core.proxy.routing.clients_section import CurrentClients
from maesh_core.proxy.routing.current_pod_names import CurrentPodNames
from maesh_core.settings import ControllerSettings

RUNS = 7
SOURCE = "manifests"
SECTIONS = {"names": POD_NAMES, "namespaces": CLIENT_NAMESPACES}
NAMESPACES = 100


class ListedSource:
    """Stands for a source whose events this script gives itself."""

    name = SOURCE

    def watch_events(self, kinds: Any) -> Any:
        """Never called: the script applies the events."""


class AskingPlugins:
    """Stands for one plugin that asks for a section, or for none."""

    names: tuple[str, ...] = ("access-log",)

    def __init__(self, section: OptionalSection | None) -> None:
        self._section = section

    def collect(self, hook_name: str) -> list[Any]:
        """Return what the plugin provides."""
        return [self._section] if self._section is not None and hook_name == "maesh_optional_sections" else []

    def describe(self, provided: object) -> str:
        """Name the plugin."""
        return "access-log"


def build_pod(number: int, *, name: str = "checkout") -> Pod:
    """Build a pod whose namespace and name have 40 characters."""
    return Pod(
        metadata=ObjectMeta(name=f"{name}-service-6d5f8c7b9d-{number:05}", namespace=f"team-{number % NAMESPACES:03}"),
        spec=PodSpec(node_name=f"node-{number % 300}"),
        status=PodStatus(pod_ip=f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", phase="Running"),
    )


def build_service(number: int) -> Service:
    """Build a service of a namespace."""
    metadata = ObjectMeta(name="web", namespace=f"team-{number:03}")
    return Service(metadata=metadata, spec=ServiceSpec(ports=(ServicePort(port=80),)))


def start_engine(pods: int, section: OptionalSection | None) -> tuple[Engine, float]:
    """Build an engine with these pods; return it, and the CPU time of the first build."""
    plugins: Any = AskingPlugins(section)
    engine = build_engine(
        ControllerSettings(port_mapping="/dev/null"),
        plugins,
        kinds=CORE_KINDS,
        sources=[ListedSource()],
        is_cluster=True,
    )
    listed: dict[type, list[Any]] = {
        Pod: [build_pod(number) for number in range(pods)],
        Service: [build_service(number) for number in range(NAMESPACES)],
    }
    events = [Replaced(kind.type, listed.get(kind.type, [])) for kind in CORE_KINDS]
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
    engine.publish_collected()
    return engine.render_configuration(before) or b""


Current = CurrentPodNames | CurrentClients
"""What a worker keeps of a section."""


def follow(body: bytes, current: Current) -> Current:
    """Read a configuration or a change as a worker does; return what it keeps."""
    update = parse_update(body, {}, reads_pods=isinstance(current, CurrentPodNames))
    check_update(update)
    if isinstance(current, CurrentPodNames):
        current.check(update)
    current.apply(update)
    return current


def measure(section: OptionalSection, pods: int) -> list[tuple[str, str]]:
    """Measure everything; return the rows."""
    asked = (None, section)
    engines = {each: [start_engine(pods, each) for _ in range(RUNS)] for each in asked}
    bare, named = (min(seconds for _, seconds in engines[each]) for each in asked)
    engine = engines[section][0][0]
    without = len(engines[None][0][0].render_configuration(None) or b"")
    del engines
    memory = [measure_memory_mb(lambda each=each: start_engine(pods, each)) for each in asked]  # type: ignore[misc]
    start = CurrentPodNames if section is POD_NAMES else CurrentClients
    body = engine.render_configuration(None) or b""
    before = engine.revision
    change = add_pod(engine, pods)
    numbers = iter(range(pods + 1, pods + 1 + RUNS))
    adding = measure_ms(lambda: add_pod(engine, next(numbers)))
    changes = iter([add_pod(engine, number) for number in range(pods + 1 + RUNS, pods + 1 + 2 * RUNS)])
    whole = EncodedConfiguration().merge(body, None)
    current = follow(body, start())
    return [
        ("controller: memory", f"{memory[1] - memory[0]:.1f} MB"),
        ("controller: first build", f"{(named - bare) * 1000:.0f} ms"),
        ("controller: a new pod", f"{adding * 1000:.0f} us"),
        ("controller: full configuration", f"{(len(body) - without) / 1000:.0f} kB"),
        ("controller: change of one pod", f"{len(change)} bytes"),
        ("parent: memory", f"{measure_memory_mb(lambda: EncodedConfiguration().merge(bytes(body), None)):.1f} MB"),
        ("parent: full configuration", f"{measure_ms(lambda: EncodedConfiguration().merge(body, None)):.1f} ms"),
        ("parent: change", f"{measure_ms(lambda: whole.merge(change, before)) * 1000:.0f} us"),
        ("worker: memory", f"{measure_memory_mb(lambda: follow(body, start())):.1f} MB"),
        ("worker: first configuration", f"{measure_ms(lambda: follow(body, start())):.1f} ms"),
        ("worker: further full configuration", f"{measure_ms(lambda: follow(body, current)):.1f} ms"),
        ("worker: change", f"{measure_ms(lambda: follow(next(changes), current)) * 1000:.0f} us"),
    ]


if __name__ == "__main__":
    what, *given = sys.argv[1:] or ["names"]
    for title, value in measure(SECTIONS[what], int(given[0]) if given else 10_000):
        print(f"{title:36} {value}")
