"""Checks what the controllers' account may do, and what the user may do, by reviews of the API server.

Takes the kinds that are watched and the names of an installation; returns outcomes. The permissions are those that the
chart grants (charts/maesh/templates/_rules.tpl), which a test compares.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from maesh_core.controller.api_clients.pod_api import TRUST_CONFIG_MAP, VIEWER
from maesh_core.controller.cluster.leader_election import LEASE_NAME
from maesh_core.controller.cluster_check.objects import NOT_FOUND, Reader
from maesh_core.controller.cluster_check.outcomes import FORBIDDEN, SectionBuilder
from maesh_core.controller.dns.detection import DNS_NAMESPACE, KUBE_DNS
from maesh_core.controller.dns.patching import MESH_DNS
from maesh_core.controller.kubernetes.paths import build_path
from maesh_core.errors import KubernetesError, MaeshError
from maesh_core.model.resources import ResourceKind

REVIEWS_AT_ONCE: Final = 8
NODE_CACHES: Final = ("node-local-dns", "nodelocaldns")
"""ConfigMaps of NodeLocal DNSCache, whose Corefile is read."""
WATCH: Final = ("get", "list", "watch")
_API: Final = "authorization.k8s.io/v1"


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """A request that must be allowed. Without a namespace it concerns all of them."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        what = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        group = f".{self.group}" if self.group else ""
        name = f" {self.name}" if self.name else ""
        where = f"in namespace {self.namespace}" if self.namespace else "in all namespaces"
        return f"{self.verb} {what}{group}{name} {where}"

    def build_attributes(self) -> dict[str, str]:
        """Build the attributes of a review."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value}


class Authority(msgspec.Struct, frozen=True, kw_only=True):
    """The names of the Secret and the ConfigMap of the plugin mtls."""

    secret: str = "maesh-ca"  # noqa: S105 - a name
    config_map: str = TRUST_CONFIG_MAP


class DnsNames(msgspec.Struct, frozen=True, kw_only=True):
    """The objects of the cluster's DNS that the controllers write."""

    deployments: tuple[str, ...] = ()
    config_maps: tuple[str, ...] = ()


class _Status(msgspec.Struct, frozen=True):
    allowed: bool = False
    denied: bool = False


class _Review(msgspec.Struct, frozen=True):
    status: _Status = _Status()


class _User(msgspec.Struct, frozen=True):
    username: str = ""


class _SelfStatus(msgspec.Struct, frozen=True, rename="camel"):
    user_info: _User = _User()


class _SelfReview(msgspec.Struct, frozen=True):
    status: _SelfStatus = _SelfStatus()


def list_watched(kinds: Sequence[ResourceKind], served: Mapping[str, str]) -> list[Permission]:
    """List what is needed to watch these kinds. A kind that is not served needs nothing."""
    found = []
    for kind in kinds:
        if not kind.is_watched or (kind.label not in served and kind.fallback_of is None):
            continue
        group = (served.get(kind.label) or kind.api_versions[0]).rpartition("/")[0]
        found += [Permission(verb=verb, group=group, resource=kind.plural) for verb in WATCH]
    return found


def list_statuses(kinds: Sequence[ResourceKind], served: Mapping[str, str]) -> list[Permission]:
    """List what is needed to write the statuses of these kinds."""
    return [
        Permission(
            verb="patch", group=served[kind.label].rpartition("/")[0], resource=kind.plural, subresource="status"
        )
        for kind in kinds
        if kind.label in served
    ]


def list_leading(namespace: str) -> list[Permission]:
    """List what a leader needs: to hold the Lease, and to write Events and shadow services."""
    lease = {"group": "coordination.k8s.io", "resource": "leases", "namespace": namespace}
    return [
        *(Permission(verb=verb, resource="events") for verb in ("create", "patch")),
        *(Permission(verb=verb, resource="services", namespace=namespace) for verb in ("create", "update", "delete")),
        Permission(verb="create", **lease),
        *(Permission(verb=verb, name=LEASE_NAME, **lease) for verb in ("get", "update")),
    ]


def list_dns(namespace: str, names: DnsNames) -> list[Permission]:
    """List what is needed to keep the cluster's DNS configured, with kube-dns also that of the mesh itself."""
    where = {"namespace": DNS_NAMESPACE}
    own = {"namespace": namespace, "name": MESH_DNS}
    found = [
        *(Permission(verb="list", group="apps", resource=each, **where) for each in ("deployments", "daemonsets")),
        *_list_writes("apps", "deployments", names.deployments),
        *_list_writes("", "configmaps", names.config_maps),
        *(Permission(verb="get", resource="configmaps", name=each, **where) for each in NODE_CACHES),
        Permission(verb="create", resource="configmaps", **where),
        Permission(verb="get", resource="services", **where),
        Permission(verb="get", group="apps", resource="deployments", **own),
    ]
    if KUBE_DNS in names.deployments:
        found += [
            Permission(verb="update", group="apps", resource="deployments", **own),
            Permission(verb="get", resource="services", **own),
            *(Permission(verb=verb, resource="configmaps", **own) for verb in ("get", "update")),
        ]
    return found


def _list_writes(group: str, resource: str, names: Sequence[str]) -> list[Permission]:
    return [
        Permission(verb=verb, group=group, resource=resource, name=name, namespace=DNS_NAMESPACE)
        for name in names
        for verb in ("get", "update")
    ]


def list_authority(namespace: str, names: Authority) -> list[Permission]:
    """List what the plugin mtls needs: reviews of tokens, and its Secret and ConfigMap."""
    reviews = (("authentication.k8s.io", "tokenreviews"), ("authorization.k8s.io", "subjectaccessreviews"))
    objects = (("secrets", names.secret), ("configmaps", names.config_map))
    return [
        *(Permission(verb="create", group=group, resource=resource) for group, resource in reviews),
        Permission(verb="get", resource="nodes"),
        *(
            Permission(verb=verb, resource=resource, name=name, namespace=namespace)
            for resource, name in objects
            for verb in (*WATCH, "update")
        ),
        Permission(verb="create", resource="configmaps", namespace=namespace),
    ]


def list_of_user(namespace: str, *, is_protected: bool) -> list[Permission]:
    """List the permissions that the commands need of their user to reach the controllers' API, protected or not."""
    pods = Permission(verb="list", resource="pods", namespace=namespace)
    if not is_protected:
        return [pods, Permission(verb="get", resource="pods", subresource="proxy", namespace=namespace)]
    return [
        pods,
        Permission(verb="create", resource="pods", subresource="portforward", namespace=namespace),
        Permission(verb="get", resource="configmaps", name=TRUST_CONFIG_MAP, namespace=namespace),
        Permission(verb="create", resource="serviceaccounts", subresource="token", name=VIEWER, namespace=namespace),
    ]


async def check_own(section: SectionBuilder, reader: Reader, wanted: Sequence[Permission]) -> None:
    """Check what the user may do (SelfSubjectAccessReview)."""
    try:
        denied = await _review_all(reader, wanted, {})
    except MaeshError as error:
        section.fail("user-permissions", error)
        return
    section.judge("user-permissions", [f"you may not {each}" for each in denied])


async def check_account(
    section: SectionBuilder, reader: Reader, *, namespace: str, account: str, wanted: Sequence[Permission]
) -> None:
    """Check what a service account may do (SubjectAccessReview); its own user needs no right to ask."""
    name = f"system:serviceaccount:{namespace}:{account}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    try:
        try:
            denied = await _review_all(reader, wanted, {"user": name, "groups": groups})
        except KubernetesError as error:
            if error.status != FORBIDDEN or await _find_own_name(reader) != name:
                raise
            denied = await _review_all(reader, wanted, {})
    except MaeshError as error:
        section.fail("controller-permissions", error)
        return
    count = f"{len(wanted)} permissions of {account}"
    section.judge("controller-permissions", [f"{account} may not {each}" for each in denied], found=[count])


async def _find_own_name(reader: Reader) -> str:
    """Find the user's own name; empty if the API server is older than Kubernetes 1.28."""
    path = build_path("authentication.k8s.io/v1", "selfsubjectreviews")
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    try:
        return (await reader.create(path, body, _SelfReview)).status.user_info.username
    except KubernetesError as error:
        if error.status in (NOT_FOUND, FORBIDDEN):
            return ""
        raise


async def _review_all(reader: Reader, wanted: Sequence[Permission], subject: Mapping[str, Any]) -> list[Permission]:
    """Return the permissions that are denied; without a subject, those of the user. Raises KubernetesError."""
    kind = "SubjectAccessReview" if subject else "SelfSubjectAccessReview"
    path = build_path(_API, f"{kind.lower()}s")
    limit = asyncio.Semaphore(REVIEWS_AT_ONCE)

    async def review(permission: Permission) -> bool:
        spec = {**subject, "resourceAttributes": permission.build_attributes()}
        async with limit:
            found = await reader.create(path, {"apiVersion": _API, "kind": kind, "spec": spec}, _Review)
        return found.status.allowed and not found.status.denied

    results = [await review(permission) for permission in wanted[:1]]  # a refusal needs only one request
    results += await asyncio.gather(*(review(permission) for permission in wanted[1:]))
    return [permission for permission, is_allowed in zip(wanted, results, strict=True) if not is_allowed]
