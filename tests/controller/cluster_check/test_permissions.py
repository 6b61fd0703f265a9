from typing import Any

import msgspec
import pytest

from maesh_core.controller.cluster_check import catalogue
from maesh_core.controller.cluster_check.outcomes import SectionBuilder
from maesh_core.controller.cluster_check.permissions import (
    DnsNames,
    Permission,
    check_account,
    check_own,
    list_dns,
    list_of_user,
    list_statuses,
    list_watched,
)
from maesh_core.errors import KubernetesError
from maesh_core.model.resources import ResourceKind, Service

SPLIT = ResourceKind(name="Split", plural="splits", api_versions=("x.io/v1", "x.io/v1beta1"), type=Service)
WANTED = [Permission(verb=verb, resource="pods") for verb in ("get", "list", "watch")]
USER = "system:serviceaccount:maesh:maesh-controller"


class FakeReader:
    """An API server that denies some verbs, or refuses reviews of others."""

    def __init__(self, denied=(), *, refuses=False, error=None, name="somebody"):
        self._denied, self._refuses, self._error, self._name = denied, refuses, error, name
        self.asked = []

    async def create(self, path, body, type_):
        self.asked.append(path.rpartition("/")[2])
        if self._error is not None:
            raise self._error
        if path.endswith("/selfsubjectreviews"):
            return msgspec.convert({"status": {"userInfo": {"username": self._name}}}, type_)
        if path.endswith("/subjectaccessreviews"):
            assert body["spec"]["user"] == USER
            assert "system:authenticated" in body["spec"]["groups"]
            if self._refuses:
                raise KubernetesError("403 no reviews", status=403)
        is_allowed = body["spec"]["resourceAttributes"]["verb"] not in self._denied
        return msgspec.convert({"status": {"allowed": is_allowed}}, type_)


async def check(reader, wanted=WANTED):
    section = SectionBuilder(catalogue.PERMISSIONS, catalogue.CATALOGUE[catalogue.PERMISSIONS])
    await check_account(section, reader, namespace="maesh", account="maesh-controller", wanted=wanted)
    (found,) = section.build().checks
    return found


async def test_an_account_with_all_rights_is_well():
    reader = FakeReader()
    found = await check(reader)
    assert (found.result, found.details) == ("success", ("3 permissions of maesh-controller",))
    assert set(reader.asked) == {"subjectaccessreviews"}


async def test_each_missing_right_is_named():
    found = await check(FakeReader(denied=["list", "watch"]))
    assert found.details == (
        "maesh-controller may not list pods in all namespaces",
        "maesh-controller may not watch pods in all namespaces",
    )


async def test_who_may_not_ask_about_others_gets_a_warning_after_one_request():
    reader = FakeReader(refuses=True)
    found = await check(reader)
    assert (found.result, found.details) == ("warning", ("this could not be checked: 403 no reviews",))
    assert reader.asked == ["subjectaccessreviews", "selfsubjectreviews"]


async def test_the_account_itself_asks_about_itself():
    found = await check(FakeReader(denied=["get"], refuses=True, name=USER))
    assert found.details == ("maesh-controller may not get pods in all namespaces",)


async def test_an_api_server_that_does_not_answer_is_a_failure():
    assert (await check(FakeReader(error=KubernetesError("away")))).result == "error"


@pytest.mark.parametrize("is_protected", [True, False])
async def test_the_user_is_told_what_is_missing(is_protected):
    section = SectionBuilder(catalogue.RIGHTS_OF_USER, catalogue.CATALOGUE[catalogue.RIGHTS_OF_USER])
    wanted = list_of_user("maesh", is_protected=is_protected)
    reader: Any = FakeReader(denied=["list"])
    await check_own(section, reader, wanted)
    (found,) = section.build().checks
    assert found.details == ("you may not list pods in namespace maesh",)


@pytest.mark.parametrize(
    ("permission", "text"),
    [
        (Permission(verb="get", resource="pods"), "get pods in all namespaces"),
        (
            Permission(verb="patch", group="x.io", resource="routes", subresource="status"),
            "patch routes/status.x.io in all namespaces",
        ),
        (Permission(verb="update", resource="leases", namespace="m", name="a"), "update leases a in namespace m"),
    ],
)
def test_a_permission_is_shown_as_kubectl_names_it(permission, text):
    assert str(permission) == text


def test_kinds_are_watched_in_the_group_that_is_served_and_others_need_nothing():
    assert list_watched([SPLIT], {}) == []
    assert {each.group for each in list_watched([SPLIT], {"Split": "x.io/v1beta1"})} == {"x.io"}
    assert list_statuses([SPLIT], {"Split": "x.io/v1"})[0].build_attributes() == {
        "verb": "patch",
        "group": "x.io",
        "resource": "splits",
        "subresource": "status",
    }


def test_kube_dns_also_needs_the_dns_of_the_mesh():
    without = list_dns("maesh", DnsNames(deployments=("coredns",), config_maps=("coredns",)))
    with_it = list_dns("maesh", DnsNames(deployments=("kube-dns",), config_maps=("kube-dns",)))
    own = Permission(verb="update", resource="configmaps", namespace="maesh", name="coredns")
    assert own in with_it
    assert own not in without
