"""The resources that an API server for tests serves: those that are built in, and those that definitions add.

Pure values: a table, and what is made of a CustomResourceDefinition.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

DEFINITIONS = ("apiextensions.k8s.io", "customresourcedefinitions")
PODS = ("", "pods")
SERVICES = ("", "services")
NAMESPACES = ("", "namespaces")
EVENTS = ("", "events")
SERVICE_ACCOUNTS = ("", "serviceaccounts")

Key = tuple[str, str]
"""Group and plural."""


class ApiResource(msgspec.Struct, frozen=True, kw_only=True):
    """A resource. `versions` are those served, the preferred one first; objects are kept in `storage_version`."""

    group: str = ""
    versions: tuple[str, ...] = ("v1",)
    plural: str
    kind: str
    storage_version: str = "v1"
    is_namespaced: bool = True
    is_custom: bool = False
    has_status: bool = False
    """Whether it has the subresource status, whose fields the resource itself does not change."""
    can_update_blindly: bool = True
    """Whether a PUT may come without a resource version."""
    creates_on_update: bool = False
    """Whether a PUT creates what is not there."""
    gives_deleted: bool = False
    """Whether a deletion is answered with the object that was."""
    short_names: tuple[str, ...] = ()
    schemas: Mapping[str, Any] = {}
    """Of a custom resource, its schema by version."""

    @property
    def key(self) -> Key:
        """Its group and plural."""
        return self.group, self.plural

    @property
    def qualified(self) -> str:
        """As messages name it: `leases.coordination.k8s.io`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def render_version(self, version: str) -> str:
        """Render the `apiVersion` of its objects in a version."""
        return f"{self.group}/{version}" if self.group else version


CORE = (
    ApiResource(plural="namespaces", kind="Namespace", is_namespaced=False, has_status=True, short_names=("ns",)),
    ApiResource(
        plural="services",
        kind="Service",
        has_status=True,
        creates_on_update=True,
        gives_deleted=True,
        short_names=("svc",),
    ),
    ApiResource(plural="endpoints", kind="Endpoints", creates_on_update=True, short_names=("ep",)),
    ApiResource(plural="pods", kind="Pod", has_status=True, gives_deleted=True, short_names=("po",)),
    ApiResource(plural="configmaps", kind="ConfigMap", short_names=("cm",)),
    ApiResource(plural="secrets", kind="Secret"),
    ApiResource(plural="serviceaccounts", kind="ServiceAccount", gives_deleted=True, short_names=("sa",)),
    ApiResource(plural="nodes", kind="Node", is_namespaced=False, has_status=True, short_names=("no",)),
    ApiResource(plural="events", kind="Event", creates_on_update=True, short_names=("ev",)),
    ApiResource(group="apps", plural="deployments", kind="Deployment", has_status=True, short_names=("deploy",)),
    ApiResource(group="apps", plural="daemonsets", kind="DaemonSet", has_status=True, short_names=("ds",)),
    ApiResource(group="discovery.k8s.io", plural="endpointslices", kind="EndpointSlice"),
    ApiResource(
        group="coordination.k8s.io",
        plural="leases",
        kind="Lease",
        can_update_blindly=False,
        creates_on_update=True,
    ),
    ApiResource(group="events.k8s.io", plural="events", kind="Event", creates_on_update=True, short_names=("ev",)),
    ApiResource(
        group="apiextensions.k8s.io",
        plural="customresourcedefinitions",
        kind="CustomResourceDefinition",
        is_namespaced=False,
        has_status=True,
        can_update_blindly=False,
        short_names=("crd", "crds"),
    ),
)


def read_definition(definition: Mapping[str, Any]) -> ApiResource:
    """Return what a CustomResourceDefinition defines."""
    spec = definition["spec"]
    served = [version for version in spec["versions"] if version.get("served")]
    stored = next(version["name"] for version in spec["versions"] if version.get("storage"))
    return ApiResource(
        group=spec["group"],
        versions=tuple(sorted((version["name"] for version in served), key=_rank_version)),
        plural=spec["names"]["plural"],
        kind=spec["names"]["kind"],
        storage_version=stored,
        is_namespaced=spec.get("scope") == "Namespaced",
        is_custom=True,
        has_status=any("status" in version.get("subresources", {}) for version in served),
        can_update_blindly=False,
        short_names=tuple(spec["names"].get("shortNames", ())),
        schemas={version["name"]: version.get("schema", {}).get("openAPIV3Schema", {}) for version in served},
    )


def _rank_version(version: str) -> tuple[int, int, int, str]:
    """Order versions as Kubernetes does: v2, v1, v1beta2, v1beta1, v1alpha1, and what is no version last."""
    number, _, rest = version.removeprefix("v").partition("alpha")
    stage = 2 if rest else 0
    if not rest:
        number, _, rest = version.removeprefix("v").partition("beta")
        stage = 1 if rest else 0
    if not (version.startswith("v") and number.isdecimal() and (not stage or rest.isdecimal())):
        return 3, 0, 0, version
    return stage, -int(number), -int(rest or 0), version
