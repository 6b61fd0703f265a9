"""Checks the section of a service before it is served: its keys, its references, and the middlewares of access control.

Takes what a traffic type and the filters of its rules have returned; raises ConfigurationError. Changes nothing.
"""

from collections.abc import Sequence

from maesh_core.errors import ConfigurationError
from maesh_core.model.configuration import HttpRouter, Section, list_chains, list_targets
from maesh_core.model.keys import ObjectKey


def check_section(key: ObjectKey, section: Section) -> None:
    """Refuse keys outside the service's own namespace of keys, and references that do not resolve.

    A proxy applies a configuration completely or not at all, so one broken reference would block every change.
    """
    own = (f"{key.namespace}/{key.name}:", f"{key.namespace}/{key.name}/")
    for name in (*section.routers, *section.services, *section.middlewares):
        if not name.startswith(own):
            raise ConfigurationError(
                f"its traffic type returned the key {name!r}, which does not belong to the service"
            )
    for name, router in section.routers.items():
        for service in list_targets(router):
            if service not in section.services:
                raise ConfigurationError(f"its traffic type returned the router {name!r} without its service")
        if any(middleware not in section.middlewares for chain in list_chains(router) for middleware in chain):
            raise ConfigurationError(f"its traffic type returned the router {name!r} without one of its middlewares")

    for name, divided in section.services.items():
        if any(part.service not in section.services for part in getattr(divided, "parts", ())):
            raise ConfigurationError(f"its traffic type returned the service {name!r} without one of its parts")


def check_guarded(section: Section, guards: Sequence[str]) -> None:
    """Refuse a router without the middlewares that control access, because it would admit everybody."""
    for name, router in section.routers.items():
        if isinstance(router, HttpRouter) and not list_targets(router):
            continue  # it is closed
        parts = (part for each in list_targets(router) for part in getattr(section.services[each], "parts", ()))
        chains = (*list_chains(router), *(part.middlewares for part in parts if part.middlewares))
        for guard in guards:
            if not all(guard in chain for chain in chains):
                raise ConfigurationError(
                    f"its traffic type returned the router {name!r} without the middleware {guard!r}"
                )
