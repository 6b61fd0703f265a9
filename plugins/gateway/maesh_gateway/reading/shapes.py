"""What is written in the Gateway API's objects: the fields, types, enumerations and limits of their CRDs.

Structs for `decode_strictly`, one for each part that is decoded by itself. An unknown field is a fault. Rules across
fields are checked elsewhere (filters.py, matching.py). Values of filters are only checked in shape: the plugins that
build the filters check the values.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

GROUP = "gateway.networking.k8s.io"

Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(min_length=1, max_length=253)]
Token = Annotated[
    str,
    Meta(
        max_length=256,
        pattern=r"\A[A-Za-z0-9!#$%&'*+\-.^_`|~]+\Z",
        description="a name of letters, digits and !#$%&'*+-.^_`|~",
    ),
]
"""The name of a header, a query parameter or a cookie."""
Value = Annotated[str, Meta(min_length=1, max_length=4096)]
Time = Annotated[
    str, Meta(pattern=r"\A([0-9]{1,5}(h|m|s|ms)){1,4}\Z", description="a duration such as 500ms, 10s or 1m30s")
]
"""A duration (GEP-2257)."""
Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
MatchType = Literal["Exact", "RegularExpression"]


class Shape(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """Base of the parts."""


# --- routes ----------------------------------------------------------------------------------------------------------


class ParentShape(Shape, frozen=True):
    """A `parentRef`."""

    group: Annotated[str, Meta(max_length=253)] = GROUP
    kind: str = "Gateway"
    namespace: str = ""
    name: Name = ""
    section_name: Annotated[str, Meta(max_length=253)] = ""
    port: Port | None = None


Limited = Annotated[tuple[Any, ...], Meta(min_length=1, max_length=16)]


class RouteSpecShape(Shape, frozen=True):
    """`spec` of a route: parents and rules are decoded one by one."""

    parent_refs: Annotated[tuple[Any, ...], Meta(max_length=32)] = ()
    hostnames: Annotated[tuple[str, ...], Meta(max_length=16)] = ()
    rules: Limited | msgspec.UnsetType = msgspec.UNSET
    use_default_gateways: str = ""


class RouteShape(Shape, frozen=True):
    """The fields of a route without its metadata."""

    spec: RouteSpecShape = RouteSpecShape()


# --- filters ---------------------------------------------------------------------------------------------------------


class HeaderShape(Shape, frozen=True):
    """A header to set or add."""

    name: Token = ""
    value: Value = ""


class HeaderModifierShape(Shape, frozen=True):
    """`requestHeaderModifier`, `responseHeaderModifier`."""

    set: Annotated[tuple[HeaderShape, ...], Meta(max_length=16)] = ()
    add: Annotated[tuple[HeaderShape, ...], Meta(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], Meta(max_length=16)] = ()


class PathShape(Shape, frozen=True):
    """`path` of a redirect or a rewrite."""

    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"] | msgspec.UnsetType = msgspec.UNSET
    replace_full_path: Annotated[str, Meta(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Meta(max_length=1024)] | None = None


class RedirectShape(Shape, frozen=True):
    """`requestRedirect`."""

    scheme: Literal["http", "https"] | None = None
    hostname: Name | None = None
    path: PathShape | None = None
    port: Port | None = None
    status_code: Literal[301, 302, 303, 307, 308] | None = None


class RewriteShape(Shape, frozen=True):
    """`urlRewrite`."""

    hostname: Name | None = None
    path: PathShape | None = None


class FractionShape(Shape, frozen=True):
    """`fraction` of a mirror."""

    numerator: Count | msgspec.UnsetType = msgspec.UNSET
    denominator: Annotated[int, Meta(ge=1, le=2**31 - 1)] = 100


class ObjectShape(Shape, frozen=True):
    """A reference to a backend, without a weight."""

    group: Annotated[str, Meta(max_length=253)] = ""
    kind: Annotated[str, Meta(min_length=1, max_length=63)] = "Service"
    namespace: str = ""
    name: Name = ""
    port: Port | None = None


class MirrorShape(Shape, frozen=True):
    """`requestMirror`."""

    backend_ref: ObjectShape = ObjectShape()
    percent: Annotated[int, Meta(ge=0, le=100)] | None = None
    fraction: FractionShape | None = None


_HeaderNames = Annotated[tuple[str, ...], Meta(max_length=64)]


class CorsShape(Shape, frozen=True):
    """`cors`."""

    allow_origins: Annotated[tuple[Annotated[str, Meta(min_length=1, max_length=253)], ...], Meta(max_length=64)] = ()
    allow_credentials: bool = False
    allow_methods: Annotated[tuple[str, ...], Meta(max_length=9)] = ()
    allow_headers: _HeaderNames = ()
    expose_headers: _HeaderNames = ()
    max_age: Int32 = 5


class FilterShape(Shape, frozen=True):
    """A filter of a rule or a backend of an HTTPRoute or a GRPCRoute; `type` decides which field it must have."""

    type: str = ""
    request_header_modifier: HeaderModifierShape | None = None
    response_header_modifier: HeaderModifierShape | None = None
    request_redirect: RedirectShape | None = None
    url_rewrite: RewriteShape | None = None
    request_mirror: MirrorShape | None = None
    cors: CorsShape | None = None
    extension_ref: dict[str, Any] | None = None
    external_auth: dict[str, Any] | None = None


Filters = Annotated[tuple[FilterShape, ...], Meta(max_length=16)]


# --- rules -----------------------------------------------------------------------------------------------------------


class BackendShape(ObjectShape, frozen=True):
    """A `backendRef`."""

    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    filters: Filters = ()


Backends = Annotated[tuple[BackendShape, ...], Meta(max_length=16)]


class PathMatchShape(Shape, frozen=True):
    """`path` of a match."""

    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Meta(max_length=1024)] = "/"


class NamedValueShape(Shape, frozen=True):
    """A condition on a header."""

    type: MatchType = "Exact"
    name: Token = ""
    value: Value = ""


class ParameterShape(Shape, frozen=True):
    """A condition on a query parameter."""

    type: MatchType = "Exact"
    name: Token = ""
    value: Annotated[str, Meta(min_length=1, max_length=1024)] = ""


class HttpMatchShape(Shape, frozen=True):
    """A match of an HTTPRoute."""

    path: PathMatchShape = PathMatchShape()
    headers: Annotated[tuple[NamedValueShape, ...], Meta(max_length=16)] = ()
    query_params: Annotated[tuple[ParameterShape, ...], Meta(max_length=16)] = ()
    method: (
        Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] | msgspec.UnsetType
    ) = msgspec.UNSET


class MethodShape(Shape, frozen=True):
    """`method` of a match of a GRPCRoute."""

    type: MatchType = "Exact"
    service: Annotated[str, Meta(max_length=1024)] = ""
    method: Annotated[str, Meta(max_length=1024)] = ""


class GrpcMatchShape(Shape, frozen=True):
    """A match of a GRPCRoute."""

    method: MethodShape | None = None
    headers: Annotated[tuple[NamedValueShape, ...], Meta(max_length=16)] = ()


class HttpMatchesShape(Shape, frozen=True):
    """The matches of a rule of an HTTPRoute."""

    matches: Annotated[tuple[HttpMatchShape, ...], Meta(max_length=64)] = ()


class GrpcMatchesShape(Shape, frozen=True):
    """The matches of a rule of a GRPCRoute."""

    matches: Annotated[tuple[GrpcMatchShape, ...], Meta(max_length=64)] = ()


class TimeoutsShape(Shape, frozen=True):
    """`timeouts`."""

    request: Time | None = None
    backend_request: Time | None = None


class RetryShape(Shape, frozen=True):
    """`retry`."""

    codes: tuple[Annotated[int, Meta(ge=400, le=599)], ...] = ()
    attempts: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    backoff: Time | None = None


class CookieShape(Shape, frozen=True):
    """`cookie` of a session persistence."""

    name: Token | None = None
    path: Annotated[str, Meta(max_length=1024)] = "/"
    lifetime_type: Literal["Permanent", "Session"] = "Session"


class SessionHeaderShape(Shape, frozen=True):
    """`header` of a session persistence."""

    name: Token | msgspec.UnsetType = msgspec.UNSET


class SessionShape(Shape, frozen=True):
    """`sessionPersistence`."""

    type: Literal["Cookie", "Header"] = "Cookie"
    session_name: Annotated[str, Meta(max_length=128)] = ""
    absolute_timeout: Time | None = None
    idle_timeout: Time | None = None
    cookie: CookieShape | None = None
    header: SessionHeaderShape | None = None


class RuleShape(Shape, frozen=True):
    """A rule without its matches, which are decoded by themselves."""

    name: Annotated[str, Meta(max_length=253)] = ""
    filters: Filters = ()
    backend_refs: Backends = ()
    session_persistence: SessionShape | None = None


class HttpRuleShape(RuleShape, frozen=True):
    """A rule of an HTTPRoute."""

    timeouts: TimeoutsShape | None = None
    retry: RetryShape | None = None


class GrpcRuleShape(RuleShape, frozen=True):
    """A rule of a GRPCRoute."""


# --- routes of streams -----------------------------------------------------------------------------------------------


class StreamSpecShape(Shape, frozen=True):
    """`spec` of a TCPRoute or a UDPRoute."""

    parent_refs: Annotated[tuple[Any, ...], Meta(max_length=32)] = ()
    rules: Limited | msgspec.UnsetType = msgspec.UNSET
    use_default_gateways: str = ""


class StreamRouteShape(Shape, frozen=True):
    """The fields of a TCPRoute or a UDPRoute without its metadata."""

    spec: StreamSpecShape = StreamSpecShape()


class StreamBackendShape(ObjectShape, frozen=True):
    """A `backendRef` of a TCPRoute or a UDPRoute."""

    weight: Annotated[int, Meta(ge=0, le=1_000_000)] = 1


class StreamRuleShape(Shape, frozen=True):
    """A rule of a TCPRoute or a UDPRoute."""

    name: Annotated[str, Meta(max_length=253)] = ""
    backend_refs: Annotated[tuple[StreamBackendShape, ...], Meta(max_length=16)] = ()


# --- grants ----------------------------------------------------------------------------------------------------------


class GrantFromShape(Shape, frozen=True):
    """Who may refer."""

    group: Annotated[str, Meta(max_length=253)] | msgspec.UnsetType = msgspec.UNSET
    kind: str = ""
    namespace: str = ""


class GrantToShape(Shape, frozen=True):
    """What may be referred to; without a name, all objects of the kind in the grant's namespace."""

    group: Annotated[str, Meta(max_length=253)] | msgspec.UnsetType = msgspec.UNSET
    kind: str = ""
    name: str = ""


class GrantSpecShape(Shape, frozen=True):
    """`spec` of a ReferenceGrant."""

    from_: Annotated[tuple[GrantFromShape, ...], Meta(max_length=16)] = msgspec.field(default=(), name="from")
    to: Annotated[tuple[GrantToShape, ...], Meta(max_length=16)] = ()


class GrantShape(Shape, frozen=True):
    """The fields of a ReferenceGrant without its metadata."""

    spec: GrantSpecShape = GrantSpecShape()
