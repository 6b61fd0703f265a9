"""Reads the filters of a rule or of a backend: their types, and which of them may be together.

Takes decoded filters with what was written; returns values for the plugins that build them, unchanged but for the
backend of a mirror. Raises FilterError if the parts of a filter do not fit together, or not to its rule: such an error
closes the rule, and is in the status of the route. What those plugins check too is one function of the core.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from maesh_core.plugin import ConfigurationError, ObjectKey, PathModifier, check_path_modifier, read_request_share
from maesh_gateway.reading.shapes import FilterShape, HttpMatchShape, MirrorShape, ObjectShape, PathShape
from maesh_gateway.routes import BackendRef, Reason, RouteFilter

MIRROR = "RequestMirror"
REDIRECT = "RequestRedirect"
REWRITE = "URLRewrite"
EXTENSION = "ExtensionRef"

_FIELDS: Mapping[str, tuple[str, str]] = {
    "RequestHeaderModifier": ("request_header_modifier", "requestHeaderModifier"),
    "ResponseHeaderModifier": ("response_header_modifier", "responseHeaderModifier"),
    REDIRECT: ("request_redirect", "requestRedirect"),
    REWRITE: ("url_rewrite", "urlRewrite"),
    MIRROR: ("request_mirror", "requestMirror"),
    "CORS": ("cors", "cors"),
    EXTENSION: ("extension_ref", "extensionRef"),
}
"""The field of each type, as decoded and as written."""
_GRPC_TYPES = frozenset({"RequestHeaderModifier", "ResponseHeaderModifier", MIRROR, EXTENSION})
_REPEATABLE = frozenset({MIRROR, EXTENSION})


class FilterError(ConfigurationError):
    """Filters that cannot be used; `reason` is that of the condition Accepted."""

    def __init__(self, text: str, reason: Reason = "UnsupportedValue") -> None:
        super().__init__(text)
        self.reason: Reason = reason


def read_filters(
    shapes: Sequence[FilterShape], written: object, *, place: str, namespace: str, is_grpc: bool
) -> tuple[RouteFilter, ...]:
    """Read filters, in order; `written` is the list that `shapes` were decoded from. Raises FilterError."""
    items = written if isinstance(written, list | tuple) else ()
    found = []
    types: set[str] = set()
    for index, (shape, item) in enumerate(zip(shapes, items, strict=True)):
        if shape.type in types and shape.type not in _REPEATABLE:
            raise FilterError(f"{place}: {shape.type} appears more than once")
        types.add(shape.type)
        found.append(_read_filter(shape, item, place=f"{place}[{index}]", namespace=namespace, is_grpc=is_grpc))
    if {REDIRECT, REWRITE} <= types:
        raise FilterError(f"{place}: {REDIRECT} and {REWRITE} cannot be together", "IncompatibleFilters")
    return tuple(found)


def _read_filter(
    shape: FilterShape, written: Mapping[str, Any], *, place: str, namespace: str, is_grpc: bool
) -> RouteFilter:
    field = _FIELDS.get(shape.type)
    if field is None or (is_grpc and shape.type not in _GRPC_TYPES):
        known = ", ".join(sorted(_GRPC_TYPES if is_grpc else _FIELDS))
        raise FilterError(f"{place}.type: {shape.type[:80]!r} is not supported; known here: {known}")
    own, own_written = field
    set_fields = [name for name in FilterShape.__struct_fields__ if name != "type" and getattr(shape, name) is not None]
    if set_fields != [own]:
        raise FilterError(f"{place}: a filter of type {shape.type} has the field {own_written}, and no other one")
    value: Mapping[str, Any] = written[own_written]
    if shape.type == MIRROR and shape.request_mirror is not None:
        return _read_mirror(shape.request_mirror.backend_ref, shape, value, place=place, namespace=namespace)
    for each in (shape.request_redirect, shape.url_rewrite):
        if each is not None and each.path is not None:
            _check_path(each.path, place)
    return RouteFilter(name=shape.type, value=value)


def _read_mirror(
    backend: ObjectShape, shape: FilterShape, value: Mapping[str, Any], *, place: str, namespace: str
) -> RouteFilter:
    mirror = shape.request_mirror
    if mirror is not None:
        _check_share(mirror, place)
    reference = read_backend(backend, namespace=namespace, place=f"{place}.requestMirror.backendRef")
    rest = {name: item for name, item in value.items() if name != "backendRef"}
    return RouteFilter(name=MIRROR, value=rest, mirror=reference)


def read_backend(
    shape: ObjectShape, *, namespace: str, place: str, weight: int = 1, filters: tuple[RouteFilter, ...] = ()
) -> BackendRef:
    """Read a reference to a backend. Raises FilterError if it lacks what the CRD requires."""
    if not shape.name:
        raise FilterError(f"{place}.name is missing")
    if shape.port is None and shape.kind == "Service" and shape.group == "":
        raise FilterError(f"{place}.port is missing")
    return BackendRef(
        key=ObjectKey(shape.namespace or namespace, shape.name),
        port=shape.port or 0,
        weight=weight,
        group=shape.group,
        kind=shape.kind,
        filters=filters,
    )


def _check_share(mirror: MirrorShape, place: str) -> None:
    """Check a share as the plugin that builds mirrors does; here, an error is in the status of the route."""
    fraction = None
    if mirror.fraction is not None:
        numerator = mirror.fraction.numerator
        fraction = (None if isinstance(numerator, msgspec.UnsetType) else numerator, mirror.fraction.denominator)
    try:
        read_request_share(mirror.percent, fraction)
    except ConfigurationError as error:
        raise FilterError(f"{place}.requestMirror: {error}") from None


def _check_path(path: PathShape, place: str) -> None:
    """Check a path modifier as the plugins that build redirects and rewrites do."""
    kind = "" if isinstance(path.type, msgspec.UnsetType) else path.type
    modifier = PathModifier(
        type=kind, replace_full_path=path.replace_full_path, replace_prefix_match=path.replace_prefix_match
    )
    try:
        check_path_modifier(modifier)
    except ConfigurationError as error:
        raise FilterError(f"{place}.{error}") from None


def check_prefixes(filters: Sequence[RouteFilter], matches: Sequence[HttpMatchShape], place: str) -> None:
    """Refuse a replaced prefix in a rule without exactly one prefix. Raises FilterError."""
    for each in filters:
        path = each.value.get("path")
        if each.name not in (REDIRECT, REWRITE) or not isinstance(path, Mapping):
            continue
        if path.get("type") == "ReplacePrefixMatch" and [match.path.type for match in matches] != ["PathPrefix"]:
            raise FilterError(f"{place}: ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix")
