"""Finds the services whose routers have guards: middlewares of plugins that decide about access.

Takes a protocol's section and the kinds of guards; returns keys of services. All functions are pure.
"""

from collections.abc import Collection, Iterable

from maesh_core.model.configuration import Section, list_chains, list_targets


def list_guards(section: Section, kinds: Collection[str]) -> frozenset[str]:
    """Return the keys of the middlewares that are guards."""
    return frozenset(key for key, middleware in section.middlewares.items() if middleware.kind in kinds)


def list_guarded(section: Section, kinds: Collection[str]) -> frozenset[str]:
    """Return the services that a router with a guard leads to, with their parts."""
    guards = list_guards(section, kinds)
    if not guards:
        return frozenset()
    routers = (
        key
        for key, router in section.routers.items()
        if any(not guards.isdisjoint(chain) for chain in list_chains(router))
    )
    return list_reached(section, routers)


def list_reached(section: Section, routers: Iterable[str]) -> frozenset[str]:
    """Return the services that these routers lead to, with their parts; other keys are ignored."""
    found: set[str] = set()
    for key in routers:
        router = section.routers.get(key)
        for target in list_targets(router) if router is not None else ():
            found.add(target)
            service = section.services.get(target)
            if service is not None:
                found.update(part.service for part in service.parts)
    return frozenset(found)
