"""The catalogue: traffic types, and middlewares with their annotations, of the core and the enabled plugins.

Takes the results of hooks, in any order; returns them sorted and without conflicts, or raises a PluginError that names
both sides.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar, cast

import msgspec

from maesh_core.controller.configuration.annotation_values import CORE_ANNOTATIONS
from maesh_core.controller.configuration.http import LOAD_BALANCERS
from maesh_core.errors import PluginError
from maesh_core.model.annotations import PREFIXES
from maesh_core.model.configuration import HttpRouter, Section
from maesh_core.model.keys import is_label
from maesh_core.model.messages import FIXED_FIELDS
from maesh_core.plugin_system.hookspecs import BalancerBuilder, FilteringBuilder, MiddlewareBuilder
from maesh_core.plugin_system.protocols import TrafficType
from maesh_core.plugin_system.transports import TransportRules
from maesh_core.values.spelling import find_similar, suggest

_ItemT = TypeVar("_ItemT")
_Claiming = MiddlewareBuilder | BalancerBuilder | TransportRules
Describe = Callable[[object], str]
"""Names the plugin, with its distribution, that provided an object."""


def describe_type(item: object) -> str:
    """Name an object by its type, if its plugin is not known."""
    return f"{type(item).__module__}.{type(item).__qualname__}"


class Catalogue:
    """Traffic types by name, and middleware builders in the order of the chain, outermost first.

    Of balancer builders it only stores the claimed annotations; the traffic type calls them. `switches` explain, by
    annotation and by traffic type, how to enable a plugin that is not enabled. `transport` has the rules of the enabled
    transport, if there is one.
    """

    __slots__ = (
        "_balancers",
        "_claimed",
        "_filters",
        "_switches",
        "_type_switches",
        "middleware_builders",
        "traffic_types",
        "transport",
    )

    traffic_types: Mapping[str, TrafficType]
    middleware_builders: Sequence[MiddlewareBuilder]

    def __init__(
        self,
        traffic_types: Iterable[TrafficType],
        middleware_builders: Iterable[MiddlewareBuilder] = (),
        balancers: Mapping[str, BalancerBuilder] | None = None,
        *,
        transport: TransportRules | None = None,
        switches: Mapping[str, str] | None = None,
        type_switches: Mapping[str, str] | None = None,
        describe: Describe = describe_type,
    ) -> None:
        self._switches = switches or {}
        self._type_switches = type_switches or {}
        types = _index(((type_.name, type_) for type_ in traffic_types), "traffic type", describe)
        builders = _index(((builder.kind, builder) for builder in middleware_builders), "middleware kind", describe)
        _check_names(types, builders, describe)
        self.traffic_types = dict(sorted(types.items()))
        self.middleware_builders = sorted(builders.values(), key=lambda builder: (builder.stage, builder.kind))
        self.transport = transport
        claiming: list[_Claiming] = [*self.middleware_builders, *(balancers or {}).values()]
        self._claimed = _index_annotations([*claiming, *([transport] if transport else [])], describe)
        self._filters = _index_filters(self.middleware_builders, describe)
        self._balancers = {
            annotation: name for name, builder in (balancers or {}).items() for annotation in builder.annotations
        }

    def __repr__(self) -> str:
        kinds = [builder.kind for builder in self.middleware_builders]
        return f"<Catalogue traffic types {list(self.traffic_types)}, middlewares {kinds}>"

    def is_claimed(self, annotation: str) -> bool:
        """Whether the core or an enabled plugin reads an annotation, given without prefix."""
        return annotation in CORE_ANNOTATIONS or annotation in self._claimed

    def find_annotation_mistake(self, full_name: str, ports: Collection[str] = ()) -> str | None:
        """Explain why an annotation on a service has no effect; None if it is read, or is not meant for the mesh.

        `ports` are the names and numbers of the service's ports: `PORT.NAME` is an annotation of one port.
        """
        prefix, slash, name = full_name.partition("/") if "/" in full_name else ("", "", full_name)
        port, dot, of_port = name.partition(".")
        if dot and prefix + slash in PREFIXES:
            if port not in ports:
                return f"the service has no port {port}{suggest(port, ports)}"
            name = of_port
        is_known = self.is_claimed(name) or name in self._switches
        if prefix + slash in PREFIXES:
            return None if self.is_claimed(name) else f"no enabled plugin reads it{self._explain_unread(name)}"
        if is_known and find_similar(prefix, (each.removesuffix("/") for each in PREFIXES)):
            return f"it has no effect with this prefix; the mesh's are {' and '.join(PREFIXES)}"
        if is_known and not slash and "-" in name:  # a single word could belong to anybody
            return f"it has no effect without a prefix; the mesh's are {' and '.join(PREFIXES)}"
        return None

    def _explain_unread(self, name: str) -> str:
        if name in self._switches:
            return f": {self._switches[name]}"
        return suggest(name, (*CORE_ANNOTATIONS, *self._claimed, *self._switches))

    def describe_unknown_type(self, name: str) -> str:
        """Describe an unsupported traffic type: which types are supported, and which one may be meant."""
        known = ", ".join(self.traffic_types) or "none"
        text = f"no enabled plugin supports traffic type {name!r}; known: {known}"
        if name in self._type_switches:
            return f"{text}; {self._type_switches[name]}"
        return text + suggest(name, self.traffic_types)

    def close_section(self, section: Section) -> Section:
        """Let the builders of stage ADMISSION choose the status that the hosts of a closed service answer with."""
        statuses = [getattr(builder, "closed_status", None) for builder in self.middleware_builders]
        status = next((each for each in statuses if each is not None), None)
        if status is None:
            return section
        routers = {
            key: msgspec.structs.replace(router, status=status) if isinstance(router, HttpRouter) else router
            for key, router in section.routers.items()
        }
        return msgspec.structs.replace(section, routers=routers)

    def find_filter(self, name: str) -> FilteringBuilder | None:
        """Find the builder of a filter of the Gateway API; None if no enabled plugin builds it."""
        return self._filters.get(name)

    @property
    def filters(self) -> frozenset[str]:
        """The names of all filters."""
        return frozenset(self._filters)

    def find_balancer(self, annotation: str) -> str | None:
        """Find the load balancer that claims an annotation."""
        return self._balancers.get(annotation)


def index_balancers(
    builders: Iterable[BalancerBuilder], describe: Describe = describe_type
) -> dict[str, BalancerBuilder]:
    """Index balancers by name; raises PluginError if two have the same name, or one has a name of the core's."""
    found = _index(((builder.name, builder) for builder in builders), "load balancer", describe)
    for name, builder in found.items():
        if name in LOAD_BALANCERS or not is_label(name):
            raise PluginError(f"{describe(builder)} names its load balancer {name!r}, which is not a valid name")
    return dict(sorted(found.items()))


def _index(items: Iterable[tuple[str, _ItemT]], what: str, describe: Describe) -> dict[str, _ItemT]:
    found: dict[str, _ItemT] = {}
    for name, item in items:
        if name in found:
            raise PluginError(f"{what} {name!r} is claimed by both {describe(found[name])} and {describe(item)}")
        found[name] = item
    return found


def _index_annotations(builders: Iterable[_Claiming], describe: Describe) -> Mapping[str, _Claiming]:
    claims = [(annotation, builder) for builder in builders for annotation in builder.annotations]
    for annotation, builder in claims:
        if annotation in CORE_ANNOTATIONS:
            raise PluginError(f"annotation {annotation!r} is claimed by both the core and {describe(builder)}")
    return _index(claims, "annotation", describe)


def _index_filters(builders: Iterable[MiddlewareBuilder], describe: Describe) -> Mapping[str, FilteringBuilder]:
    filtering = (cast("FilteringBuilder", each) for each in builders if getattr(each, "filters", ()))
    return _index(((name, builder) for builder in filtering for name in builder.filters), "filter", describe)


def _check_names(
    types: Mapping[str, TrafficType], builders: Mapping[str, MiddlewareBuilder], describe: Describe
) -> None:
    """Refuse names that would make keys or wire paths ambiguous."""
    for name, type_ in types.items():
        if not is_label(name) or name in FIXED_FIELDS:
            raise PluginError(f"{describe(type_)} names its traffic type {name!r}, which is not a valid name")
    for kind, builder in builders.items():
        if not is_label(kind):
            raise PluginError(f"{describe(builder)} names its middleware {kind!r}, which is not a valid name")
