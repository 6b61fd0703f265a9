import msgspec
import pytest

from maesh_core.controller.cluster_check import catalogue
from maesh_core.controller.cluster_check.installation import check_pods, parse_flags
from maesh_core.controller.cluster_check.objects import (
    Condition,
    Container,
    ContainerState,
    ContainerStatus,
    MeshPod,
    Meta,
    PodSpec,
    PodStatus,
    Waiting,
)
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.errors import KubernetesError

READY = (Condition(type="Ready", status="True"),)


def build_pod(name, *, is_ready=True, image="maesh:2", reason="", node="n1", arguments=()):
    states = (ContainerStatus(state=ContainerState(waiting=Waiting(reason, "it was refused"))),) if reason else None
    return MeshPod(
        metadata=Meta(name=name),
        spec=PodSpec(
            containers=(Container(image=image, args=arguments),),
            service_account_name="maesh-controller",
            node_name=node,
        ),
        status=PodStatus(phase="Running", conditions=READY if is_ready else None, container_statuses=states),
    )


class FakeReader:
    """Has pods by the component in the selector, and a DaemonSet's numbers."""

    def __init__(self, controllers=(), proxies=(), numbers=None, error=None):
        self._pods = {"controller": tuple(controllers), "maesh-mesh": tuple(proxies)}
        self._numbers, self._error = numbers, error

    async def list_pods(self, namespace, selector):
        if self._error is not None:
            raise self._error
        return self._pods[selector.rpartition("=")[2]]

    async def find(self, path, type_):
        return None if self._numbers is None else msgspec.convert({"status": self._numbers}, type_)


async def check(reader):
    section = SectionBuilder(catalogue.PODS, catalogue.CATALOGUE[catalogue.PODS])
    pods = await check_pods(section, reader, "maesh")
    return pods, {each.id: each for each in section.build().checks}


async def test_pods_that_are_ready_are_well():
    numbers = {"desiredNumberScheduled": 1, "numberReady": 1}
    reader = FakeReader([build_pod("c1"), build_pod("c2")], [build_pod("p1")], numbers)
    pods, found = await check(reader)
    assert {each.result for each in found.values()} == {"success"}
    assert found["proxy-pods"].details == ("1 of 1 ready",)
    assert pods.accounts == ("maesh-controller",)


async def test_a_mesh_that_is_not_installed_is_one_failure():
    _, found = await check(FakeReader())
    assert found["namespace-exists"].details == ("namespace maesh has no pod of the mesh",)
    assert {each.result for name, each in found.items() if name != "namespace-exists"} == {"skipped"}


async def test_pods_that_may_not_be_listed_are_unknown():
    pods, found = await check(FakeReader(error=KubernetesError("403", status=403)))
    assert found["namespace-exists"].result == "warning"
    assert pods.accounts == ()


async def test_one_of_two_controllers_that_is_ready_serves_the_mesh():
    reader = FakeReader([build_pod("c1"), build_pod("c2", is_ready=False, reason="CrashLoopBackOff")], [build_pod("p")])
    _, found = await check(reader)
    assert found["controller-pods"].result == "warning"
    assert found["controller-pods"].details == ("c2: CrashLoopBackOff: it was refused",)


async def test_without_a_ready_controller_the_check_fails():
    _, found = await check(FakeReader([build_pod("c1", is_ready=False)], [build_pod("p")]))
    assert (found["controller-pods"].result, found["controller-pods"].details) == (
        "error",
        ("c1: its phase is Running",),
    )
    _, found = await check(FakeReader([], [build_pod("p")]))
    assert "labelled app=maesh,component=controller" in found["controller-pods"].details[0]


async def test_nodes_without_a_pod_and_pods_that_are_not_ready_are_named():
    numbers = {"desiredNumberScheduled": 3, "numberReady": 1}
    reader = FakeReader([build_pod("c")], [build_pod("p1"), build_pod("p2", is_ready=False, node="n2")], numbers)
    _, found = await check(reader)
    assert found["proxy-pods"].details == (
        "p2 on n2: its phase is Running",
        "DaemonSet maesh-mesh should have 1 more pods",
    )


async def test_several_images_are_a_rollout_that_has_not_ended():
    _, found = await check(FakeReader([build_pod("c1"), build_pod("c2", image="maesh:3")], [build_pod("p")]))
    assert (found["same-images"].result, found["same-images"].details) == (
        "warning",
        ("controllers: maesh:2, maesh:3", "proxies: maesh:2"),
    )


@pytest.mark.parametrize(
    ("arguments", "values", "switches", "settings"),
    [
        ((), {}, {}, {}),
        (("controller", "--namespace=maesh"), {"namespace": "maesh"}, {}, {}),
        (("--acl", "--no-smi"), {}, {"acl": True, "smi": False}, {}),
        (("--set=mtls.ca-secret=a=b",), {}, {}, {"mtls.ca-secret": "a=b"}),
    ],
)
def test_the_arguments_of_the_chart_are_parsed(arguments, values, switches, settings):
    flags = parse_flags(arguments)
    assert (flags.values, flags.switches, flags.settings) == (values, switches, settings)
