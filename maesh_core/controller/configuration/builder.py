"""Builds the configuration of one service.

Takes a ServiceNode, the catalogue, and the entrypoints from the port table; returns a ServiceConfiguration. Each group
of ports (port_plan.py) is built separately (group_build.py), and the results are joined here. Exceptions other than
ConfigurationError are passed to the caller.
"""

from collections.abc import Iterable, Iterator, Sequence

from maesh_core.controller.configuration.catalogue import Catalogue
from maesh_core.controller.configuration.group_build import GroupBuild, GroupResult, collapse_texts
from maesh_core.controller.configuration.port_plan import PortGroup, find_full_name, list_groups
from maesh_core.controller.configuration.port_statuses import describe_port, describe_problem, describe_unserved_port
from maesh_core.controller.configuration.ranges import Entrypoints, PendingPorts
from maesh_core.model.annotations import LOAD_BALANCER
from maesh_core.model.configuration import Middleware, Section, ServiceConfiguration
from maesh_core.model.topology import ServiceNode
from maesh_core.model.transport import MODES


def build_service_configuration(
    node: ServiceNode,
    *,
    catalogue: Catalogue,
    entrypoints: Entrypoints,
    pending: PendingPorts | None = None,
    errors: Sequence[str] = (),
) -> ServiceConfiguration:
    """Build one service's configuration.

    `entrypoints` has the assigned ones, by range and port number. A port that is not in it is left out with an error,
    or with a notice if it is `pending`. Shared entrypoints are computed here. `errors` are further errors from the
    caller; each closes the service, and no middleware builder is called then, because one may be what failed.
    """
    groups = list_groups(node, catalogue)
    is_served = any(group.suitable for group in groups)
    shared: dict[tuple[str | None, str], Middleware] = {}
    builds = [
        GroupBuild(
            node,
            group,
            catalogue,
            errors=errors,
            pending=pending or {},
            shared_middlewares=shared,
            must_serve=not is_served,
        )
        for group in groups
    ]
    results = [build.run(entrypoints) for build in builds]
    return _join(node, results, notices=_list_unclaimed(node, groups, catalogue))


def _join(node: ServiceNode, results: Sequence[GroupResult], *, notices: Iterable[str]) -> ServiceConfiguration:
    """Join the results of all groups of a service."""
    sections: dict[str, Section] = {}
    for name, section in ((name, section) for result in results for name, section in result.sections.items()):
        known = sections.get(name)
        sections[name] = section if known is None else _merge_sections(known, section)
    described = {
        (place.port.number, place.port.protocol): describe_port(place, result.group, is_http="http" in result.sections)
        for result in results
        for place in result.places
    }
    modes = [result.mode for result in results if result.mode]
    problems = tuple(problem for result in results for problem in result.rule_problems)
    errors = [*_chain(each.errors for each in results), *_chain(each.port_errors for each in results)]
    shown_problems = map(describe_problem, (*node.rule_problems, *problems))
    return ServiceConfiguration(
        sections=sections,
        ports=tuple(described.get((port.number, port.protocol)) or describe_unserved_port(port) for port in node.ports),
        errors=collapse_texts(errors),
        notices=collapse_texts([*node.notices, *notices, *_chain(each.notices for each in results), *shown_problems]),
        encryption=min(modes, key=MODES.index, default=""),
        rule_problems=problems,
    )


def _merge_sections(one: Section, other: Section) -> Section:
    return Section(
        routers={**one.routers, **other.routers},
        services={**one.services, **other.services},
        middlewares={**one.middlewares, **other.middlewares},
    )


def _chain(texts: Iterable[Iterable[str]]) -> Iterator[str]:
    return (text for each in texts for text in each)


def _list_unclaimed(node: ServiceNode, groups: Sequence[PortGroup], catalogue: Catalogue) -> Iterator[str]:
    """Describe the annotations that have no effect."""
    names = {name for port in node.ports for name in (port.name, str(port.number)) if name}
    for full_name in sorted(node.annotations, key=lambda each: each.partition("/")[2]):
        mistake = catalogue.find_annotation_mistake(full_name, names)
        if mistake is not None:
            yield f"annotation {full_name}: {mistake}"
    for group in groups:
        for name in group.annotations:
            balancer = catalogue.find_balancer(name)
            if balancer is not None and group.annotations.get(LOAD_BALANCER) != balancer:
                meant = f"it has no effect without {LOAD_BALANCER}: {balancer}"
                yield f"annotation {find_full_name(node, name, group)}: {meant}"
