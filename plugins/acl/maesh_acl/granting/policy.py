"""What `maesh check` reports about access: the kinds of findings, services without rules, and targets that add nothing.

Takes all objects and the nodes of all services with their grants. Other errors are found where targets are read and
resolved (checking.py and grants.py beside it); here they get their codes.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from maesh_smi.kinds import HttpRouteGroup

from maesh_acl import AccessSettings, AclSettings, Grant
from maesh_acl.granting.destinations import group_servers
from maesh_acl.granting.modes import read_object_mode
from maesh_acl.kinds import TARGETS_BY_DESTINATION, TrafficTarget
from maesh_core.plugin import (
    ConfigurationError,
    FindingKind,
    HttpMatch,
    Namespace,
    ObjectKey,
    PolicyFinding,
    PolicyView,
    PortNode,
    Resource,
    ServiceNode,
    build_port_key,
)

TARGET = ("TrafficTarget",)
_is_open_path = re.compile(r"\^?/?[A-Za-z0-9/_-]*[A-Za-z0-9](?:\.\*)?").fullmatch
_PLACE = "metadata.annotations"
COMPARED_LIMIT = 200
"""Limit of grants of one leaf that are compared with each other."""

UNUSED_DESTINATION = FindingKind(
    code="MSH501",
    severity="warning",
    title="a TrafficTarget grants nothing, because no Service has pods with its destination's account",
    hint="correct the destination, or check the folder with the workload, too",
    patterns=(
        "no (?:pod has|service has pods with) its destination's service account .*",
        "its destination has no name, so it grants nothing",
    ),
    kinds=TARGET,
)
UNKNOWN_SOURCE = FindingKind(
    code="MSH502",
    severity="warning",
    title="a source of a TrafficTarget matches no client",
    hint="correct the account and its namespace, or check the folder with the client, too",
    patterns=("source .*",),
    kinds=TARGET,
)
NO_SOURCE = FindingKind(
    code="MSH503",
    severity="warning",
    title="a TrafficTarget has no sources, so it allows no client",
    hint="name the service accounts of the clients",
    patterns=("it has no sources, so it allows no client",),
    kinds=TARGET,
)
ALLOWS_ALL = FindingKind(
    code="MSH504",
    severity="warning",
    title="a TrafficTarget has no rules, so it allows all HTTP requests",
    hint="add rules, or name an HTTPRouteGroup with an empty match to say that this is meant",
    patterns=("it has no rules, so it allows all HTTP requests.*",),
    kinds=TARGET,
)
USELESS_RULES = FindingKind(
    code="MSH505",
    severity="warning",
    title="the rules of a TrafficTarget fit no port of the Service, so it grants no access to it",
    hint="name a route of the kind that fits the traffic type, with the ports of the pods",
    patterns=(".*, so it grants no access to .*",),
    kinds=TARGET,
)
FOREIGN_DESTINATION = FindingKind(
    code="MSH506",
    severity="error",
    title="a TrafficTarget is for another namespace than its own, so it grants nothing",
    hint="move it into the namespace of its destination, or use --set acl.own-namespace-only=false",
    patterns=("its destination is in namespace .*",),
    kinds=TARGET,
)
UNUSABLE_TARGET = FindingKind(
    code="MSH507",
    severity="error",
    title="a TrafficTarget grants nothing, because it or an object that it names has an error",
    hint="correct the names of routes and of their matches; they are in the namespace of the target",
    patterns=(
        r"there is no \w+ .* in namespace .*",
        r"(?:HTTPRouteGroup|TCPRoute|UDPRoute) \S*(?: has |: ).*",
        "a rule has the unknown kind .*",
        "kind .* of the destination is not .*",
        "port .* of the destination is not .*",
        "annotation acl-mode: .*",
    ),
    kinds=TARGET,
)
UNIDENTIFIED_POD = FindingKind(
    code="MSH508",
    severity="notice",
    title="a pod cannot be identified as a client, because others have its address",
    hint="do not use the network of the host for pods that need access",
    patterns=(
        "its address .* is also the address of .*",
        "(?:acl: .* has|it has) its node's address, which identifies no client",
        "acl: address .* is also the address of .*",
    ),
)
UNREAD_SPLIT = FindingKind(
    code="MSH509",
    severity="error",
    title="no client is allowed, because a TrafficSplit cannot be read",
    hint="correct the split: until then it is not known which services a client must be allowed to reach",
    patterns=("acl: no client is allowed while TrafficSplit .*",),
)
NO_ACCESS = FindingKind(
    code="MSH510",
    severity="warning",
    title="a Service has no access rules, so all of its requests are denied",
    hint="add a TrafficTarget for the account of its pods; an annotation names that of servers outside of the mesh",
    patterns=("acl: no client is allowed to reach its servers outside of the mesh; .*",),
    kinds=("Service",),
)
REDUNDANT_TARGET = FindingKind(
    code="MSH511",
    severity="notice",
    title="a TrafficTarget adds nothing, because other targets allow all that it allows",
    hint="remove it, or narrow the others",
)
OPEN_PATH = FindingKind(
    code="MSH512",
    severity="notice",
    title="an access rule for a path also allows paths that only begin like it",
    hint="end the pattern with (/|$) for the path and what is below it, or with $ for this path alone",
)
USELESS_MODE = FindingKind(
    code="MSH513",
    severity="warning",
    title="an annotation acl-mode has no effect, so access control is enforced",
    hint="correct its value, or allow it by --set acl.audit-by-annotation",
    patterns=("acl: annotation acl-mode of .* has no effect.*", "acl: namespace .*; access control is enforced"),
)
AUDITED = FindingKind(
    code="MSH514",
    severity="notice",
    title="an annotation acl-mode puts a namespace, Service or TrafficTarget in audit mode, so nothing is denied there",
    hint="remove the annotation when maesh acl report shows nothing that would be denied",
)
KINDS = (
    *(UNUSED_DESTINATION, UNKNOWN_SOURCE, NO_SOURCE, ALLOWS_ALL, USELESS_RULES, FOREIGN_DESTINATION, UNUSABLE_TARGET),
    *(UNIDENTIFIED_POD, UNREAD_SPLIT, NO_ACCESS, REDUNDANT_TARGET, OPEN_PATH, USELESS_MODE, AUDITED),
)


class AccessPolicyChecker:
    """Finds services without access rules, and targets that add nothing."""

    finding_kinds: Sequence[FindingKind] = KINDS

    def __init__(self, settings: AccessSettings) -> None:
        self._settings = settings

    def check(self, view: PolicyView) -> Iterator[PolicyFinding]:
        """Check all services, then all targets."""
        for node in view.nodes.values():
            yield from _check_access(view, node)
        yield from _check_targets(view)
        yield from _check_paths(view)
        yield from self._check_modes(view)

    def _check_modes(self, view: PolicyView) -> Iterator[PolicyFinding]:
        """Report the objects that put something in audit mode; who checks with acl.mode=audit knows it."""
        namespaces: set[str] = set()
        if self._settings.audit_by_annotation != "none":
            found = view.list_objects(Namespace)
            namespaces = {each.metadata.name for each in found if _has_audit_mode(each)}
        for name in sorted(namespaces):
            text = "access to its services is in audit mode, unless they have a mode of their own"
            yield PolicyFinding(code=AUDITED.code, type=Namespace, key=ObjectKey("", name), text=text, place=_PLACE)
        is_common = self._settings.mode == "audit"
        for node in () if is_common else view.nodes.values():
            if node.key.namespace not in namespaces and any(_is_audited(node, port) for port in node.ports):
                yield PolicyFinding(code=AUDITED.code, key=node.key, text="annotation acl-mode: it is in audit mode")
        for target in filter(_has_audit_mode, view.list_objects(TrafficTarget)):
            text = "its sources may send any HTTP request to its destination"
            yield PolicyFinding(code=AUDITED.code, type=TrafficTarget, key=target.key, text=text, place=_PLACE)


def _has_audit_mode(resource: Resource) -> bool:
    """Whether an object has the annotation; an invalid value is an error of its own."""
    try:
        return read_object_mode(resource.metadata.annotations) == "audit"
    except ConfigurationError:
        return False


def _check_access(view: PolicyView, node: ServiceNode) -> Iterator[PolicyFinding]:
    """Report a service whose own servers get traffic that no target could allow."""
    ports = [port for port in node.ports if port.servers and _reaches_own_pods(port)]
    accounts = {account for port in ports for account in group_servers(node, port)}
    if node.errors or not ports or not accounts:
        return
    if any(view.find(TrafficTarget, TARGETS_BY_DESTINATION, account) for account in accounts):
        return
    names = " or ".join(sorted(map(str, accounts)))
    is_audited = any(_is_audited(node, port) for port in ports)
    effect = "every request is recorded as one to deny" if is_audited else "no client may reach it"
    text = f"no TrafficTarget has the service account {names} of its servers as destination, so {effect}"
    yield PolicyFinding(code=NO_ACCESS.code, key=node.key, text=text)


def _is_audited(node: ServiceNode, port: PortNode) -> bool:
    """Whether what nothing allows to reach a port passes."""
    found = node.additions.get("acl")
    if not isinstance(found, AclSettings):
        return False
    return any(leaf.is_audited for leaf in found.destinations.get(build_port_key(node.key, port.number), ()))


def _reaches_own_pods(port: PortNode) -> bool:
    """Whether requests to a port can reach the service's own pods: neither rules nor a split take all of them."""
    return port.rules is None and all(branch.matches for branch in port.branches)


def _check_targets(view: PolicyView) -> Iterator[PolicyFinding]:
    """Report targets all of whose grants, in all services, are covered by grants of others."""
    useful: set[str] = set()
    covered: dict[str, dict[str, None]] = {}
    for grants in _list_leaves(view):
        for grant in grants:
            other = _find_covering(view, grant, grants)
            if other is None:
                useful.add(grant.target)
            else:
                covered.setdefault(grant.target, {})[other] = None
    for target in view.list_objects(TrafficTarget):
        others = covered.get(str(target.key))
        if others and str(target.key) not in useful:
            text = f"it adds nothing: TrafficTarget {' and '.join(sorted(others))} already allows all that it allows"
            yield PolicyFinding(code=REDUNDANT_TARGET.code, type=TrafficTarget, key=target.key, text=text)


def _list_leaves(view: PolicyView) -> Iterator[tuple[Grant, ...]]:
    """List the grants of each different leaf: services with splits share the grants of their leaves."""
    seen: set[tuple[Grant, ...]] = set()
    for node in view.nodes.values():
        found = node.additions.get("acl")
        if not isinstance(found, AclSettings):
            continue
        tables = [found.destinations, *([found.datagrams] if isinstance(found.datagrams, Mapping) else [])]
        for leaf in (leaf for table in tables for leaves in table.values() for leaf in leaves):
            if leaf.grants not in seen and len(leaf.grants) <= COMPARED_LIMIT:
                seen.add(leaf.grants)
                yield leaf.grants


def _find_covering(view: PolicyView, grant: Grant, grants: Iterable[Grant]) -> str | None:
    """Find another target that allows all that a grant allows; of two equal ones, the first by name is kept."""
    for other in grants:
        if other.target == grant.target or not _covers(view, other, grant):
            continue
        if other.target < grant.target or not _covers(view, grant, other):
            return other.target
    return None


def _covers(view: PolicyView, one: Grant, other: Grant) -> bool:
    """Whether a grant allows everything that another one allows."""
    if other.is_audited and not one.is_audited:
        return False
    if not set(other.sources) <= set(one.sources):
        return False
    if one.servers is not None and not (other.servers is not None and set(other.servers) <= set(one.servers)):
        return False
    wide: Sequence[HttpMatch] = one.matches or (HttpMatch(),)
    return all(any(view.covers(each, match) for each in wide) for match in other.matches or (HttpMatch(),))


def _check_paths(view: PolicyView) -> Iterator[PolicyFinding]:
    """Report paths of access rules that end within a name: `/api` also allows `/apis`."""
    used: dict[ObjectKey, set[str]] = {}
    for target in view.list_objects(TrafficTarget):
        for rule in target.rules if not target.faults else ():
            if rule.kind == "HTTPRouteGroup":
                used.setdefault(ObjectKey(target.metadata.namespace, rule.name), set()).update(rule.matches or ("",))
    for key, names in sorted(used.items()):
        group = view.get(HttpRouteGroup, key)
        if group is None or group.faults:
            continue
        for index, match in enumerate(group.matches):
            if ("" in names or match.name in names) and _is_open_path(match.path_regex):
                path = match.path_regex.removesuffix(".*").removeprefix("^")
                path = path if path.startswith("/") else f"/{path}"
                text = f"match {match.name or f'[{index}]'} also allows paths such as {path}x"
                place = f"spec.matches[{index}].pathRegex"
                yield PolicyFinding(code=OPEN_PATH.code, type=HttpRouteGroup, key=key, text=text, place=place)
