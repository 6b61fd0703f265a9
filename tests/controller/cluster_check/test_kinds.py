import msgspec
import pytest

from maesh_core.controller.cluster_check import catalogue
from maesh_core.controller.cluster_check.kinds import check_kinds
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.controller.resources.kinds import CORE_KINDS
from maesh_core.errors import KubernetesError
from maesh_core.model.resources import ResourceKind, Service

CORE = [kind for kind in CORE_KINDS if kind.is_watched]
SPLIT = ResourceKind(
    name="TrafficSplit", plural="trafficsplits", api_versions=("split.smi-spec.io/v1alpha3",), type=Service
)
USUAL = {"v1": ["services", "pods", "endpoints"], "discovery.k8s.io/v1": ["endpointslices"]}


class FakeReader:
    """An API server that serves resources by version."""

    def __init__(self, served, error=None):
        self._served, self._error = served, error

    async def find(self, path, type_):
        if self._error is not None:
            raise self._error
        version = path.removeprefix("/apis/").removeprefix("/api/")
        versions = [{"groupVersion": each} for each in self._served if each.startswith(f"{version}/")]
        if versions:
            return msgspec.convert({"versions": versions}, type_)
        found = self._served.get(version)
        return None if found is None else msgspec.convert({"resources": [{"name": each} for each in found]}, type_)


async def check(reader, added=(), needed=(), notes=()):
    section = SectionBuilder(catalogue.KINDS, catalogue.CATALOGUE[catalogue.KINDS])
    served = await check_kinds(section, reader, core=CORE, added=added, needed=needed, notes=notes)
    return served, {each.id: each for each in section.build().checks}


async def test_what_is_served_is_found_in_the_preferred_version():
    reader = FakeReader({**USUAL, "discovery.k8s.io/v1beta1": ["endpointslices"]})
    served, found = await check(reader)
    assert served["EndpointSlice"] == "discovery.k8s.io/v1"
    assert {each.result for each in found.values()} == {"success"}


async def test_endpoints_are_needed_only_where_there_are_no_slices():
    _, found = await check(FakeReader({**USUAL, "v1": ["services", "pods"]}))
    assert found["core-kinds"].result == "success"
    _, found = await check(FakeReader({"v1": ["services", "pods"]}))
    assert found["core-kinds"].details == ("EndpointSlice is not served", "Endpoints is not served")
    _, found = await check(FakeReader({"v1": USUAL["v1"]}))
    assert found["core-kinds"].result == "success"


async def test_a_missing_kind_of_a_default_plugin_is_only_named():
    served, found = await check(FakeReader(USUAL), added=[SPLIT])
    assert (found["plugin-kinds"].result, found["plugin-kinds"].details) == (
        "success",
        ("TrafficSplit (split.smi-spec.io/v1alpha3) is not installed",),
    )
    assert "TrafficSplit" not in served


async def test_a_missing_kind_of_a_plugin_that_was_enabled_is_a_failure():
    _, found = await check(FakeReader(USUAL), added=[SPLIT], needed={"TrafficSplit"})
    assert found["plugin-kinds"].result == "error"


async def test_a_kind_in_other_versions_only_is_a_failure_that_names_them():
    served, found = await check(FakeReader({**USUAL, "split.smi-spec.io/v1": ["trafficsplits"]}), added=[SPLIT])
    assert found["kind-versions"].details == (
        "TrafficSplit: split.smi-spec.io/v1 is served, the mesh reads split.smi-spec.io/v1alpha3",
    )
    assert found["plugin-kinds"].result == "success"
    assert "TrafficSplit" not in served


async def test_a_plugin_that_is_unknown_here_is_a_warning():
    _, found = await check(FakeReader(USUAL), notes=["plugin x is not installed here"])
    assert found["plugin-kinds"].result == "warning"


@pytest.mark.parametrize(("status", "result"), [(403, "warning"), (0, "error")])
async def test_an_api_server_that_does_not_say_what_it_serves_leaves_the_rest_open(status, result):
    served, found = await check(FakeReader({}, KubernetesError("no", status=status)))
    assert (served, found["core-kinds"].result, found["kind-versions"].result) == ({}, result, "skipped")
