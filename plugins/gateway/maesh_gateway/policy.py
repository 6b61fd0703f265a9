"""The kinds of findings that `maesh check` reports about routes.

The errors themselves are found where routes are read and attached (checking.py, attaching/tables.py); here they get
their codes. The core compares the rules of all routes.
"""

from collections.abc import Iterator, Sequence

from maesh_core.plugin import FindingKind, PolicyFinding, PolicyView
from maesh_gateway.attaching.rules import SESSION
from maesh_gateway.kinds import ROUTE_TYPES
from maesh_gateway.reading.filters import REDIRECT
from maesh_gateway.reading.shapes import GROUP
from maesh_gateway.routes import Route

NO_WEIGHT = "MSH305"
"""A code of the core."""
_WITHOUT_WEIGHT = (REDIRECT, SESSION)
"""Rules with these filters may do without weights: they redirect, or keep sessions at backends of weight 0."""

ROUTES = ("HTTPRoute", "GRPCRoute", f"TCPRoute.{GROUP}", f"UDPRoute.{GROUP}")

MISSING_PARENT = FindingKind(
    code="MSH601",
    severity="error",
    title="a route is for a Service that does not exist",
    hint="correct the name in parentRefs, or check the folder with the Service, too",
    patterns=(r"parentRefs\[\d+\]: (?:there is no service|the mesh knows no service) .*",),
    kinds=ROUTES,
)
USELESS_PARENT = FindingKind(
    code="MSH602",
    severity="warning",
    title="a parent of a route has no effect",
    hint="correct its group and kind, or remove it",
    patterns=(r"parentRefs\[\d+\] has no effect.*",),
    kinds=ROUTES,
)
WRONG_PARENT = FindingKind(
    code="MSH603",
    severity="error",
    title="a route cannot be attached to its parent",
    hint="correct the port or section of the parent, or the traffic type of its port",
    patterns=(
        r"Service \S+ has no .* port.*",
        r"port \d+ of Service \S+ has the traffic type .*",
        r"parentRefs\[\d+\].*",
    ),
    kinds=ROUTES,
)
CONFLICTING_ROUTE = FindingKind(
    code="MSH604",
    severity="error",
    title="a route is not accepted, because another route has its place",
    hint="attach the routes to different ports, or use one kind of route",
    patterns=(r"an? \w+ is attached to the same port of .*", "with older routes, port .*"),
    kinds=ROUTES,
)
PARTLY_USED_ROUTE = FindingKind(
    code="MSH605",
    severity="warning",
    title="a route has no effect on some ports, which use another kind of route",
    hint="name the ports in parentRefs",
    patterns=(r"it has no effect on port \d+ of \S+, which uses .*",),
    kinds=ROUTES,
)
UNUSABLE_BACKEND = FindingKind(
    code="MSH606",
    severity="error",
    title="a backend of a route cannot be used, so its share is answered with an error",
    hint="correct its name, port or kind, or add a ReferenceGrant",
    patterns=(r"rules\[\d+\]: backend .*", r"rules\[\d+\]\S*backendRefs?.*"),
    kinds=ROUTES,
)
UNUSABLE_FILTER = FindingKind(
    code="MSH607",
    severity="error",
    title="a filter of a route cannot be used, so the rule answers with an error",
    hint="correct the filter, or enable the plugin that builds it",
    patterns=(
        r"rules\[\d+\]\S*filters.*",
        r"(?:rules\[\d+\]|rule \S+): no enabled plugin builds .*",
        r"rules\[\d+\]: the mesh has no objects that an .*",
        r"(?:rules\[\d+\]|rule \S+): [A-Z]\w+(?: could not be built)?: .*",
        r"(?:rules\[\d+\]|rule \S+): (?:timeouts|retry|sessionPersistence).*",
    ),
    kinds=ROUTES,
)
UNUSABLE_RULE = FindingKind(
    code="MSH608",
    severity="error",
    title="a rule of a route cannot be used",
    hint="correct the field: the rule is dropped, or answers with an error",
    patterns=(r"rules\[\d+\].*", r"rule \S+: .*"),
    kinds=ROUTES,
)
USELESS_HOSTNAMES = FindingKind(
    code="MSH609",
    severity="warning",
    title="the hostnames of a route have no effect in a mesh",
    hint="match the header Host, or remove them",
    patterns=("hostnames have no effect in a mesh.*",),
    kinds=ROUTES,
)
ROUTE_BEFORE_SPLIT = FindingKind(
    code="MSH610",
    severity="warning",
    title="a Service has both a route and a TrafficSplit, and the route decides",
    hint="remove the TrafficSplit, or the route",
    patterns=(
        r"it has no effect on port \d+, where .* decides?",
        r"on port \d+ it decides in place of .*",
        r"port \d+: .* decides in place of .*",
    ),
)
KINDS = (
    *(MISSING_PARENT, USELESS_PARENT, WRONG_PARENT, CONFLICTING_ROUTE, PARTLY_USED_ROUTE, UNUSABLE_BACKEND),
    *(UNUSABLE_FILTER, UNUSABLE_RULE, USELESS_HOSTNAMES, ROUTE_BEFORE_SPLIT),
)


class RoutePolicyChecker:
    """Finds rules whose backends all have the weight 0: the answer of such a rule replaces its backends."""

    finding_kinds: Sequence[FindingKind] = KINDS

    def check(self, view: PolicyView) -> Iterator[PolicyFinding]:
        """Check the rules of all routes."""
        for type_ in ROUTE_TYPES:
            for route in view.list_objects(type_):
                yield from _check_weights(route) if not route.faults else ()


def _check_weights(route: Route) -> Iterator[PolicyFinding]:
    for rule in route.rules:
        is_without = bool(rule.backends) and not any(backend.weight for backend in rule.backends)
        if is_without and rule.problem is None and not any(each.name in _WITHOUT_WEIGHT for each in rule.filters):
            field = f"rules[{rule.index}]"
            text = f"{field}: no backend has a weight above 0"
            place = f"spec.{field}"
            yield PolicyFinding(code=NO_WEIGHT, type=type(route), key=route.key, text=text, place=place)
