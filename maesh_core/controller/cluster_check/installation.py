"""Checks the pods of the mesh: whether they run, where they should, and with which images and flags.

Takes objects of the mesh's namespace; returns outcomes, and what the controllers' command lines say.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from maesh_core.controller.cluster_check.objects import MeshPod, Reader
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import MaeshError

CONTROLLER_LABELS: Final = "app=maesh,component=controller"
PROXY_LABELS: Final = "app=maesh,component=maesh-mesh"
"""Labels of the pods, as the chart sets them."""
PROXY_SET: Final = "maesh-mesh"
"""The DaemonSet of the chart."""


class _SetStatus(msgspec.Struct, frozen=True, rename="camel"):
    desired_number_scheduled: int = 0
    number_ready: int = 0


class _DaemonSet(msgspec.Struct, frozen=True):
    status: _SetStatus = _SetStatus()


class Flags(msgspec.Struct, frozen=True, kw_only=True):
    """What a command line says: flags with their values, switches, and settings of plugins by `NAME.KEY`."""

    values: Mapping[str, str] = {}
    switches: Mapping[str, bool] = {}
    settings: Mapping[str, str] = {}


class MeshPods(msgspec.Struct, frozen=True, kw_only=True):
    """The pods of the mesh."""

    controllers: tuple[MeshPod, ...] = ()
    proxies: tuple[MeshPod, ...] = ()

    @property
    def accounts(self) -> tuple[str, ...]:
        """The service accounts of the controllers."""
        return tuple(sorted({pod.spec.service_account_name for pod in self.controllers} - {""}))

    @property
    def flags(self) -> Flags:
        """The flags of a controller."""
        return parse_flags(self.controllers[0].arguments if self.controllers else ())


def parse_flags(arguments: Sequence[str]) -> Flags:
    """Parse the arguments of a container of the chart, whose flags and values are joined by `=`."""
    values: dict[str, str] = {}
    switches: dict[str, bool] = {}
    settings: dict[str, str] = {}
    for argument in arguments:
        if not argument.startswith("--"):
            continue
        name, is_joined, value = argument[2:].partition("=")
        if name == "set" and is_joined:
            key, _, text = value.partition("=")
            settings[key] = text
        elif is_joined:
            values[name] = value
        else:
            switches[name.removeprefix("no-")] = not name.startswith("no-")
    return Flags(values=values, switches=switches, settings=settings)


async def check_pods(section: SectionBuilder, reader: Reader, namespace: str) -> MeshPods:
    """Check the pods of the mesh; returns those that were found."""
    try:
        controllers = await reader.list_pods(namespace, CONTROLLER_LABELS)
        proxies = await reader.list_pods(namespace, PROXY_LABELS)
    except MaeshError as error:
        section.fail("namespace-exists", error)
        section.skip_rest("the pods of the mesh could not be listed")
        return MeshPods()
    pods = MeshPods(controllers=controllers, proxies=proxies)
    if not controllers and not proxies:
        section.judge("namespace-exists", [f"namespace {namespace} has no pod of the mesh"])
        section.skip_rest("the mesh has no pods")
        return pods
    section.succeed("namespace-exists", namespace)
    _check_controllers(section, controllers, namespace)
    await _check_proxies(section, reader, namespace, proxies)
    images = {"controllers": {pod.image for pod in controllers}, "proxies": {pod.image for pod in proxies}}
    everything = sorted(set().union(*images.values()))
    mixed = [f"{kind}: {', '.join(sorted(found))}" for kind, found in images.items() if found]
    section.warn("same-images", mixed if len(everything) > 1 else [], found=everything)
    return pods


def _check_controllers(section: SectionBuilder, pods: Sequence[MeshPod], namespace: str) -> None:
    ill = [f"{pod.name}: {pod.describe_problem()}" for pod in pods if not pod.is_ready]
    if not pods:
        section.judge("controller-pods", [f"no pod in namespace {namespace} is labelled {CONTROLLER_LABELS}"])
    elif len(ill) < len(pods):  # the others serve the mesh
        section.warn("controller-pods", ill, found=[f"{len(pods)} ready"])
    else:
        section.judge("controller-pods", ill)


async def _check_proxies(section: SectionBuilder, reader: Reader, namespace: str, pods: Sequence[MeshPod]) -> None:
    path = build_path("apps/v1", "daemonsets", namespace=namespace, name=PROXY_SET)
    problems = [f"{_name_proxy(pod)}: {pod.describe_problem()}" for pod in pods if not pod.is_ready]
    found = [f"{len(pods) - len(problems)} ready"]
    try:
        owner = await reader.find(path, _DaemonSet)
    except MaeshError:
        owner = None  # the pods say enough
    if owner is not None:
        missing = owner.status.desired_number_scheduled - len(pods)
        if missing > 0:
            problems.append(f"DaemonSet {PROXY_SET} should have {missing} more pods")
        found = [f"{owner.status.number_ready} of {owner.status.desired_number_scheduled} ready"]
    elif not pods:
        problems = [f"no pod in namespace {namespace} is labelled {PROXY_LABELS}"]
    section.judge("proxy-pods", problems, found=found)


def _name_proxy(pod: MeshPod) -> str:
    return f"{pod.name}{f' on {pod.spec.node_name}' if pod.spec.node_name else ''}"
