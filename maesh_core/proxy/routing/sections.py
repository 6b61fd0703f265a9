"""One protocol's part of the configuration, with the routers that cannot be used refused.

Takes the current part and a change; returns the next part as a new value. A router that cannot be used is refused
alone: an HTTP router is replaced by one that answers with an error, other routers are left out. All functions are pure.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import msgspec

from maesh_core.model.configuration import (
    ConfigurationObject,
    HttpRouter,
    Section,
    Service,
    StreamRouter,
    chooses_by_rules,
    list_chains,
    list_rule_sets,
    list_targets,
)
from maesh_core.model.matching import find_match_problem
from maesh_core.model.names import AddressTable, fill_service
from maesh_core.model.optional_sections import PROTOCOL_NOUNS
from maesh_core.model.schemes import DEFAULT_SCHEME, TLS
from maesh_core.plugin_system.hookspecs import MiddlewareFactory
from maesh_core.plugin_system.transports import STRICT
from maesh_core.proxy.balancing.kinds import BalancerKinds
from maesh_core.proxy.middleware.checks import HTTP_METHODS, STREAM_METHODS, has_any
from maesh_core.proxy.routing.middlewares import CompiledMiddleware, compile_middlewares
from maesh_core.proxy.transport.paths import MODES

ValueT = TypeVar("ValueT")

SUPPORTED_SCHEMES = frozenset({"http", "https", "h2c"})
"""The schemes in which HTTP routers can call their servers."""
PLAIN_SCHEMES = frozenset({DEFAULT_SCHEME})
STREAM_SCHEMES = PLAIN_SCHEMES | {TLS}
"""Those of protocols without HTTP, of which only TCP has TLS; the default has no effect on them."""


class Refusal(msgspec.Struct, frozen=True):
    """Why a router is refused, and the status that an HTTP router answers.

    Clients read `reason`; `detail` is for operators only.
    """

    reason: str
    status: int = 503
    detail: str = ""

    @property
    def text(self) -> str:
        """Reason and detail, for the log and the admin port."""
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an update for one protocol: the objects in `section` to set, and the keys to remove, by noun.

    `is_full` means that `section` replaces everything.
    """

    section: Section = Section()
    removed: Mapping[str, Collection[str]] = {}
    is_full: bool

    @property
    def has_content(self) -> bool:
        """Whether the change can have an effect."""
        section = self.section
        return bool(self.is_full or self.removed or section.routers or section.services or section.middlewares)


class ResolvedSection(msgspec.Struct, frozen=True, kw_only=True):
    """A protocol's part as received, and as resolved.

    `section` is the part for the handler to compile. `refused` is by router key. `entrypoints` counts the routers of
    each port. `is_encryptable` means that the protocol's handler respects `Service.encryption`. `named` are the keys of
    services with servers that are known by name, and `addresses` those of all names.
    """

    received: Section = Section()
    section: Section = Section()
    middlewares: Mapping[str, CompiledMiddleware] = {}
    refused: Mapping[str, Refusal] = {}
    entrypoints: Mapping[int, int] = {}
    section_refusal: Refusal | None = None
    balancers: BalancerKinds = BalancerKinds()
    is_encryptable: bool = True
    named: frozenset[str] = frozenset()
    addresses: AddressTable = {}


def resolve_section(
    current: ResolvedSection,
    change: Change,
    *,
    factories: Mapping[str, MiddlewareFactory],
    balancers: BalancerKinds,
    section_refusal: Refusal | None,
    is_encryptable: bool = True,
    addresses: AddressTable | None = None,
) -> tuple[ResolvedSection, frozenset[str] | None]:
    """Build the next part; return it with the keys of changed routers and services, or None if all may have changed.

    `section_refusal` refuses every router. Only objects that the change affects are checked. `addresses` are those of
    names, None for the current ones; the change must have the services whose names now have others.
    """
    is_full = change.is_full or section_refusal != current.section_refusal
    received = _merge_sections(current.received, change)
    services = _list_keys(change, "services")
    middlewares, changed_middlewares = compile_middlewares(
        received.middlewares,
        factories,
        current=current.middlewares,
        keys=None if is_full else _list_keys(change, "middlewares"),
    )
    if is_full:
        current = ResolvedSection(received=current.received, addresses=current.addresses)
        routers: set[str] = set(received.routers)
    else:
        routers = _list_keys(change, "routers")
        routers |= _find_affected(current.received, received, services, changed_middlewares)
    resolved = _resolve_routers(
        ResolvedSection(
            received=received,
            section=current.section,
            middlewares=middlewares,
            refused=current.refused,
            entrypoints=current.entrypoints,
            section_refusal=section_refusal,
            balancers=balancers,
            is_encryptable=is_encryptable,
            named=_find_named(received, services, None if is_full else current.named),
            addresses=current.addresses if addresses is None else addresses,
        ),
        routers,
        former=current.received.routers if not is_full else {},
    )
    return resolved, None if is_full else frozenset(routers | services)


def _find_affected(
    former: Section, received: Section, services: Iterable[str], changed_middlewares: set[str]
) -> set[str]:
    """Return the routers that must be checked because one of these services, or a middleware, has changed."""
    affected = {key for key in services if _must_check_users(former.services.get(key), received.services.get(key))}
    if affected:
        affected |= {
            key for key, each in received.services.items() if any(part.service in affected for part in each.parts)
        }
    return _find_users(received, affected, changed_middlewares)


def narrow_change(current: Section, change: Change) -> Change:
    """Reduce a full change to the differences from the current part, ignoring revisions.

    A restarted controller sends everything, most of it unchanged: comparing takes a tenth of the time of compiling.
    """
    if not change.is_full:
        return change
    changed = {noun: _list_differing(getattr(current, noun), getattr(change.section, noun)) for noun in PROTOCOL_NOUNS}
    gone = {noun: getattr(current, noun).keys() - getattr(change.section, noun).keys() for noun in PROTOCOL_NOUNS}
    return Change(
        section=Section(**changed), removed={noun: keys for noun, keys in gone.items() if keys}, is_full=False
    )


def _list_differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in after.items() if key not in before or not _is_same(before[key], value)}


def _is_same(before: Any, after: Any) -> bool:
    if isinstance(before, ConfigurationObject) and type(before) is type(after):
        after = msgspec.structs.replace(after, revision=before.revision)
    return bool(before == after)


def _merge_sections(current: Section, change: Change) -> Section:
    if change.is_full:
        return change.section
    return Section(
        routers=merge_entries(current.routers, change.section.routers, change.removed.get("routers", ())),
        services=merge_entries(current.services, change.section.services, change.removed.get("services", ())),
        middlewares=merge_entries(
            current.middlewares, change.section.middlewares, change.removed.get("middlewares", ())
        ),
    )


def merge_entries(
    current: Mapping[str, ValueT], added: Mapping[str, ValueT], removed: Iterable[str]
) -> Mapping[str, ValueT]:
    """Return entries with some removed and then others added; the same object if there are none of either."""
    if not added and not removed:
        return current
    merged = dict(current)
    for key in removed:
        merged.pop(key, None)
    merged.update(added)
    return merged


def _list_keys(change: Change, noun: str) -> set[str]:
    return {*getattr(change.section, noun), *change.removed.get(noun, ())}


def _must_check_users(before: Service | None, after: Service | None) -> bool:
    """Return whether the service's routers must be checked again; a change of its servers does not require that."""
    return (
        before is None
        or after is None
        or (before.scheme, before.load_balancer) != (after.scheme, after.load_balancer)
        or before.load_balancer_settings != after.load_balancer_settings
        or (before.parts, before.encryption) != (after.parts, after.encryption)
    )


def _find_users(received: Section, services: set[str], middlewares: set[str]) -> set[str]:
    """Find the routers that use any of these."""
    if not services and not middlewares:
        return set()
    return {
        key
        for key, router in received.routers.items()
        if not services.isdisjoint(list_targets(router))
        or (middlewares and not middlewares.isdisjoint(_list_middlewares(router, received.services)))
    }


def _resolve_routers(resolved: ResolvedSection, keys: Iterable[str], *, former: Mapping[str, Any]) -> ResolvedSection:
    routers = dict(resolved.section.routers)
    refused = dict(resolved.refused)
    entrypoints = dict(resolved.entrypoints)
    for key in keys:
        routers.pop(key, None)
        refused.pop(key, None)
        _count_entrypoint(entrypoints, former.get(key), -1)
        router = resolved.received.routers.get(key)
        if router is None:
            continue
        _count_entrypoint(entrypoints, router, 1)
        refusal = resolved.section_refusal or _judge_router(router, resolved)
        if refusal is not None:
            refused[key] = refusal
            router = _close_router(router, refusal)
        if router is not None:
            routers[key] = router
    section = Section(routers=routers, services=_fill_names(resolved), middlewares=resolved.received.middlewares)
    return msgspec.structs.replace(resolved, section=section, refused=refused, entrypoints=entrypoints)


def _find_named(received: Section, changed: Iterable[str], known: frozenset[str] | None) -> frozenset[str]:
    """Find the services with servers that are known by name; with `known`, only the changed ones are examined."""
    services = received.services
    if known is None:
        return frozenset(key for key, service in services.items() if service.names)
    found = frozenset(key for key in changed if key in services and services[key].names)
    return known.difference(changed) | found if known or found else known


def _fill_names(resolved: ResolvedSection) -> Mapping[str, Service]:
    """Return the services, those with names with servers for what the names resolve to."""
    services = resolved.received.services
    if not resolved.named:
        return services
    return {**services, **{key: fill_service(services[key], resolved.addresses) for key in resolved.named}}


def _count_entrypoint(entrypoints: dict[int, int], router: Any, step: int) -> None:
    """Update the counts of a router's entrypoints. A refused router keeps them open, to answer with its error."""
    if router is None or isinstance(router, dict):
        return
    own = getattr(router, "own_entrypoint", 0)
    for entrypoint in (router.entrypoint, own) if own else (router.entrypoint,):
        count = entrypoints.get(entrypoint, 0) + step
        if count:
            entrypoints[entrypoint] = count
        else:
            del entrypoints[entrypoint]


def _judge_router(router: Any, resolved: ResolvedSection) -> Refusal | None:
    for service_key in list_targets(router):
        refusal = _judge_service(service_key, resolved, is_http=isinstance(router, HttpRouter))
        if refusal is not None:
            return refusal
    refusal = _judge_matches(router) or _judge_parts(router, resolved.received.services)
    if refusal is not None:
        return refusal
    for key in _list_middlewares(router, resolved.received.services):
        compiled = resolved.middlewares.get(key)
        if compiled is None:
            return Refusal(f"middleware {key} is not in the configuration")
        if compiled.failure is not None:
            return Refusal(compiled.failure, detail=compiled.detail)
        if (problem := _find_idle_problem(router, compiled.instance)) is not None:
            return Refusal(f"middleware {compiled.kind} {problem}")
    return None


def _judge_matches(router: Any) -> Refusal | None:
    for branch in getattr(router, "branches", ()):
        if (problem := find_match_problem(branch.matches)) is not None:
            return Refusal("the matches of a branch are invalid", detail=problem)
    for rules in list_rule_sets(router) if isinstance(router, HttpRouter) else ():
        if (problem := find_match_problem([each.match for each in rules.order])) is not None:
            return Refusal("the matches of a rule are invalid", detail=problem)
    return None


def _judge_parts(router: Any, services: Mapping[str, Service]) -> Refusal | None:
    """Refuse middlewares of parts that would never be called, since they may restrict access: only rules call them."""
    if isinstance(router, HttpRouter) and chooses_by_rules(router):
        return None
    for key in list_targets(router):
        for part in services[key].parts:
            if part.middlewares:
                return Refusal(f"part {part.service} has middlewares, but its router has no rules")
    return None


def _find_idle_problem(router: Any, middleware: object) -> str | None:
    """Return why a middleware would never be called on a router. It is an error, since it may restrict access."""
    if isinstance(router, HttpRouter) and not has_any(middleware, HTTP_METHODS):
        return "has no method that is called for a request"
    if isinstance(router, StreamRouter) and not has_any(middleware, STREAM_METHODS):
        return "has no on_connect, so it cannot decide who may connect"
    return None


def _judge_service(key: str, resolved: ResolvedSection, *, is_http: bool, is_part: bool = False) -> Refusal | None:
    service = resolved.received.services.get(key)
    if service is None:
        return Refusal(f"service {key} is not in the configuration")
    if is_part and service.parts:
        return Refusal(f"service {key} is a part of another service, but has parts itself")
    if service.encryption not in MODES:
        return Refusal(f"encryption {service.encryption} is not supported by this proxy")
    if service.encryption == STRICT and not resolved.is_encryptable:
        return Refusal("encryption is required, but the traffic of this protocol is not encrypted")
    if is_http and service.scheme not in SUPPORTED_SCHEMES:
        return Refusal(f"scheme {service.scheme} is not supported by this proxy")
    if not is_http and service.scheme not in (STREAM_SCHEMES if resolved.is_encryptable else PLAIN_SCHEMES):
        return Refusal(f"scheme {service.scheme} is not supported by this proxy")
    if is_http and (problem := resolved.balancers.find_problem(service)):
        return Refusal(problem[0], detail=problem[1])
    judged = (_judge_service(part.service, resolved, is_http=is_http, is_part=True) for part in service.parts)
    return next((refusal for refusal in judged if refusal is not None), None)


def _close_router(router: Any, refusal: Refusal) -> HttpRouter | None:
    """Build the replacement of a refused router; None for protocols that cannot send an error."""
    if not isinstance(router, HttpRouter):
        return None
    return msgspec.structs.replace(
        router,
        service=None,
        middlewares=(),
        branches=(),
        rules=None,
        consumers={},
        fallback=None,
        side_services=(),
        status=refusal.status,
        reason=refusal.reason,
    )


def _list_middlewares(router: Any, services: Mapping[str, Service]) -> frozenset[str]:
    """List the middlewares of a router, of its rules, and of the parts of its services."""
    found = {key for chain in list_chains(router) for key in chain}
    for target in list_targets(router):
        if target in services:
            found |= {key for part in services[target].parts for key in part.middlewares}
    return frozenset(found)
